//! Packet filters and kernel parameters: what they follow, and when they are looked at and written.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netns_tools::cause::one_line;

use super::Worker;
use crate::overlay::cluster::Cluster;
use crate::overlay::node::Backend;
use crate::overlay::plan::Settings;
use crate::overlay::rules::{NodeRules, RuleError, RuleInput, Tunnel};
use crate::overlay::run::pace::Compare;
use crate::overlay::run::repairs::Repairs;
use crate::overlay::run::senders::Senders;
use crate::overlay::status::{Board, Origin};

/// The rules of this node, and what is known of them.
pub(super) struct Filters {
    rules: Box<dyn NodeRules>,
    /// What they need of all nodes.
    pub senders: Senders,
    /// What they follow beside [`Self::senders`]; `None`: that is not known.
    known: Option<RuleInput>,
    /// What could not be written the last time, and why.
    refused: Option<(RuleInput, Vec<String>)>,
    repairs: Repairs,
}

/// How it went.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// What could not be written.
    pub failed: Vec<String>,
    /// So long from now they are to be looked at again: somebody keeps changing them.
    pub again: Option<Duration>,
    /// How long it took to look at them.
    pub looked: Duration,
    /// How long all of it took.
    pub took: Duration,
}

impl Filters {
    pub fn new(rules: Box<dyn NodeRules>, backend: Backend, pods: &[IpNetwork]) -> Self {
        let senders = Senders::new(backend, pods);
        Self { rules, senders, known: None, refused: None, repairs: Repairs::default() }
    }

    /// After a panic: whatever was amid a change is counted and written anew.
    pub fn forget(&mut self, backend: Backend, pods: &[IpNetwork]) {
        (self.known, self.refused) = (None, None);
        self.senders = Senders::new(backend, pods);
    }

    /// After [`Cluster::apply`], with the names that it returned.
    pub fn count(&mut self, cluster: &Cluster, names: &BTreeSet<String>) {
        self.senders.update(cluster, names);
    }

    /// Has them follow `input`, which is all but the nodes' addresses.
    pub fn follow(&mut self, input: RuleInput, compare: Compare, board: &Board) -> Followed {
        let (mut followed, start) = (Followed::default(), Instant::now());
        if let Some(failed) = self.refused_before(&input, compare) {
            return Followed { failed, ..followed };
        }
        // until all of it has succeeded nothing is known
        let before = self.known.take();
        let failed = match self.in_force(before, compare, &mut followed) {
            Ok(Some(known)) if known == input => self.follow_senders(),
            Ok(_) => self.write(&input, board),
            Err(error) => Err(error),
        };
        let failed = failed.unwrap_or_else(|error| vec![error]);
        if failed.is_empty() {
            self.senders.settle();
            self.known = Some(input.clone());
        }
        board.complain(Origin::Repairs, self.repairs.problem().into_iter().collect());
        followed.failed = failed.iter().map(|error| one_line(error)).collect();
        let refused = Some(&followed.failed).filter(|failed| !failed.is_empty());
        self.refused = refused.map(|failed| (input, failed.clone()));
        followed.took = start.elapsed();
        followed
    }

    /// To try the same again starts programs: that has its own time, whatever else there is to do.
    fn refused_before(&self, input: &RuleInput, compare: Compare) -> Option<Vec<String>> {
        let (refused, why) = self.refused.as_ref().filter(|_| compare != Compare::All)?;
        let is_same = refused == input && self.senders.is_settled();
        is_same.then(|| why.clone())
    }

    /// Only nodes may have changed.
    fn follow_senders(&mut self) -> Result<Vec<RuleError>, RuleError> {
        let (added, removed) = self.senders.changes();
        if !(added.is_empty() && removed.is_empty()) {
            self.rules.update_nodes(&added, &removed)?;
        }
        Ok(Vec::new())
    }

    fn write(&mut self, input: &RuleInput, board: &Board) -> Result<Vec<RuleError>, RuleError> {
        let nodes = self.senders.addresses();
        let report = self.rules.sync(&RuleInput { nodes, ..input.clone() })?;
        board.complain(Origin::Rules, report.problems);
        Ok(report.failed)
    }

    /// What they follow; `None`: they are to be compared and written.
    fn in_force(
        &mut self,
        before: Option<RuleInput>,
        compare: Compare,
        followed: &mut Followed,
    ) -> Result<Option<RuleInput>, RuleError> {
        let Some(known) = before.filter(|_| compare != Compare::All) else { return Ok(None) };
        if compare == Compare::Nothing {
            return Ok(Some(known));
        }
        let wait = self.repairs.wait(Instant::now());
        if !wait.is_zero() {
            // then it is looked at, whether anybody tells of it or not
            followed.again = Some(wait);
            return Ok(Some(known));
        }
        let start = Instant::now();
        let intact = self.rules.is_intact();
        followed.looked = start.elapsed();
        if intact? {
            return Ok(Some(known));
        }
        tracing::warn!("rules of the overlay were changed by somebody; writing them again");
        self.repairs.made(Instant::now());
        Ok(None)
    }
}

impl Worker {
    /// All that the rules follow but the nodes' addresses; `None`: nothing can be said yet.
    pub(super) fn rule_input(&self) -> Option<RuleInput> {
        let (plan, options) = (self.plan.as_ref()?, &self.options);
        let local = plan.local();
        let senders = &self.filters.senders;
        let devices: Vec<_> = local.devices().into_iter().map(|device| device.name).collect();
        let Settings { backend, port, probe_port, .. } = options.settings;
        Some(RuleInput {
            local: self.nodes.own()?.pod_cidrs.clone(),
            pods: options.pods.iter().copied().chain(senders.outside()).collect(),
            not_masqueraded: options.no_masquerade.clone(),
            masquerade: options.masquerade,
            tunnel: (!devices.is_empty()).then_some(Tunnel { port, devices, probe_port }),
            nodes: BTreeSet::new(),
            partial: !self.nodes.are_all(),
            underlay: self.links.iter().cloned().collect(),
            direct: senders.is_mixed() || (backend.routes() && backend.tunnels()),
        })
    }
}
