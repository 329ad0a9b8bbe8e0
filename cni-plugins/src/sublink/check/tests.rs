use ipnetwork::IpNetwork;
use netns_tools::{MacAddr, Macvlan, OperState, Route};
use serde_json::json;

use super::*;
use crate::sublink::Kind;

const SANDBOX: &str = "/run/netns/x";

fn wanted() -> Sublink {
    Sublink {
        kind: Kind::Macvlan(Macvlan::default()),
        master: Master::Named("up0".into()),
        in_container: false,
        mtu: 1400,
        mac: None,
        addresses: Addresses::None,
    }
}

fn link(index: u32, name: &str, kind: &str) -> Link {
    Link {
        index,
        name: name.into(),
        kind: Some(kind.into()),
        mac: Some(MacAddr([2, 0, 0, 0, 0, u8::try_from(index).unwrap()])),
        mtu: 1400,
        up: true,
        oper_state: OperState::Up,
        master: None,
        peer_index: None,
        peer_netns_id: None,
        ..Link::default()
    }
}

/// A kernel in which everything is as ADD left it.
fn good() -> Seen {
    let net: IpNetwork = "10.1.0.0/24".parse().unwrap();
    let inside = Link { peer_index: Some(7), peer_netns_id: Some(0), ..link(2, "eth0", "macvlan") };
    Seen {
        inside: Observed {
            link: Some(inside),
            addresses: vec!["10.1.0.2/24".parse().unwrap()],
            routes: vec![Route { dst: net, ..Route::default() }],
        },
        settings: Vec::new(),
        master: SeenMaster::Present(Box::new(link(7, "up0", "veth")), Some(0)),
    }
}

/// With an interface of another plugin before it, and one after.
fn prev() -> CniResult {
    let result = json!({
        "interfaces": [
            { "name": "eth0", "mac": "02:00:00:00:00:55" },
            { "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": SANDBOX },
            { "name": "eth1", "sandbox": SANDBOX },
        ],
        "ips": [
            { "interface": 1, "address": "10.1.0.2/24" },
            { "interface": 2, "address": "10.99.0.2/24" },
        ],
    });
    CniResult::from_json(&result, cni::Version::LATEST).unwrap()
}

fn told(wanted: &Sublink, seen: &Seen, prev: &CniResult) -> String {
    differences(wanted, prev, seen, "eth0", SANDBOX).join("; ")
}

#[test]
fn nothing_to_say_if_all_is_well() {
    assert_eq!(told(&wanted(), &good(), &prev()), "");
}

type Damage = fn(&mut Seen, &mut CniResult);

#[test]
fn every_damage_is_named() {
    let cases: [(Damage, &str); 13] = [
        (
            |_, prev| prev.interfaces.truncate(1),
            "prevResult has no interface \"eth0\" in a sandbox",
        ),
        (
            |_, prev| prev.interfaces[1].sandbox = "/run/netns/y".into(),
            "Sandbox in prevResult /run/netns/y doesn't match configured netns: /run/netns/x",
        ),
        (|seen, _| seen.inside.link = None, "\"eth0\" is missing in the container"),
        (|seen, _| seen.inside.link.as_mut().unwrap().kind = None, "\"eth0\" is not a macvlan"),
        (|seen, _| seen.inside.link.as_mut().unwrap().up = false, "\"eth0\" is down"),
        (
            |seen, _| seen.inside.link.as_mut().unwrap().mac = None,
            "\"eth0\" has MAC address , not 02:00:00:00:00:02",
        ),
        (
            |seen, _| seen.inside.link.as_mut().unwrap().mtu = 1500,
            "\"eth0\" has MTU 1500, not 1400",
        ),
        (
            |seen, _| seen.settings.push("macvlan mode is vepa, not bridge".into()),
            "\"eth0\": macvlan mode is vepa, not bridge",
        ),
        (|seen, _| seen.inside.addresses.clear(), "address 10.1.0.2/24 is missing"),
        (|seen, _| seen.inside.routes.clear(), "the route to 10.1.0.0/24 is missing"),
        (
            |_, prev| prev.routes.push(cni::Route::new("0.0.0.0/0".parse().unwrap(), None)),
            "the route 0.0.0.0/0 is missing",
        ),
        (
            |seen, _| seen.inside.link.as_mut().unwrap().peer_index = Some(8),
            "\"eth0\" is not on master \"up0\"",
        ),
        (|seen, _| seen.master = SeenMaster::Missing, "master \"up0\" is missing on the host"),
    ];
    for (damage, expected) in cases {
        let (mut seen, mut prev) = (good(), prev());
        damage(&mut seen, &mut prev);
        assert_eq!(told(&wanted(), &seen, &prev), expected);
    }
}

#[test]
fn what_is_not_asked_for_is_not_compared() {
    let mut seen = good();
    seen.inside.link.as_mut().unwrap().mtu = 1500;
    seen.master = SeenMaster::Unnamed;
    let wanted = Sublink { mtu: 0, master: Master::DefaultRoute, ..wanted() };
    let mut prev = prev();
    prev.interfaces[1].mac.clear();
    assert_eq!(told(&wanted, &seen, &prev), "");
}
