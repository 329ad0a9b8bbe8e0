//! The loop that makes the kernel follow the model.
//!
//! Events of a source go into the model; what changed goes to a [`Backend`] per family, each at its own pace on a blocking thread
//! of its own: the loop itself never waits for the kernel, for `xtables.lock` or for a slow program. What arrives while a sync runs is
//! one next sync. After a failure the old rules stay in force and everything is compared anew, at growing intervals. Rules that
//! somebody took away are noticed by the kernel's notifications, or by a look now and then, and written again.
//!
//! | file | what |
//! | --- | --- |
//! | `lane` | when which family is synced, compared or looked at: pure, told the time |
//! | `worker` | the blocking work of one family |
//! | `observer` | who is told what happens: metrics, health servers, status |
//! | `backends` | what writes rules, by mode, and clean-up |
//! | `alarm` | notifications of nf_tables |
//! | `predecessor`, `ipvs` | rules of another mode or proxy, removed when ours are in force |

mod alarm;
pub mod backends;
#[cfg(test)]
pub mod fake;
mod ipvs;
#[cfg(test)]
mod kernel;
mod lane;
mod observer;
mod predecessor;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use netns_tools::cause::one_line;
use netns_tools::iptables::Family;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use alarm::Alarm;
use lane::{Due, Lane};
pub use observer::{Failure, Observer, Observers, Synced};
pub use predecessor::Predecessor;
use worker::{Done, Outcome, Worker};

use super::backend::Backend;
use super::conntrack::Flows;
use super::model::{Changes, Event, HealthCheck, Model, Node, ServiceName};
use super::options::{Pace, RuleOptions};

/// How many events are taken in before something is started: a source that never pauses must not keep rules from being written.
const TAKEN_AT_ONCE: usize = 4096;

/// One family.
pub struct FamilyParts {
    /// What writes its rules.
    pub backend: Box<dyn Backend>,
    /// The connections that are tracked, of which stale ones are forgotten.
    pub flows: Box<dyn Flows>,
    /// What goes once its rules are in force.
    pub predecessors: Vec<Box<dyn Predecessor>>,
}

/// What a runner works with.
pub struct Parts {
    /// What the source tells.
    pub events: mpsc::Receiver<Event>,
    /// What the rules depend on besides; a change is followed by a full sync. A sender that is gone means: no change any more.
    pub options: watch::Receiver<RuleOptions>,
    /// This node, where it is known from the start. `None`: it comes as [`Event::Node`], and nothing is written before. A source that
    /// finds no such node says so by sending [`Node::named`].
    pub node: Option<Node>,
    /// At most one of each family.
    pub families: Vec<FamilyParts>,
    /// How often.
    pub pace: Pace,
    /// Who is told. Called from the loop, so it must not block.
    pub observer: Arc<dyn Observer>,
    /// What tells of changes that others make; without it, backends are asked now and then.
    pub alarm: Option<Alarm>,
}

/// What of the source must have come before anything is written.
#[derive(Clone, Copy, Debug)]
struct Gate {
    services: bool,
    slices: bool,
    node: bool,
}

impl Gate {
    fn new(node_known: bool) -> Self {
        Self { services: false, slices: false, node: node_known }
    }

    fn pass(&mut self, event: &Event) {
        match event {
            Event::AllServices(_) => self.services = true,
            Event::AllSlices(_) => self.slices = true,
            Event::Node(_) => self.node = true,
            _ => {}
        }
    }

    fn is_open(self) -> bool {
        self.services && self.slices && self.node
    }
}

/// Takes events in until the source has synced: services, slices and this node are known. `None`: the source ended before.
/// For commands that look once.
pub async fn first_model(events: &mut mpsc::Receiver<Event>, node: Option<Node>) -> Option<Model> {
    let mut gate = Gate::new(node.is_some());
    let mut model = Model::new(node.unwrap_or_default());
    while !gate.is_open() {
        let event = events.recv().await?;
        gate.pass(&event);
        model.apply(event);
    }
    Some(model)
}

