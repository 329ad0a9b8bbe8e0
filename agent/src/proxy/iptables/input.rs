//! What one `iptables-restore --noflush` is given.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// The variant nft searches the chains of an input from the first one for every line, so that 30 000 chains in one transaction
/// take four times as long as in transactions of this many.
const CUT: usize = 1000;

/// Changes of all tables, printed as the input of `iptables-restore`.
///
/// Chains stand in falling order of their names: the variant nft keeps a list in rising order and puts each where it belongs,
/// which is then always at the front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    tables: BTreeMap<&'static str, Part>,
    cut: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    /// Chains that were not there before, with their rules as commands.
    created: BTreeMap<String, String>,
    /// Chains that are made or emptied, with their rules as commands.
    chains: BTreeMap<String, String>,
    /// Single rules that come or go.
    edits: Vec<String>,
    /// Chains that go, emptied first.
    deleted: Vec<String>,
    /// Rules that are written.
    written: usize,
}

impl Input {
    /// Nothing yet. `cut`: many new chains may be made in transactions of their own, before the one that leads to them and
    /// changes what is there. If that one fails, there are chains that nothing leads to, until the next full sync.
    pub fn new(cut: bool) -> Self {
        Self { tables: BTreeMap::new(), cut }
    }

    /// Makes a chain of these rules, or gives it these in place of its own.
    pub fn write(&mut self, table: &'static str, chain: &str, rules: &[String]) {
        let part = self.tables.entry(table).or_default();
        part.chains.insert(chain.to_owned(), commands(chain, rules));
        part.written += rules.len();
    }

    /// As [`Self::write`], for a chain that is not there and that only rules of this input lead to.
    pub fn create(&mut self, table: &'static str, chain: &str, rules: &[String]) {
        let part = self.tables.entry(table).or_default();
        part.created.insert(chain.to_owned(), commands(chain, rules));
        part.written += rules.len();
    }

    /// Puts a rule at the beginning of a chain.
    pub fn insert(&mut self, table: &'static str, chain: &str, rule: &str) {
        let part = self.tables.entry(table).or_default();
        part.edits.push(format!("-I {chain} {rule}"));
        part.written += 1;
    }

    /// Puts a rule at the end of a chain.
    pub fn append(&mut self, table: &'static str, chain: &str, rule: &str) {
        let part = self.tables.entry(table).or_default();
        part.edits.push(format!("-A {chain} {rule}"));
        part.written += 1;
    }

    /// Deletes a rule.
    pub fn delete(&mut self, table: &'static str, chain: &str, rule: &str) {
        self.tables.entry(table).or_default().edits.push(format!("-D {chain} {rule}"));
    }

    /// Deletes a chain with its rules, after everything else.
    pub fn delete_chain(&mut self, table: &'static str, chain: &str) {
        let part = self.tables.entry(table).or_default();
        part.chains.insert(chain.to_owned(), String::new());
        part.deleted.push(chain.to_owned());
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// How many chains and single rules are written or deleted.
    pub fn changes(&self) -> usize {
        let count = |part: &Part| part.created.len() + part.chains.len() + part.edits.len();
        self.tables.values().map(count).sum()
    }

    /// How many rules are written, by table.
    pub fn written(&self) -> Vec<(&'static str, usize)> {
        self.tables.iter().map(|(table, part)| (*table, part.written)).collect()
    }
}

fn commands(chain: &str, rules: &[String]) -> String {
    let mut text = String::with_capacity(rules.iter().map(|rule| rule.len() + 32).sum());
    for rule in rules {
        text.extend(["-A ", chain, " ", rule, "\n"]);
    }
    text
}

/// Chains lead to those of lower rank only.
fn rank(chain: &str) -> u8 {
    match chain.get(..8) {
        Some("KUBE-SEP") => 1,
        Some("KUBE-SVC" | "KUBE-SVL") => 2,
        Some("KUBE-EXT") => 3,
        Some("KUBE-FW-") => 4,
        _ => 0,
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, part) in &self.tables {
            let mut created: Vec<_> = part.created.iter().collect();
            let mut changed: Vec<_> = part.chains.iter().rev().collect();
            if self.cut && created.len() > CUT {
                created.sort_by_key(|(chain, _)| (rank(chain), Reverse(*chain)));
                for chains in created.chunks(CUT) {
                    writeln!(f, "*{table}")?;
                    write_chains(f, chains)?;
                    writeln!(f, "COMMIT")?;
                }
            } else {
                changed.extend(created);
                changed.sort_by_key(|(chain, _)| Reverse(*chain));
            }
            writeln!(f, "*{table}")?;
            write_chains(f, &changed)?;
            for edit in &part.edits {
                writeln!(f, "{edit}")?;
            }
            for chain in &part.deleted {
                writeln!(f, "-X {chain}")?;
            }
            writeln!(f, "COMMIT")?;
        }
        Ok(())
    }
}

fn write_chains(f: &mut fmt::Formatter<'_>, chains: &[(&String, &String)]) -> fmt::Result {
    for (chain, _) in chains {
        writeln!(f, ":{chain} - [0:0]")?;
    }
    chains.iter().try_for_each(|(_, commands)| f.write_str(commands))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_then_their_rules_then_single_rules_then_what_goes() {
        let mut input = Input::new(true);
        input.delete_chain("nat", "KUBE-SVC-C");
        input.create("nat", "KUBE-SVC-A", &["-j ACCEPT".to_owned()]);
        input.write("nat", "KUBE-SVC-B", &["-j KUBE-SVC-A".to_owned(), "-j DROP".to_owned()]);
        input.insert("nat", "OUTPUT", "-j KUBE-SVC-B");
        input.delete("filter", "INPUT", "-j DROP");
        assert_eq!(
            input.to_string(),
            "*filter\n-D INPUT -j DROP\nCOMMIT\n*nat\n:KUBE-SVC-C - [0:0]\n:KUBE-SVC-B - [0:0]\n:KUBE-SVC-A - [0:0]\n\
             -A KUBE-SVC-B -j KUBE-SVC-A\n-A KUBE-SVC-B -j DROP\n-A KUBE-SVC-A -j ACCEPT\n-I OUTPUT -j KUBE-SVC-B\n\
             -X KUBE-SVC-C\nCOMMIT\n"
        );
        assert_eq!((input.changes(), input.written()), (5, vec![("filter", 0), ("nat", 4)]));
    }

    #[test]
    fn many_new_chains_come_before_what_leads_to_them() {
        for (cut, transactions) in [(true, 3), (false, 1)] {
            let mut input = Input::new(cut);
            for number in 0..CUT {
                let target = format!("-j KUBE-SEP-{number}");
                input.create("nat", &format!("KUBE-SVC-{number}"), &[target]);
                input.create(
                    "nat",
                    &format!("KUBE-SEP-{number}"),
                    &["-j KUBE-MARK-MASQ".to_owned()],
                );
            }
            input.create("nat", "KUBE-MARK-MASQ", &["-j RETURN".to_owned()]);
            input.write("nat", "KUBE-SERVICES", &["-j KUBE-SVC-1".to_owned()]);
            let text = input.to_string();
            let parts: Vec<_> = text.split("COMMIT\n").filter(|part| !part.is_empty()).collect();
            assert_eq!(parts.len(), if cut { transactions + 1 } else { 1 });
            let last = parts.last().unwrap();
            assert!(last.contains("-A KUBE-SERVICES -j KUBE-SVC-1\n"));
            assert!(
                !cut || (parts[0].contains(":KUBE-MARK-MASQ") && !parts[0].contains("KUBE-SVC"))
            );
        }
    }
}
