//! The blocking work of one family.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netns_tools::cause::one_line;
use netns_tools::iptables::Family;

use super::FamilyParts;
use super::predecessor::Predecessor;
use crate::proxy::backend::{Backend, Scope, SyncReport};
use crate::proxy::conntrack::{self, Flows};
use crate::proxy::model::{Changed, PortId, Ports, ServicePort};
use crate::proxy::options::RuleOptions;

/// What threads are called while they write rules, by which our own changes are told from others' (`NFTA_GEN_PROC_NAME`).
pub const THREAD_NAME: &str = "heddle-rules";

/// One piece of work.
#[derive(Debug)]
pub enum Task {
    /// Make the kernel follow.
    Sync {
        /// The ports that changed, as they now are (`None`: gone).
        updates: Vec<(PortId, Option<Arc<ServicePort>>)>,
        /// The same, as they were.
        changed: Changed,
        /// Options, if they changed.
        options: Option<RuleOptions>,
        /// Compare everything with the kernel.
        full: bool,
    },
    /// See whether the rules are still there.
    Look,
}

impl Task {
    /// How many ports it is about; everything counts as many.
    pub fn size(&self) -> usize {
        match self {
            Self::Sync { full: true, .. } => usize::MAX,
            Self::Sync { changed, .. } => changed.len(),
            Self::Look => 0,
        }
    }
}

/// What became of a task.
pub enum Outcome {
    /// The kernel has what it should.
    Synced { report: SyncReport, took: Duration },
    /// The kernel has what it had.
    Failed { error: Box<dyn Error + Send + Sync>, full: bool },
    /// The rules are there.
    Intact,
    /// They are not, or it cannot be told.
    Gone { reason: String },
}

/// A task's end.
pub struct Done {
    pub family: Family,
    pub worker: Box<Worker>,
    pub outcome: Outcome,
    /// Flows that were forgotten, and how long that took, if it was tried.
    pub flows: Option<(usize, Duration)>,
    /// What else went wrong, in words.
    pub complaints: Vec<String>,
}

/// The state of one family. The ports are kept here too, so that a task carries only what changed.
pub struct Worker {
    backend: Box<dyn Backend>,
    flows: Box<dyn Flows>,
    predecessors: Vec<Box<dyn Predecessor>>,
    options: RuleOptions,
    ports: Ports,
    /// What the flows have yet to follow, as it was when they did the last time.
    unfollowed: Changed,
    /// Whether rules of ours were in force once, so that what was before is known.
    is_begun: bool,
    /// Whether the flows agree with the rules, so that only changes matter.
    flows_agree: bool,
    forgotten: Option<(usize, Duration)>,
    complaints: Vec<String>,
    /// What the backend doubted after the last full sync.
    doubts: Vec<String>,
}

/// A bug that ended a task.
#[derive(Debug, thiserror::Error)]
#[error("a mistake in this program: {0}")]
struct Panic(String);

impl Worker {
    pub fn new(parts: FamilyParts, options: RuleOptions) -> Box<Self> {
        let FamilyParts { backend, flows, predecessors } = parts;
        Box::new(Self {
            backend,
            flows,
            predecessors,
            options,
            ports: Ports::new(),
            unfollowed: Changed::new(),
            is_begun: false,
            flows_agree: false,
            forgotten: None,
            complaints: Vec::new(),
            doubts: Vec::new(),
        })
    }

    pub fn family(&self) -> Family {
        self.backend.family()
    }

    pub fn is_notified(&self) -> bool {
        self.backend.is_notified()
    }

