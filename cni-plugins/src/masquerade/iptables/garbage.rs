//! GC of masquerading rules of iptables, ours and the reference's alike.
//!
//! Rules name their network and container in a comment, `name: "net" id: "c1"`. A chain belongs to a network if a rule in it,
//! or one that leads to it, says so; it is garbage if it is the chain of no valid attachment of that network. Its name has no
//! interface in it, so the rules of a container stay as long as any of its attachments to the network is valid.

use std::collections::BTreeSet;

use cni::Error;
use cni::plugin::ValidAttachment;
use netns_tools::iptables::{Batch, Family, Table, join_words};

use super::{HOOK, Masquerade, TABLE};
use crate::rules::{self, FAMILIES, value_of};

const PREFIX: &str = "CNI-";

/// Removes the rules of `network` that are no valid attachment's. A host without iptables has none.
pub fn collect(network: &str, valid: &[ValidAttachment]) -> Result<(), Error> {
    let mut outcome = Ok(());
    for family in FAMILIES {
        outcome = outcome.and(collect_family(network, valid, family));
    }
    outcome
}

fn collect_family(network: &str, valid: &[ValidAttachment], family: Family) -> Result<(), Error> {
    let Some((mut rules, table)) = rules::look(family, TABLE)? else { return Ok(()) };
    rules::commit(&mut rules, &removals(&table, network, valid))
}

fn removals(table: &Table, network: &str, valid: &[ValidAttachment]) -> Batch {
    let own: BTreeSet<_> = valid
        .iter()
        .map(|one| Masquerade::new(network, &one.container_id).chain().to_owned())
        .collect();
    let mut stale = BTreeSet::new();
    let mut batch = Batch::default();
    for (rule, target) in jumps(table, network) {
        if !own.contains(&target) {
            batch.delete(TABLE, HOOK, &rule);
            stale.insert(target);
        }
    }
    // The reference works rule by rule and may have been killed in between: chains that nothing leads to.
    let chains = table.chains.keys().filter(|chain| chain.starts_with(PREFIX));
    stale.extend(
        chains.filter(|chain| !own.contains(*chain) && is_of(table, chain, network)).cloned(),
    );
    for chain in stale.iter().filter(|chain| table.chains.contains_key(*chain)) {
        // Declared, it is emptied: only so can it be deleted.
        batch.declare_chain(TABLE, chain);
        batch.delete_chain(TABLE, chain);
    }
    batch
}

/// The rules of a network that lead to its containers' chains, each with the chain.
fn jumps(table: &Table, network: &str) -> Vec<(String, String)> {
    let rules = rules_of(table, HOOK).iter().filter(|rule| says(rule, network));
    let with_target = rules.filter_map(|rule| {
        let target = value_of(rule, "-j").filter(|target| target.starts_with(PREFIX))?;
        Some((join_words(rule), target.to_owned()))
    });
    with_target.collect()
}

/// Whether a chain has rules and all of them are of the network.
fn is_of(table: &Table, chain: &str, network: &str) -> bool {
    let rules = rules_of(table, chain);
    !rules.is_empty() && rules.iter().all(|rule| says(rule, network))
}

fn rules_of<'a>(table: &'a Table, chain: &str) -> &'a [Vec<String>] {
    table.chains.get(chain).map_or(&[], |chain| &chain.rules)
}

/// Whether a rule's comment names the network. Nobody else's comments have this form: `portmap`'s begin with another word.
fn says(rule: &[String], network: &str) -> bool {
    let start = format!("name: \"{network}\" id: \"");
    value_of(rule, "--comment").is_some_and(|comment| comment.starts_with(&start))
}

#[cfg(test)]
mod tests {
    use netns_tools::iptables::{FakeRules, Rules};

    use super::*;

    /// What `network` and `id` have, as `iptables-save` prints it.
    fn of(network: &str, id: &str, address: &str) -> (String, [String; 3]) {
        let chain = Masquerade::new(network, id).chain().to_owned();
        let comment = format!("-m comment --comment \"name: \\\"{network}\\\" id: \\\"{id}\\\"\"");
        let rules = [
            format!("-A {HOOK} -s {address}/32 {comment} -j {chain}"),
            format!("-A {chain} -d 10.1.0.0/24 {comment} -j ACCEPT"),
            format!("-A {chain} ! -d 224.0.0.0/4 {comment} -j MASQUERADE"),
        ];
        (chain, rules)
    }

