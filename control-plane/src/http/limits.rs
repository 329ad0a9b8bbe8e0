//! How much at a time, so that one user cannot take the server from the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::status::Status;

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct LimitsConfig {
    /// Requests of all users at a time, watches not counted.
    pub in_flight: usize,
    /// Requests of one user at a time, watches not counted.
    pub in_flight_per_user: usize,
    /// Watches of one user at a time.
    pub watches_per_user: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { in_flight: 400, in_flight_per_user: 200, watches_per_user: 2000 }
    }
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    users: HashMap<String, [usize; 2]>,
}

/// What is under way.
#[derive(Clone, Debug)]
pub struct Limits {
    config: LimitsConfig,
    counts: Arc<Mutex<Counts>>,
}

/// A request that is under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Slot {
    counts: Arc<Mutex<Counts>>,
    user: String,
    watch: bool,
}

impl Limits {
    /// Nothing is under way.
    pub fn new(config: LimitsConfig) -> Self {
        Self { config, counts: Arc::default() }
    }

    /// Begins a request, or says that there are too many.
    pub fn begin(&self, user: &str, watch: bool) -> Result<Slot, Status> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.users.get(user).map_or(0, |own| own[usize::from(watch)]);
        let most =
            if watch { self.config.watches_per_user } else { self.config.in_flight_per_user };
        if own >= most || (!watch && counts.all >= self.config.in_flight) {
            return Err(Status::too_many_requests("too many requests, please try again later", 1));
        }
        counts.all += usize::from(!watch);
        counts.users.entry(user.to_owned()).or_default()[usize::from(watch)] += 1;
        Ok(Slot { counts: self.counts.clone(), user: user.to_owned(), watch })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= usize::from(!self.watch);
        if let Some(own) = counts.users.get_mut(&self.user) {
            own[usize::from(self.watch)] -= 1;
            if *own == [0, 0] {
                counts.users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others() {
        let limits =
            Limits::new(LimitsConfig { in_flight: 3, in_flight_per_user: 2, watches_per_user: 1 });
        let first = limits.begin("ada", false).unwrap();
        let _second = limits.begin("ada", false).unwrap();
        assert_eq!(limits.begin("ada", false).unwrap_err().code(), 429);
        let _other = limits.begin("bob", false).unwrap();
        assert_eq!(limits.begin("eve", false).unwrap_err().code(), 429);
        let watch = limits.begin("ada", true).unwrap();
        assert!(limits.begin("ada", true).is_err());
        drop((first, watch));
        assert!(limits.begin("ada", false).is_ok() && limits.begin("ada", true).is_ok());
    }
}
