//! Where the jumps stand among others' rules; without a kernel.

use netns_tools::iptables::{Batch, FakeRules, Family, Rules as _};

use super::super::accepts::{self, TABLE};
use super::super::chains::{self, Settled};
use super::*;

fn with_forward(rules: &[&str]) -> FakeRules {
    let mut fake = FakeRules::new(Family::V4);
    let mut batch = Batch::new();
    for rule in rules {
        let target = rule.rsplit(' ').next().unwrap();
        if target.contains('-') {
            batch.declare_chain(TABLE, target);
        }
    }
    for rule in rules {
        batch.append(TABLE, "FORWARD", rule);
    }
    fake.commit(&batch).unwrap();
    fake.commits.clear();
    fake
}

fn targets(fake: &FakeRules) -> String {
    let chains = &fake.ruleset().tables[TABLE].chains;
    chains["FORWARD"].targets().map(|(_, target)| target).collect::<Vec<_>>().join(" ")
}

#[test]
fn before_whatever_drops_and_behind_what_must_refuse() {
    let table: [(&[&str], &str); 8] = [
        (&[], "HEDDLE-FORWARD"),
        (&["-j DROP"], "HEDDLE-FORWARD DROP"),
        (&["-j DOCKER-USER", "-j DOCKER-FORWARD"], "HEDDLE-FORWARD DOCKER-USER DOCKER-FORWARD"),
        (&["-j KUBE-FORWARD", "-j DROP"], "KUBE-FORWARD HEDDLE-FORWARD DROP"),
        (
            &[
                "-j KUBE-ROUTER-FORWARD",
                "-j CNI-FORWARD",
                "-j cali-FORWARD",
                "-j ufw-before-forward",
            ],
            "KUBE-ROUTER-FORWARD CNI-FORWARD cali-FORWARD HEDDLE-FORWARD ufw-before-forward",
        ),
        (&["-j REJECT", "-j KUBE-FORWARD"], "HEDDLE-FORWARD REJECT KUBE-FORWARD"),
        (&["-s 10.0.0.1/32 -j ACCEPT", "-j LOG", "-j DROP"], "ACCEPT LOG HEDDLE-FORWARD DROP"),
        // back to the policy
        (&["-s 10.0.0.1/32 -j RETURN"], "HEDDLE-FORWARD RETURN"),
    ];
    for (rules, want) in table {
        let mut fake = with_forward(rules);
        let desired = accepts::desired(&input(), Family::V4);
        assert_eq!(chains::settle(&mut fake, &desired).unwrap(), Settled::Written);
        assert_eq!(targets(&fake), want);
        assert_eq!(chains::settle(&mut fake, &desired).unwrap(), Settled::Right, "{want}");
        assert_eq!(fake.commits.len(), 1);
    }
}

#[test]
fn a_jump_is_moved_only_when_something_before_it_drops() {
    let desired = accepts::desired(&input(), Family::V4);
    let table = [
        ("-s 10.0.0.1/32 -j ACCEPT", None),
        ("-j KUBE-FORWARD", None),
        ("-j DROP", Some("HEDDLE-FORWARD DROP CNI-FORWARD DROP")),
        ("-j DOCKER-USER", Some("HEDDLE-FORWARD DOCKER-USER CNI-FORWARD DROP")),
        ("-j HEDDLE-FORWARD", Some("CNI-FORWARD HEDDLE-FORWARD DROP")),
    ];
    for (inserted, want) in table {
        let mut fake = with_forward(&["-j CNI-FORWARD", "-j DROP"]);
        chains::settle(&mut fake, &desired).unwrap();
        let mut batch = Batch::new();
        for chain in ["KUBE-FORWARD", "DOCKER-USER"] {
            batch.declare_chain(TABLE, chain);
        }
        batch.insert(TABLE, "FORWARD", inserted);
        fake.commit(&batch).unwrap();
        let before = targets(&fake);
        let settled = chains::settle(&mut fake, &desired).unwrap();
        match want {
            None => assert_eq!((settled, targets(&fake)), (Settled::Right, before)),
            Some(want) => assert_eq!((settled, &*targets(&fake)), (Settled::Written, want)),
        }
    }
}

#[test]
fn what_is_not_wanted_goes_and_nothing_else() {
    let mut fake = with_forward(&["-j CNI-FORWARD", "-j DROP"]);
    let before = fake.ruleset().clone();
    chains::settle(&mut fake, &accepts::desired(&input(), Family::V4)).unwrap();
    // host-gw: there is no tunnel
    let direct = RuleInput { tunnel: None, ..input() };
    chains::settle(&mut fake, &accepts::desired(&direct, Family::V4)).unwrap();
    assert!(!fake.to_string().contains("HEDDLE-INPUT"), "{fake}");
    assert!(fake.to_string().contains("HEDDLE-FORWARD"), "{fake}");
    assert_eq!(chains::remove(&mut fake).unwrap(), ["HEDDLE-FORWARD"]);
    assert_eq!(*fake.ruleset(), before);
    let commits = fake.commits.len();
    assert_eq!(chains::remove(&mut fake).unwrap(), [""; 0]);
    assert!(fake.commits[commits..].iter().all(String::is_empty));
}

#[test]
fn a_table_that_changes_meanwhile_is_read_again() {
    let mut fake = with_forward(&["-j DROP"]);
    fake.fail_next = Some("Index of insertion too big".to_owned());
    // the fake's refusal is none of a program's: it is told
    let desired = accepts::desired(&input(), Family::V4);
    chains::settle(&mut fake, &desired).unwrap_err();
    assert_eq!(targets(&fake), "DROP");
    assert_eq!(chains::settle(&mut fake, &desired).unwrap(), Settled::Written);
}
