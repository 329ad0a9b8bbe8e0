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
    Process::of(std::process::id()).memory("VmHWM:")
}

/// A process, by its number (proc(5)).
#[derive(Clone, Copy, Debug)]
pub struct Process(u32);

impl Process {
    /// Of this number.
    pub const fn of(pid: u32) -> Self {
        Self(pid)
    }

    /// A line of its status, in MiB: `VmRSS:`, `VmHWM:`.
    pub fn memory(self, line: &str) -> Outcome<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let found = text.lines().find_map(|known| known.strip_prefix(line));
        let number = found.and_then(|rest| rest.split_whitespace().next());
        let number = number.ok_or_else(|| format!("no {line} of process {}", self.0))?;
        Ok(number.parse::<f64>()? / 1024.0)
    }

    /// What it spends in a while, with the ended children that it waited for.
    pub fn spend(self, time: Duration) -> Outcome<Spent> {
        let (start, before) = (Instant::now(), self.cpu()?);
        std::thread::sleep(time);
        let (wall, after) = (start.elapsed(), self.cpu()?);
        Ok(Spent { wall: wall.as_secs_f64() * 1e3, cpu: after - before })
    }

    /// Milliseconds of processor time so far, in steps of ten: `utime`, `stime`, `cutime`, `cstime`.
    fn cpu(self) -> Outcome<f64> {
        /// `USER_HZ` of every architecture that Linux still has.
        const TICKS: f64 = 100.0;
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // the program's name stands in parentheses, and may hold anything
        let (_, rest) = text.rsplit_once(')').ok_or("no name in stat")?;
        let fields = rest.split_whitespace().skip(11).take(4);
        let ticks: Result<Vec<f64>, _> = fields.map(str::parse).collect();
        Ok(ticks?.iter().sum::<f64>() * 1e3 / TICKS)
    }
}
