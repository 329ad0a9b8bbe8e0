use ipnetwork::IpNetwork;
use netns_tools::{MacAddr, OperState, Route};
use serde_json::json;

use super::*;
use crate::testcall::with_call;

const SANDBOX: &str = "/run/netns/x";

fn conf(extra: serde_json::Value) -> Conf {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "bridge", "bridge": "br0" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with_call("", &conf, Conf::parse).unwrap()
}

fn of(conf: &Conf, prev: &CniResult, seen: &Seen) -> Vec<String> {
    differences(conf, &Attachment { prev, ifname: "eth0", sandbox: SANDBOX }, seen)
}

fn link(index: u32, name: &str, kind: &str) -> Link {
    Link {
        index,
        name: name.into(),
        kind: Some(kind.into()),
        mac: Some(MacAddr([2, 0, 0, 0, 0, u8::try_from(index).unwrap()])),
        mtu: 1500,
        up: true,
        oper_state: OperState::Up,
        master: None,
        peer_index: None,
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

/// A kernel in which everything is as ADD left it.
fn good() -> Seen {
    let net: IpNetwork = "10.1.0.0/24".parse().unwrap();
    let bridge = link(1, "br0", "bridge");
    let host = Link { master: Some(1), peer_index: Some(2), ..link(9, "veth1", "veth") };
    let inside = Link { peer_index: Some(9), ..link(2, "eth0", "veth") };
    Seen {
        bridge: Some(bridge.clone()),
        host: vec![bridge, host],
        gateway: vec!["10.1.0.1/24".parse().unwrap()],
        vlans: vec![PortVlan::access(5)],
        inside: Observed {
            link: Some(inside),
            addresses: vec!["10.1.0.2/24".parse().unwrap()],
            routes: vec![Route { dst: net, ..Route::default() }],
        },
    }
}

fn prev() -> CniResult {
    let result = json!({
        "interfaces": [
            { "name": "br0", "mac": "02:00:00:00:00:01" },
            { "name": "veth1", "mac": "02:00:00:00:00:09" },
            { "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": SANDBOX },
        ],
        "ips": [{ "interface": 2, "address": "10.1.0.2/24", "gateway": "10.1.0.1" }],
    });
    CniResult::from_json(&result, cni::Version::LATEST).unwrap()
}

#[test]
fn nothing_to_say_if_all_is_well() {
    assert_eq!(of(&conf(json!({})), &prev(), &good()), [""; 0]);
}

type Damage = fn(&mut Seen, &mut CniResult);

#[test]
fn every_damage_is_named() {
    let cases: [(Damage, &str); 13] = [
        (
            |seen, _| seen.bridge = None,
            "bridge \"br0\" is missing; \"veth1\" is not a port of bridge \"br0\"",
        ),
        (
            |seen, _| seen.bridge.as_mut().unwrap().mac = None,
            "\"br0\" has MAC address , not 02:00:00:00:00:01",
        ),
        (|_, prev| prev.interfaces[0].name = "x".into(), "prevResult has no bridge \"br0\""),
        (|seen, _| seen.inside.link = None, "\"eth0\" is missing in the container"),
        (
            |_, prev| prev.interfaces[2].name = "x".into(),
            "prevResult has no interface \"eth0\" in a sandbox",
        ),
        (
            |_, prev| prev.interfaces[2].sandbox = "/run/netns/y".into(),
            "Sandbox in prevResult /run/netns/y doesn't match configured netns: /run/netns/x",
        ),
        (
            |_, prev| prev.interfaces[2].mac = "02:00:00:00:00:77".into(),
            "\"eth0\" has MAC address 02:00:00:00:00:02, not 02:00:00:00:00:77",
        ),
        (|seen, _| seen.inside.link.as_mut().unwrap().kind = None, "\"eth0\" is not a veth"),
        (|seen, _| seen.host[1].master = None, "\"veth1\" is not a port of bridge \"br0\""),
        (
            |seen, _| seen.host[1].peer_index = Some(3),
            "the peer of \"eth0\" is not in the host's namespace",
        ),
        (
            |_, prev| prev.interfaces[1].name = "x".into(),
            "prevResult does not name the host's end \"veth1\"",
        ),
        (|seen, _| seen.inside.addresses.clear(), "address 10.1.0.2/24 is missing"),
        (|seen, _| seen.inside.routes.clear(), "the route to 10.1.0.0/24 is missing"),
    ];
    for (damage, expected) in cases {
        let (mut seen, mut prev) = (good(), prev());
        damage(&mut seen, &mut prev);
        assert_eq!(of(&conf(json!({})), &prev, &seen).join("; "), expected);
    }
}

#[test]
fn what_is_promised_by_the_configuration_alone() {
    let cases = [
        (json!({ "promiscMode": true }), "bridge \"br0\" is not in promiscuous mode"),
        (json!({ "hairpinMode": true }), "\"veth1\" has lost hairpinMode"),
        (json!({ "portIsolation": true }), "\"veth1\" has lost portIsolation"),
        (json!({ "mtu": 1400 }), "\"eth0\" has an MTU of 1500, not 1400"),
        (json!({ "isGateway": true }), ""),
        (json!({ "vlan": 5 }), ""),
        (
            json!({ "vlan": 6 }),
            "\"veth1\": VLAN 6 PVID untagged is missing; \"veth1\": it is in VLAN 5 PVID untagged, too",
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(of(&conf(keys.clone()), &prev(), &good()).join("; "), expected, "{keys}");
    }
    let mut seen = good();
    seen.gateway.clear();
    assert_eq!(
        of(&conf(json!({ "isGateway": true })), &prev(), &seen),
        ["the bridge does not have the gateway's address 10.1.0.1"]
    );
    let port = &mut seen.host[1];
    (port.hairpin, port.isolated) = (Some(true), Some(true));
    assert_eq!(
        of(&conf(json!({ "hairpinMode": true, "portIsolation": true })), &prev(), &seen),
        [""; 0]
    );
}
