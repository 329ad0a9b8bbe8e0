//! The file for the CNI plugin, and the copy that is there at the next start before the API answers.

use std::path::Path;

use conf::lease::Lease;
use ipnetwork::IpNetwork;
use netns_tools::cause::one_line;

use super::{Options, Worker};
use crate::overlay::node::NodeRecord;
use crate::overlay::status::LeaseStatus;

impl Worker {
    /// The file for the plugin, and the copy that is there at the next start before the API answers.
    pub(super) fn follow_lease(&mut self) -> Result<(), String> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let Some(own) = self.nodes.own() else { return Ok(()) };
        let lease = lease(own, &self.options, plan.local().pod_mtu())?;
        put(&lease, &self.options.lease)?;
        put(&lease, &self.store.lease_file())?;
        let told = LeaseStatus::from(&lease);
        let before = self.board.facts().status.lease.replace(told.clone());
        if before.as_ref() != Some(&told) {
            tracing::info!(%lease, "this node's lease");
            if let Some(before) = before.filter(|before| before.subnets != told.subnets) {
                tracing::warn!(
                    was = before.subnets.join(", "),
                    is = told.subnets.join(", "),
                    "this node has another pod CIDR: pods that run keep their old addresses, which nobody finds any more; start them anew"
                );
            }
        }
        Ok(())
    }
}

/// What the plugin is told. Every pod CIDR must be within the range of all pods, or the rules would take its pods for strangers.
fn lease(own: &NodeRecord, options: &Options, mtu: u32) -> Result<Lease, String> {
    let strange = own
        .pod_cidrs
        .iter()
        .find(|cidr| !options.pods.iter().any(|range| is_within(**cidr, *range)));
    if let Some(cidr) = strange {
        let ranges = options.pods.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        return Err(format!(
            "pod CIDR {cidr} of Node {} is not in network.pod_cidr {ranges}: set network.pod_cidr to the range of all pods \
             (--cluster-cidr of the controller manager)",
            own.name
        ));
    }
    let used =
        |range: &&IpNetwork| own.pod_cidrs.iter().any(|cidr| cidr.is_ipv4() == range.is_ipv4());
    let networks = options.pods.iter().filter(used).copied();
    Lease::new(networks, own.pod_cidrs.iter().copied(), mtu, options.masquerade)
        .map_err(|error| format!("no lease can be made: {}", one_line(&error)))
}

/// Writes a lease where it is not there already.
pub(super) fn put(lease: &Lease, path: &Path) -> Result<(), String> {
    if Lease::read(path).is_ok_and(|known| known == *lease) {
        return Ok(());
    }
    lease.write(path).map_err(|error| one_line(&error))
}

pub(in crate::overlay::run) fn is_within(inner: IpNetwork, outer: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}
