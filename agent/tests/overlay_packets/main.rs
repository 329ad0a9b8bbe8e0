//! Pods of different nodes talk: real packets between namespaces, by the plan and the kernel's side of the overlay.

mod change;
mod others;
mod random;
mod ways;
mod world;
