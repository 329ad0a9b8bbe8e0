//! Whether the checksums of packets in a tunnel are left to the device: a pure state machine.
//!
//! To compute them in software costs a multiple of the throughput, so that is done only if probes prove that the device gets them wrong:
//! those with a complete checksum arrive and the others do not, at several nodes, and at no node do both. It stays so only if the others
//! arrive then.

use std::fmt;
use std::time::{Duration, Instant};

use super::schedule::Tally;

/// So many nodes must agree, if there are as many.
const WITNESSES: usize = 3;
/// Switched off in vain, or refused: not tried again for so long.
const PAUSE: Duration = Duration::from_hours(1);

/// `overlay.checksum_offload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Setting {
    /// Off if probes say so.
    #[default]
    Auto,
    /// On, whatever they say.
    On,
    /// Off.
    Off,
}

/// What the kernel worker is to do: ethtool's transmit checksum offload of a VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The device.
    pub device: String,
    /// On or off.
    pub on: bool,
    /// Why, in words.
    pub reason: String,
}

/// How it stands with a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Left to the device: nothing is known against it, or it is configured.
    On,
    /// Being switched on or off.
    Switching {
        /// What it will be.
        on: bool,
    },
    /// Off; whether packets arrive now is being found out.
    Trial {
        /// Probes that began before it say nothing.
        since: Instant,
    },
    /// Off, because of this.
    Off(String),
    /// On again, because off did not help or could not be had.
    Vain {
        /// What happened.
        reason: String,
        /// Not tried again before.
        until: Instant,
    },
}

impl fmt::Display for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("on"),
            Self::Switching { on: true } => f.write_str("being switched on"),
            Self::Switching { on: false } => f.write_str("being switched off"),
            Self::Trial { .. } => f.write_str("off, on trial"),
            Self::Off(reason) => write!(f, "off: {reason}"),
            Self::Vain { reason, .. } => write!(f, "on: {reason}"),
        }
    }
}

/// The state of one device.
#[derive(Clone, Debug)]
pub struct Checksum {
    state: Offload,
    /// Why it is being switched.
    reason: String,
}

impl Checksum {
    /// Of a device as it was found. One that is off already was switched off by this program before it was started again, and is on
    /// trial, or by somebody.
    pub fn new(is_on: bool, now: Instant) -> Self {
        let state = if is_on { Offload::On } else { Offload::Trial { since: now } };
        Self { state, reason: "it was off already".to_owned() }
    }

    /// How it stands.
    pub fn state(&self) -> &Offload {
        &self.state
    }

    /// Since when probes count.
    pub fn since(&self) -> Option<Instant> {
        match self.state {
            Offload::Trial { since } => Some(since),
            _ => None,
        }
    }

    /// What is to be done, from what is configured, what the kernel has and what the probes say.
    pub fn judge(
        &mut self,
        setting: Setting,
        is_on: bool,
        tally: Tally,
        now: Instant,
    ) -> Option<Switching> {
        if matches!(self.state, Offload::Switching { .. }) || self.pauses(setting, now) {
            return None;
        }
        match setting {
            Setting::On if is_on => self.settle(Offload::On),
            Setting::On => Some(self.switch(true, "overlay.checksum_offload = \"on\"")),
            Setting::Off if !is_on => self.settle(off_by_configuration()),
            Setting::Off => Some(self.switch(false, "overlay.checksum_offload = \"off\"")),
            Setting::Auto => self.judge_by_probes(is_on, tally, now),
        }
    }

    fn pauses(&self, setting: Setting, now: Instant) -> bool {
        matches!(&self.state, Offload::Vain { until, .. } if now < *until) && setting != Setting::On
    }

    fn settle(&mut self, state: Offload) -> Option<Switching> {
        self.state = state;
        None
    }

    fn switch(&mut self, on: bool, reason: &str) -> Switching {
        self.state = Offload::Switching { on };
        reason.clone_into(&mut self.reason);
        Switching { on, reason: reason.to_owned() }
    }

