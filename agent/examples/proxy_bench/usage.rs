//! What this process and those that it started have used.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::Outcome;

/// Time that has passed, and time of processors.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// By the clock, in milliseconds.
    pub wall: f64,
    /// Of this process and its ended children, user and system, in milliseconds.
    pub cpu: f64,
}

fn cpu() -> Outcome<Duration> {
    let mut all = Duration::ZERO;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        for time in [usage.user_time(), usage.system_time()] {
            let (seconds, micros) = (u64::try_from(time.tv_sec())?, u64::try_from(time.tv_usec())?);
            all += Duration::from_secs(seconds) + Duration::from_micros(micros);
        }
    }
    Ok(all)
}

/// Does something and says what it took.
pub fn spend<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Spent)> {
    let (start, before) = (Instant::now(), cpu()?);
    let done = work()?;
    let (wall, after) = (start.elapsed(), cpu()?);
    let in_ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok((done, Spent { wall: in_ms(wall), cpu: in_ms(after.saturating_sub(before)) }))
}

/// The most memory that this process ever held, in MiB (`VmHWM`).
pub fn peak_memory() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()).ok_or("no VmHWM")?;
    Ok(number.parse::<f64>()? / 1024.0)
}
