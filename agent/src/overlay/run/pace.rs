//! When the kernel is written, compared, and nodes are kept. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

/// How long to wait after work that failed, at first and at most, until everything is compared. What is told meanwhile waits no longer than
/// at first: one thing that cannot be mended must not keep other nodes' changes.
pub const FIRST_RETRY: Duration = Duration::from_millis(250);
/// See [`FIRST_RETRY`].
pub const LAST_RETRY: Duration = Duration::from_secs(30);
/// How often everything is compared with the kernel without being told of a change.
pub const COMPARE: Duration = Duration::from_mins(1);
/// The least time between two comparisons that the kernel's notifications cause.
pub const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// The same of looks at rules, which are cheaper, and at which the guard of the tunnel hangs.
pub const RULES_PAUSE: Duration = Duration::from_millis(100);
/// Comparisons take no more than one part in so many of a CPU: ten thousand nodes take a while. Rules that are written again count by
/// [`super::repairs`] instead: they take programs that do not tell how much rules there are.
const LOOK_SHARE: u32 = 10;
/// The least time between two writes of the file of nodes.
pub const SAVE_PAUSE: Duration = Duration::from_secs(1);

/// What is compared with the kernel, rather than with what was written last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compare {
    /// Nothing.
    #[default]
    Nothing,
    /// Rules, by a look.
    Rules,
    /// Links, routes and their entries; rules only by a look, as comparing them starts programs.
    Look,
    /// Everything.
    All,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// What to compare.
    pub compare: Compare,
    /// Hand out the nodes, to be kept.
    pub save: bool,
}

/// How work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether all of it could be done.
    pub well: bool,
    /// What was compared.
    pub compare: Compare,
    /// How long it took, but for rules.
    pub took: Duration,
    /// How long it took to look at rules.
    pub rules_looked: Duration,
    /// Whether nodes are others than before.
    pub nodes: bool,
    /// Whether all of them were handed out, to be kept.
    pub handed_out: bool,
    /// So long from now rules are to be looked at again, whoever tells of them.
    pub rules_again: Option<Duration>,
}

/// The times.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what waits: each by itself")]
pub struct Pace {
    busy: bool,
    /// Something waits that was told.
    changed: bool,
    /// Somebody touched what is ours, perhaps: links, routes and their entries …
    look: bool,
    /// … or rules.
    look_at_rules: bool,
    /// Nodes differ from those that are kept, or about to be.
    unsaved: bool,
    /// Those that were handed out are about to be kept.
    saving: bool,
    work_at: Instant,
    full_at: Instant,
    look_at: Instant,
    rules_look_at: Instant,
    save_at: Instant,
    rules_at: Option<Instant>,
    /// When everything is compared after a failure.
    retry_at: Option<Instant>,
    failures: u32,
}

impl Pace {
    /// Nothing waits, and the first comparison is due when something does.
    pub fn new(now: Instant) -> Self {
        Self {
            busy: false,
            changed: false,
            look: false,
            look_at_rules: false,
            unsaved: false,
            saving: false,
            work_at: now,
            full_at: now + COMPARE,
            look_at: now,
            rules_look_at: now,
            save_at: now,
            rules_at: None,
            retry_at: None,
            failures: 0,
        }
    }

    /// Something was told that is to be followed.
    pub fn change(&mut self) {
        self.changed = true;
    }

    /// The kernel tells of a change, of whomever.
    pub fn look(&mut self, what: Compare) {
        self.look |= what >= Compare::Look;
        self.look_at_rules |= what == Compare::Rules;
    }

    /// Somebody asks for a comparison now (SIGHUP).
    pub fn compare(&mut self, now: Instant) {
        self.full_at = now;
        self.work_at = now;
    }

    /// When something is due, at the earliest; `None`: first the work that is under way must end.
    pub fn wake(&self) -> Option<Instant> {
        if self.busy {
            return None;
        }
        let all = [
            Some(self.full_at),
            self.changed.then_some(self.work_at),
            self.look.then_some(self.look_at),
            self.look_at_rules.then_some(self.rules_look_at),
            (self.unsaved && !self.saving).then_some(self.save_at),
            self.rules_at,
            self.retry_at,
        ];
        // after a failure all of it waits a little
        all.into_iter().flatten().min().map(|at| at.max(self.work_at))
    }

    /// What is due now; whoever asks begins it at once.
    pub fn start(&mut self, now: Instant) -> Option<Due> {
        if !self.busy && self.rules_at.is_some_and(|at| at <= now) {
            self.rules_at = None;
            self.look(Compare::Rules);
        }
        self.wake().filter(|at| *at <= now)?;
        let again = self.retry_at.is_some_and(|at| at <= now);
        let compare = if self.full_at <= now || again {
            Compare::All
        } else if self.look && self.look_at <= now {
            Compare::Look
        } else if self.look_at_rules && self.rules_look_at <= now {
            Compare::Rules
        } else {
            Compare::Nothing
        };
        let save = self.unsaved && !self.saving && self.save_at <= now;
        self.busy = true;
        self.changed = false;
        // what is told from here on is not seen by this comparison
        self.look &= compare < Compare::Look;
        self.look_at_rules &= compare < Compare::Rules;
        Some(Due { compare, save })
    }

