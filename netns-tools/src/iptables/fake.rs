//! Rules in memory: refuses what the kernel refuses, so that a plan that passes here can be committed there.

use std::collections::BTreeMap;
use std::fmt;

use super::batch::{Batch, Part};
use super::ruleset::{Chain, Ruleset, Table, target};
use super::word::split;
use super::{BulkRules, Family, Glance, IptablesError, Rules};

/// The longest name of a chain, in bytes (`XT_EXTENSION_MAXNAMELEN` less the end).
const MAX_CHAIN_NAME: usize = 28;

/// Targets that are no chains.
const BUILT_IN_TARGETS: [&str; 9] =
    ["ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "MASQUERADE", "DNAT", "SNAT", "LOG"];

/// A fake of one family's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeRules {
    family: Family,
    ruleset: Ruleset,
    /// Batches that were committed, as text.
    pub commits: Vec<String>,
    /// The next commit fails with this text.
    pub fail_next: Option<String>,
}

impl FakeRules {
    /// Empty tables with the kernel's own chains.
    pub fn new(family: Family) -> Self {
        let tables: [(&str, &[&str]); 3] = [
            ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
            ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
            ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
        ];
        let table = |chains: &[&str]| Table {
            chains: chains
                .iter()
                .map(|name| {
                    (
                        (*name).to_owned(),
                        Chain { policy: Some("ACCEPT".to_owned()), rules: Vec::new() },
                    )
                })
                .collect(),
        };
        let tables =
            tables.iter().map(|(name, chains)| ((*name).to_owned(), table(chains))).collect();
        Self { family, ruleset: Ruleset { tables }, commits: Vec::new(), fail_next: None }
    }

    /// What is in force.
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }
}

impl fmt::Display for FakeRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ruleset.fmt(f)
    }
}

impl Rules for FakeRules {
    fn family(&self) -> Family {
        self.family
    }

    fn save(&mut self, table: &str) -> Result<Table, IptablesError> {
        Ok(self.ruleset.tables.get(table).cloned().unwrap_or_default())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), IptablesError> {
        if let Some(reason) = self.fail_next.take() {
            return Err(IptablesError::Rejected(reason));
        }
        let mut next = self.ruleset.clone();
        for (name, part) in batch.parts() {
            let table =
                next.tables.get_mut(name).ok_or_else(|| rejected(format!("no table {name}")))?;
            apply(table, part)?;
        }
        self.ruleset = next;
        self.commits.push(batch.to_string());
        Ok(())
    }
}

impl BulkRules for FakeRules {
    fn each_line(&mut self, line: &mut dyn FnMut(&str)) -> Result<(), IptablesError> {
        self.ruleset.to_string().lines().for_each(line);
        Ok(())
    }

    fn restore(&mut self, input: &dyn fmt::Display) -> Result<(), IptablesError> {
        self.commit(&Batch::parse(&input.to_string()))
    }

    fn check(&mut self, _input: &dyn fmt::Display) -> Result<(), IptablesError> {
        Ok(())
    }

    fn glance(&mut self, chains: &[(&str, &str)]) -> Result<Glance, IptablesError> {
        let look = |(table, name): &(&str, &str)| {
            let chains = &self.ruleset.tables.get(*table)?.chains;
            let own = chains.get(*name)?.rules.len();
            let targets = chains.values().flat_map(Chain::targets);
            let uses = own + targets.filter(|(_, target)| target == name).count();
            let uses = u32::try_from(uses).unwrap_or(u32::MAX);
            Some((((*table).to_owned(), (*name).to_owned()), (uses, 0)))
        };
        Ok(chains.iter().filter_map(look).collect())
    }
}

fn rejected(reason: String) -> IptablesError {
    IptablesError::Rejected(reason)
}

