//! What is measured, in a process of its own inside a namespace.

use std::fmt;

use heddle_agent::proxy::backend::{Backend, Scope, SyncReport};
use heddle_agent::proxy::iptables::IptablesBackend;
use heddle_agent::proxy::model::{Event, Model};
use heddle_agent::proxy::nftables::NftablesBackend;
use heddle_agent::proxy::options::RuleOptions;
use netns_tools::iptables::{Backend as Variant, Family, Iptables};

use crate::usage::{Spent, peak_memory, spend};
use crate::world::{self, Size};
use crate::{Outcome, median, path};

/// How rules are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Over netlink.
    Nftables,
    /// By `iptables-nft-restore`.
    IptablesNft,
    /// By `iptables-legacy-restore`.
    IptablesLegacy,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nftables, Self::IptablesNft, Self::IptablesLegacy];

    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
        }
    }

    /// By its name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }

    /// The variant of iptables.
    const fn variant(self) -> Option<Variant> {
        match self {
            Self::Nftables => None,
            Self::IptablesNft => Some(Variant::Nft),
            Self::IptablesLegacy => Some(Variant::Legacy),
        }
    }

    fn backend(self) -> Outcome<Box<dyn Backend>> {
        match self.variant() {
            Some(variant) => {
                let tools = Iptables::variant(Family::V4, variant);
                let tools = tools.ok_or_else(|| format!("{self} is not installed"))?;
                Ok(Box::new(IptablesBackend::new(Box::new(tools))))
            }
            None => Ok(Box::new(NftablesBackend::open(Family::V4)?)),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What was measured; times in milliseconds, memory in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The first sync.
    pub first: f64,
    /// Its processor time, with the programs that it starts.
    pub first_cpu: f64,
    /// One endpoint replaced, from the object in memory until its rules are committed: median.
    pub change: f64,
    /// The longest.
    pub change_worst: f64,
    /// Its processor time, mean.
    pub change_cpu: f64,
    /// The endpoint of the last service replaced, until a connection reached the other: median.
    pub follow: f64,
    /// A look whether the rules are still there.
    pub look: f64,
    /// The most memory that the process held.
    pub memory: f64,
}

impl Figures {
    fn numbers(&self) -> [f64; 8] {
        [
            self.first,
            self.first_cpu,
            self.change,
            self.change_worst,
            self.change_cpu,
            self.follow,
            self.look,
            self.memory,
        ]
    }

    /// For [`Figures::of_words`].
    pub fn to_words(self) -> String {
        self.numbers().map(|number| number.to_string()).join(" ")
    }

    /// What another process measured.
    pub fn of_words(text: &str) -> Outcome<Self> {
        let numbers: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
        let [first, first_cpu, change, change_worst, change_cpu, follow, look, memory] =
            numbers?[..]
        else {
            return Err(format!("not the figures of a measurement: {text:?}").into());
        };
        Ok(Self { first, first_cpu, change, change_worst, change_cpu, follow, look, memory })
    }
}

/// How often traffic is seen to follow. Even, so that the first server is the last again.
const FOLLOWED: u32 = 6;

/// A model and the rules that follow it.
struct Subject {
    model: Model,
    options: RuleOptions,
    backend: Box<dyn Backend>,
}

impl Subject {
    fn sync(&mut self, full: bool) -> Outcome<SyncReport> {
        let changes = self.model.take_changes();
        let scope = if full { Scope::Full } else { Scope::Changed(changes.of(Family::V4)) };
        Ok(self.backend.sync(self.model.ports(Family::V4), &self.options, scope)?)
    }

    fn change(&mut self, event: Event) -> Outcome<Spent> {
        let (report, spent) = spend(|| {
            self.model.apply(event);
            self.sync(false)
        })?;
        if report.full || report.changes == 0 {
            return Err(format!("the change was not made as one: {report:?}").into());
        }
        Ok(spent)
    }

    /// Milliseconds until a connection reaches the other server.
    fn follow(&mut self, size: Size, round: u32) -> Outcome<f64> {
        let server = if round.is_multiple_of(2) { world::OTHER_SERVER } else { world::SERVER };
        let ((), spent) = spend(|| {
            self.change(world::moved(size, server))?;
            path::wait_for(size, server)
        })?;
        Ok(spent.wall)
    }
}

/// Of processor time.
fn mean(all: &[Spent]) -> f64 {
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    all.iter().map(|spent| spent.cpu).sum::<f64>() / f64::from(count)
}

/// Measures one mode and size in this namespace.
pub fn run(mode: Mode, size: Size, rounds: usize) -> Outcome<Figures> {
    let (model, options) = (world::model(size), world::options());
    let mut subject = Subject { model, options, backend: mode.backend()? };
    let (_, first) = spend(|| subject.sync(true))?;
    let events = (0..u32::try_from(rounds)?).map(|round| world::replacement(size, round));
    let changes = events.map(|event| subject.change(event)).collect::<Outcome<Vec<_>>>()?;
    let walls: Vec<_> = changes.iter().map(|spent| spent.wall).collect();
    let followed = (0..FOLLOWED).map(|round| subject.follow(size, round));
    let follow = median(followed.collect::<Outcome<_>>()?);
    let (intact, look) = spend(|| Ok(subject.backend.is_intact()?))?;
    if !intact {
        return Err("the rules are not what was committed".into());
    }
    Ok(Figures {
        first: first.wall,
        first_cpu: first.cpu,
        change_worst: walls.iter().copied().fold(0.0, f64::max),
        change: median(walls),
        change_cpu: mean(&changes),
        follow,
        look: look.wall,
        memory: peak_memory()?,
    })
}

/// The transaction of the first sync, in the words of the loader.
pub fn plan(mode: Mode, size: Size) -> Outcome<String> {
    let (model, options) = (world::model(size), world::options());
    Ok(mode.backend()?.plan(model.ports(Family::V4), &options)?)
}