/// The loop.
pub struct Runner {
    events: mpsc::Receiver<Event>,
    options: watch::Receiver<RuleOptions>,
    alarm: Option<Alarm>,
    jobs: JoinSet<Done>,
    state: State,
}

/// All that the loop decides by.
struct State {
    model: Model,
    gate: Gate,
    started: SystemTime,
    /// Events that were taken in, and how many of them are known to be in force.
    taken: u64,
    settled: u64,
    lanes: Vec<Lane>,
    observer: Arc<dyn Observer>,
    health_checks: BTreeMap<ServiceName, HealthCheck>,
    judge_health: bool,
}

impl Runner {
    /// A runner that has not looked at anything yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { events, mut options, node, families, pace, observer, alarm } = parts;
        let first = options.borrow_and_update().clone();
        let now = Instant::now();
        let lane = |family| Lane::new(Worker::new(family, first.clone()), pace, now);
        let state = State {
            gate: Gate::new(node.is_some()),
            model: Model::new(node.unwrap_or_default()),
            started: SystemTime::now(),
            taken: 0,
            settled: 0,
            lanes: families.into_iter().map(lane).collect(),
            observer,
            health_checks: BTreeMap::new(),
            judge_health: false,
        };
        Self { events, options, alarm, jobs: JoinSet::new(), state }
    }

    /// Runs until the source ends. Rules stay. Dropping it instead is as good: what is under way ends by itself.
    pub async fn run(mut self) {
        let (mut optional, mut listening) = (true, self.alarm.is_some());
        loop {
            let wake = self.state.wake();
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                changed = self.options.changed(), if optional => match changed {
                    Ok(()) => self.state.set_options(&self.options.borrow_and_update()),
                    Err(_) => optional = false,
                },
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.state.finish(done),
                    // only when the process ends: a panic of the work itself is an outcome
                    Err(error) => tracing::error!(%error, "a sync was cut off"),
                },
                rang = ring(&mut self.alarm), if listening => match rang {
                    Some(()) => self.state.look(),
                    None => listening = false,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.start();
        }
    }

    /// Takes in what is there already, so that one sync answers it all.
    fn take(&mut self, first: Event) {
        self.state.apply(first);
        for _ in 1..TAKEN_AT_ONCE {
            let Ok(event) = self.events.try_recv() else { break };
            self.state.apply(event);
        }
        self.state.spread();
    }

    fn start(&mut self) {
        if !self.state.gate.is_open() {
            return;
        }
        let now = Instant::now();
        for lane in &mut self.state.lanes {
            if let Some((worker, task)) = lane.start(now, &self.state.model, self.state.taken) {
                self.jobs.spawn_blocking(move || worker.run(task));
            }
        }
        self.state.settle();
        if let Some(alarm) = &self.alarm {
            alarm.listen(self.state.lanes.iter().all(|lane| !lane.is_writing_much()));
        }
    }
}

/// Without an alarm it never rings.
async fn ring(alarm: &mut Option<Alarm>) -> Option<()> {
    match alarm {
        Some(alarm) => alarm.rang().await,
        None => std::future::pending().await,
    }
}

impl State {
    /// When something is due, at the earliest.
    fn wake(&self) -> Option<Instant> {
        let open = self.gate.is_open();
        self.lanes.iter().filter(|_| open).filter_map(Lane::due).map(|Due { at, .. }| at).min()
    }

    fn apply(&mut self, event: Event) {
        self.taken += 1;
        self.gate.pass(&event);
        let is_node = matches!(event, Event::Node(_));
        let before = is_node.then(|| self.model.node().clone());
        self.model.apply(event);
        if before.is_some_and(|before| before != *self.model.node()) {
            self.observer.node_changed(self.model.node());
        }
    }

