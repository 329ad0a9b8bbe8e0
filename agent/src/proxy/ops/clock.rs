//! What time it is, for the servers and for tests.

use std::time::{Duration, Instant, SystemTime};

/// One moment on two clocks: the wall's, which is told to people and may jump, and one that only goes forward, which time-outs
/// are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For people and for what others' clocks told.
    pub wall: SystemTime,
    /// For time-outs; since some moment that never changes.
    pub steady: Duration,
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Moment;
}

/// This machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment { wall: SystemTime::now(), steady: self.started.elapsed() }
    }
}
