//! How long history is kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When history is forgotten without being asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// What is older is forgotten. A page of a list must be asked for within this time after the first.
    pub age: Duration,
    /// No more revisions than about this many are kept.
    pub revisions: u64,
}

impl Default for Retention {
    /// Five minutes as kube-apiserver's compaction of etcd, and a bound for what a storm of writes may leave behind.
    fn default() -> Self {
        Self { age: Duration::from_mins(5), revisions: 200_000 }
    }
}

impl Retention {
    /// How often to look.
    pub fn interval(&self) -> Duration {
        (self.age / 10).clamp(Duration::from_millis(10), Duration::from_secs(30))
    }
}

/// Which revision was the latest at which time. The clock of the process, so that nobody can set it; a new process takes all that
/// it finds for fresh.
#[derive(Debug, Default)]
pub struct Ages(VecDeque<(Instant, u64)>);

impl Ages {
    /// Notes the latest revision.
    pub fn note(&mut self, now: Instant, latest: u64) {
        if self.0.back().is_none_or(|(_, noted)| *noted < latest) {
            self.0.push_back((now, latest));
        }
    }

    /// Up to which revision the history can be forgotten, if that is more than what is forgotten already.
    pub fn due(
        &mut self,
        retention: &Retention,
        now: Instant,
        latest: u64,
        compacted: u64,
    ) -> Option<u64> {
        let mut due = None;
        while let Some((noted, revision)) = self.0.front()
            && now.saturating_duration_since(*noted) > retention.age
        {
            due = Some(*revision);
            self.0.pop_front();
        }
        // Some slack, or every single write would forget one revision.
        let too_many =
            latest.saturating_sub(compacted) > retention.revisions + retention.revisions / 8;
        let excess = too_many.then(|| latest - retention.revisions);
        due.max(excess).filter(|due| *due > compacted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETENTION: Retention = Retention { age: Duration::from_mins(5), revisions: 80 };

    #[test]
    fn what_is_old_is_due() {
        let (mut ages, start) = (Ages::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        ages.note(at(0), 5);
        ages.note(at(100), 9);
        ages.note(at(200), 9);
        assert_eq!(ages.due(&RETENTION, at(300), 9, 1), None);
        assert_eq!(ages.due(&RETENTION, at(301), 9, 1), Some(5));
        assert_eq!(ages.due(&RETENTION, at(302), 9, 5), None);
        assert_eq!(ages.due(&RETENTION, at(401), 9, 5), Some(9));
        assert_eq!(ages.due(&RETENTION, at(900), 9, 9), None);
    }

    #[test]
    fn what_is_too_much_is_due_in_portions() {
        let (mut ages, now) = (Ages::default(), Instant::now());
        assert_eq!(ages.due(&RETENTION, now, 90, 1), None);
        assert_eq!(ages.due(&RETENTION, now, 92, 1), Some(12));
        assert_eq!(ages.due(&RETENTION, now, 93, 12), None);
    }

    #[test]
    fn nothing_that_is_forgotten_is_due_again() {
        let (mut ages, now) = (Ages::default(), Instant::now());
        ages.note(now, 5);
        assert_eq!(ages.due(&RETENTION, now + RETENTION.age * 2, 9, 7), None);
    }
}
