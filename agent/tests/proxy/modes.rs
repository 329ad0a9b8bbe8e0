//! The rules of a world, as each backend makes them: on paper, and in the kernel of a namespace.

use heddle_agent::proxy::backend::{Backend, Scope};
use heddle_agent::proxy::iptables::{self, Abilities, IptablesBackend};
use heddle_agent::proxy::model::{FAMILIES, Model, Ports};
use heddle_agent::proxy::nftables::{self, NftablesBackend};
use heddle_agent::proxy::options::RuleOptions;
use heddle_agent::proxy::tracer::Hooks;
use heddle_agent::proxy::tracer::iptables::IptablesRules;
use heddle_agent::proxy::tracer::nftables::NftRuleset;
use netns_tools::iptables::{Backend as Variant, Family, Iptables};
use netns_tools::netns::NetNs;

use crate::oracle::Mode;
use crate::world::Options;

pub const MODES: [Mode; 2] = [Mode::Iptables, Mode::Nftables];
/// What iptables and the kernel can do that the tests run on.
pub const ABILITIES: Abilities = Abilities { random_fully: true, counters: true };

/// What brings rules into the kernel: both variants of iptables make the rules of one mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    IptablesNft,
    IptablesLegacy,
    Nftables,
}

impl Way {
    pub fn mode(self) -> Mode {
        match self {
            Self::IptablesNft | Self::IptablesLegacy => Mode::Iptables,
            Self::Nftables => Mode::Nftables,
        }
    }
}

/// What a mode makes of ports.
pub fn rules(mode: Mode, family: Family, ports: &Ports, options: &RuleOptions) -> Box<dyn Hooks> {
    match mode {
        Mode::Iptables => {
            let ruleset = iptables::ruleset(family, ports, options, ABILITIES);
            Box::new(IptablesRules::new(&ruleset, family).unwrap())
        }
        Mode::Nftables => {
            Box::new(NftRuleset::of(family, &nftables::objects(family, ports, options)))
        }
    }
}

/// The backends of both families in a namespace.
pub struct Programmed<'a> {
    at: &'a NetNs,
    options: Options,
    backends: Vec<Box<dyn Backend>>,
}

impl<'a> Programmed<'a> {
    /// Brings what a model says into the kernel.
    pub fn new(way: Way, at: &'a NetNs, model: &mut Model, options: &Options) -> Self {
        let backends = FAMILIES.map(|family| at.run(|| open(way, family)).unwrap());
        let mut programmed = Self { at, options: options.clone(), backends: backends.into() };
        programmed.sync(model, true);
        programmed
    }

    /// Follows the changes of a model.
    pub fn follow(&mut self, model: &mut Model) {
        self.sync(model, false);
    }

    fn sync(&mut self, model: &mut Model, full: bool) {
        let changes = model.take_changes();
        for backend in &mut self.backends {
            let family = backend.family();
            let scope = if full { Scope::Full } else { Scope::Changed(changes.of(family)) };
            let options = self.options.of(family);
            let sync = || backend.sync(model.ports(family), &options, scope);
            let report = self.at.run(sync).unwrap().unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(report.full, full, "{report:?}");
        }
    }
}

fn open(way: Way, family: Family) -> Box<dyn Backend> {
    let iptables = |variant| {
        let found = Iptables::variant(family, variant).expect("both variants are installed");
        Box::new(IptablesBackend::of(found))
    };
    match way {
        Way::IptablesNft => iptables(Variant::Nft),
        Way::IptablesLegacy => iptables(Variant::Legacy),
        Way::Nftables => Box::new(NftablesBackend::open(family).unwrap()),
    }
}
