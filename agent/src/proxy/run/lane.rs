//! When one family is synced, compared or looked at. Pure: it is told the time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use netns_tools::iptables::Family;
use tokio::time::Instant;

use super::worker::{Outcome, Task, Worker};
use crate::proxy::model::{Changed, Model};
use crate::proxy::options::{Pace, RuleOptions};

/// How long to wait after a sync that failed, at first and at most.
pub const FIRST_RETRY: Duration = Duration::from_millis(250);
pub const LAST_RETRY: Duration = Duration::from_secs(30);
/// The least time between two looks: others may write rules of their own all the time.
pub const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// How often the rules are looked at where the kernel tells of no change.
pub const POLL: Duration = Duration::from_millis(800);
/// The least time between two comparisons of everything without a reason: they take up to a second of CPU, changes by others are
/// told of or looked for all the time, and kube-proxy compares every hour.
pub const COMPARE: Duration = Duration::from_mins(10);
/// A sync of more ports than this is not listened to: the kernel would write a message for every rule of it.
const MUCH: usize = 100;

/// What comes next, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Not before.
    pub at: Instant,
    /// Whether it is only a look.
    pub look: bool,
}

/// What a lane remembers of a task that ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many syncs had failed in a row; with this one, if it did.
    pub failures: u32,
    /// Whether the same failure was told before.
    pub told: bool,
    /// Since when its oldest change had waited.
    pub queued: Option<SystemTime>,
    /// What caused its changes.
    pub triggered: Vec<SystemTime>,
}

/// What waits for a sync.
#[derive(Debug, Default)]
struct Waiting {
    changed: Changed,
    options: Option<RuleOptions>,
    /// Why everything is to be compared, or not.
    full: bool,
    load: Load,
}

/// What is told of changes while they wait, and when they are in force.
#[derive(Debug, Default)]
struct Load {
    /// Since when the oldest waits.
    queued: Option<SystemTime>,
    triggered: Vec<SystemTime>,
    /// Changes of services and of slices.
    objects: (usize, usize),
}

impl Load {
    /// Takes in what came later.
    fn join(&mut self, later: Self) {
        self.queued = self.queued.or(later.queued);
        self.triggered.extend(later.triggered);
        self.objects.0 += later.objects.0;
        self.objects.1 += later.objects.1;
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.options.is_none() && !self.full
    }
}

/// One family.
pub struct Lane {
    family: Family,
    notified: bool,
    pace: Pace,
    /// `None`: it works.
    worker: Option<Box<Worker>>,
    waiting: Waiting,
    /// What the task that is under way carries, for its end.
    carried: Load,
    size: usize,
    /// Events that the task under way follows, if it is a sync, and that the kernel follows.
    following: Option<u64>,
    followed: u64,
    sync_at: Instant,
    full_at: Instant,
    look: bool,
    look_at: Instant,
    poll_at: Instant,
    failures: u32,
    told: Option<String>,
    complaints: Vec<String>,
}