    /// Does the task. A panic is an outcome like any other failure: the next sync compares with the kernel.
    pub fn run(mut self: Box<Self>, task: Task) -> Done {
        let full = task.size() == usize::MAX;
        let outcome = catch_unwind(AssertUnwindSafe(|| named(|| self.execute(task))));
        let outcome = outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            Outcome::Failed { error: Box::new(Panic(text.to_owned())), full }
        });
        let (flows, complaints) = (self.forgotten.take(), std::mem::take(&mut self.complaints));
        Done { family: self.family(), worker: self, outcome, flows, complaints }
    }

    fn execute(&mut self, task: Task) -> Outcome {
        match task {
            Task::Sync { updates, changed, options, full } => {
                self.take_in(updates, options);
                self.sync(changed, full)
            }
            Task::Look => match self.backend.is_intact() {
                Ok(true) => Outcome::Intact,
                Ok(false) => Outcome::Gone { reason: "somebody removed them".to_owned() },
                Err(error) => Outcome::Gone { reason: one_line(&error) },
            },
        }
    }

    fn take_in(
        &mut self,
        updates: Vec<(PortId, Option<Arc<ServicePort>>)>,
        options: Option<RuleOptions>,
    ) {
        for (id, port) in updates {
            match port {
                Some(port) => drop(self.ports.insert(id, port)),
                None => drop(self.ports.remove(&id)),
            }
        }
        if let Some(options) = options {
            self.options = options;
        }
    }

    fn sync(&mut self, changed: Changed, full: bool) -> Outcome {
        let scope = if full { Scope::Full } else { Scope::Changed(&changed) };
        let start = Instant::now();
        let synced = self.backend.sync(&self.ports, &self.options, scope);
        for (id, before) in changed {
            self.unfollowed.entry(id).or_insert(before);
        }
        match synced {
            Ok(report) => {
                let took = start.elapsed();
                // a full one may have put back what was lost for a while, and flows were made meanwhile
                self.flows_agree &= !report.full || report.changes == 0;
                self.forget_flows();
                self.is_begun = true;
                self.remove_predecessors();
                if report.full {
                    self.doubts = self.backend.doubts();
                    crate::memory::give_back();
                }
                self.complaints.extend(self.doubts.iter().cloned());
                Outcome::Synced { report, took }
            }
            Err(error) => {
                self.flows_agree = false;
                Outcome::Failed { error: Box::new(error), full }
            }
        }
    }

    /// Changes are followed by what is known of before: only that tells of services that are gone. Flows of a time in which rules
    /// of ours were not in force are compared with what holds now as well.
    fn forget_flows(&mut self) {
        let changed = std::mem::take(&mut self.unfollowed);
        if self.flows_agree && changed.is_empty() {
            return;
        }
        let (family, start) = (self.family(), Instant::now());
        let (ports, options, flows) = (&self.ports, &self.options, self.flows.as_mut());
        let mut attempts = Vec::new();
        if self.is_begun {
            attempts.push(conntrack::forget_stale(family, &changed, ports, options, flows));
        }
        if !self.flows_agree {
            attempts.push(conntrack::reconcile(family, ports, options, flows));
        }
        self.flows_agree = attempts.iter().all(Result::is_ok);
        let mut count = 0;
        for attempt in attempts {
            count += attempt.as_ref().map_or_else(|error| error.deleted, |report| report.deleted);
            self.complaints.extend(attempt.err().map(|error| one_line(&error)));
        }
        self.forgotten = Some((count, start.elapsed()));
    }

    /// One that fails is tried again after the next full sync.
    fn remove_predecessors(&mut self) {
        let complaints = &mut self.complaints;
        self.predecessors.retain_mut(|predecessor| match predecessor.remove() {
            Ok(()) => false,
            Err(error) => {
                let (name, reason) = (predecessor.name(), one_line(&error));
                complaints.push(format!("cannot remove {name}: {reason}"));
                true
            }
        });
    }
}

/// Runs with this thread named [`THREAD_NAME`].
fn named<T>(work: impl FnOnce() -> T) -> T {
    let before = nix::sys::prctl::get_name().unwrap_or_default();
    let set = |name: &std::ffi::CStr| nix::sys::prctl::set_name(name).ok();
    if let Ok(name) = std::ffi::CString::new(THREAD_NAME) {
        set(&name);
    }
    let result = work();
    set(&before);
    result
}
