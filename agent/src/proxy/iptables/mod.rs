//! Service rules by `iptables`, in kube-proxy's own shape: its chains, names, marks, order and comments.
//!
//! A change of a port writes its own chains and single rules of the chains that services share; nothing else is written, read or
//! kept in memory for it. A full sync reads what is there, whoever made it, and repairs what differs.
//!
//! | file | what |
//! | --- | --- |
//! | `name`, `port`, `fixed` | names of chains; rules of a port; rules that are always there: pure |
//! | `input` | what `iptables-restore` is given |
//! | `partial`, `full` | differences: to what was committed, and to what is in the kernel |
//! | `found`, `canonical` | what is in the kernel; when two rules are the same |
//! | `counters` | packet counters that rules name |
//! | `ipvs` | what kube-proxy's IPVS mode leaves |
//! | `compare` | desired and actual state side by side |

mod canonical;
mod compare;
pub mod counters;
mod fixed;
mod found;
mod full;
mod input;
mod ipvs;
mod name;
mod partial;
mod port;

use netns_tools::iptables::{
    BulkRules, Chain, Family, Glance, Iptables, IptablesError, Ruleset, Table, split_words,
};

use super::backend::{Backend, BackendError, Comparison, Scope, SyncReport};
use super::model::{Changed, PortId, Ports, ServicePort};
use super::options::RuleOptions;
use counters::Counters;
use fixed::{CHAINS, Fixed};
use found::Found;
use input::Input;
pub use ipvs::CHAINS as IPVS_CHAINS;
use partial::Totals;
use port::{Context, Shared, generate};

/// With more endpoints than this, the rules of endpoints have no comments.
const LARGE_CLUSTER: usize = 1000;

/// What this host's iptables and kernel can do, and others cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// MASQUERADE can pick any port.
    pub random_fully: bool,
    /// Rules can name packet counters, which are there.
    pub counters: bool,
}

/// All rules that `ports` and `options` ask for, in tables that hold nothing else. Pure.
pub fn ruleset(
    family: Family,
    ports: &Ports,
    options: &RuleOptions,
    abilities: Abilities,
) -> Ruleset {
    let comments = endpoints(ports) <= LARGE_CLUSTER;
    let context = Context { family, options, comments, counters: abilities.counters };
    let fixed = Fixed::new(context, abilities.random_fully);
    let mut ruleset = kernel_tables();
    for (table, chain, rules) in &fixed.chains {
        fill(&mut ruleset, table, chain, rules);
    }
    for port in ports.values() {
        let rules = generate(context, port);
        for (chain, rules) in &rules.own {
            fill(&mut ruleset, "nat", chain, rules);
        }
        for (chain, rule) in &rules.shared {
            fill(&mut ruleset, chain.table(), chain.chain(), std::slice::from_ref(rule));
        }
    }
    fill(&mut ruleset, "nat", Shared::NatServices.chain(), &fixed.to_node_ports);
    for jump in &fixed.jumps {
        fill(&mut ruleset, jump.table, jump.from, &[jump.rule.to_owned()]);
    }
    ruleset
}

fn fill(ruleset: &mut Ruleset, table: &str, chain: &str, rules: &[String]) {
    let table = ruleset.tables.entry(table.to_owned()).or_default();
    let chain = table.chains.entry(chain.to_owned()).or_default();
    chain.rules.extend(rules.iter().map(|rule| split_words(rule)));
}

/// The kernel's own chains, empty.
fn kernel_tables() -> Ruleset {
    const CHAINS: [(&str, &[&str]); 3] = [
        ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
        ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
        ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ];
    let empty = || Chain { policy: Some("ACCEPT".to_owned()), rules: Vec::new() };
    let table = |chains: &[&str]| Table {
        chains: chains.iter().map(|chain| ((*chain).to_owned(), empty())).collect(),
    };
    Ruleset {
        tables: CHAINS.iter().map(|(name, chains)| ((*name).to_owned(), table(chains))).collect(),
    }
}

fn endpoints(ports: &Ports) -> usize {
    ports.values().map(|port| ServicePort::endpoint_count(port)).sum()
}

/// The rules of one family, by the iptables of this host.
pub struct IptablesBackend {
    rules: Box<dyn BulkRules>,
    /// Whether many new chains are made in several transactions.
    cut: bool,
    /// What the program and the kernel know; asked once.
    known: Option<Abilities>,
    /// Where packets are counted; `None`: nowhere.
    counters: Option<Box<dyn Counters>>,
    /// The variant, to be asked about the other one; `None`: there is no other.
    variant: Option<Iptables>,
    /// `None`: nothing is known of what is in force.
    committed: Option<Committed>,
}

