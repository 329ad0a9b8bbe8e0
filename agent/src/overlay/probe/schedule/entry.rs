//! One way to a node: what is known of it, and its round if one is under way.

use std::time::{Duration, Instant};

use crate::overlay::probe::round::{Round, Sizes};
use crate::overlay::probe::{End, Known, Outcome, Target};

/// After a round in which nothing arrived; doubled each time, up to the period.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// Between two rounds of one way that routers cause: whoever can send packets to this host can have them say anything.
const TOLD_PAUSE: Duration = Duration::from_secs(10);
/// How long an answer is waited for: eight times as long as the node took before, within these.
const SHORTEST_WAIT: Duration = Duration::from_millis(300);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Its answer is waited for until then.
    Answer,
    /// It has a round to begin or to go on with.
    Urgent,
    /// Its next round begins then.
    Routine,
}

/// A round that is under way.
#[derive(Debug)]
pub struct Running {
    pub round: Round,
    began: Instant,
    /// The tries of which an answer may still come, with the time when they were sent.
    pub asked: Vec<(u64, Instant)>,
}

/// One way, and how it stands with it.
#[derive(Debug)]
pub struct Entry {
    pub target: Target,
    pub known: Known,
    /// When the round that found what is known began.
    pub found_by: Option<Instant>,
    /// For few at a time.
    pub running: Option<Box<Running>>,
    /// How long the node took to answer.
    pub took: Duration,
    pub queue: Queue,
    pub due: Instant,
    failures: u32,
    /// What a router says would fit, for the next round.
    pub told: Option<u32>,
    /// When such a round began last.
    told_at: Option<Instant>,
}

impl Entry {
    pub fn new(target: Target, now: Instant) -> Self {
        Self {
            known: Known { full: target.end.full, ..Known::default() },
            target,
            found_by: None,
            running: None,
            took: LONGEST_WAIT,
            queue: Queue::Urgent,
            due: now,
            failures: 0,
            told: None,
            told_at: None,
        }
    }

    pub fn running(&mut self, now: Instant) -> &mut Running {
        let End { full, floor, ref device, .. } = *self.target.end;
        let told = if self.running.is_none() { self.told.take() } else { None };
        if told.is_some() {
            self.told_at = Some(now);
        }
        let sizes = Sizes { full, floor, before: self.known.mtu, told };
        self.running.get_or_insert_with(|| {
            let round = Round::new(sizes, device.is_some());
            Box::new(Running { round, began: now, asked: Vec::new() })
        })
    }

    pub fn round(&mut self, now: Instant) -> &mut Round {
        &mut self.running(now).round
    }

    pub fn wait(&self) -> Duration {
        (self.took * 8).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// Whether it is worth a round that a router says that no more than `size` bytes fit.
    pub fn is_news(&self, size: u32) -> bool {
        let known = match self.known.outcome {
            // what does not fit is sent on for a while by those who have not heard of it
            Some(Outcome::ArrivesUpTo(found)) => found,
            _ => self.target.end.full,
        };
        size < known
    }

    /// When the next round that a router causes may begin.
    pub fn told_due(&self, now: Instant) -> Instant {
        self.told_at.map_or(now, |at| (at + TOLD_PAUSE).max(now))
    }

    pub fn become_target(&mut self, target: Target) {
        let full = target.end.full;
        if full > self.known.full && self.known.outcome == Some(Outcome::Arrives) {
            self.known.outcome = None;
        }
        self.known.mtu = self.known.mtu.filter(|mtu| *mtu < full);
        self.known.full = full;
        self.target = target;
        self.failures = 0;
    }

    /// Takes in what a round found; the time until the next one, which is a `period` if all is well.
    pub fn finish(&mut self, outcome: Outcome, period: Duration) -> Duration {
        self.found_by = self.running.take().map(|running| running.began);
        self.known.outcome = Some(outcome);
        match outcome {
            Outcome::Arrives => self.known.mtu = None,
            // a route takes no less, and a packet below it is nobody's to refuse
            Outcome::ArrivesUpTo(size) => self.known.mtu = Some(size.max(self.target.end.floor)),
            Outcome::Nothing(_) => {
                self.failures += 1;
                let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)) / 2;
                return pause.min(period);
            }
        }
        self.failures = 0;
        period
    }
}