    fn judge_by_probes(&mut self, is_on: bool, tally: Tally, now: Instant) -> Option<Switching> {
        match &self.state {
            // somebody switched it, or the device is a new one
            Offload::Off(_) if is_on => {
                let reason = self.reason.clone();
                Some(self.switch(false, &reason))
            }
            Offload::Off(_) => None,
            Offload::Trial { .. } if is_on => self.settle(Offload::On),
            Offload::Trial { .. } => self.judge_trial(tally),
            _ if !is_on => self.settle(Offload::Trial { since: now }),
            Offload::On | Offload::Vain { .. } | Offload::Switching { .. } => {
                self.state = Offload::On;
                let broken = tally.broken;
                let told = format!(
                    "probes of this host's own checksums do not arrive at {broken} nodes, those with a complete checksum do"
                );
                is_proven(tally).then(|| self.switch(false, &told))
            }
        }
    }

    fn judge_trial(&mut self, tally: Tally) -> Option<Switching> {
        let Tally { arrives, broken, closed, unknown, .. } = tally;
        if arrives > 0 {
            let reason = format!("{}; probes arrive now", self.reason);
            return self.settle(Offload::Off(reason));
        }
        let against = broken + closed;
        let is_vain = against > 0 && against >= WITNESSES.min(against + unknown);
        is_vain.then(|| self.switch(true, "no probe arrives with it switched off either"))
    }

    /// The kernel has done it, or says why not.
    pub fn switched(&mut self, result: Result<(), String>, now: Instant) {
        let Offload::Switching { on } = self.state else { return };
        let vain = |reason| Offload::Vain { reason, until: now + PAUSE };
        self.state = match result {
            Err(error) => vain(format!("it cannot be switched {}: {error}", word(on))),
            Ok(()) if on => vain(self.reason.clone()),
            Ok(()) => Offload::Trial { since: now },
        };
    }
}

/// A device is to be switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switching {
    /// On or off.
    pub on: bool,
    /// Why.
    pub reason: String,
}