/// What is remembered of the last commit. What the rules of a port were follows from the port.
struct Committed {
    options: RuleOptions,
    abilities: Abilities,
    totals: Totals,
    glance: Glance,
}

impl IptablesBackend {
    /// By the variant of iptables that is in use here.
    ///
    /// # Errors
    /// There is no iptables, or both variants hold rules.
    pub fn detect(family: Family) -> Result<Self, BackendError> {
        let name = name_of(family);
        let found = Iptables::detect(family)?.ok_or_else(|| {
            BackendError::Host(format!(
                "{name} is not installed: install it, or use --mode nftables, which needs no program"
            ))
        })?;
        if found.is_mixed() { Err(BackendError::Host(mixed(family))) } else { Ok(Self::of(found)) }
    }

    /// By a variant, in the calling thread's network namespace.
    pub fn of(variant: Iptables) -> Self {
        let cut = variant.backend() == netns_tools::iptables::Backend::Nft;
        let counters = counters::of_this_namespace();
        let asked = Some(variant.clone());
        Self { cut, counters, variant: asked, ..Self::new(Box::new(variant)) }
    }

    /// By what holds rules. They count no packets.
    pub fn new(rules: Box<dyn BulkRules>) -> Self {
        Self { rules, cut: false, known: None, counters: None, variant: None, committed: None }
    }

    fn context<'a>(
        &self,
        options: &'a RuleOptions,
        endpoints: usize,
        abilities: Abilities,
    ) -> Context<'a> {
        let comments = endpoints <= LARGE_CLUSTER;
        Context { family: self.rules.family(), options, comments, counters: abilities.counters }
    }

    /// What can be done here. Changes nothing.
    fn abilities(&mut self) -> Result<Abilities, IptablesError> {
        if let Some(known) = self.known {
            return Ok(known);
        }
        let rules = self.rules.as_mut();
        let counts = self.counters.as_mut().is_some_and(|counters| counters.are_known());
        let known = Abilities {
            random_fully: can_pick_any_port(rules)?,
            counters: counts && counters::can_count(rules)?,
        };
        self.known = Some(known);
        Ok(known)
    }

    /// What can be done here, once the counters were made that rules may name.
    fn equipped(&mut self) -> Result<Abilities, IptablesError> {
        let known = self.abilities()?;
        let wanted = self.counters.as_mut().filter(|_| known.counters);
        let made = wanted.is_some_and(|wanted| counters::are_made(wanted.as_mut()));
        Ok(Abilities { counters: made, ..known })
    }

    fn full(&mut self, ports: &Ports, options: &RuleOptions) -> Result<SyncReport, BackendError> {
        let abilities = self.equipped()?;
        let context = self.context(options, endpoints(ports), abilities);
        let fixed = Fixed::new(context, abilities.random_fully);
        let found = Found::read(self.rules.as_mut())?;
        let (input, totals) = full::difference(context, &fixed, ports, found, Input::new(self.cut));
        self.commit(&input)?;
        self.remember(options, abilities, totals)?;
        Ok(report(true, &input, totals))
    }

    fn partial(
        &mut self,
        ports: &Ports,
        changed: &Changed,
        mut committed: Committed,
    ) -> Result<SyncReport, BackendError> {
        let after = committed.totals.endpoints_after(ports, changed);
        let abilities = committed.abilities;
        let context = self.context(&committed.options, after, abilities);
        let fixed = Fixed::new(context, abilities.random_fully);
        let (totals, empty) = (&mut committed.totals, Input::new(self.cut));
        let input = partial::difference(context, &fixed, ports, changed, totals, empty);
        let totals = committed.totals;
        if input.is_empty() {
            self.committed = Some(committed);
        } else {
            self.commit(&input)?;
            self.remember(&committed.options, abilities, totals)?;
        }
        Ok(report(false, &input, totals))
    }

    fn commit(&mut self, input: &Input) -> Result<(), IptablesError> {
        if input.is_empty() { Ok(()) } else { self.rules.restore(input) }
    }

    fn remember(
        &mut self,
        options: &RuleOptions,
        abilities: Abilities,
        totals: Totals,
    ) -> Result<(), IptablesError> {
        let glance = self.glance()?;
        self.committed = Some(Committed { options: options.clone(), abilities, totals, glance });
        Ok(())
    }

    /// Removes what kube-proxy's IPVS mode keeps here beyond what it shares with iptables mode.
    pub fn remove_ipvs(&mut self) -> Result<(), BackendError> {
        self.committed = None;
        let input = ipvs::removal(self.rules.as_mut())?;
        Ok(self.commit(&input)?)
    }

    /// A look at the chains that every port needs. With `nft` the kernel counts who jumps to them, and each chain of an endpoint
    /// jumps to one of them.
    fn glance(&mut self) -> Result<Glance, IptablesError> {
        let chains =
            CHAINS.iter().flat_map(|(table, chains)| chains.iter().map(|chain| (*table, *chain)));
        let ours = chains.filter(|(_, chain)| *chain != fixed::FIREWALL);
        self.rules.glance(&ours.collect::<Vec<_>>())
    }
}

