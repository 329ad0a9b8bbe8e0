//! How the allocator of the C library holds memory.
//!
//! It keeps a pool for every few threads, and what was freed stays with the process: after a large list, or a busy hour, a server would
//! hold several times what it needs. Fewer pools, large pieces that go back as soon as they are freed, and a look from time to time
//! whether there is something to give back.

use std::time::Duration;

use tokio::task;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// What must have been added since the last time, so that giving back is worth its milliseconds.
const WORTH: u64 = 24 << 20;

/// Takes few pools, and lets large pieces go at once. To be called before there are threads. Without glibc nothing is to be done.
pub fn economise() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        // threads that allocate at the same time wait for each other only where there are more of them than processors
        (libc::M_ARENA_MAX, processors()),
        // fixed: left to itself it grows with each large piece that is freed
        (libc::M_MMAP_THRESHOLD, 256 * 1024),
        (libc::M_TRIM_THRESHOLD, 256 * 1024),
    ] {
        // SAFETY: mallopt(3) takes two numbers and touches nothing but the allocator's own settings. What it refuses stays as
        // it was.
        unsafe { libc::mallopt(parameter, value) };
    }
}

#[cfg(target_env = "gnu")]
fn processors() -> i32 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Gives back what is free in the middle of the pools.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number of bytes to keep, locks the allocator like any allocation, and moves nothing that is
    // in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// How many bytes are in memory, as the kernel counts (`proc(5)`); `None` where it does not tell.
pub fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

/// Gives back what was freed, whenever much was added since the last time; for ever.
pub async fn stay_lean() {
    let mut left = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let now = resident().unwrap_or_default();
        // a server that needs much looks rarely: to give back takes longer the more there is
        if now > left + WORTH.max(left / 4) {
            // an error means that the runtime ends, and this with it
            task::spawn_blocking(give_back).await.ok();
            left = resident().unwrap_or_default();
        } else {
            left = left.min(now);
        }
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_was_freed_goes_back() {
        economise();
        let pieces: Vec<Vec<u8>> = (0..100_000).map(|_| vec![1; 1000]).collect();
        let full = resident().expect("the kernel tells");
        // the last stays, so that the end of the pool cannot go
        let last = pieces.into_iter().next_back();
        give_back();
        let left = resident().expect("the kernel tells");
        assert!(left + 50_000_000 < full, "{left} of {full}");
        drop(last);
    }
}