    /// What was begun has ended.
    pub fn finish(&mut self, ended: Ended, now: Instant) {
        self.busy = false;
        self.unsaved = (self.unsaved || ended.nodes) && !ended.handed_out;
        self.saving |= ended.handed_out;
        self.rules_at = ended.rules_again.map(|pause| now + pause).or(self.rules_at);
        if ended.compare == Compare::All {
            self.full_at = now + COMPARE;
        }
        if ended.compare >= Compare::Look {
            self.look_at = now + LOOK_PAUSE.max(ended.took * LOOK_SHARE);
        }
        if ended.compare >= Compare::Rules {
            self.rules_look_at = now + RULES_PAUSE.max(ended.rules_looked * LOOK_SHARE);
        }
        self.work_at = if ended.well { now } else { now + FIRST_RETRY };
        // what fails beside a comparison changes nothing about when the next is due
        let compared = ended.compare >= Compare::Look;
        if ended.well && compared {
            self.failures = 0;
            self.retry_at = None;
        }
        if !ended.well && (compared || self.retry_at.is_none()) {
            let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(LAST_RETRY);
            self.failures = self.failures.saturating_add(1);
            self.retry_at = Some(now + pause);
        }
    }

    /// Nodes that were handed out are kept, or could not be: then it is tried again.
    pub fn saved(&mut self, well: bool, now: Instant) {
        self.saving = false;
        self.unsaved |= !well;
        self.save_at = now + SAVE_PAUSE;
    }

