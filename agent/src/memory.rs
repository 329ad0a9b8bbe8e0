//! How the allocator of the C library holds memory.
//!
//! It is made for programs with many threads that allocate much all the time: it keeps a pool for each thread, and what was freed
//! stays with the process. The agent has few threads and long pauses, and a node's memory is for its pods.

/// Everything comes from one pool; large pieces go back as soon as they are freed. To be called before there are threads.
/// Without glibc nothing is to be done.
pub fn economise() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (nix::libc::M_ARENA_MAX, 1),
        // fixed: left to itself it grows with each large piece that is freed
        (nix::libc::M_MMAP_THRESHOLD, 128 * 1024),
        (nix::libc::M_TRIM_THRESHOLD, 128 * 1024),
    ] {
        // SAFETY: mallopt(3) takes two numbers and touches nothing but the allocator's own settings. What it refuses stays as
        // it was.
        unsafe { nix::libc::mallopt(parameter, value) };
    }
}

/// Gives back what is free in the middle of the pool: worth its millisecond after work that needed much for a while.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number of bytes to keep, locks the allocator like any allocation, and moves nothing that is
    // in use.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_was_freed_goes_back() {
        let held = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        economise();
        let pieces: Vec<Vec<u8>> = (0..100_000).map(|_| vec![1; 1000]).collect();
        let full = held();
        // the last stays, so that the end of the pool cannot go
        let last = pieces.into_iter().next_back();
        give_back();
        let left = held();
        assert!(left + 50_000_000 < full, "{left} of {full}");
        drop(last);
    }
}
