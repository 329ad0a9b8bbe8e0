//! Keys that wait to be looked at: each once, not before its time.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::Key;

/// The first pause after a failure, and the longest.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_mins(1);

/// The keys that wait.
#[derive(Debug, Default)]
pub struct Queue {
    order: BTreeSet<(Instant, u64)>,
    keys: HashMap<u64, Key>,
    waiting: HashMap<Key, (Instant, u64)>,
    failures: HashMap<Key, u32>,
    number: u64,
}

impl Queue {
    /// A key is to be looked at at this time at the latest.
    pub fn add(&mut self, key: Key, at: Instant) {
        if let Some(&(sooner, number)) = self.waiting.get(&key) {
            if sooner <= at {
                return;
            }
            self.order.remove(&(sooner, number));
            self.keys.remove(&number);
        }
        self.number += 1;
        self.order.insert((at, self.number));
        self.keys.insert(self.number, key.clone());
        self.waiting.insert(key, (at, self.number));
    }

    /// A key could not be dealt with: it comes back after a pause that grows.
    pub fn failed(&mut self, key: Key, now: Instant) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let pause = FIRST.saturating_mul(1 << (*failures).min(16)).min(LONGEST);
        *failures += 1;
        self.add(key, now + pause);
        pause
    }

    /// A key was dealt with.
    pub fn succeeded(&mut self, key: &Key) {
        self.failures.remove(key);
    }

    /// The key whose time has come first, or when the next one comes.
    pub fn take(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        match self.order.first().copied() {
            Some((at, number)) if at <= now => {
                self.order.remove(&(at, number));
                let key = self.keys.remove(&number).ok_or(None)?;
                self.waiting.remove(&key);
                Ok(key)
            }
            next => Err(next.map(|(at, _)| at)),
        }
    }

    /// How many keys wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(("", "v1", "pods"), "default", name)
    }

    #[test]
    fn a_key_waits_once_and_for_its_earliest_time() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        queue.add(key("a"), later);
        queue.add(key("b"), now);
        queue.add(key("a"), now);
        queue.add(key("b"), later);
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.take(now), Ok(key("b")));
        assert_eq!(queue.take(now), Ok(key("a")));
        assert_eq!(queue.take(now), Err(None));
        queue.add(key("a"), later);
        assert_eq!(queue.take(now), Err(Some(later)));
        assert_eq!(queue.take(later), Ok(key("a")));
        assert!(queue.is_empty());
    }

    #[test]
    fn failures_come_back_ever_later() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let pauses: Vec<Duration> = (0..20)
            .map(|_| {
                let pause = queue.failed(key("a"), now);
                queue.take(now + pause).expect("its time has come");
                pause
            })
            .collect();
        assert_eq!((pauses[0], pauses[1], pauses[19]), (FIRST, 2 * FIRST, LONGEST));
        queue.succeeded(&key("a"));
        assert_eq!(queue.failed(key("a"), now), FIRST);
    }
}
