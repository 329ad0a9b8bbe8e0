//! A store that forgets: for tests of whatever needs leases.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::freed::Freed;
use super::{Lease, Owner, Store, StoreError};

/// Leases in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    leases: BTreeMap<IpAddr, Owner>,
    last: BTreeMap<usize, IpAddr>,
    freed: Vec<IpAddr>,
}

impl Store for MemoryStore {
    fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        let lease = |(address, owner): (&IpAddr, &Owner)| Lease {
            address: *address,
            container_id: owner.container_id.clone(),
            ifname: Some(owner.ifname.clone()),
        };
        Ok(self.leases.iter().map(lease).collect())
    }

    fn last_reserved(&self, set: usize) -> Result<Option<IpAddr>, StoreError> {
        Ok(self.last.get(&set).copied())
    }

    fn reserve(&mut self, address: IpAddr, owner: &Owner, set: usize) -> Result<bool, StoreError> {
        if self.leases.contains_key(&address) {
            return Ok(false);
        }
        self.leases.insert(address, owner.clone());
        self.last.insert(set, address);
        Ok(true)
    }

    fn release(&mut self, address: IpAddr) -> Result<bool, StoreError> {
        let held = self.leases.remove(&address).is_some();
        if held {
            self.freed.retain(|other| *other != address);
            self.freed.push(address);
        }
        Ok(held)
    }

    fn freed(&self) -> Result<Freed, StoreError> {
        Ok(Freed::from(self.freed.clone()))
    }
}
