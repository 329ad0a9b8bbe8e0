//! The life of a pod as a state machine: events in, actions out, no clock and no side effect of its own.
//!
//! Times are durations since any fixed point; the worker passes the current one with each event.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::RestartPolicy;

/// Restart back-off as the kubelet has it: none at first, then 10 s doubling to 5 min, forgotten after 10 min of running.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_mins(5);
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// How long to wait before a step that failed is tried again, at first and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How long killed processes may take to be seen dead before the teardown begins all the same.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Where a pod is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The sandbox (namespace, addresses) is being made; if that failed, again at the given time.
    Sandbox {
        /// When it is tried again; `None` while it is being made.
        retry: Option<Duration>,
    },
    /// Containers run, or wait, or have ended.
    Running,
    /// Containers have been told to end; killed at the given time.
    Stopping {
        /// When patience ends.
        deadline: Duration,
        /// Whether they were killed already.
        killed: bool,
    },
    /// Everything is being removed; if that failed, again at the given time.
    Teardown {
        /// When it is tried again; `None` while it is being done.
        retry: Option<Duration>,
    },
    /// Nothing is left.
    Gone,
}

/// What one container of the pod does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// It is being made and started.
    Starting,
    /// It is started at the given time.
    Waiting {
        /// When.
        until: Duration,
        /// Why it does not run: `CrashLoopBackOff`, `ErrImageNeverPull`, …
        reason: String,
        /// The same in words.
        message: String,
    },
    /// It runs.
    Running {
        /// Since when.
        since: Duration,
    },
    /// It has ended for good.
    Ended,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code.
    pub code: u32,
    /// Whether for want of memory.
    pub oom: bool,
}

impl Exit {
    /// Kubernetes' word for it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self { oom: true, .. } => "OOMKilled",
            Self { code: 0, .. } => "Completed",
            Self { .. } => "Error",
        }
    }
}

/// One container of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// How many containers of that name came before the current one: the restart count.
    pub attempt: u32,
    /// What it does.
    pub state: SlotState,
    /// How the one before, or this one, ended.
    pub last_exit: Option<Exit>,
    /// Failures in a row, for the back-off.
    failures: u32,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The worker begins.
    Begin,
    /// The sandbox is ready.
    SandboxReady,
    /// The sandbox could not be made.
    SandboxFailed,
    /// A container was started.
    Started {
        /// Its name.
        name: String,
    },
    /// A container could not be made or started.
    StartFailed {
        /// Its name.
        name: String,
        /// The kubelet's word for it.
        reason: String,
        /// The same in words.
        message: String,
    },
    /// A container ended.
    Exited {
        /// Its name.
        name: String,
        /// Which of them.
        attempt: u32,
        /// How.
        exit: Exit,
    },
    /// The pod is not wanted any more.
    Delete,
    /// Everything was removed.
    TornDown,
    /// Something could not be removed.
    TeardownFailed,
    /// The time that [`Machine::deadline`] gave has come.
    Timer,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a fresh sandbox; remove what an earlier one left.
    SetUpSandbox,
    /// Make and start a container, removing those of its name that came before.
    Start {
        /// Its name.
        name: String,
        /// Which of them.
        attempt: u32,
    },
    /// Send a signal to a running container.
    Signal {
        /// Its name.
        name: String,
        /// Which of them.
        attempt: u32,
        /// The signal.
        signal: i32,
    },
    /// Write down which containers are not to be started again, and how they ended: after a reboot nothing else would tell.
    Remember,
    /// Remove containers, network, cgroup and record, in that order.
    TearDown,
}

/// A pod's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Where it is in its life.
    pub stage: Stage,
    /// Its containers.
    pub slots: Vec<Slot>,
    restart: RestartPolicy,
    grace: Duration,
    retries: u32,
}

impl Machine {
    /// A pod without a sandbox. One whose containers have all ended for good, before a reboot, needs none any more.
    pub fn new(slots: Vec<Slot>, restart: RestartPolicy, grace: Duration) -> Self {
        let over = !slots.is_empty() && slots.iter().all(|slot| slot.state == SlotState::Ended);
        let stage = if over { Stage::Running } else { Stage::Sandbox { retry: None } };
        Self { stage, slots, restart, grace, retries: 0 }
    }

