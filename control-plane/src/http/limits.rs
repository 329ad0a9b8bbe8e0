//! How much at a time, so that one user cannot take the server from the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

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
    /// Bytes of large lists that are made and not sent yet, of all users; one of them has three quarters at most.
    pub list_bytes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            in_flight: 400,
            in_flight_per_user: 200,
            watches_per_user: 2000,
            list_bytes: 128 << 20,
        }
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
            return Err(Status::too_many_requests("Too many requests, please try again later.", 1));
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

/// How long an answer waits for room.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many may wait: each holds the beginning of its list meanwhile.
const MOST_WAITING: usize = 32;

/// The room that large lists have in memory. An answer that is sent slowly holds its share until it has been sent.
#[derive(Clone, Debug)]
pub struct Room(Arc<Space>);

#[derive(Debug)]
struct Space {
    bytes: usize,
    per_user: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    waiting: usize,
    users: HashMap<String, usize>,
}

/// A part of the room; it is free again when this is dropped.
#[derive(Debug)]
pub struct Share {
    room: Room,
    user: String,
    bytes: usize,
}

/// One who waits.
struct Waiting(Room);

impl Room {
    /// All of it is free.
    pub fn new(config: LimitsConfig) -> Self {
        let bytes = config.list_bytes;
        let per_user = bytes / 4 * 3;
        Self(Arc::new(Space { bytes, per_user, taken: Mutex::default(), freed: Notify::new() }))
    }

    /// Takes a part of it, or says that there is none after waiting a short while. What is larger than a user's part takes all of that.
    pub async fn take(&self, user: &str, bytes: usize) -> Result<Share, Status> {
        let deadline = Instant::now() + PATIENCE;
        let bytes = bytes.min(self.0.per_user);
        let mut waiting = None;
        loop {
            let freed = self.0.freed.notified();
            let mut freed = std::pin::pin!(freed);
            // what is freed from here on is not missed
            freed.as_mut().enable();
            if let Some(share) = self.try_take(user, bytes) {
                return Ok(share);
            }
            if waiting.is_none() {
                waiting = Some(self.wait()?);
            }
            timeout_at(deadline, freed).await.map_err(|_| full())?;
        }
    }

    fn try_take(&self, user: &str, bytes: usize) -> Option<Share> {
        let mut taken = self.lock();
        let own = taken.users.get(user).copied().unwrap_or_default();
        if taken.all + bytes > self.0.bytes || own + bytes > self.0.per_user {
            return None;
        }
        taken.all += bytes;
        *taken.users.entry(user.to_owned()).or_default() += bytes;
        Some(Share { room: self.clone(), user: user.to_owned(), bytes })
    }

    fn wait(&self) -> Result<Waiting, Status> {
        let mut taken = self.lock();
        if taken.waiting >= MOST_WAITING {
            return Err(full());
        }
        taken.waiting += 1;
        Ok(Waiting(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn full() -> Status {
    let why =
        "too many large lists are being sent, please try again later, or list in pages (limit)";
    Status::too_many_requests(why, 1)
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        taken.all -= self.bytes;
        if let Some(own) = taken.users.get_mut(&self.user) {
            *own -= self.bytes;
            if *own == 0 {
                taken.users.remove(&self.user);
            }
        }
        drop(taken);
        self.room.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others() {
        let limits = Limits::new(LimitsConfig {
            in_flight: 3,
            in_flight_per_user: 2,
            watches_per_user: 1,
            ..LimitsConfig::default()
        });
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

    #[tokio::test(start_paused = true)]
    async fn large_lists_wait_for_room_and_then_are_refused() {
        let room = Room::new(LimitsConfig { list_bytes: 400, ..LimitsConfig::default() });
        let first = room.take("ada", 200).await.unwrap();
        let second = room.take("ada", 100).await.unwrap();
        let begun = Instant::now();
        let refused = room.take("ada", 1).await.unwrap_err();
        assert_eq!((refused.code(), refused.retry_after()), (429, Some(1)));
        assert_eq!(begun.elapsed(), PATIENCE, "one user leaves room for others");
        let other = room.take("bob", 100).await.unwrap();
        let waiting = tokio::spawn({
            let room = room.clone();
            async move { room.take("eve", 150).await }
        });
        tokio::time::sleep(PATIENCE / 2).await;
        drop(first);
        let eve = waiting.await.unwrap().expect("what was freed");
        drop(second);
        let whole = room.take("joe", 10_000).await.unwrap_err();
        assert_eq!(whole.code(), 429);
        drop((other, eve));
        assert_eq!(room.take("joe", 10_000).await.unwrap().bytes, 300);
        assert!(room.lock().users.is_empty() && room.lock().waiting == 0);
    }
}