    fn valid(ids: &[&str]) -> Vec<ValidAttachment> {
        let one = |id: &&str| ValidAttachment { container_id: (*id).into(), ifname: "eth0".into() };
        ids.iter().map(one).collect()
    }

    /// Loads chains and rules, collects for `net`, and says what is left.
    fn left(chains: &[&String], rules: &[&String], valid: &[ValidAttachment]) -> Vec<String> {
        let mut fake = FakeRules::new(Family::V4);
        let mut batch = Batch::default();
        for chain in chains {
            batch.declare_chain(TABLE, chain);
        }
        for rule in rules {
            let (chain, rule) = rule.strip_prefix("-A ").unwrap().split_once(' ').unwrap();
            batch.append(TABLE, chain, rule);
        }
        fake.commit(&batch).unwrap();
        let batch = removals(&fake.save(TABLE).unwrap(), "net", valid);
        fake.commit(&batch).unwrap();
        let table = fake.save(TABLE).unwrap();
        let chains = table.chains.keys().filter(|chain| chain.starts_with(PREFIX));
        let rules = table.chains.keys().flat_map(|chain| {
            table.rules(chain).into_iter().map(move |rule| format!("-A {chain} {rule}"))
        });
        let mut all: Vec<_> = chains.cloned().chain(rules).collect();
        all.sort();
        all
    }

    fn sorted(words: &[&String]) -> Vec<String> {
        let mut words: Vec<_> = words.iter().map(|word| (*word).clone()).collect();
        words.sort();
        words
    }

    #[test]
    fn only_this_network_s_and_only_what_is_not_valid() {
        let (gone, of_gone) = of("net", "gone", "10.1.0.2");
        let (lives, of_lives) = of("net", "lives", "10.1.0.3");
        let (other, of_other) = of("net2", "gone", "10.1.0.4");
        let chains = [&gone, &lives, &other];
        let rules: Vec<_> = [&of_gone, &of_lives, &of_other].into_iter().flatten().collect();
        let with = |chains: &[&String], rules: &[&[String; 3]]| {
            let all: Vec<_> =
                chains.iter().copied().chain(rules.iter().copied().flatten()).collect();
            sorted(&all)
        };
        let left = |ids: &[&str]| left(&chains, &rules, &valid(ids));
        assert_eq!(left(&["lives"]), with(&[&lives, &other], &[&of_lives, &of_other]));
        assert_eq!(left(&["lives", "gone"]), with(&chains, &[&of_gone, &of_lives, &of_other]));
        assert_eq!(left(&[]), with(&[&other], &[&of_other]));
    }

    #[test]
    fn half_of_them() {
        let (gone, [a, b, c]) = of("net", "gone", "10.1.0.2");
        assert_eq!(
            left(&[&gone], &[&b, &c], &valid(&[])),
            [""; 0],
            "a chain without the rule to it"
        );
        assert_eq!(left(&[&gone], &[&a], &valid(&[])), [""; 0], "an empty chain");
        // A chain without any rule could be anybody's.
        assert_eq!(left(&[&gone], &[], &valid(&[])), sorted(&[&gone]));
    }

    #[test]
    fn other_people_s_rules_stay() {
        let chain = "CNI-DN-0123456789abcdef01234".to_owned();
        let chain2 = "CNI-0123456789abcdef01234567".to_owned();
        let rules = [
            format!(
                "-A {HOOK} -m comment --comment \"dnat name: \\\"net\\\" id: \\\"c\\\"\" -j {chain}"
            ),
            format!(
                "-A {HOOK} -s 10.9.0.0/16 -m comment --comment \"name: \\\"net\\\" id: \\\"x\\\"\" -j MASQUERADE"
            ),
            format!(
                "-A {chain2} -m comment --comment \"name: \\\"net\\\" id: \\\"x\\\"\" -j ACCEPT"
            ),
            format!("-A {chain2} -j ACCEPT"),
        ];
        let all: Vec<_> = [&chain, &chain2].into_iter().chain(&rules).collect();
        assert_eq!(left(&[&chain, &chain2], &rules.iter().collect::<Vec<_>>(), &[]), sorted(&all));
        assert!(removals(&Table::default(), "net", &[]).is_empty());
    }
}
