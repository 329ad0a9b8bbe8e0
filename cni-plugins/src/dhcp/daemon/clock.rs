//! Time and chance, which the machine is given.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::dhcp::lease::Time;
use crate::dhcp::machine::Moment;

/// The time now.
pub fn now() -> Time {
    // Kernels without this clock are older than 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| millis(Duration::from(time)))
}

/// A duration as the machine counts it.
pub fn millis(duration: Duration) -> Time {
    Time::try_from(duration.as_millis()).unwrap_or(Time::MAX / 4).min(Time::MAX / 4)
}

/// This moment.
pub fn moment() -> Moment {
    Moment { now: now(), random: random() }
}

/// Need not be secret, only different on each call and each machine.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    match read {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => now().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id()),
    }
}
