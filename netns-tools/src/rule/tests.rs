//! Compared with what `ip -j rule` says.

use super::*;
use crate::testing::TestNetns;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

#[test]
fn a_new_namespace_has_the_kernel_s_own() {
    let ns = TestNetns::new("rule");
    let rules = ns.netlink().rules().unwrap();
    let of =
        |v4| rules.iter().filter(|r| r.v4 == v4).map(|r| (r.priority, r.table)).collect::<Vec<_>>();
    assert_eq!(of(true), [(Some(0), 255), (Some(32766), 254), (Some(32767), 253)]);
    assert_eq!(of(false), [(Some(0), 255), (Some(32766), 254)]);
    assert!(rules.iter().all(|rule| rule.from.is_none() && rule.to.is_none()));
}

#[test]
fn rules_with_everything() {
    let ns = TestNetns::new("rule");
    let mut netlink = ns.netlink();
    for (from, to, family, prefix) in
        [("10.1.0.2/32", "10.9.0.0/16", "-4", 16), ("fd00::2/128", "fd09::/48", "-6", 48)]
    {
        let rule = Rule {
            to: Some(net(to)),
            iif: Some("lo".into()),
            priority: Some(77),
            ..Rule::from(net(from), 4711)
        };
        netlink.add_rule(&rule).unwrap();
        assert!(netlink.add_rule(&rule).unwrap_err().is_exists());
        assert!(netlink.rules().unwrap().contains(&rule));
        let shown = ns.json(&["ip", "-j", family, "rule"]);
        let shown = shown.as_array().unwrap().iter().find(|r| r["priority"] == 77).unwrap();
        assert_eq!(shown["src"], from.split('/').next().unwrap());
        assert_eq!((&shown["table"], &shown["iif"]), (&"4711".into(), &"lo".into()));
        assert_eq!(shown["dstlen"], prefix);
        let other = Rule { table: 4712, ..rule.clone() };
        assert!(netlink.delete_rule(&other).unwrap_err().is_not_found());
        netlink.delete_rule(&rule).unwrap();
        assert!(!netlink.rules().unwrap().contains(&rule));
    }
}

#[test]
fn the_kernel_chooses_the_priority() {
    let ns = TestNetns::new("rule");
    let mut netlink = ns.netlink();
    for (address, table) in [("10.1.0.2/32", 100), ("10.1.0.3/32", 101)] {
        netlink.add_rule(&Rule::from(net(address), table)).unwrap();
    }
    let mine: Vec<_> = netlink.rules().unwrap().into_iter().filter(|r| r.from.is_some()).collect();
    let seen: Vec<_> = mine.iter().map(|r| (r.priority.unwrap(), r.table)).collect();
    assert_eq!(seen, [(32764, 101), (32765, 100)]);
    assert_eq!(mine[0].to_string(), "from 10.1.0.3/32 priority 32764 table 101");
}

#[test]
fn rules_of_another_kind_are_passed_over() {
    let ns = TestNetns::new("rule");
    ns.cmd(&["ip", "rule", "add", "from", "10.0.0.1", "blackhole", "priority", "5"]);
    assert!(!ns.netlink().rules().unwrap().iter().any(|rule| rule.priority == Some(5)));
    assert!(Rule::read(&[2, 0, 0]).is_err());
    assert!(Rule::read(&[2, 0, 33, 0, 254, 0, 0, 1, 0, 0, 0, 0]).is_err(), "a prefix too long");
}
