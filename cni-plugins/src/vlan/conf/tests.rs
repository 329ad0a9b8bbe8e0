use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn conf(extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "n", "type": "vlan", "master": "eth7", "ipam": { "type": "static" },
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn parsed(extra: &Value) -> Sublink {
    with_call("", &conf(extra), parse).unwrap()
}

#[test]
fn keys() {
    let expected = Sublink {
        kind: Kind::Vlan(0),
        master: Master::Named("eth7".into()),
        in_container: false,
        mtu: 0,
        mac: None,
        addresses: Addresses::Ipam("static".into()),
    };
    assert_eq!(parsed(&json!({})), expected);
    let wanted = parsed(&json!({ "vlanId": 4094, "mtu": 1400, "linkInContainer": true }));
    let expected = Sublink { kind: Kind::Vlan(4094), mtu: 1400, in_container: true, ..expected };
    assert_eq!(wanted, expected);
}

#[test]
fn wrong_values() {
    let required =
        "\"master\" field is required. It specifies the host interface name to create the VLAN for";
    let cases = [
        (json!({ "master": "" }), required),
        (json!({ "master": null }), required),
        (json!({ "vlanId": 4095 }), "invalid VLAN ID 4095 (must be between 0 and 4094)"),
        (json!({ "vlanId": -1 }), "invalid VLAN ID -1 (must be between 0 and 4094)"),
        (json!({ "vlanId": 65541 }), "invalid VLAN ID 65541 (must be between 0 and 4094)"),
        (json!({ "ipam": {} }), "vlan requires an IPAM configuration"),
    ];
    for (extra, msg) in cases {
        assert_eq!(with_call("", &conf(&extra), parse).unwrap_err().msg, msg);
    }
}
