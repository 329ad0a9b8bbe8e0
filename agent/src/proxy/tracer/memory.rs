//! Which clients were seen by which rule, and when: what session affinity rests on.
//!
//! In iptables that is a list of the match `recent`, in nftables a set or map whose elements have a time-out.

use std::collections::BTreeMap;
use std::time::Duration;

/// What is remembered of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How long ago it was seen.
    pub age: Duration,
    /// After which time it is forgotten, if that is said where it is noted.
    pub timeout: Option<Duration>,
    /// What a map holds for it.
    pub data: Vec<u8>,
}

/// All that is remembered, by list or set and by the key in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    seen: BTreeMap<(String, Vec<u8>), Seen>,
}

impl Memory {
    /// A client is seen now.
    pub fn note(&mut self, list: &str, key: &[u8], data: &[u8], timeout: Option<Duration>) {
        let seen = Seen { age: Duration::ZERO, timeout, data: data.to_vec() };
        self.seen.insert((list.to_owned(), key.to_vec()), seen);
    }

    /// What is remembered of a client.
    pub fn get(&self, list: &str, key: &[u8]) -> Option<&Seen> {
        let seen = self.seen.get(&(list.to_owned(), key.to_vec()));
        seen.filter(|seen| seen.timeout.is_none_or(|timeout| seen.age < timeout))
    }

    /// Forgets a client.
    pub fn forget(&mut self, list: &str, key: &[u8]) {
        self.seen.remove(&(list.to_owned(), key.to_vec()));
    }

    /// Time goes by.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        for seen in self.seen.values_mut() {
            seen.age += time;
        }
        self
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}