    /// Whether nodes differ from those that are kept.
    pub fn is_unsaved(&self) -> bool {
        self.unsaved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Ended = Ended {
        rules_again: None,
        well: true,
        compare: Compare::Nothing,
        took: Duration::from_millis(1),
        rules_looked: Duration::from_millis(1),
        nodes: false,
        handed_out: false,
    };

    const ALL: Due = Due { compare: Compare::All, save: false };
    const LOOK: Due = Due { compare: Compare::Look, save: false };
    const SAVE: Due = Due { compare: Compare::Nothing, save: true };

    fn after(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    #[test]
    fn a_change_is_followed_at_once_and_one_at_a_time() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!((pace.start(now), pace.wake()), (None, Some(now + COMPARE)));
        pace.change();
        assert_eq!(pace.start(now), Some(Due::default()));
        pace.change();
        assert_eq!((pace.start(now), pace.wake()), (None, None), "one is under way");
        pace.finish(WELL, now);
        assert_eq!(pace.start(now), Some(Due::default()));
        pace.finish(WELL, now);
        assert_eq!(pace.start(now + COMPARE), Some(ALL));
    }

    #[test]
    fn failures_are_tried_again_ever_later_and_with_a_comparison() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        pace.change();
        let mut compare = Compare::Nothing;
        for millis in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            assert_eq!(pace.start(now), Some(Due { compare, save: false }));
            pace.finish(Ended { well: false, compare, ..WELL }, now);
            assert_eq!(pace.wake(), Some(after(now, millis)));
            assert_eq!(pace.start(after(now, millis - 1)), None);
            now = after(now, millis);
            compare = Compare::All;
        }
        assert_eq!(pace.start(now), Some(ALL));
        pace.finish(Ended { compare: Compare::All, ..WELL }, now);
        assert_eq!((pace.failures, pace.wake()), (0, Some(now + COMPARE)));
        // somebody asks
        pace.compare(now);
        assert_eq!(pace.start(now), Some(ALL));
    }

    #[test]
    fn what_cannot_be_mended_keeps_no_change_waiting() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.change();
        assert_eq!(pace.start(now), Some(Due::default()));
        let failed = Ended { well: false, compare: Compare::All, ..WELL };
        for _ in 0..10 {
            pace.finish(failed, now);
        }
        let again = now + LAST_RETRY;
        assert_eq!(pace.wake(), Some(again));
        // a change, well or not, is followed soon, and the comparison neither hurried nor put off
        for (millis, well) in [(250, false), (500, true), (500, false), (750, true)] {
            pace.change();
            assert_eq!(pace.wake(), Some(after(now, millis)));
            assert_eq!(pace.start(after(now, millis)), Some(Due::default()));
            pace.finish(Ended { well, ..WELL }, after(now, millis));
            assert_eq!(pace.wake(), Some(again));
        }
        pace.look(Compare::Look);
        assert_eq!(pace.start(after(now, 900)), Some(LOOK));
        pace.finish(Ended { compare: Compare::Look, ..WELL }, after(now, 900));
        assert_eq!((pace.failures, pace.wake()), (0, Some(now + COMPARE)));
    }

    #[test]
    fn notifications_cause_comparisons_with_pauses() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.look(Compare::Look);
        assert_eq!(pace.start(now), Some(LOOK));
        pace.look(Compare::Look);
        pace.finish(Ended { compare: Compare::All, ..WELL }, now);
        assert_eq!(pace.wake(), Some(now + LOOK_PAUSE));
        assert_eq!(pace.start(now), None);
        // a change does not wait for that
        pace.change();
        assert_eq!(pace.start(now), Some(Due::default()));
        pace.finish(WELL, now);
        assert_eq!(pace.start(now + LOOK_PAUSE), Some(LOOK));
        let took = Duration::from_secs(1);
        pace.look(Compare::Look);
        pace.finish(Ended { compare: Compare::Look, took, ..WELL }, now);
        assert_eq!(pace.wake(), Some(now + took * LOOK_SHARE));
    }

    #[test]
    fn rules_are_looked_at_sooner_than_routes_whatever_it_took_to_write_them() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let rules = Due { compare: Compare::Rules, save: false };
        pace.look(Compare::Rules);
        assert_eq!(pace.start(now), Some(rules));
        // somebody deletes them again while programs write them
        pace.look(Compare::Rules);
        let took = Duration::from_secs(2);
        pace.finish(Ended { compare: Compare::Rules, took, ..WELL }, now);
        assert_eq!(pace.wake(), Some(now + RULES_PAUSE));
        assert_eq!(pace.start(now + RULES_PAUSE), Some(rules));
        // a comparison of routes that takes long does not put that off
        pace.look(Compare::Look);
        pace.look(Compare::Rules);
        pace.finish(Ended { compare: Compare::Look, took, ..WELL }, now);
        assert_eq!(pace.start(now + RULES_PAUSE), Some(rules));
        let rules_looked = Duration::from_millis(50);
        pace.look(Compare::Rules);
        pace.finish(Ended { compare: Compare::Rules, rules_looked, ..WELL }, now);
        assert_eq!(pace.wake(), Some(now + rules_looked * LOOK_SHARE), "but one of rules does");
        // and a comparison of routes is one of rules, too
        pace.change();
        assert_eq!(pace.start(now + took * LOOK_SHARE), Some(LOOK));
        pace.finish(Ended { compare: Compare::Look, ..WELL }, now);
        assert_eq!(pace.wake(), Some(now + COMPARE));
    }

    #[test]
    fn nodes_are_kept_now_and_then() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let (changed, handed_out) =
            (Ended { nodes: true, ..WELL }, Ended { handed_out: true, ..WELL });
        pace.change();
        pace.start(now);
        pace.finish(changed, now);
        assert_eq!(pace.start(now), Some(SAVE));
        pace.finish(Ended { nodes: true, ..handed_out }, now);
        assert!(!pace.is_unsaved());
        // while they are being written there is another
        pace.change();
        assert_eq!(pace.start(now + SAVE_PAUSE), Some(Due::default()));
        pace.finish(changed, now + SAVE_PAUSE);
        let long = now + SAVE_PAUSE * 2;
        assert_eq!((pace.is_unsaved(), pace.start(long)), (true, None), "one at a time");
        pace.saved(true, long);
        assert_eq!(pace.wake(), Some(long + SAVE_PAUSE));
        assert_eq!(pace.start(long + SAVE_PAUSE), Some(SAVE));
        pace.finish(handed_out, long);
        pace.saved(false, long);
        assert_eq!((pace.is_unsaved(), pace.wake()), (true, Some(long + SAVE_PAUSE)));
    }

    #[test]
    fn rules_are_looked_at_again_when_it_is_asked_for() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let pause = Duration::from_secs(4);
        pace.look(Compare::Rules);
        assert_eq!(pace.start(now).unwrap().compare, Compare::Rules);
        let ended = Ended { compare: Compare::Rules, rules_again: Some(pause), ..WELL };
        pace.finish(ended, now);
        assert_eq!((pace.wake(), pace.start(now)), (Some(now + pause), None));
        // what else is to be done does not put it off
        pace.change();
        assert_eq!(pace.start(now).unwrap().compare, Compare::Nothing);
        pace.finish(WELL, now);
        assert_eq!(pace.wake(), Some(now + pause));
        assert_eq!(pace.start(now + pause).unwrap().compare, Compare::Rules);
        pace.finish(Ended { compare: Compare::Rules, ..WELL }, now + pause);
        assert_eq!(pace.wake(), Some(now + COMPARE));
    }
}