    /// Hands what changed to the families.
    fn spread(&mut self) {
        let (services, slices) = self.model.pending();
        self.judge_health |= services + slices > 0;
        let changes = self.model.take_changes();
        self.observer.changed(&self.model, &changes);
        let Changes { v4, v6, mut triggered, services, slices } = changes;
        let now = SystemTime::now();
        // how long the node followed late before this proxy was there says nothing of it
        triggered.retain(|cause| *cause >= self.started);
        for (family, changed) in [(Family::V4, v4), (Family::V6, v6)] {
            let lane = self.lanes.iter_mut().find(|lane| lane.family() == family);
            let Some(lane) = lane.filter(|_| !changed.is_empty()) else { continue };
            let queued = lane.add(changed, &triggered, (services, slices), now);
            self.observer.queued(family, queued);
            let (services, slices) = lane.pending();
            self.observer.pending(family, services, slices);
        }
    }

    fn set_options(&mut self, options: &RuleOptions) {
        for lane in &mut self.lanes {
            lane.set_options(options);
        }
    }

    /// Tells how far the kernel has followed.
    fn settle(&mut self) {
        let settled = self.lanes.iter().map(|lane| lane.settled(self.taken)).min();
        let settled = settled.unwrap_or(self.taken);
        if settled > self.settled {
            self.settled = settled;
            self.check_health();
            self.observer.settled(settled);
        }
    }

    /// Somebody changed rules, of whomever.
    fn look(&mut self) {
        for lane in &mut self.lanes {
            lane.want_look();
        }
    }

    fn finish(&mut self, done: Done) {
        let now = Instant::now();
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.family() == done.family) else {
            return;
        };
        let family = done.family;
        if matches!(done.outcome, Outcome::Synced { .. }) {
            for error in lane.new_complaints(done.complaints) {
                tracing::warn!(?family, "{error}");
            }
        }
        if let Some((flows, took)) = done.flows {
            tracing::debug!(?family, flows, ?took, "stale flows are forgotten");
            self.observer.flows_forgotten(family, flows, took);
        }
        let ended = lane.finish(done.worker, &done.outcome, now);
        let (services, slices) = lane.pending();
        self.observer.pending(family, services, slices);
        match done.outcome {
            Outcome::Synced { report, took } => {
                log_sync(family, &report, &ended);
                let at = SystemTime::now();
                let queued = ended.queued;
                let triggered = &ended.triggered;
                let synced = Synced { report: &report, took, at, queued, triggered };
                self.observer.synced(family, &synced);
            }
            Outcome::Failed { error, full } => {
                let reason = one_line(error.as_ref());
                if ended.told {
                    tracing::debug!(?family, error = reason, "service rules are not up to date");
                } else {
                    tracing::warn!(?family, error = reason, "service rules are not up to date");
                }
                let failure = Failure { reason, full, attempts: ended.failures };
                self.observer.failed(family, &failure);
            }
            Outcome::Intact => {}
            Outcome::Gone { reason } => {
                tracing::warn!(
                    ?family,
                    reason,
                    "service rules were taken away; writing them again"
                );
                self.observer.lost(family);
            }
        }
    }

    /// Health checks follow the rules, not the objects.
    fn check_health(&mut self) {
        if !std::mem::take(&mut self.judge_health) {
            return;
        }
        let checks = self.model.health_checks();
        if checks != self.health_checks {
            self.observer.health_checks(&checks);
            self.health_checks = checks;
        }
    }
}

fn log_sync(family: Family, report: &super::backend::SyncReport, ended: &lane::Ended) {
    if ended.failures > 0 {
        tracing::info!(?family, after = ended.failures, "service rules are up to date again");
    }
    match report.changes {
        0 => tracing::debug!(?family, full = report.full, "service rules are as they should be"),
        changes => tracing::debug!(?family, full = report.full, changes, "service rules written"),
    }
}