fn apply(table: &mut Table, part: &Part) -> Result<(), IptablesError> {
    for name in &part.declared {
        if name.len() > MAX_CHAIN_NAME {
            return Err(rejected(format!(
                "chain name {name} is longer than {MAX_CHAIN_NAME} bytes"
            )));
        }
        table.chains.entry(name.clone()).or_default().rules.clear();
    }
    for command in &part.commands {
        let mut words = split(command).into_iter();
        let (verb, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let rule: Vec<String> = words.collect();
        run(&mut table.chains, &verb, &name, rule)
            .map_err(|reason| rejected(format!("{command}: {reason}")))?;
    }
    Ok(())
}

/// A number in front of a rule is its position, counted from 1.
fn insert(chain: &mut Chain, mut rule: Vec<String>) -> Result<(), String> {
    let position = rule.first().and_then(|word| word.parse::<usize>().ok());
    if position.is_some() {
        rule.remove(0);
    }
    let index = position.unwrap_or(1).wrapping_sub(1);
    if index > chain.rules.len() {
        return Err("Index of insertion too big".to_owned());
    }
    chain.rules.insert(index, rule);
    Ok(())
}

fn run(
    chains: &mut BTreeMap<String, Chain>,
    verb: &str,
    name: &str,
    rule: Vec<String>,
) -> Result<(), String> {
    if verb != "-X"
        && verb != "-D"
        && let Some(target) = target(&rule)
        && !BUILT_IN_TARGETS.contains(&target)
        && chains.get(target).is_none_or(|chain| chain.policy.is_some())
    {
        return Err(format!("jumps to {target}, which is no chain"));
    }
    if verb == "-N" {
        return match chains.insert(name.to_owned(), Chain::default()) {
            None => Ok(()),
            Some(_) => Err("Chain already exists".to_owned()),
        };
    }
    let referenced = chains.values().any(|chain| chain.targets().any(|(_, target)| target == name));
    let chain = chains.get_mut(name).ok_or_else(|| format!("no chain {name}"))?;
    match verb {
        "-A" => chain.rules.push(rule),
        "-I" => insert(chain, rule)?,
        "-D" => {
            let position =
                chain.rules.iter().position(|known| *known == rule).ok_or("no such rule")?;
            chain.rules.remove(position);
        }
        "-X" if !chain.rules.is_empty() => return Err(format!("{name} is not empty")),
        "-X" if referenced => return Err(format!("{name} is still jumped to")),
        "-X" if chain.policy.is_some() => return Err(format!("{name} is the kernel's")),
        "-X" => drop(chains.remove(name)),
        other => return Err(format!("unknown command {other}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Make = fn(&mut Batch);

    #[test]
    fn it_refuses_what_the_kernel_refuses_and_changes_nothing() {
        let mut fake = FakeRules::new(Family::V4);
        let mut setup = Batch::new();
        setup.declare_chain("nat", "A");
        setup.declare_chain("nat", "B");
        setup.append("nat", "A", "-j B");
        fake.commit(&setup).unwrap();
        let before = fake.ruleset().clone();
        let refused: [(&str, Make); 8] = [
            ("already exists", |b| b.new_chain("nat", "A")),
            ("jumps to C", |b| b.append("nat", "A", "-j C")),
            ("no chain C", |b| b.append("nat", "C", "-j ACCEPT")),
            ("still jumped to", |b| b.delete_chain("nat", "B")),
            ("not empty", |b| b.delete_chain("nat", "A")),
            ("no such rule", |b| b.delete("nat", "A", "-j ACCEPT")),
            ("no table", |b| b.append("none", "A", "-j ACCEPT")),
            ("longer than", |b| b.declare_chain("nat", "KUBE-SVC-ABCDEFGHIJKLMNOPQRST")),
        ];
        for (reason, make) in refused {
            let mut batch = Batch::new();
            batch.append("filter", "INPUT", "-j ACCEPT");
            make(&mut batch);
            let error = fake.commit(&batch).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(*fake.ruleset(), before);
        }
    }
}
