//! What becomes of a packet.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What becomes of a packet on one of its possible ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Its destination was translated.
    Endpoint {
        /// To this.
        to: SocketAddr,
        /// Who it seems to come from there.
        source: IpAddr,
    },
    /// It goes where it wanted to.
    Untouched {
        /// Who it seems to come from there.
        source: IpAddr,
    },
    /// The sender is told that nobody is there.
    Rejected,
    /// It is gone, and nobody is told.
    Dropped,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { to, source } => write!(f, "{to} from {source}"),
            Self::Untouched { source } => write!(f, "untouched from {source}"),
            Self::Rejected => f.write_str("rejected"),
            Self::Dropped => f.write_str("dropped"),
        }
    }
}

/// What may become of a packet, with probabilities that add up to 1.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    fates: BTreeMap<Fate, f64>,
}

/// iptables keeps probabilities as multiples of 2^-31 and prints 11 digits.
const PRECISION: f64 = 1e-6;

impl Verdict {
    /// One fate and no other.
    pub fn sure(fate: Fate) -> Self {
        Self::of([(fate, 1.0)])
    }

    /// Several, each as probable as the others.
    pub fn evenly(fates: impl IntoIterator<Item = Fate>) -> Self {
        let fates: Vec<_> = fates.into_iter().collect();
        let share = 1.0 / f64::from(u32::try_from(fates.len()).unwrap_or(u32::MAX));
        Self::of(fates.into_iter().map(|fate| (fate, share)))
    }

    /// Several; the probabilities of a fate that comes twice add up.
    pub fn of(fates: impl IntoIterator<Item = (Fate, f64)>) -> Self {
        let mut verdict = Self::default();
        for (fate, probability) in fates {
            *verdict.fates.entry(fate).or_default() += probability;
        }
        verdict
    }

    /// All fates with their probabilities.
    pub fn fates(&self) -> impl Iterator<Item = (Fate, f64)> {
        self.fates.iter().map(|(fate, probability)| (*fate, *probability))
    }

    /// The endpoints that the packet may go to.
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        let endpoint = |(fate, _)| match fate {
            Fate::Endpoint { to, .. } => Some(to),
            _ => None,
        };
        self.fates().filter_map(endpoint).collect()
    }
}

impl PartialEq for Verdict {
    fn eq(&self, other: &Self) -> bool {
        let near = |((mine, a), (theirs, b)): ((Fate, f64), (Fate, f64))| {
            mine == theirs && (a - b).abs() < PRECISION
        };
        self.fates.len() == other.fates.len() && self.fates().zip(other.fates()).all(near)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (fate, probability)) in self.fates().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{:.1} % {fate}", probability * 100.0)?;
        }
        Ok(())
    }
}
