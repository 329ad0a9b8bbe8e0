//! Pods: what a manifest asks for ([`validate`], [`plan`]), what is done in which order ([`machine`], pure), and who does it
//! ([`worker`]).

pub mod context;
pub mod machine;
pub mod plan;
mod quantity;
pub mod record;
pub mod sandbox;
pub mod status;
pub mod validate;
pub mod worker;
