//! How long to wait for what (RFC 2131, sections 4.1 and 4.4.5).

use crate::dhcp::lease::Time;

/// The first pauses are short: what is lost on the way to a container's first packets is lost to a bridge that is just
/// learning, not to a busy network. As in the reference.
const FAST: Time = 2000;
const FAST_SENDS: u32 = 4;
/// Then they double from here.
const SLOW: Time = 4000;
/// Pauses differ by up to so much, so that clients do not speak in chorus.
const JITTER: Time = 1000;
/// Between questions for more time there are at least so many, unless [`Timing::resend_max`] is less.
const RENEWAL: Time = 60_000;

/// The waiting times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a single exchange may take before it is begun anew.
    pub timeout: Time,
    /// The longest pause between two messages.
    pub resend_max: Time,
    /// How long an address is looked for.
    pub resend_timeout: Time,
}

impl Timing {
    /// The pause after the message of this number, the first being 1.
    pub fn pause(&self, sends: u32, random: u64) -> Time {
        let base = match sends.checked_sub(FAST_SENDS + 1) {
            None => FAST,
            Some(doublings) => SLOW << doublings.min(10),
        };
        let base = base.min(self.resend_max).max(1);
        let span = JITTER.min(base / 2);
        base - span + (random & 0xffff_ffff) % (2 * span + 1)
    }

    /// The pause after a question for more time, so long before the next stage of the lease: half of what remains.
    pub fn until_next_renewal(&self, remaining: Time) -> Time {
        (remaining / 2).max(RENEWAL.min(self.resend_max)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { timeout: 10_000, resend_max: 62_000, resend_timeout: 208_000 };

    #[test]
    fn pauses_grow_and_differ() {
        let least: Vec<_> = (1..=11).map(|sends| TIMING.pause(sends, 0)).collect();
        assert_eq!(
            least,
            [1000, 1000, 1000, 1000, 3000, 7000, 15_000, 31_000, 61_000, 61_000, 61_000]
        );
        let most: Vec<_> = (1..=9).map(|sends| TIMING.pause(sends, 2000)).collect();
        assert_eq!(most, [3000, 3000, 3000, 3000, 5000, 9000, 17_000, 33_000, 63_000]);
        let quick = Timing { resend_max: 100, ..TIMING };
        for random in 0..1000 {
            assert!((50..=150).contains(&quick.pause(7, random)));
        }
    }

    #[test]
    fn renewals_come_closer_to_the_end() {
        assert_eq!(TIMING.until_next_renewal(3_600_000), 1_800_000);
        assert_eq!(TIMING.until_next_renewal(90_000), 60_000);
        let quick = Timing { resend_max: 500, ..TIMING };
        assert_eq!(quick.until_next_renewal(3000), 1500);
        assert_eq!(quick.until_next_renewal(400), 500);
    }
}
