//! Rules of iptables, as `iptables-save` prints them, as the kernel would follow them.
//!
//! Matches and targets: iptables-extensions(8). Each rule is understood before the first packet; what is not, is an error.

mod rule;

use std::collections::BTreeMap;

use netns_tools::iptables::{Chain, Family, Ruleset};
use netns_tools::nftables::Hook;

use super::path::{Decision, Flight, Hooks};
use super::{Result, TraceError};
use rule::{Rule, Target};

/// Deeper nesting of chains is a loop.
const DEEPEST: usize = 32;

/// Tables in the order in which a hook asks them.
const fn tables(hook: Hook) -> &'static [&'static str] {
    match hook {
        Hook::Prerouting => &["raw", "mangle", "nat"],
        Hook::Input => &["mangle", "filter", "nat"],
        Hook::Forward => &["mangle", "filter"],
        Hook::Output => &["raw", "mangle", "nat", "filter"],
        Hook::Postrouting => &["mangle", "nat"],
    }
}

const fn chain_of(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "PREROUTING",
        Hook::Input => "INPUT",
        Hook::Forward => "FORWARD",
        Hook::Output => "OUTPUT",
        Hook::Postrouting => "POSTROUTING",
    }
}

/// All tables of a family.
#[derive(Debug)]
pub struct IptablesRules {
    tables: BTreeMap<String, BTreeMap<String, Rules>>,
}

#[derive(Debug)]
struct Rules {
    policy: Decision,
    rules: Vec<Rule>,
}

/// What a chain of a user's ends with.
enum End {
    Returned,
    Decided(Decision),
}

impl IptablesRules {
    /// Understands every rule of every table.
    pub fn new(ruleset: &Ruleset, family: Family) -> Result<Self> {
        let mut tables = BTreeMap::new();
        for (table_name, table) in &ruleset.tables {
            let mut chains = BTreeMap::new();
            for (name, chain) in &table.chains {
                chains.insert(name.clone(), understand(name, chain, family)?);
            }
            tables.insert(table_name.clone(), chains);
        }
        Ok(Self { tables })
    }

    fn walk(&self, table: &str, chain: &str, flight: &mut Flight<'_>, depth: usize) -> Result<End> {
        let place = || format!("{table} {chain}");
        let found = self.tables.get(table).and_then(|chains| chains.get(chain));
        let chain = found.ok_or_else(|| TraceError::new(place(), "there is no such chain"))?;
        if depth > DEEPEST {
            return Err(TraceError::new(place(), "chains jump in a circle"));
        }
        for rule in &chain.rules {
            if !rule.matches(flight) {
                continue;
            }
            if let Some(end) = self.act(table, &rule.target, flight, depth)? {
                return Ok(end);
            }
        }
        Ok(End::Returned)
    }

    /// What a rule that matches does. `None`: the next rule is looked at.
    fn act(
        &self,
        table: &str,
        target: &Target,
        flight: &mut Flight<'_>,
        depth: usize,
    ) -> Result<Option<End>> {
        Ok(match target {
            Target::None => None,
            Target::Decide(decision) => Some(End::Decided(*decision)),
            Target::Return => Some(End::Returned),
            Target::Jump(chain) => match self.walk(table, chain, flight, depth + 1)? {
                End::Returned => None,
                decided @ End::Decided(_) => Some(decided),
            },
            Target::Goto(chain) => Some(self.walk(table, chain, flight, depth + 1)?),
            Target::Mark { value, mask } => {
                flight.mark = (flight.mark & !mask) ^ value;
                None
            }
            Target::Dnat { address, port } => {
                flight.translate_destination(*address, *port);
                Some(End::Decided(Decision::Accept))
            }
            Target::Masquerade => {
                flight.masquerade()?;
                Some(End::Decided(Decision::Accept))
            }
        })
    }
}

fn understand(name: &str, chain: &Chain, family: Family) -> Result<Rules> {
    let policy = match chain.policy.as_deref() {
        None | Some("ACCEPT") => Decision::Accept,
        Some("DROP") => Decision::Drop,
        Some(other) => return Err(TraceError::new(name, format!("policy {other}"))),
    };
    let rule = |words: &Vec<String>| {
        Rule::parse(words, family)
            .map_err(|reason| TraceError::new(format!("-A {name} {}", words.join(" ")), reason))
    };
    Ok(Rules { policy, rules: chain.rules.iter().map(rule).collect::<Result<_>>()? })
}

impl Hooks for IptablesRules {
    fn run(&self, hook: Hook, flight: &mut Flight<'_>) -> Result<Decision> {
        let chain = chain_of(hook);
        for table in tables(hook) {
            let Some(base) = self.tables.get(*table).and_then(|chains| chains.get(chain)) else {
                continue;
            };
            if *table == "nat" && !flight.asks_nat(hook) {
                continue;
            }
            let decision = match self.walk(table, chain, flight, 0)? {
                End::Decided(decision) => decision,
                End::Returned => base.policy,
            };
            if decision != Decision::Accept {
                return Ok(decision);
            }
        }
        Ok(Decision::Accept)
    }
}
