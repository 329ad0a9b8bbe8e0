//! Tracked connections in memory, for tests.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use netns_tools::NetlinkError;
use netns_tools::conntrack::{Filter, Flow};
use netns_tools::netlink::Action;

use super::Flows;

/// Holds flows and this host's addresses, counts listings, and fails on demand.
#[derive(Debug, Default)]
pub struct FakeFlows {
    /// What is tracked.
    pub flows: Vec<Flow>,
    /// This host's addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// What was listed.
    pub listed: Vec<Filter>,
    /// Whether deletion fails.
    pub fails: bool,
    /// How many flows were looked at in listings.
    pub seen: Cell<usize>,
}

impl Flows for FakeFlows {
    fn list(
        &mut self,
        filter: &Filter,
        wanted: &dyn Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>, NetlinkError> {
        self.listed.push(*filter);
        let listed = self.flows.iter().filter(|flow| filter.matches(flow));
        let counted = listed.inspect(|_| self.seen.set(self.seen.get() + 1));
        Ok(counted.filter(|flow| wanted(flow)).cloned().collect())
    }

    fn delete(&mut self, flow: &Flow) -> Result<bool, NetlinkError> {
        if self.fails {
            let action = Action { operation: "forget connection".into(), object: flow.to_string() };
            return Err(NetlinkError::Refused { action, errno: libc_eperm(), text: None });
        }
        let before = self.flows.len();
        self.flows.retain(|known| known != flow);
        Ok(self.flows.len() < before)
    }

    fn is_local(&mut self, address: IpAddr) -> Result<bool, NetlinkError> {
        Ok(address.is_loopback() || self.addresses.contains(&address))
    }
}

fn libc_eperm() -> i32 {
    nix::errno::Errno::EPERM as i32
}
