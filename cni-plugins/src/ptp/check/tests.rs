use cni::CniResult;
use netns_tools::{MacAddr, OperState};
use serde_json::json;

use super::*;

const SANDBOX: &str = "/run/netns/x";

fn link(index: u32, name: &str, peer: u32) -> Link {
    Link {
        index,
        name: name.into(),
        kind: Some("veth".into()),
        mac: Some(MacAddr([2, 0, 0, 0, 0, u8::try_from(index).unwrap()])),
        mtu: 1500,
        up: true,
        oper_state: OperState::Up,
        master: None,
        peer_index: Some(peer),
        peer_netns_id: Some(0),
        promisc: false,
        hairpin: None,
        isolated: None,
        default_pvid: None,
        vlan_filtering: None,
        alias: None,
        loopback: false,
    }
}

fn route(dst: &str, oif: u32) -> Route {
    Route { dst: dst.parse().unwrap(), oif: Some(oif), ..Route::default() }
}

/// A kernel in which everything is as ADD left it.
fn good() -> Seen {
    Seen {
        inside: Observed {
            link: Some(link(2, "eth0", 9)),
            addresses: vec!["10.1.0.2/24".parse().unwrap()],
            routes: vec![route("10.1.0.1/32", 2), route("10.1.0.0/24", 2)],
        },
        host: vec![link(9, "veth1", 2)],
        addresses: vec![(9, "10.1.0.1/32".parse().unwrap())],
        routes: vec![route("10.1.0.2/32", 9)],
    }
}

fn prev() -> CniResult {
    let result = json!({
        "interfaces": [
            { "name": "veth1", "mac": "02:00:00:00:00:09" },
            { "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": SANDBOX },
        ],
        "ips": [{ "interface": 1, "address": "10.1.0.2/24", "gateway": "10.1.0.1" }],
    });
    CniResult::from_json(&result, cni::Version::LATEST).unwrap()
}

fn of(prev: &CniResult, seen: &Seen) -> String {
    let conf = Conf { masquerade: None, mtu: Some(1500), ipam: "host-local".into() };
    differences(&conf, &Attachment { prev, ifname: "eth0", sandbox: SANDBOX }, seen).join("; ")
}

type Damage = fn(&mut Seen, &mut CniResult);

#[test]
fn every_damage_is_named() {
    let cases: [(Damage, &str); 13] = [
        (|_, _| (), ""),
        (|seen, _| seen.inside.link = None, "\"eth0\" is missing in the container"),
        (|seen, _| seen.inside.link.as_mut().unwrap().kind = None, "\"eth0\" is not a veth"),
        (
            |seen, _| seen.inside.link.as_mut().unwrap().mtu = 1400,
            "\"eth0\" has an MTU of 1400, not 1500",
        ),
        (|seen, _| seen.inside.addresses.clear(), "address 10.1.0.2/24 is missing"),
        (
            |seen, _| seen.inside.routes.retain(|route| route.dst.prefix() != 32),
            "the route to the gateway 10.1.0.1/32 is missing",
        ),
        (
            |seen, _| seen.inside.routes.retain(|route| route.dst.prefix() == 32),
            "the route to 10.1.0.0/24 is missing",
        ),
        (|seen, _| seen.host.clear(), "the peer of \"eth0\" is not in the host's namespace"),
        (
            |_, prev| prev.interfaces[0].name = "x".into(),
            "prevResult does not name the host's end \"veth1\"",
        ),
        (
            |_, prev| prev.interfaces[0].mac = "02:00:00:00:00:77".into(),
            "\"veth1\" has MAC address 02:00:00:00:00:09, not 02:00:00:00:00:77",
        ),
        (|seen, _| seen.routes.clear(), "the host has no route 10.1.0.2/32 dev veth1"),
        (|seen, _| seen.routes[0].oif = Some(3), "the host has no route 10.1.0.2/32 dev veth1"),
        (
            |seen, _| seen.addresses[0].0 = 3,
            "\"veth1\" does not have the gateway's address 10.1.0.1/32",
        ),
    ];
    for (damage, expected) in cases {
        let (mut seen, mut prev) = (good(), prev());
        damage(&mut seen, &mut prev);
        assert_eq!(of(&prev, &seen), expected);
    }
}
