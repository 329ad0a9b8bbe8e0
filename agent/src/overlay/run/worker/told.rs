//! What the board is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::Worker;
use crate::overlay::cluster::Cluster;
use crate::overlay::kernel::Failed;
use crate::overlay::node::NodeRecord;
use crate::overlay::status::{DeviceStatus, moment};

/// Of what could not be written to the kernel so many are told one by one.
const FAILED_TOLD: usize = 5;

impl Worker {
    /// Tells the board what holds.
    pub(super) fn tell(&self, fresh: bool, names: &BTreeSet<String>, wrote: bool, well: bool) {
        let Some(plan) = &self.plan else { return };
        let mut facts = self.board.facts();
        let now = moment(SystemTime::now());
        if wrote {
            facts.status.last_change.clone_from(&now);
        }
        if well {
            facts.status.last_sync = now;
        }
        if fresh {
            facts.status.devices = plan.local().devices().iter().map(DeviceStatus::from).collect();
            facts.peers.clone_from(plan.peers());
            facts.refused = all_refused(self.nodes.cluster());
        }
        for name in names {
            match plan.peers().get_key_value(&**name) {
                Some((name, peer)) => facts.peers.insert(name.clone(), peer.clone()),
                None => facts.peers.remove(&**name),
            };
        }
        let cluster = self.nodes.cluster();
        for name in names {
            let refused = cluster.get(name).map(|record| refused(cluster, record));
            match refused.filter(|refused| !refused.is_empty()) {
                Some(refused) => facts.refused.insert(name.clone(), refused),
                None => facts.refused.remove(name),
            };
        }
    }
}

/// The first few, and how many more there are: thousands of routes mostly fail for one reason.
pub(super) fn shortened(failed: &[Failed]) -> Vec<String> {
    let (first, rest) = failed.split_at(failed.len().min(FAILED_TOLD));
    let mut told: Vec<_> = first.iter().map(ToString::to_string).collect();
    if !rest.is_empty() {
        told.push(format!("and {} more could not be written", rest.len()));
    }
    told
}

/// Claims that are refused, by the name of who claims.
fn all_refused(cluster: &Cluster) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for refusal in cluster.refusals() {
        let told = refusal.to_string();
        all.entry(refusal.node).or_default().push(told);
    }
    all
}

fn refused(cluster: &Cluster, record: &NodeRecord) -> Vec<String> {
    cluster.refusals_of(record).map(|refusal| refusal.to_string()).collect()
}
