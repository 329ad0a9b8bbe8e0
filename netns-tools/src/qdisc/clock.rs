//! The packet scheduler's clock: the unit in which a bucket's size is told as time.
//!
//! `/proc/net/psched` has four hexadecimal numbers: microseconds and ticks that are the same span, the resolution of the
//! clock, and another one. iproute2 (`tc_core_init`) takes a resolution of a nanosecond to mean that both are ticks.

use std::io;

/// Where the kernel tells it.
const PATH: &str = "/proc/net/psched";
const MICROSECONDS_PER_SECOND: u64 = 1_000_000;
const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// How many ticks a span of time has: `ticks` in `microseconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    ticks: u64,
    microseconds: u64,
}

/// The clock cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The file cannot be read.
    #[error("cannot read {PATH} (is CONFIG_NET_SCHED in the kernel?)")]
    Read(#[source] io::Error),
    /// The file is not what we know.
    #[error("cannot understand {PATH}: {0:?}")]
    Text(String),
}

impl Clock {
    /// Reads the kernel's.
    pub fn read() -> Result<Self, ClockError> {
        let text = std::fs::read_to_string(PATH).map_err(ClockError::Read)?;
        Self::parse(&text).ok_or(ClockError::Text(text))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map(|word| u64::from_str_radix(word, 16).ok());
        let (time, ticks, resolution) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let time = if resolution == NANOSECONDS_PER_SECOND { ticks } else { time };
        let factor = resolution / MICROSECONDS_PER_SECOND;
        if time == 0 || ticks == 0 || factor == 0 {
            return None;
        }
        // The file has it the other way round: `time` ticks of `ticks` nanoseconds are a microsecond.
        Some(Self { ticks: time.checked_mul(factor)?, microseconds: ticks })
    }

    /// The time that `bytes` take at `rate` bytes per second, rounded up as `tc_calc_xmittime` does. Of what needs more than
    /// 32 bits the lowest 32, as the kernel tells it; it counts in nanoseconds itself, with 64.
    pub(super) fn ticks(self, bytes: u32, rate: u64) -> u32 {
        let scaled =
            u128::from(bytes) * u128::from(MICROSECONDS_PER_SECOND) * u128::from(self.ticks);
        let ticks = scaled.div_ceil(u128::from(rate) * u128::from(self.microseconds));
        u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file() {
        let usual = Clock { ticks: 1000, microseconds: 64 };
        assert_eq!(Clock::parse("000003e8 00000040 000f4240 3b9aca00\n"), Some(usual));
        // An old kernel with a nanosecond's resolution: both factors cancel out.
        let old = Clock::parse("000003e8 00000400 3b9aca00 3b9aca00").unwrap();
        assert_eq!(old.ticks / old.microseconds, 1000);
        for wrong in ["", "3e8 40", "3e8 0 f4240", "0 40 f4240", "3e8 40 1", "x y z"] {
            assert_eq!(Clock::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn time_of_bytes() {
        let clock = Clock { ticks: 1000, microseconds: 64 };
        // 8 ms at 15.625 ticks a microsecond.
        assert_eq!(clock.ticks(100_000, 12_500_000), 125_000);
        assert_eq!(clock.ticks(1, 12_500_000), 2, "rounded up");
        let long = u64::from(u32::MAX) * 15_625_000;
        let low = u32::try_from(long & u64::from(u32::MAX)).unwrap();
        assert_eq!(clock.ticks(u32::MAX, 1), low, "136 years");
    }
}
