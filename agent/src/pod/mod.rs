//! Pods: what a manifest asks for ([`plan`]), what is done in which order ([`machine`], pure), and who does it ([`worker`]).

pub mod machine;
pub mod plan;
pub mod record;
pub mod status;
pub mod worker;
