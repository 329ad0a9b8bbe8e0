//! What every object has: metadata, names, labels, selectors, quantities; and mistakes by field.

pub mod field_error;
