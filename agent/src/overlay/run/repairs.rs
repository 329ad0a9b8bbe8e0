//! How often rules are put right that somebody else keeps changing. Pure: it is told the time.
//!
//! Two programs that both want to be first would otherwise write without end. The first few repairs are made at once; then the pauses
//! double, up to that of the comparison that is made in any case ([`super::pace::COMPARE`]).

use std::time::{Duration, Instant};

/// So many repairs are made at once.
const AT_ONCE: u32 = 4;
/// The pause after one more.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LAST_PAUSE: Duration = super::pace::COMPARE;
/// After so long without a repair all is forgotten.
const QUIET: Duration = Duration::from_mins(3);

/// The repairs of late.
#[derive(Debug, Default)]
pub struct Repairs {
    count: u32,
    last: Option<Instant>,
}

impl Repairs {
    /// Rules were put right.
    pub fn made(&mut self, now: Instant) {
        self.forget(now);
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }

    /// How long the next one is to wait; zero: it may be made.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.forget(now);
        let since = self.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        self.pause().saturating_sub(since)
    }

    /// What to say of it, and what to do.
    pub fn problem(&self) -> Option<String> {
        (self.count > AT_ONCE).then(|| {
            format!(
                "somebody keeps changing packet filters that the overlay needs, and they are put right only every {} s; until then pods may \
                 be cut off. Find who does it (`nft monitor` shows rules as they come), and have it leave alone table inet heddle-overlay and \
                 the jumps to HEDDLE-FORWARD and HEDDLE-INPUT, which must stand before what drops",
                self.pause().as_secs()
            )
        })
    }

    fn pause(&self) -> Duration {
        match self.count.checked_sub(AT_ONCE) {
            None | Some(0) => Duration::ZERO,
            Some(more) => FIRST_PAUSE.saturating_mul(1 << (more - 1).min(16)).min(LAST_PAUSE),
        }
    }

    fn forget(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= QUIET) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_made_at_once_and_then_ever_more_seldom() {
        let (mut repairs, mut now) = (Repairs::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(repairs.wait(now), Duration::ZERO);
            repairs.made(now);
            let pause = repairs.wait(now);
            assert_eq!(repairs.problem().is_some(), pause > Duration::ZERO);
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(repairs.problem().unwrap().contains("only every 60 s"));
        assert_eq!(repairs.wait(now), Duration::ZERO, "it was waited for");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let (mut repairs, mut now) = (Repairs::default(), Instant::now());
        for _ in 0..6 {
            repairs.made(now);
        }
        assert_eq!(repairs.wait(now + Duration::from_millis(500)), Duration::from_millis(1500));
        now += QUIET;
        assert_eq!((repairs.wait(now), repairs.problem()), (Duration::ZERO, None));
        repairs.made(now);
        assert_eq!(repairs.wait(now), Duration::ZERO);
    }
}