fn name_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

fn mixed(family: Family) -> String {
    let name = name_of(family);
    format!(
        "both {name}-legacy and {name}-nft hold rules, and neither sees the other's: look at them with {name}-legacy-save and \
         {name}-nft-save, and flush those of the variant that this host does not use"
    )
}

/// Whether this iptables knows `--random-fully` (it came with 1.6.2, and with Linux 3.14).
fn can_pick_any_port(rules: &mut dyn BulkRules) -> Result<bool, IptablesError> {
    let probe = "*nat\n-A POSTROUTING -j MASQUERADE --random-fully\nCOMMIT\n";
    match rules.check(&probe) {
        Ok(()) => Ok(true),
        Err(IptablesError::Failed { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

fn report(full: bool, input: &Input, totals: Totals) -> SyncReport {
    SyncReport {
        full,
        changes: input.changes(),
        rules: vec![("filter", totals.filter), ("nat", totals.nat)],
        written: input.written(),
    }
}

impl Backend for IptablesBackend {
    fn family(&self) -> Family {
        self.rules.family()
    }

    fn sync(
        &mut self,
        ports: &Ports,
        options: &RuleOptions,
        scope: Scope<'_>,
    ) -> Result<SyncReport, BackendError> {
        // Nothing is remembered of a commit that failed: the next sync looks at the kernel.
        match (scope, self.committed.take()) {
            (Scope::Changed(changed), Some(committed)) if committed.options == *options => {
                self.partial(ports, changed, committed)
            }
            _ => self.full(ports, options),
        }
    }

    fn plan(&mut self, ports: &Ports, options: &RuleOptions) -> Result<String, BackendError> {
        let abilities = self.abilities()?;
        let context = self.context(options, endpoints(ports), abilities);
        let fixed = Fixed::new(context, abilities.random_fully);
        let found = Found::read(self.rules.as_mut())?;
        Ok(full::difference(context, &fixed, ports, found, Input::new(self.cut)).0.to_string())
    }

    fn compare(
        &mut self,
        ports: &Ports,
        options: &RuleOptions,
        only: &dyn Fn(&PortId) -> bool,
    ) -> Result<Comparison, BackendError> {
        let abilities = self.abilities()?;
        let context = self.context(options, endpoints(ports), abilities);
        let fixed = Fixed::new(context, abilities.random_fully);
        Ok(compare::compare(context, &fixed, ports, only, self.rules.as_mut())?)
    }

    fn is_intact(&mut self) -> Result<bool, BackendError> {
        let now = self.glance()?;
        Ok(self.committed.as_ref().is_some_and(|committed| committed.glance == now))
    }

    /// At the start a mixed host is refused. Later somebody's rules of the other variant are no reason to leave services without theirs:
    /// both are walked, and what is dropped by one is dropped.
    fn doubts(&mut self) -> Vec<String> {
        let family = self.rules.family();
        let rival = self.variant.as_ref().is_some_and(Iptables::has_rival);
        if rival { vec![mixed(family)] } else { Vec::new() }
    }

    fn cleanup(&mut self) -> Result<(), BackendError> {
        self.committed = None;
        let found = Found::read(self.rules.as_mut())?;
        self.commit(&full::removal(&found))?;
        for name in [counters::INVALID, counters::LOCALHOST] {
            // one that a rule of somebody else, or of the other family, still names stays
            self.counters.as_mut().map(|counters| counters.remove(name).ok());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
