use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn conf(extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "n", "type": "ipvlan", "ipam": { "type": "static" },
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn parsed(extra: &Value) -> Sublink {
    with_call("", &conf(extra), parse).unwrap()
}

fn refused(extra: &Value) -> String {
    with_call("", &conf(extra), parse).unwrap_err().msg
}

fn prev(names: &[&str], ips: &[&str]) -> Value {
    let interfaces: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    let ips: Vec<_> = ips.iter().map(|ip| json!({ "address": ip, "interface": 0 })).collect();
    json!({ "cniVersion": "1.1.0", "interfaces": interfaces, "ips": ips })
}

#[test]
fn keys() {
    let expected = Sublink {
        kind: Kind::Ipvlan(IpvlanMode::L2),
        master: Master::DefaultRoute,
        in_container: false,
        mtu: 0,
        mac: None,
        addresses: Addresses::Ipam("static".into()),
    };
    assert_eq!(parsed(&json!({})), expected);
    let wanted =
        parsed(&json!({ "master": "eth7", "mode": "l3s", "mtu": 1400, "linkInContainer": true }));
    let expected = Sublink {
        kind: Kind::Ipvlan(IpvlanMode::L3s),
        master: Master::Named("eth7".into()),
        in_container: true,
        mtu: 1400,
        ..expected
    };
    assert_eq!(wanted, expected);
    assert_eq!(parsed(&json!({ "mode": "l3" })).kind, Kind::Ipvlan(IpvlanMode::L3));
    assert_eq!(refused(&json!({ "mode": "l4" })), "unknown ipvlan mode: \"l4\"");
}

#[test]
fn chained_it_takes_the_master_before_it() {
    let of = |prev| parsed(&json!({ "prevResult": prev })).master;
    assert_eq!(of(prev(&["eth3"], &[])), Master::Named("eth3".into()));
    let named = parsed(&json!({ "master": "eth7", "prevResult": prev(&["eth3"], &[]) }));
    assert_eq!(named.master, Master::Named("eth7".into()));
    for names in [&["eth3", "eth4"][..], &[], &[""]] {
        assert_eq!(
            refused(&json!({ "prevResult": prev(names, &[]) })),
            "chained master failure. PrevResult lacks a single named interface"
        );
    }
}

#[test]
fn without_ipam_it_takes_the_addresses_before_it() {
    let with =
        |ipam: Value, ips: &[&str]| json!({ "ipam": ipam, "prevResult": prev(&["eth3"], ips) });
    let given = parsed(&with(json!({}), &["10.0.0.2/24"])).addresses;
    let Addresses::Given(result) = given else { panic!("{given:?}") };
    assert_eq!(result.ips[0].address.to_string(), "10.0.0.2/24");
    let both = parsed(&with(json!({ "type": "static" }), &["10.0.0.2/24"])).addresses;
    assert_eq!(both, Addresses::Ipam("static".into()));
    let neither = "ipvlan requires an IPAM configuration, or a prevResult with IP addresses";
    assert_eq!(refused(&with(json!({}), &[])), neither);
    assert_eq!(refused(&json!({ "ipam": {} })), neither);
}
