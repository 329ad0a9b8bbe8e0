//! Which address is whose: ranges, allocation and the store of leases.
//!
//! Nothing here touches the kernel's network. The decisions (`RangeSet`, `allocate`) are pure over a
//! [`Store`]; [`DiskStore`] keeps the layout of the reference `host-local` plugin, so that either
//! program can take over from the other, and [`MemoryStore`] serves tests.
//!
//! ```
//! use ipam::{MemoryStore, Owner, RangeConf, allocate, range_sets};
//!
//! let sets = range_sets(&[vec![RangeConf { subnet: "10.1.0.0/29".into(), ..RangeConf::default() }]])?;
//! let mut store = MemoryStore::default();
//! let leased = allocate(&mut store, &sets, &Owner::new("c1", "eth0"), &[])?;
//! assert_eq!(leased[0].address.to_string(), "10.1.0.2/29"); // .1 is the gateway
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

mod allocator;
mod range;
mod store;

pub use allocator::{AllocateError, Allocation, allocate, exhausted_set};
pub use range::{Range, RangeConf, RangeError, RangeSet, range_sets};
pub use store::disk::{DEFAULT_DATA_DIR, DiskStore};
pub use store::memory::MemoryStore;
pub use store::{Lease, Owner, Store, StoreError, collect_garbage, leases_of, release};
