//! What is measured, in a process of its own inside a namespace.

use std::fmt;

use heddle_agent::proxy::backend::{Backend, Scope};
use heddle_agent::proxy::iptables::IptablesBackend;
use heddle_agent::proxy::nftables::NftablesBackend;
use netns_tools::iptables::{Backend as Variant, Family, Iptables};

use crate::usage::{peak_memory, spend};
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
    /// A look whether the rules are still there.
    pub look: f64,
    /// The most memory that the process held.
    pub memory: f64,
    /// A connection to the last service, and one to its endpoint without the service; medians.
    pub connect: [f64; 2],
}

impl Figures {
    fn numbers(&self) -> [f64; 9] {
        let [service, direct] = self.connect;
        [
            self.first,
            self.first_cpu,
            self.change,
            self.change_worst,
            self.change_cpu,
            self.look,
            self.memory,
            service,
            direct,
        ]
    }

    /// For [`Figures::of_words`].
    pub fn to_words(self) -> String {
        self.numbers().map(|number| number.to_string()).join(" ")
    }

    /// What another process measured.
    pub fn of_words(text: &str) -> Outcome<Self> {
        let numbers: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
        let [first, first_cpu, change, change_worst, change_cpu, look, memory, service, direct] =
            numbers?[..]
        else {
            return Err(format!("not the figures of a measurement: {text:?}").into());
        };
        let connect = [service, direct];
        Ok(Self { first, first_cpu, change, change_worst, change_cpu, look, memory, connect })
    }
}

/// Measures one mode and size in this namespace.
pub fn run(mode: Mode, size: Size, rounds: usize) -> Outcome<Figures> {
    let (mut model, options) = (world::model(size), world::options());
    let mut backend = mode.backend()?;
    model.take_changes();
    let sync = |backend: &mut Box<dyn Backend>, model: &_, scope: Scope<'_>| -> Outcome<_> {
        let model: &heddle_agent::proxy::model::Model = model;
        Ok(backend.sync(model.ports(Family::V4), &options, scope)?)
    };
    let (_, first) = spend(|| sync(&mut backend, &model, Scope::Full))?;
    let memory = peak_memory()?;
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for round in 0..u32::try_from(rounds)? {
        let event = world::replacement(size, round);
        let (report, spent) = spend(|| {
            model.apply(event);
            let changes = model.take_changes();
            sync(&mut backend, &model, Scope::Changed(changes.of(Family::V4)))
        })?;
        if report.full || report.changes == 0 {
            return Err(format!("the change was not made as one: {report:?}").into());
        }
        walls.push(spent.wall);
        cpus.push(spent.cpu);
    }
    let (intact, look) = spend(|| Ok(backend.is_intact()?))?;
    if !intact {
        return Err("the rules are not what was committed".into());
    }
    let connect = path::connect(size)?;
    Ok(Figures {
        first: first.wall,
        first_cpu: first.cpu,
        change_worst: walls.iter().copied().fold(0.0, f64::max),
        change: median(walls),
        change_cpu: cpus.iter().sum::<f64>() / rounds as f64,
        look: look.wall,
        memory: memory.max(peak_memory()?),
        connect,
    })
}

/// The transaction of the first sync, in the words of the loader.
pub fn plan(mode: Mode, size: Size) -> Outcome<String> {
    let (model, options) = (world::model(size), world::options());
    Ok(mode.backend()?.plan(model.ports(Family::V4), &options)?)
}
