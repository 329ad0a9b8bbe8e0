//! What every object has: metadata, names, labels, selectors, quantities; and mistakes by field.

pub mod condition;
pub mod domain_path;
pub mod field_error;
pub mod field_selector;
pub mod findings;
pub mod go_value;
pub mod label;
pub mod name;
pub mod object;
pub mod quantity;
pub mod selector;
pub mod time;
pub mod time_zone;
