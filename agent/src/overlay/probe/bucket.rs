//! How often something may be done: a token bucket.

use std::time::{Duration, Instant};

/// Fills by one token each `every`, up to `most`.
#[derive(Clone, Debug)]
pub struct Bucket {
    every: Duration,
    most: u32,
    /// When it would have been empty; full if that is long ago.
    empty_at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(per_second: u32, most: u32, now: Instant) -> Self {
        let every = Duration::from_secs(1) / per_second.max(1);
        let empty_at = now.checked_sub(every * most).unwrap_or(now);
        Self { every, most, empty_at }
    }

    /// Takes a token, or says when there will be one.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let full = now.checked_sub(self.every * self.most).unwrap_or(now);
        let empty_at = self.empty_at.max(full);
        let next = empty_at + self.every;
        if next > now {
            return Err(next);
        }
        self.empty_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_at_once_and_then_by_the_second() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut bucket = Bucket::new(50, 10, start);
        let mut taken = |now| std::iter::from_fn(|| bucket.take(now).ok()).count();
        assert_eq!(taken(start), 10);
        assert_eq!(taken(start + Duration::from_millis(19)), 0);
        assert_eq!(taken(start + Duration::from_millis(20)), 1);
        assert_eq!(taken(start + Duration::from_millis(100)), 4);
        assert_eq!(taken(start + Duration::from_mins(1)), 10);
        let later = start + Duration::from_mins(1);
        assert_eq!(bucket.take(later), Err(later + Duration::from_millis(20)));
    }
}
