//! Which address an attachment gets: the one that has rested longest of each range set, all or nothing.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::iter;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use thiserror::Error;

use crate::range::{Range, RangeSet};
use crate::store::freed::Freed;
use crate::store::{Holdings, Lease, Owner, Store, StoreError};

/// An address that now belongs to the attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The address, with the prefix length of its subnet.
    pub address: IpNetwork,
    /// The gateway of its range.
    pub gateway: IpAddr,
}

/// Why no address could be had. Wording follows the reference plugin.
#[derive(Debug, Error)]
pub enum AllocateError {
    /// Every address of a set is taken.
    #[error("failed to allocate for range {set}: no IP addresses available in range set: {ranges}")]
    Exhausted {
        /// Position of the range set.
        set: usize,
        /// Its ranges.
        ranges: String,
    },
    /// A requested address belongs to somebody.
    #[error(
        "failed to allocate for range {set}: requested IP address {address} is not available in range set {ranges}"
    )]
    Unavailable {
        /// Position of the range set.
        set: usize,
        /// The requested address.
        address: IpAddr,
        /// The ranges of the set.
        ranges: String,
    },
    /// A requested address is the gateway.
    #[error("failed to allocate for range {set}: requested ip {address} is subnet's gateway")]
    Gateway {
        /// Position of the range set.
        set: usize,
        /// The requested address.
        address: IpAddr,
    },
    /// The attachment has an address of this set already.
    #[error(
        "failed to allocate for range {set}: {address} has been allocated to {container_id}, duplicate allocation is not allowed"
    )]
    Duplicate {
        /// Position of the range set.
        set: usize,
        /// The address that it has.
        address: IpAddr,
        /// The container.
        container_id: String,
    },
    /// Requested addresses for which there is no (further) range set.
    #[error("failed to allocate all requested IPs: {0}")]
    Unmatched(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Gives `owner` one address of each set, and of the requested ones where a set holds one of these.
///
/// Everything that can be known before is checked before the first address is taken, and if a later one
/// cannot be had, those taken by this call are given back.
pub fn allocate(
    store: &mut dyn Store,
    sets: &[RangeSet],
    owner: &Owner,
    requested: &[IpAddr],
) -> Result<Vec<Allocation>, AllocateError> {
    let Holdings { taken, own } = store.holdings(owner)?;
    let rest = Rest { taken: taken.into_iter().collect(), freed: store.freed()? };
    let wishes = match_requests(sets, requested)?;
    for (index, (set, wish)) in sets.iter().zip(&wishes).enumerate() {
        check(index, set, *wish, &rest, &own)?;
    }
    let mut allocations: Vec<Allocation> = Vec::with_capacity(sets.len());
    for (index, (set, wish)) in sets.iter().zip(wishes).enumerate() {
        match reserve_one(store, index, set, wish, &rest, owner) {
            Ok(allocation) => allocations.push(allocation),
            Err(error) => {
                for allocation in &allocations {
                    // The first cause is what the caller can act on; an address that cannot be given
                    // back now goes with the DEL that follows a failed ADD, or with GC.
                    let _ = store.release(allocation.address.ip());
                }
                return Err(error);
            }
        }
    }
    Ok(allocations)
}

/// What is known of addresses before an allocation.
struct Rest {
    /// Those that somebody holds.
    taken: HashSet<IpAddr>,
    /// Those that were given back lately.
    freed: Freed,
}

impl Rest {
    /// The free addresses of a set, the one that has rested longest first: those of which no release is known in the order of
    /// the round robin, then the others in the order of their release.
    fn order<'a>(
        &'a self,
        set: &'a RangeSet,
        last: Option<IpAddr>,
    ) -> impl Iterator<Item = (IpAddr, &'a Range)> {
        let is_free = |ip: &IpAddr| !self.taken.contains(ip);
        let rested = set.candidates(last).filter(move |(ip, _)| is_free(ip));
        let rested = rested.filter(|(ip, _)| !self.freed.contains(*ip));
        // Made only when it is come to.
        let others = iter::once_with(|| self.freed.list()).flatten().copied().filter(is_free);
        let others = others.filter_map(|ip| Some((ip, set.range_for(ip)?)));
        rested.chain(others.filter(|(ip, range)| range.gateway() != *ip))
    }
}

/// The first set that has no free address, if any; `leases` are those of the network.
pub fn exhausted_set<'a>(sets: &'a [RangeSet], leases: &[Lease]) -> Option<(usize, &'a RangeSet)> {
    sets.iter().enumerate().find(|(_, set)| {
        let counts = |ip: IpAddr| set.range_for(ip).is_some_and(|range| range.gateway() != ip);
        let used = leases.iter().filter(|lease| counts(lease.address)).count();
        set.capacity() <= used as u128
    })
}

/// For each set the first requested address that it holds; every request must be for some set.
fn match_requests(
    sets: &[RangeSet],
    requested: &[IpAddr],
) -> Result<Vec<Option<IpAddr>>, AllocateError> {
    let mut open: Vec<IpAddr> = requested.iter().map(IpAddr::to_canonical).collect();
    let wish = |set: &RangeSet| {
        let position = open.iter().position(|ip| set.contains(*ip));
        position.map(|position| open.remove(position))
    };
    let wishes = sets.iter().map(wish).collect();
    if open.is_empty() {
        return Ok(wishes);
    }
    let open: Vec<_> = open.iter().map(IpAddr::to_string).collect();
    Err(AllocateError::Unmatched(open.join(" ")))
}

fn check(
    index: usize,
    set: &RangeSet,
    wish: Option<IpAddr>,
    rest: &Rest,
    own: &[Lease],
) -> Result<(), AllocateError> {
    if let Some(address) = wish {
        if set.range_for(address).is_some_and(|range| range.gateway() == address) {
            return Err(AllocateError::Gateway { set: index, address });
        }
        if rest.taken.contains(&address) {
            return Err(unavailable(index, set, address));
        }
    }
    let held = own.iter().find(|lease| set.contains(lease.address));
    held.map_or(Ok(()), |lease| {
        let (address, container_id) = (lease.address, lease.container_id.clone());
        Err(AllocateError::Duplicate { set: index, address, container_id })
    })
}

fn reserve_one(
    store: &mut dyn Store,
    index: usize,
    set: &RangeSet,
    wish: Option<IpAddr>,
    rest: &Rest,
    owner: &Owner,
) -> Result<Allocation, AllocateError> {
    if let Some((address, range)) = wish.and_then(|ip| Some((ip, set.range_for(ip)?))) {
        if !store.reserve(address, owner, index)? {
            return Err(unavailable(index, set, address));
        }
        return Ok(allocation(address, range.subnet(), range.gateway()));
    }
    let last = store.last_reserved(index)?;
    for (address, range) in rest.order(set, last) {
        // The store may know of an address that is taken though it is nobody's lease.
        if store.reserve(address, owner, index)? {
            return Ok(allocation(address, range.subnet(), range.gateway()));
        }
    }
    Err(AllocateError::Exhausted { set: index, ranges: set.to_string() })
}

fn allocation(address: IpAddr, subnet: IpNetwork, gateway: IpAddr) -> Allocation {
    let address = IpNetwork::new(address, subnet.prefix())
        .expect("an address of a subnet takes the prefix length of that subnet");
    Allocation { address, gateway }
}

fn unavailable(set: usize, ranges: &RangeSet, address: IpAddr) -> AllocateError {
    AllocateError::Unavailable { set, address, ranges: ranges.to_string() }
}