fn off_by_configuration() -> Offload {
    Offload::Off("overlay.checksum_offload = \"off\"".to_owned())
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Whether it is the checksum, beyond doubt. Nodes that do not answer at all, or only outside of the tunnel, say nothing about it.
fn is_proven(tally: Tally) -> bool {
    let Tally { arrives, broken, unknown, .. } = tally;
    arrives == 0 && broken > 0 && broken >= WITNESSES.min(broken + unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Tally = Tally { arrives: 0, broken: 0, closed: 0, silent: 0, unknown: 0 };

    fn off(checksum: &mut Checksum, tally: Tally, now: Instant) -> bool {
        match checksum.judge(Setting::Auto, true, tally, now) {
            Some(Switching { on, .. }) => !on,
            None => false,
        }
    }

    #[test]
    fn off_only_if_it_is_proven() {
        let now = Instant::now();
        for (tally, expected) in [
            (NONE, false),
            (Tally { broken: 1, ..NONE }, true),
            (Tally { broken: 3, unknown: 9, ..NONE }, true),
            (Tally { broken: 2, silent: 98, ..NONE }, true),
            (Tally { broken: 1, closed: 7, ..NONE }, true),
            (Tally { broken: 2, unknown: 1, ..NONE }, false),
            (Tally { broken: 50, arrives: 1, ..NONE }, false),
            (Tally { closed: 5, silent: 5, ..NONE }, false),
            (Tally { unknown: 1, ..NONE }, false),
        ] {
            let mut checksum = Checksum::new(true, now);
            assert_eq!(off(&mut checksum, tally, now), expected, "{tally:?}");
            // while the kernel is at it nothing more is asked of it
            assert!(!off(&mut checksum, Tally { broken: 1, ..NONE }, now) || !expected);
        }
    }

    #[test]
    fn it_stays_off_if_that_helps() {
        let now = Instant::now();
        let mut checksum = Checksum::new(true, now);
        assert!(off(&mut checksum, Tally { broken: 2, ..NONE }, now));
        checksum.switched(Ok(()), now);
        assert_eq!(checksum.since(), Some(now));
        let auto = |checksum: &mut Checksum, is_on, tally| {
            checksum.judge(Setting::Auto, is_on, tally, now)
        };
        assert_eq!(auto(&mut checksum, false, Tally { unknown: 2, ..NONE }), None);
        assert_eq!(auto(&mut checksum, false, Tally { arrives: 1, broken: 1, ..NONE }), None);
        assert_eq!(
            checksum.state().to_string(),
            "off: probes of this host's own checksums do not arrive at 2 nodes, those with a complete checksum do; probes arrive now"
        );
        assert_eq!(auto(&mut checksum, false, Tally { arrives: 2, ..NONE }), None);
        // a new device begins with it switched on
        let again = auto(&mut checksum, true, Tally { arrives: 2, ..NONE });
        assert!(again.is_some_and(|switching| !switching.on));
    }

    #[test]
    fn on_again_if_it_does_not_help_and_not_tried_for_a_while() {
        let now = Instant::now();
        let broken = Tally { broken: 1, ..NONE };
        for still in [broken, Tally { closed: 1, ..NONE }] {
            let mut checksum = Checksum::new(true, now);
            assert!(off(&mut checksum, broken, now));
            checksum.switched(Ok(()), now);
            // a node that is down says nothing
            let silent = Tally { silent: 1, ..NONE };
            assert_eq!(checksum.judge(Setting::Auto, false, silent, now), None);
            let on = checksum.judge(Setting::Auto, false, still, now).unwrap();
            assert!(on.on, "{on:?}");
            checksum.switched(Ok(()), now);
            assert!(checksum.state().to_string().starts_with("on: no probe arrives"));
            assert!(!off(&mut checksum, broken, now + PAUSE / 2));
            assert!(off(&mut checksum, broken, now + PAUSE));
        }
    }

    #[test]
    fn a_kernel_that_refuses_is_not_asked_all_the_time() {
        let now = Instant::now();
        let broken = Tally { broken: 1, ..NONE };
        let mut checksum = Checksum::new(true, now);
        assert!(off(&mut checksum, broken, now));
        checksum.switched(Err("not supported".into()), now);
        assert_eq!(checksum.state().to_string(), "on: it cannot be switched off: not supported");
        assert!(!off(&mut checksum, broken, now));
    }

    #[test]
    fn configured() {
        let now = Instant::now();
        let broken = Tally { broken: 9, ..NONE };
        for (setting, is_on, expected) in [
            (Setting::On, true, None),
            (Setting::On, false, Some(true)),
            (Setting::Off, false, None),
            (Setting::Off, true, Some(false)),
        ] {
            let mut checksum = Checksum::new(is_on, now);
            let switching = checksum.judge(setting, is_on, broken, now);
            assert_eq!(switching.map(|switching| switching.on), expected);
            if expected.is_some() {
                checksum.switched(Ok(()), now);
                let wanted = setting == Setting::On;
                assert_eq!(checksum.judge(setting, wanted, broken, now), None);
                let text = if wanted { "on" } else { "off: overlay.checksum_offload = \"off\"" };
                assert_eq!(checksum.state().to_string(), text);
            }
        }
    }

    #[test]
    fn a_program_that_was_killed_on_trial_goes_on_with_it() {
        let now = Instant::now();
        let mut checksum = Checksum::new(false, now);
        assert_eq!(checksum.since(), Some(now));
        let judge =
            |checksum: &mut Checksum, tally| checksum.judge(Setting::Auto, false, tally, now);
        assert_eq!(judge(&mut checksum, Tally { unknown: 2, ..NONE }), None);
        let mut helped = checksum.clone();
        assert_eq!(judge(&mut helped, Tally { arrives: 1, ..NONE }), None);
        assert_eq!(helped.state().to_string(), "off: it was off already; probes arrive now");
        assert!(judge(&mut checksum, Tally { closed: 2, ..NONE }).unwrap().on);
    }
}
