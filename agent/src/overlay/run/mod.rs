//! The loop that makes this node follow the cluster.
//!
//! Whatever tells of a change, an API server, the kernel, probes, a signal or the clock, only says that it is time to look: what must hold
//! is planned of all that is known, and what differs is written. The work is done on a blocking thread, one piece at a time; what comes
//! meanwhile is the next piece. After a failure everything is compared anew, at growing intervals.
//!
//! | file | what |
//! | --- | --- |
//! | `pace` | when what is done: pure, told the time |
//! | `nodes` | the nodes that are known, and when a source is not believed: pure |
//! | `worker` | the blocking work; below it this node's side of the plan, the lease, packet filters, and what the board is told |
//! | `repairs` | how often rules are put right that somebody keeps changing: pure |
//! | `host` | what it asks of this host |
//! | `relist` | when the source is asked for all nodes again |
//! | `alarm` | the kernel's notifications |
//! | `probing` | probes, and what they find |
//! | `senders` | what the rules need of all nodes together: pure |
//! | `start` | all of it put together |

mod alarm;
#[cfg(test)]
mod fake;
mod host;
mod nodes;
mod pace;
mod probing;
mod relist;
mod repairs;
mod senders;
mod start;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;

use netns_tools::cause::one_line;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use alarm::Alarm;
pub use host::{Host, KernelHost};
pub use pace::Compare;
use pace::{Due, Ended, Pace};
use probing::Found;
pub use probing::Probing;
use relist::Relist;
pub use start::{Controller, Reload, StartError, access, health};
pub use worker::{Options, Outcome, Task, Worker, preview};

use super::node::{Announcement, NodeRecord};
use super::source::Event;
use super::state::Store;
use super::status::{Board, Origin};

/// How many events are taken in before something is started: a source that never pauses must not keep routes from being written.
const TAKEN_AT_ONCE: usize = 4096;

/// What is known of the largest packets that arrive at a node; `None`: all that are sent.
pub type Mtu = (String, Option<u32>);

/// Is told how work went. Called from the loop: it must not block.
pub trait Observer: Send + Sync {
    /// A piece of work has ended.
    fn worked(&self, outcome: &Outcome) {
        let _ = outcome;
    }
}

impl Observer for () {}

/// What a runner works with.
pub struct Parts {
    /// What does the work.
    pub worker: Box<Worker>,
    /// What the source tells.
    pub events: mpsc::Receiver<Event>,
    /// Probes.
    pub probing: Probing,
    /// Somebody asks that everything is compared now.
    pub reload: mpsc::Receiver<()>,
    /// Asks the source to tell all nodes again.
    pub relist: mpsc::Sender<()>,
    /// The kernel's notifications; without them everything is compared once a minute.
    pub alarm: Option<Alarm>,
    /// What this node is to announce.
    pub announcement: watch::Sender<Option<Announcement>>,
    /// Whether this node was connected once.
    pub connected: watch::Sender<bool>,
    /// What is told.
    pub board: Board,
    /// Who is told how work went.
    pub observer: Box<dyn Observer>,
}

/// The loop.
pub struct Runner {
    parts: Inputs,
    state: State,
    jobs: JoinSet<(Box<Worker>, Outcome)>,
    saves: JoinSet<Result<(), String>>,
}

struct Inputs {
    events: mpsc::Receiver<Event>,
    probing: Probing,
    reload: mpsc::Receiver<()>,
    relist: Relist,
    alarm: Option<Alarm>,
}

/// All that the loop decides by.
struct State {
    /// `None`: it works.
    worker: Option<Box<Worker>>,
    pace: Pace,
    waiting: Task,
    compare: Compare,
    announcement: watch::Sender<Option<Announcement>>,
    connected: watch::Sender<bool>,
    board: Board,
    observer: Box<dyn Observer>,
}