impl Lane {
    /// A lane whose first sync compares everything.
    pub fn new(worker: Box<Worker>, pace: Pace, now: Instant) -> Self {
        Self {
            family: worker.family(),
            notified: worker.is_notified(),
            pace,
            worker: Some(worker),
            waiting: Waiting { full: true, ..Waiting::default() },
            carried: Load::default(),
            size: 0,
            following: None,
            followed: 0,
            sync_at: now,
            full_at: now,
            look: false,
            look_at: now,
            poll_at: now,
            failures: 0,
            told: None,
            complaints: Vec::new(),
        }
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// Objects whose changes are not in force: services, slices. Those that are being written are among them.
    pub fn pending(&self) -> (usize, usize) {
        let (waiting, carried) = (self.waiting.load.objects, self.carried.objects);
        (waiting.0 + carried.0, waiting.1 + carried.1)
    }

    /// Whether it is at work on so much that notifications of it would cost more than they tell.
    pub fn is_writing_much(&self) -> bool {
        self.worker.is_none() && self.size > MUCH
    }

    /// Adds changes. Returns since when the oldest waits.
    pub fn add(
        &mut self,
        changed: Changed,
        triggered: &[SystemTime],
        objects: (usize, usize),
        now: SystemTime,
    ) -> SystemTime {
        for (id, before) in changed {
            self.waiting.changed.entry(id).or_insert(before);
        }
        let load = &mut self.waiting.load;
        load.join(Load { queued: Some(now), triggered: triggered.to_vec(), objects });
        load.queued.unwrap_or(now)
    }

    /// Options changed: everything is compared.
    pub fn set_options(&mut self, options: &RuleOptions) {
        self.waiting.options = Some(options.clone());
        self.waiting.full = true;
    }

    /// Rules of somebody changed.
    pub fn want_look(&mut self) {
        self.look = true;
    }

    /// How many of the `taken` events the kernel follows.
    pub fn settled(&self, taken: u64) -> u64 {
        if self.waiting.is_empty() && self.following.is_none() { taken } else { self.followed }
    }

    /// Of what went wrong beside the rules, that which did not the last time.
    pub fn new_complaints(&mut self, complaints: Vec<String>) -> Vec<String> {
        let new = complaints.iter().filter(|one| !self.complaints.contains(one)).cloned().collect();
        self.complaints = complaints;
        new
    }

    /// What is next; `None`: first the task that is under way must end.
    pub fn due(&self) -> Option<Due> {
        self.worker.as_ref()?;
        if !self.waiting.is_empty() {
            return Some(Due { at: self.sync_at, look: false });
        }
        let full = Due { at: self.full_at, look: false };
        let poll = Due { at: self.poll_at, look: true };
        let look = Due { at: self.look_at, look: true };
        let polled = (!self.notified).then_some(poll);
        let looked = self.look.then_some(look);
        [Some(full), polled, looked].into_iter().flatten().min_by_key(|due| due.at)
    }

    /// The task that is due now, if one is, with the worker that is to do it.
    pub fn start(
        &mut self,
        now: Instant,
        model: &Model,
        taken: u64,
    ) -> Option<(Box<Worker>, Task)> {
        let due = self.due().filter(|due| due.at <= now)?;
        let worker = self.worker.take()?;
        self.following = (!due.look).then_some(taken);
        let task = if due.look { self.start_look(now) } else { self.start_sync(now, model) };
        self.size = task.size();
        Some((worker, task))
    }

    fn start_look(&mut self, now: Instant) -> Task {
        self.look = false;
        self.look_at = now + LOOK_PAUSE;
        self.poll_at = now + POLL;
        Task::Look
    }

    fn start_sync(&mut self, now: Instant, model: &Model) -> Task {
        let waiting = std::mem::take(&mut self.waiting);
        self.sync_at = now + self.pace.least;
        self.carried = waiting.load;
        let ports = model.ports(self.family);
        let ids = waiting.changed.keys();
        let updates = ids.map(|id| (id.clone(), ports.get(id).map(Arc::clone))).collect();
        let full = waiting.full || self.full_at <= now;
        Task::Sync { updates, changed: waiting.changed, options: waiting.options, full }
    }

    /// A task has ended.
    pub fn finish(&mut self, worker: Box<Worker>, outcome: &Outcome, now: Instant) -> Ended {
        self.worker = Some(worker);
        let following = self.following.take();
        if let (Outcome::Synced { .. }, Some(following)) = (outcome, following) {
            self.followed = following;
        }
        match outcome {
            Outcome::Synced { report, .. } => self.synced(report.full, now),
            Outcome::Failed { error, .. } => self.failed(&error.to_string(), now),
            Outcome::Intact => Ended::default(),
            Outcome::Gone { .. } => {
                self.waiting.full = true;
                Ended::default()
            }
        }
    }

    fn synced(&mut self, full: bool, now: Instant) -> Ended {
        if full {
            self.full_at = now + self.pace.resync.max(COMPARE);
        }
        self.look_at = self.look_at.max(now + LOOK_PAUSE);
        self.poll_at = now + POLL;
        self.told = None;
        let failures = std::mem::take(&mut self.failures);
        let Load { queued, triggered, .. } = std::mem::take(&mut self.carried);
        Ended { failures, told: false, queued, triggered }
    }

    fn failed(&mut self, reason: &str, now: Instant) -> Ended {
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(LAST_RETRY);
        self.failures += 1;
        self.sync_at = now + pause.max(self.pace.least);
        self.waiting.full = true;
        // what it carried still waits
        let later = std::mem::replace(&mut self.waiting.load, std::mem::take(&mut self.carried));
        self.waiting.load.join(later);
        let told = self.told.as_deref() == Some(reason);
        self.told = Some(reason.to_owned());
        Ended { failures: self.failures, told, ..Ended::default() }
    }
}
