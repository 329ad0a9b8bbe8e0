//! Rules in throw-away namespaces, with packets.

mod accepting;
mod foreign;
mod guard;
mod masquerading;
mod placement;
mod state;
mod world;

use std::collections::BTreeSet;

use super::*;

/// A node of a cluster with both families.
fn input() -> RuleInput {
    let ranges = |all: &[&str]| all.iter().map(|range| range.parse().unwrap()).collect();
    RuleInput {
        local: ranges(&["10.244.1.1/24", "fd02:0:0:1::1/64"]),
        pods: ranges(&["10.244.0.0/16", "fd02::/48"]),
        not_masqueraded: ranges(&["198.51.100.0/24"]),
        masquerade: true,
        tunnel: Some(Tunnel {
            port: 8472,
            devices: vec!["heddle.1".into()],
            probe_port: Some(8473),
        }),
        nodes: nodes(&["192.0.2.1", "192.0.2.2", "fd01::1", "fd01::2"]),
        partial: false,
        underlay: vec!["eth0".into()],
        direct: true,
    }
}

fn nodes(all: &[&str]) -> BTreeSet<IpAddr> {
    all.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn what_no_rule_can_be_made_of_is_named() {
    type Change = fn(&mut RuleInput);
    fn tunnel(input: &mut RuleInput) -> &mut Tunnel {
        input.tunnel.as_mut().unwrap()
    }
    let table: [(Change, &str); 7] = [
        (
            |i| i.pods.push("0.0.0.0/0".parse().unwrap()),
            "pods of the overlay's rules is `0.0.0.0/0`",
        ),
        (|i| i.local.push("::/0".parse().unwrap()), "local of the overlay's rules is `::/0`"),
        (|i| tunnel(i).port = 0, "tunnel.port of the overlay's rules is `0`"),
        (|i| tunnel(i).probe_port = Some(8472), "choose another overlay.probe_port"),
        (|i| tunnel(i).devices.push("a b".into()), "devices of the overlay's rules is `a b`"),
        (|i| tunnel(i).devices.push("../../x".into()), "is `../../x`: a link has no such name"),
        (|i| i.underlay.push("a-name-too-long-1".into()), "a link has no such name"),
    ];
    let mut fake = fake::FakeNodeRules::default();
    for (change, want) in table {
        let mut input = input();
        change(&mut input);
        let error = fake.sync(&input).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    assert!(fake.input.is_none());
}

#[test]
fn nonsense_of_one_node_does_not_stop_the_others() {
    let mut input = input();
    input.nodes = nodes(&[
        "192.0.2.1",
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:192.0.2.7",
    ]);
    assert_eq!(input.senders(), nodes(&["192.0.2.1", "192.0.2.7"]));
    let told = input.refused_nodes();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[0].starts_with("0.0.0.0 is no address that a node can have"), "{told:?}");
}

#[test]
fn the_fake_does_what_the_kernels_do() {
    let mut fake = fake::FakeNodeRules::default();
    let ips = |all: &[&str]| all.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
    assert!(matches!(fake.update_nodes(&ips(&["192.0.2.9"]), &[]), Err(RuleError::NotSynced)));
    assert!(!fake.is_intact().unwrap());
    assert_eq!(fake.sync(&input()).unwrap().nft_commits, 1);
    assert_eq!(fake.sync(&input()).unwrap().nft_commits, 0);
    fake.update_nodes(&ips(&["192.0.2.9"]), &ips(&["192.0.2.2", "192.0.2.77"])).unwrap();
    assert_eq!(fake.senders(), nodes(&["192.0.2.1", "192.0.2.9", "fd01::1", "fd01::2"]));
    fake.broken = true;
    assert!(!fake.is_intact().unwrap());
    fake.fail_next = true;
    fake.sync(&input()).unwrap_err();
    assert_eq!((fake.commits, fake.dropped().unwrap()), (2, 0));
    fake.sync(&input()).unwrap();
    assert_eq!(fake.cleanup().unwrap(), ["table inet heddle-overlay"]);
}