impl Runner {
    /// A runner that has not looked at anything yet.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            worker,
            events,
            probing,
            reload,
            relist,
            alarm,
            announcement,
            connected,
            board,
            observer,
        } = parts;
        let mut pace = Pace::new(Instant::now());
        if worker.has_kept() {
            pace.change();
        }
        let state = State {
            worker: Some(worker),
            pace,
            waiting: Task::default(),
            compare: Compare::Nothing,
            announcement,
            connected,
            board,
            observer,
        };
        let relist = Relist::new(relist);
        let parts = Inputs { events, probing, reload, relist, alarm };
        Self { parts, state, jobs: JoinSet::new(), saves: JoinSet::new() }
    }

    /// Waits until nodes are known, from before a restart or from the source: before that nothing can be planned, and nobody knows what
    /// is missing. That the source does not answer is told meanwhile.
    pub async fn first_nodes(&mut self) {
        let kept = self.state.worker.as_ref().is_some_and(|worker| worker.has_kept());
        while !kept && self.state.waiting.events.is_empty() {
            match self.parts.events.recv().await {
                Some(event) => self.take(event),
                None => return,
            }
        }
    }

    /// Runs until the source ends, or `stop` does. Everything stays in the kernel. Dropping it instead is as good, but that the newest
    /// nodes may not be kept.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let (mut probing, mut reloading, mut ringing) = (true, true, self.parts.alarm.is_some());
        let mut stop = std::pin::pin!(stop);
        self.start();
        loop {
            let wake = self.state.pace.wake();
            tokio::select! {
                () = &mut stop => break,
                event = self.parts.events.recv() => match event {
                    Some(event) => self.take(event),
                    None => break,
                },
                found = self.parts.probing.found(), if probing => match found {
                    Some(found) => self.state.found(found),
                    None => probing = false,
                },
                asked = self.parts.reload.recv(), if reloading => match asked {
                    Some(()) => self.state.pace.compare(Instant::now()),
                    None => reloading = false,
                },
                () = self.parts.relist.ask() => {}
                rang = ring(&mut self.parts.alarm), if ringing => match rang {
                    Some(what) => self.state.pace.look(what),
                    None => ringing = false,
                },
                Some(done) = self.jobs.join_next() => match done {
                    Ok((worker, outcome)) => self.finish(worker, outcome),
                    // only when the process ends: a panic of the work itself is an outcome
                    Err(error) => tracing::error!(%error, "the overlay's work was cut off"),
                },
                Some(saved) = self.saves.join_next() => {
                    self.state.saved(saved.unwrap_or_else(|error| Err(error.to_string())));
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.start();
        }
        self.end().await;
    }

    /// Takes in what is there already, so that one piece of work answers it all.
    fn take(&mut self, first: Event) {
        self.state.take(first);
        for _ in 1..TAKEN_AT_ONCE {
            let Ok(event) = self.parts.events.try_recv() else { break };
            self.state.take(event);
        }
    }

    fn start(&mut self) {
        let Some(Due { compare, save }) = self.state.pace.start(Instant::now()) else { return };
        let Some(worker) = self.state.worker.take() else { return };
        let task = std::mem::take(&mut self.state.waiting);
        self.state.compare = compare;
        self.jobs.spawn_blocking(move || worker.run(Task { compare, save, ..task }));
    }

    fn finish(&mut self, worker: Box<Worker>, mut outcome: Outcome) {
        let saved = outcome.saved.take();
        let handed_out = saved.is_some();
        if let Some(nodes) = saved {
            let store = worker.store().clone();
            self.saves.spawn_blocking(move || keep(&store, nodes));
        }
        if let (Some(alarm), Some(links)) = (&self.parts.alarm, outcome.links.take()) {
            alarm.watch_links(links);
        }
        if outcome.lost {
            self.parts.relist.lost(Instant::now());
        }
        if let Some(targets) = outcome.targets.take() {
            self.parts.probing.aim(targets);
        }
        self.state.finish(worker, &outcome, handed_out);
    }

    /// The work that is under way ends, and the newest nodes are kept.
    async fn end(mut self) {
        while let Some(done) = self.jobs.join_next().await {
            if let Ok((worker, outcome)) = done {
                self.finish(worker, outcome);
            }
        }
        while let Some(saved) = self.saves.join_next().await {
            self.state.saved(saved.unwrap_or_else(|error| Err(error.to_string())));
        }
        if !self.state.pace.is_unsaved() {
            return;
        }
        let Some(worker) = self.state.worker.take() else { return };
        let save = tokio::task::spawn_blocking(move || keep(worker.store(), worker.to_keep()));
        if let Ok(Err(error)) = save.await {
            tracing::warn!(error, "the newest nodes are not kept");
        }
    }
}

/// Writes all nodes down: megabytes, beside the work and not in it.
fn keep(store: &Store, nodes: Vec<Arc<NodeRecord>>) -> Result<(), String> {
    let kept = {
        let nodes: Vec<_> = nodes.iter().map(Arc::as_ref).collect();
        store.nodes_text(&nodes).map_or(Ok(()), |text| store.keep_nodes(&text))
    };
    crate::memory::give_back();
    kept.map_err(|error| one_line(&error))
}

/// Without an alarm it never rings.
async fn ring(alarm: &mut Option<Alarm>) -> Option<Compare> {
    match alarm {
        Some(alarm) => alarm.rang().await,
        None => std::future::pending().await,
    }
}

impl State {
    fn take(&mut self, event: Event) {
        match event {
            Event::Nodes(event) => {
                self.waiting.events.push(event);
                self.pace.change();
            }
            Event::Away(reason) => {
                let told = reason.map(|reason| {
                    format!(
                        "nodes are not told of ({reason}); the ways to other nodes stay as they are"
                    )
                });
                self.board.complain(Origin::Source, told.into_iter().collect());
            }
        }
    }

    fn found(&mut self, found: Found) {
        match found {
            Found::Mtus(mtus) if mtus.is_empty() => return,
            Found::Mtus(mtus) => self.waiting.mtus.extend(mtus),
            Found::Switch(switch) => self.waiting.switches.push(switch),
        }
        self.pace.change();
    }

    fn finish(&mut self, worker: Box<Worker>, outcome: &Outcome, handed_out: bool) {
        let now = Instant::now();
        self.worker = Some(worker);
        let ended = Ended {
            well: outcome.well,
            compare: self.compare,
            took: outcome.took.saturating_sub(outcome.rules_took),
            rules_looked: outcome.rules_looked,
            nodes: outcome.nodes,
            handed_out,
            rules_again: outcome.rules_again,
        };
        self.pace.finish(ended, now);
        if let Some(announcement) = &outcome.announcement {
            self.announcement.send_if_modified(|known| {
                let differs = known.as_ref() != Some(announcement);
                *known = Some(announcement.clone());
                differs
            });
        }
        if outcome.connected {
            self.connected.send_if_modified(|known| !std::mem::replace(known, true));
        }
        tracing::debug!(took = ?outcome.took, compare = ?self.compare, wrote = outcome.wrote, well = outcome.well, "the overlay was synced");
        self.observer.worked(outcome);
    }

    fn saved(&mut self, saved: Result<(), String>) {
        self.pace.saved(saved.is_ok(), Instant::now());
        self.board.complain(Origin::Kept, saved.err().into_iter().collect());
    }
}
