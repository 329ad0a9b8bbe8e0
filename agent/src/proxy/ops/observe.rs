//! What the sync loop tells becomes numbers and health.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use netns_tools::iptables::Family;

use super::metrics::{label, number};
use super::{Ops, lock};
use crate::proxy::model::{Changes, FAMILIES, HealthCheck, Model, Node, ServiceName};
use crate::proxy::run::{Failure, Observer, Synced};

impl Observer for Ops {
    fn changed(&self, model: &Model, changes: &Changes) {
        let metrics = &self.0.metrics;
        metrics.services_total.inc_by(count(changes.services));
        metrics.endpoints_total.inc_by(count(changes.slices));
        let mut all = lock(&self.0.no_local);
        for family in FAMILIES.into_iter().filter(|family| !changes.of(*family).is_empty()) {
            let known = all.entry(family).or_default();
            known.apply(model.ports(family), changes.of(family));
            let (internal, external) = known.counts();
            metrics.set_no_local(family, "internal", internal);
            metrics.set_no_local(family, "external", external);
        }
    }

    fn queued(&self, family: Family, since: SystemTime) {
        let now = self.0.clock.now();
        self.0.metrics.queued(family, now.wall);
        lock(&self.0.health).queued(family, since, now);
    }

    /// An object that waits in both families counts once.
    fn pending(&self, family: Family, services: usize, slices: usize) {
        let mut all = lock(&self.0.pending);
        all.insert(family, (services, slices));
        let most =
            |of: fn(&(usize, usize)) -> usize| number(all.values().map(of).max().unwrap_or(0));
        self.0.metrics.services_pending.set(most(|pending| pending.0));
        self.0.metrics.endpoints_pending.set(most(|pending| pending.1));
    }

    fn synced(&self, family: Family, synced: &Synced<'_>) {
        let metrics = &self.0.metrics;
        let report = synced.report;
        metrics.synced(family, report.full, synced.took, synced.at);
        metrics.set_rules(family, &report.rules, &report.written);
        for caused in synced.triggered {
            // another machine's clock may be ahead
            let latency = synced.at.duration_since(*caused).unwrap_or_default();
            metrics.programming.get_or_create(&label(family)).observe(latency.as_secs_f64());
        }
        lock(&self.0.health).updated(family, synced.queued, self.0.clock.now());
    }

    fn failed(&self, family: Family, failure: &Failure) {
        let metrics = &self.0.metrics;
        metrics.failures.get_or_create(&label(family)).inc();
        if !failure.full {
            metrics.partial_failures.get_or_create(&label(family)).inc();
        }
        lock(&self.0.health).failed(family);
    }

    fn flows_forgotten(&self, family: Family, flows: usize, took: Duration) {
        let metrics = &self.0.metrics;
        metrics.conntrack_deleted.get_or_create(&label(family)).inc_by(count(flows));
        metrics.conntrack.get_or_create(&label(family)).observe(took.as_secs_f64());
    }

    fn health_checks(&self, checks: &BTreeMap<ServiceName, HealthCheck>) {
        self.0.checks.send_if_modified(|wanted| {
            let differs = wanted.checks != *checks;
            wanted.checks.clone_from(checks);
            differs
        });
    }

    fn node_changed(&self, node: &Node) {
        lock(&self.0.health).set_node_eligible(!node.leaving);
    }
}

/// As many as there are, in the type of a counter.
fn count(count: usize) -> u64 {
    count.try_into().unwrap_or(u64::MAX)
}
