//! The file for the CNI plugin, and the copy that is there at the next start before the API answers.

use std::path::Path;

use conf::lease::Lease;
use ipnetwork::IpNetwork;
use netns_tools::cause::one_line;

use super::{Options, Worker};
use crate::overlay::cluster::{Claim, Cluster};
use crate::overlay::node::NodeRecord;
use crate::overlay::state::remove;
use crate::overlay::status::{LeaseStatus, Origin};

impl Worker {
    /// The file for the plugin, and the copy that is there at the next start before the API answers. There is none of a range that another
    /// node has: pods of both would have the same addresses, and what the others send goes to that one.
    pub(super) fn follow_lease(&mut self) -> Result<(), String> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let Some(own) = self.nodes.own() else { return Ok(()) };
        let refused = refused(self.nodes.cluster(), own);
        let done = match &refused {
            Some(_) => self.withhold_lease(),
            None => self.grant_lease(own, plan.local().pod_mtu()),
        };
        if done.is_ok() || refused.is_some() {
            self.kept_lease = None;
        }
        self.board.complain(Origin::Lease, refused.into_iter().collect());
        done
    }

    /// The one from before a restart, as long as nothing says which one it is now.
    pub(super) fn grant_kept_lease(&mut self) {
        let Some(lease) = self.kept_lease.take() else { return };
        match put(&lease, &self.options.lease) {
            Ok(()) => self.board.facts().status.lease = Some(LeaseStatus::from(&lease)),
            Err(problem) => self.board.complain(Origin::Lease, vec![problem]),
        }
    }

    fn grant_lease(&self, own: &NodeRecord, mtu: u32) -> Result<(), String> {
        let lease = lease(own, &self.options, mtu)?;
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

    fn withhold_lease(&self) -> Result<(), String> {
        for path in [&self.options.lease, &self.store.lease_file()] {
            remove(path).map_err(|error| one_line(&error))?;
        }
        self.board.facts().status.lease = None;
        Ok(())
    }
}

/// Why a range of this node is another one's.
fn refused(cluster: &Cluster, own: &NodeRecord) -> Option<String> {
    let mut cidrs = own.pod_cidrs.iter().copied().map(Claim::PodCidr);
    let refusal = cidrs.find_map(|claim| cluster.refusal(&own.name, claim))?;
    Some(format!("new pods of this node get no addresses: {refusal}"))
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
