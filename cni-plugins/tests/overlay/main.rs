//! `overlay` in namespaces: real binary, real packets in both modes and families, every fault, and everything that may become of a
//! lease and of what is remembered.
//!
//! | file | what |
//! | --- | --- |
//! | `world` | a node with a lease, and another node |
//! | `talk` | pods talk, on the node and to other nodes |
//! | `lease` | what a lease may say, and what may become of it |
//! | `delegates` | what is delegated, to whom, and what else is in the chain |
//! | `size` | links follow the lease's MTU |
//! | `again` | an address that was somebody else's before |
//! | `undone` | whatever fails, dies, is damaged or gone: nothing is left |

mod again;
mod delegates;
mod lease;
#[path = "../node/mod.rs"]
mod node;
mod size;
mod talk;
mod undone;
mod world;
