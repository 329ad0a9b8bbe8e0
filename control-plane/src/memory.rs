//! How the allocator of the C library holds memory.
//!
//! It keeps a pool for every few threads, and what was freed stays with the process: after a large list, or a busy hour, a server would
//! hold several times what it needs. Fewer pools, large pieces that go back as soon as they are freed, and a look from time to time
//! whether there is something to give back.

use std::time::Duration;

use tokio::task;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// How much must have been freed since the last time, so that giving back is worth its milliseconds.
const WORTH: u64 = 8 << 20;

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

/// How many bytes are in use, as the allocator counts; `None` where it does not tell.
pub fn in_use() -> Option<u64> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallinfo2(3) answers numbers; it locks each pool while it counts it.
        let told = unsafe { libc::mallinfo2() };
        Some((told.uordblks + told.hblkhd) as u64)
    }
    #[cfg(not(target_env = "gnu"))]
    None
}

/// How many bytes are in memory and not in use: what was freed, and the program itself.
fn idle() -> u64 {
    let difference = resident().zip(in_use()).map(|(all, used)| all.saturating_sub(used));
    difference.unwrap_or_default()
}

/// Gives back what was freed, whenever there is much of it; for ever. Growth alone says nothing: what is freed after the last look
/// adds nothing to what is in memory.
pub async fn stay_lean() {
    let mut stays = idle();
    loop {
        tokio::time::sleep(EVERY).await;
        let now = idle();
        if now > stays + WORTH {
            // an error means that the runtime ends, and this with it
            task::spawn_blocking(give_back).await.ok();
            // what is between pieces that are in use cannot go, and is not tried again
            stays = idle();
        } else {
            stays = stays.min(now);
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
        assert!(in_use().expect("the allocator tells") >= 100_000_000);
        // the last stays, so that the end of the pool cannot go
        let last = pieces.into_iter().next_back();
        // nothing was added: only the allocator knows that there is something to give back
        let freed = idle();
        assert!(freed >= 90_000_000, "{freed}");
        give_back();
        let idle = idle();
        assert!(idle + 50_000_000 < freed, "{idle} of {freed}");
        let left = resident().expect("the kernel tells");
        assert!(left + 50_000_000 < full, "{left} of {full}");
        drop(last);
    }
}
