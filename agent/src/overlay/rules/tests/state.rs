//! From whatever is there to what should be, and back.

use netns_tools::testing::TestNetns;

use super::world::without_counts;
use super::*;

/// Tables are listed in the order in which they were made, which is no matter.
fn nft(ns: &TestNetns) -> String {
    let text = without_counts(&ns.cmd(&["nft", "list", "ruleset"]));
    let mut tables: Vec<_> = text.strip_suffix("\n}").unwrap_or(&text).split("\n}\n").collect();
    tables.sort_unstable();
    tables.join("\n}\n") + "\n}"
}

fn saved(ns: &TestNetns) -> String {
    let programs = [
        "iptables-nft-save",
        "ip6tables-nft-save",
        "iptables-legacy-save",
        "ip6tables-legacy-save",
    ];
    let all = programs.map(|program| {
        let text = ns.cmd(&[program]);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(" [").next().unwrap().to_owned() + "\n").collect::<String>()
    });
    all.concat()
}

/// What others have before we come.
fn inhabit(ns: &TestNetns) {
    inhabit_by(ns, "");
}

/// What those of them have whose names hold a word.
fn inhabit_by(ns: &TestNetns, word: &str) {
    let all = [
        "iptables-nft -P FORWARD DROP",
        "iptables-nft -A FORWARD -j LOG",
        "iptables-nft -A INPUT -p tcp -j DROP",
        "ip6tables-nft -A FORWARD -j REJECT",
        "iptables-legacy -A FORWARD -s 10.0.0.1 -j DROP",
        "ip6tables-legacy -N THEIRS",
        "nft add table inet theirs",
    ];
    for command in all.into_iter().filter(|command| command.contains(word)) {
        ns.cmd(&command.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn golden() {
    let ns = TestNetns::new("golden");
    let mut rules = ns.run(Rules::open).unwrap();
    ns.run(|| rules.sync(&input())).unwrap();
    insta::assert_snapshot!("table", nft(&ns));
    inhabit(&ns);
    ns.run(|| rules.sync(&input())).unwrap();
    insta::assert_snapshot!("iptables", saved(&ns));
    let direct = RuleInput { tunnel: None, nodes: BTreeSet::new(), ..input() };
    let ns = TestNetns::new("golden");
    ns.run(|| Rules::open().unwrap().sync(&direct)).unwrap();
    insta::assert_snapshot!("host-gw", nft(&ns));
}

#[test]
fn cleanup_leaves_what_was_there_before() {
    let ns = TestNetns::new("cleanup");
    inhabit(&ns);
    let before = (nft(&ns), saved(&ns));
    let mut rules = ns.run(Rules::open).unwrap();
    assert_eq!(ns.run(|| rules.cleanup()).unwrap(), [""; 0], "nothing is there yet");
    ns.run(|| rules.sync(&input())).unwrap();
    assert!(saved(&ns).contains("HEDDLE-INPUT"));
    // by another process
    let removed = ns.run(|| Rules::open().unwrap().cleanup()).unwrap();
    // of ip6tables-nft there is no INPUT
    assert_eq!(removed.len(), 8, "{removed:?}");
    assert_eq!(removed.last().unwrap(), "table inet heddle-overlay");
    assert!(removed.contains(&"chain HEDDLE-FORWARD of iptables-legacy (IPv6)".to_owned()));
    assert_eq!((nft(&ns), saved(&ns)), before);
    assert!(!ns.run(|| rules.is_intact()).unwrap());
    assert_eq!(ns.run(|| rules.cleanup()).unwrap(), [""; 0]);
    // a host without any rules has none afterwards
    let ns = TestNetns::new("cleanup");
    let mut rules = ns.run(Rules::open).unwrap();
    ns.run(|| rules.sync(&input())).unwrap();
    assert_eq!(ns.run(|| rules.cleanup()).unwrap(), ["table inet heddle-overlay"]);
    assert_eq!(ns.cmd(&["nft", "list", "ruleset"]), "");
}

#[test]
fn what_is_right_is_not_written() {
    let ns = TestNetns::new("right");
    inhabit(&ns);
    let mut rules = ns.run(Rules::open).unwrap();
    let generation = || {
        let nft = netns_tools::nftables::Nftables::open_in(ns.ns());
        nft.and_then(|mut nft| nft.generation()).unwrap()
    };
    let report = ns.run(|| rules.sync(&input())).unwrap();
    assert_eq!((report.nft_commits, report.iptables_commits), (1, 4));
    let before = generation();
    // also for a process that has just started
    for _ in 0..2 {
        let report = ns.run(|| rules.sync(&input())).unwrap();
        assert_eq!((report.nft_commits, report.iptables_commits), (0, 0));
        rules = ns.run(Rules::open).unwrap();
    }
    ns.run(|| rules.sync(&input())).unwrap();
    let known: IpAddr = "192.0.2.2".parse().unwrap();
    ns.run(|| rules.update_nodes(&[known], &["192.0.2.99".parse().unwrap()])).unwrap();
    assert!(ns.run(|| rules.is_intact()).unwrap());
    assert_eq!(generation(), before);
}

/// Whatever is broken, whatever the process had done when it died: the next sync makes the same of it.
#[test]
fn from_every_state_to_the_same() {
    let broken = [
        "nft flush ruleset",
        "nft delete table inet heddle-overlay",
        "nft flush chain inet heddle-overlay postrouting",
        "nft add rule inet heddle-overlay tunnel accept",
        "nft insert rule inet heddle-overlay tunnel accept",
        "nft add chain inet heddle-overlay more",
        "nft add set inet heddle-overlay more { type ipv4_addr; }",
        "nft flush set inet heddle-overlay nodes4",
        "nft flush set inet heddle-overlay inside6",
        "nft delete element inet heddle-overlay nodes4 { 192.0.2.2 }",
        "nft add element inet heddle-overlay nodes6 { fd01::77 }",
        "nft add element inet heddle-overlay inside4 { 203.0.113.0-255.255.255.255 }",
        "nft add element inet heddle-overlay inside4 { 10.245.0.0/16 }",
        "iptables-nft -F FORWARD",
        "iptables-nft -F HEDDLE-INPUT",
        "iptables-nft -I HEDDLE-FORWARD -j DROP",
        "iptables-nft -A FORWARD -j HEDDLE-FORWARD",
        "iptables-legacy -D HEDDLE-FORWARD 1",
        "ip6tables-legacy -F",
    ];
    let ns = TestNetns::new("states");
    let fresh = |ns: &TestNetns| {
        inhabit(ns);
        ns.run(|| Rules::open().unwrap().sync(&input())).unwrap();
        (nft(ns), saved(ns))
    };
    fresh(&ns);
    let mut rules = ns.run(Rules::open).unwrap();
    ns.run(|| rules.sync(&input())).unwrap();
    for command in broken {
        let before = (nft(&ns), saved(&ns));
        ns.cmd(&command.split(' ').collect::<Vec<_>>());
        assert!(!ns.run(|| rules.is_intact()).unwrap(), "{command}");
        assert!(!ns.run(|| rules.is_intact()).unwrap(), "{command}: it stays broken");
        ns.run(|| rules.sync(&input())).unwrap();
        assert!(ns.run(|| rules.is_intact()).unwrap(), "{command}");
        if command == "nft flush ruleset" {
            // the tables of iptables-nft are gone, and with them what could drop
            let tables = ns.cmd(&["nft", "list", "tables"]);
            assert_eq!(tables.trim(), "table inet heddle-overlay");
            inhabit_by(&ns, "nft ");
            ns.run(|| rules.sync(&input())).unwrap();
        } else if !command.contains("iptables-nft -F FORWARD") && !command.ends_with("-F") {
            assert_eq!((nft(&ns), saved(&ns)), before, "{command}");
        }
    }
}

#[test]
fn a_process_that_dies_between_nftables_and_iptables() {
    let (whole, halved) = (TestNetns::new("whole"), TestNetns::new("halved"));
    for ns in [&whole, &halved] {
        inhabit(ns);
    }
    whole.run(|| Rules::open().unwrap().sync(&input())).unwrap();
    // the nftables part, and the first of the four runs of iptables-restore
    halved.run(|| {
        let first = |family| match family {
            Family::V4 => Iptables::installed(family).into_iter().take(1).collect(),
            Family::V6 => Vec::new(),
        };
        Rules::with(first).unwrap().sync(&input()).unwrap();
    });
    assert_ne!(saved(&halved), saved(&whole));
    halved.run(|| Rules::open().unwrap().sync(&input())).unwrap();
    assert_eq!((nft(&halved), saved(&halved)), (nft(&whole), saved(&whole)));
}

#[test]
fn a_set_that_somebody_emptied_is_filled_by_the_next_change() {
    let ns = TestNetns::new("emptied");
    let mut rules = ns.run(Rules::open).unwrap();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let error = ns.run(|| rules.update_nodes(&[ip("192.0.2.9")], &[])).unwrap_err();
    assert!(matches!(error, RuleError::NotSynced), "{error}");
    ns.run(|| rules.sync(&input())).unwrap();
    for command in
        ["nft flush set inet heddle-overlay nodes4", "nft delete table inet heddle-overlay"]
    {
        ns.cmd(&command.split(' ').collect::<Vec<_>>());
        ns.run(|| rules.update_nodes(&[ip("192.0.2.9")], &[ip("192.0.2.2")])).unwrap();
        let listed = ns.cmd(&["nft", "list", "set", "inet", "heddle-overlay", "nodes4"]);
        assert!(listed.contains("elements = { 192.0.2.1, 192.0.2.9 }"), "{listed}");
        assert!(ns.run(|| rules.is_intact()).unwrap());
        ns.run(|| rules.update_nodes(&[ip("::ffff:192.0.2.2")], &[ip("192.0.2.9")])).unwrap();
        assert_eq!(ns.run(|| rules.sync(&input())).unwrap().nft_commits, 0);
    }
}

#[test]
fn a_table_that_somebody_owns_is_an_error_that_says_so() {
    use netns_tools::nftables::{Batch, Nftables};
    let ns = TestNetns::new("owned");
    let mut owner = Nftables::open_in(ns.ns()).unwrap();
    let mut batch = Batch::new();
    batch.add_owned_table(table::TABLE);
    owner.commit(&batch).unwrap();
    let error = ns.run(|| Rules::open().unwrap().sync(&input())).unwrap_err();
    let text = netns_tools::cause::one_line(&error);
    assert!(text.contains("table inet heddle-overlay") && text.contains("own the table"), "{text}");
}

/// The addresses of the set `nodes4`.
fn admitted(ns: &TestNetns) -> BTreeSet<String> {
    let listed = ns.json(&["nft", "-j", "list", "set", "inet", "heddle-overlay", "nodes4"]);
    let sets = listed["nftables"].as_array().unwrap().iter();
    let all = sets.filter_map(|one| one["set"]["elem"].as_array()).flatten();
    all.map(|address| address.as_str().unwrap().to_owned()).collect()
}

#[test]
fn while_nodes_may_be_missing_those_that_are_in_force_stay() {
    let ns = TestNetns::new("partial");
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
    let mut before = ns.run(Rules::open).unwrap();
    ns.run(|| before.sync(&input())).unwrap();
    // the next process, which knows one node, and another that is new
    let mut rules = ns.run(Rules::open).unwrap();
    let known = nodes(&["192.0.2.1", "192.0.2.3"]);
    let partial = RuleInput { partial: true, nodes: known, ..input() };
    let three = texts(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    ns.run(|| rules.sync(&partial)).unwrap();
    assert_eq!(admitted(&ns), three);
    assert!(ns.run(|| rules.is_intact()).unwrap());
    assert_eq!(ns.run(|| rules.sync(&partial)).unwrap().nft_commits, 0);
    // others than it knows are known to be there
    for broken in ["delete table inet heddle-overlay", "flush set inet heddle-overlay nodes4"] {
        ns.cmd(&[&["nft"], &broken.split(' ').collect::<Vec<_>>()[..]].concat());
        assert!(!ns.run(|| rules.is_intact()).unwrap());
        ns.run(|| rules.sync(&partial)).unwrap();
        assert_eq!(admitted(&ns), three, "after {broken}");
    }
    // a table of another make, as an older version may leave
    ns.cmd(&["nft", "add", "chain", "inet", "heddle-overlay", "other"]);
    ns.run(|| Rules::open().unwrap().sync(&partial)).unwrap();
    assert_eq!(admitted(&ns), three);
    // who is known to be gone goes
    ns.run(|| rules.sync(&partial)).unwrap();
    let gone = ["192.0.2.3".parse().unwrap()];
    ns.run(|| rules.update_nodes(&[], &gone)).unwrap();
    assert_eq!(admitted(&ns), texts(&["192.0.2.1", "192.0.2.2"]));
    assert!(ns.run(|| rules.is_intact()).unwrap());
    // all are known
    let all = RuleInput { partial: false, nodes: nodes(&["192.0.2.1"]), ..input() };
    ns.run(|| rules.sync(&all)).unwrap();
    assert_eq!(admitted(&ns), texts(&["192.0.2.1"]));
}