    /// A pod whose sandbox is there: containers that run go on as they are, others are started.
    pub fn adopt(slots: Vec<Slot>, restart: RestartPolicy, grace: Duration) -> Self {
        Self { stage: Stage::Running, slots, restart, grace, retries: 0 }
    }

    /// When [`Event::Timer`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Sandbox { retry } | Stage::Teardown { retry } => *retry,
            Stage::Running => self.slots.iter().filter_map(Slot::wakes_at).min(),
            Stage::Stopping { deadline, .. } => Some(*deadline),
            Stage::Gone => None,
        }
    }

    /// Takes an event. An event that does not fit the state changes nothing: it was overtaken.
    pub fn step(&mut self, event: &Event, now: Duration) -> Vec<Action> {
        match (self.stage.clone(), event) {
            (Stage::Gone, _) => Vec::new(),
            (_, Event::Delete) => self.delete(now),
            (Stage::Sandbox { .. }, Event::Begin) => vec![Action::SetUpSandbox],
            (Stage::Sandbox { .. }, Event::SandboxReady) => {
                self.retries = 0;
                self.stage = Stage::Running;
                self.start_waiting(now)
            }
            (Stage::Sandbox { .. }, Event::SandboxFailed) => {
                self.stage = Stage::Sandbox { retry: Some(now + self.next_retry()) };
                Vec::new()
            }
            (Stage::Sandbox { retry: Some(at) }, Event::Timer) if now >= at => {
                self.stage = Stage::Sandbox { retry: None };
                vec![Action::SetUpSandbox]
            }
            (Stage::Running, Event::Begin | Event::Timer) => self.start_waiting(now),
            (Stage::Running, event) => self.container(event, now),
            (Stage::Stopping { .. }, event) => self.stopping(event, now),
            (Stage::Teardown { .. }, Event::TornDown) => {
                self.stage = Stage::Gone;
                Vec::new()
            }
            (Stage::Teardown { .. }, Event::TeardownFailed) => {
                self.stage = Stage::Teardown { retry: Some(now + self.next_retry()) };
                Vec::new()
            }
            (Stage::Teardown { retry: Some(at) }, Event::Timer) if now >= at => self.tear_down(),
            _ => Vec::new(),
        }
    }

    fn next_retry(&mut self) -> Duration {
        self.retries = self.retries.saturating_add(1);
        doubled(FIRST_RETRY, self.retries - 1, LAST_RETRY)
    }

    fn tear_down(&mut self) -> Vec<Action> {
        self.stage = Stage::Teardown { retry: None };
        vec![Action::TearDown]
    }

    /// Starts every container whose time has come.
    fn start_waiting(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        for slot in &mut self.slots {
            let due = match &slot.state {
                SlotState::Starting => true,
                SlotState::Waiting { until, .. } => now >= *until,
                SlotState::Running { .. } | SlotState::Ended => false,
            };
            if due {
                slot.state = SlotState::Starting;
                actions.push(Action::Start { name: slot.name.clone(), attempt: slot.attempt });
            }
        }
        actions
    }

    /// What a container did while the pod runs.
    fn container(&mut self, event: &Event, now: Duration) -> Vec<Action> {
        let restart = self.restart;
        let (Event::Started { name }
        | Event::StartFailed { name, .. }
        | Event::Exited { name, .. }) = event
        else {
            return Vec::new();
        };
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == *name) else {
            return Vec::new();
        };
        match event {
            Event::Started { .. } => {
                slot.state = SlotState::Running { since: now };
                if restart == RestartPolicy::Never {
                    return vec![Action::Remember];
                }
            }
            Event::StartFailed { reason, message, .. } => {
                slot.failures = slot.failures.saturating_add(1);
                let until = now + doubled(FIRST_RETRY, slot.failures, LAST_RETRY);
                slot.state =
                    SlotState::Waiting { until, reason: reason.clone(), message: message.clone() };
            }
            Event::Exited { attempt, exit, .. }
                if *attempt == slot.attempt && slot.state != SlotState::Ended =>
            {
                slot.exited(*exit, restart, now);
                if slot.state == SlotState::Ended {
                    return vec![Action::Remember];
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn delete(&mut self, now: Duration) -> Vec<Action> {
        match self.stage {
            Stage::Stopping { .. } | Stage::Teardown { .. } | Stage::Gone => Vec::new(),
            Stage::Sandbox { .. } => self.tear_down(),
            Stage::Running => {
                let signals = self.signals(15);
                if signals.is_empty() {
                    return self.tear_down();
                }
                self.stage = Stage::Stopping { deadline: now + self.grace, killed: false };
                signals
            }
        }
    }

    fn stopping(&mut self, event: &Event, now: Duration) -> Vec<Action> {
        match event {
            Event::Exited { name, attempt, exit } => {
                let ended = |slot: &&mut Slot| slot.name == *name && slot.attempt == *attempt;
                if let Some(slot) = self.slots.iter_mut().find(ended) {
                    slot.state = SlotState::Ended;
                    slot.last_exit = Some(*exit);
                }
                if self.slots.iter().any(|slot| matches!(slot.state, SlotState::Running { .. })) {
                    return Vec::new();
                }
                self.tear_down()
            }
            Event::Timer => match self.stage {
                Stage::Stopping { deadline, killed: false } if now >= deadline => {
                    self.stage = Stage::Stopping { deadline: now + KILL_PATIENCE, killed: true };
                    self.signals(9)
                }
                Stage::Stopping { deadline, killed: true } if now >= deadline => self.tear_down(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn signals(&self, signal: i32) -> Vec<Action> {
        let running =
            self.slots.iter().filter(|slot| matches!(slot.state, SlotState::Running { .. }));
        running
            .map(|slot| Action::Signal { name: slot.name.clone(), attempt: slot.attempt, signal })
            .collect()
    }
}

impl Slot {
    /// A container to start.
    pub fn fresh(name: &str, attempt: u32) -> Self {
        let state = SlotState::Starting;
        Self { name: name.to_owned(), attempt, state, last_exit: None, failures: 0 }
    }

    /// A container that runs.
    pub fn running(name: &str, attempt: u32, since: Duration) -> Self {
        Self { state: SlotState::Running { since }, ..Self::fresh(name, attempt) }
    }

    /// A container that has ended for good.
    pub fn ended(name: &str, attempt: u32, exit: Exit) -> Self {
        Self { state: SlotState::Ended, last_exit: Some(exit), ..Self::fresh(name, attempt) }
    }

    fn wakes_at(&self) -> Option<Duration> {
        match &self.state {
            SlotState::Waiting { until, .. } => Some(*until),
            _ => None,
        }
    }

    fn exited(&mut self, exit: Exit, restart: RestartPolicy, now: Duration) {
        self.last_exit = Some(exit);
        if !restart.applies(exit.code) {
            self.state = SlotState::Ended;
            return;
        }
        let ran = match self.state {
            SlotState::Running { since } => now.saturating_sub(since),
            _ => Duration::ZERO,
        };
        self.failures = if ran >= FORGET_AFTER { 0 } else { self.failures.saturating_add(1) };
        let pause = match self.failures {
            0 | 1 => Duration::ZERO,
            failures => doubled(FIRST_BACKOFF, failures - 2, LAST_BACKOFF),
        };
        self.attempt = self.attempt.saturating_add(1);
        self.state = SlotState::Waiting {
            until: now + pause,
            reason: if pause.is_zero() { "ContainerCreating" } else { "CrashLoopBackOff" }
                .to_owned(),
            message: format!(
                "back-off {} s before restart {} (exit code {})",
                pause.as_secs(),
                self.attempt,
                exit.code
            ),
        };
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}

#[cfg(test)]
#[path = "machine/tests.rs"]
mod tests;
