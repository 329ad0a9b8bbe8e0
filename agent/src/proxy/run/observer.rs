//! Who is told what happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use netns_tools::iptables::Family;

use crate::proxy::backend::SyncReport;
use crate::proxy::model::{Changes, HealthCheck, Model, Node, ServiceName};

/// A sync that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Synced<'a> {
    /// What it did; [`SyncReport::full`] tells its kind.
    pub report: &'a SyncReport,
    /// How long the backend worked.
    pub took: Duration,
    /// When it ended.
    pub at: SystemTime,
    /// Since when the oldest of its changes had waited; `None`: nothing had changed.
    pub queued: Option<SystemTime>,
    /// When the changes of endpoints that it carried were caused: network programming latency is `at` less each of these.
    pub triggered: &'a [SystemTime],
}

/// A sync that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, in one line.
    pub reason: String,
    /// Whether it was to compare everything.
    pub full: bool,
    /// How many have failed in a row, with this one.
    pub attempts: u32,
}

/// Is told what happens. Called from the loop: it must not block. Whoever wants nothing of one kind leaves it out.
#[expect(unused_variables, reason = "an observer that wants nothing needs no names")]
pub trait Observer: Send + Sync {
    /// Objects changed: `model` is what it has become.
    fn changed(&self, model: &Model, changes: &Changes) {}
    /// Changes of a family wait for a sync, the oldest since `since`. Told again as more come.
    fn queued(&self, family: Family, since: SystemTime) {}
    /// How many changes of objects are not in force yet: they wait for a sync, are being written, or could not be.
    fn pending(&self, family: Family, services: usize, slices: usize) {}
    /// Rules are up to date.
    fn synced(&self, family: Family, synced: &Synced<'_>) {}
    /// Rules are not up to date; the old ones are in force.
    fn failed(&self, family: Family, failure: &Failure) {}
    /// What the first so many events asked for is in force, in every family.
    fn settled(&self, events: u64) {}
    /// Somebody took rules away; a full sync follows at once.
    fn lost(&self, family: Family) {}
    /// After a sync so many stale flows were forgotten, and that took so long.
    fn flows_forgotten(&self, family: Family, count: usize, took: Duration) {}
    /// The health checks of load balancers are others: all that there are. Rules for them are in force.
    fn health_checks(&self, checks: &BTreeMap<ServiceName, HealthCheck>) {}
    /// This node is another.
    fn node_changed(&self, node: &Node) {}
}

/// Nobody.
impl Observer for () {}

/// Several, told in order.
pub struct Observers(pub Vec<Arc<dyn Observer>>);

impl Observer for Observers {
    fn changed(&self, model: &Model, changes: &Changes) {
        self.0.iter().for_each(|one| one.changed(model, changes));
    }

    fn queued(&self, family: Family, since: SystemTime) {
        self.0.iter().for_each(|one| one.queued(family, since));
    }

    fn pending(&self, family: Family, services: usize, slices: usize) {
        self.0.iter().for_each(|one| one.pending(family, services, slices));
    }

    fn synced(&self, family: Family, synced: &Synced<'_>) {
        self.0.iter().for_each(|one| one.synced(family, synced));
    }

    fn failed(&self, family: Family, failure: &Failure) {
        self.0.iter().for_each(|one| one.failed(family, failure));
    }

    fn settled(&self, events: u64) {
        self.0.iter().for_each(|one| one.settled(events));
    }

    fn lost(&self, family: Family) {
        self.0.iter().for_each(|one| one.lost(family));
    }

    fn flows_forgotten(&self, family: Family, count: usize, took: Duration) {
        self.0.iter().for_each(|one| one.flows_forgotten(family, count, took));
    }

    fn health_checks(&self, checks: &BTreeMap<ServiceName, HealthCheck>) {
        self.0.iter().for_each(|one| one.health_checks(checks));
    }

    fn node_changed(&self, node: &Node) {
        self.0.iter().for_each(|one| one.node_changed(node));
    }
}
