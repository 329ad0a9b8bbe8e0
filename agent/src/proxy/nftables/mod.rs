//! Services as nftables.

mod layout;
mod objects;
mod port;
mod registers;
mod route;
mod skeleton;
mod state;
mod transaction;

pub use layout::SetName;
pub use objects::{ChainObject, Elements, Objects, objects};
pub use transaction::{Change, Transaction};
