use serde_json::{Value, json};

use netns_tools::MacAddr;

use super::*;
use crate::testcall::with_call;

fn conf(extra: &Value) -> Value {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "macvlan" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn parsed(extra: &Value) -> Sublink {
    with_call("", &conf(extra), parse).unwrap()
}

fn refused(args: &str, extra: &Value) -> String {
    with_call(args, &conf(extra), parse).unwrap_err().msg
}

#[test]
fn defaults() {
    let expected = Sublink {
        kind: Kind::Macvlan(Macvlan { mode: MacvlanMode::Bridge, bc_queue_len: None }),
        master: Master::DefaultRoute,
        in_container: false,
        mtu: 0,
        mac: None,
        addresses: Addresses::None,
    };
    assert_eq!(parsed(&json!({})), expected);
    let empty = json!({
        "master": "", "mode": "", "mtu": 0, "mac": "", "bcqueuelen": 0, "linkInContainer": null, "ipam": {},
    });
    assert_eq!(parsed(&empty), expected);
}

#[test]
fn every_key() {
    let wanted = parsed(&json!({
        "master": "eth7", "mode": "vepa", "mtu": 1400, "mac": "02:00:00:00:00:01", "bcqueuelen": 50,
        "linkInContainer": true, "ipam": { "type": "static" },
    }));
    let expected = Sublink {
        kind: Kind::Macvlan(Macvlan { mode: MacvlanMode::Vepa, bc_queue_len: Some(50) }),
        master: Master::Named("eth7".into()),
        in_container: true,
        mtu: 1400,
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        addresses: Addresses::Ipam("static".into()),
    };
    assert_eq!(wanted, expected);
}

#[test]
fn modes() {
    for name in ["bridge", "private", "vepa", "passthru"] {
        let Kind::Macvlan(settings) = parsed(&json!({ "mode": name })).kind else { panic!() };
        assert_eq!(settings.mode.to_string(), name);
    }
    for name in ["source", "Bridge", "x"] {
        let expected = format!("unknown macvlan mode: {name:?}");
        assert_eq!(refused("", &json!({ "mode": name })), expected);
    }
}

#[test]
fn the_last_mac_wins() {
    let (own, args, runtime) = ("02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03");
    let mac = |in_args: &str, extra| {
        let wanted = with_call(in_args, &conf(&extra), parse).unwrap();
        wanted.mac.map(|mac| mac.to_string())
    };
    let all = json!({ "mac": own, "runtimeConfig": { "mac": runtime } });
    assert_eq!(mac("", json!({ "mac": own })).as_deref(), Some(own));
    assert_eq!(mac(&format!("MAC={args}"), json!({ "mac": own })).as_deref(), Some(args));
    assert_eq!(mac(&format!("MAC={args}"), all.clone()).as_deref(), Some(runtime));
    assert_eq!(mac("", all).as_deref(), Some(runtime));
    assert_eq!(mac("MAC=", json!({ "mac": own })).as_deref(), Some(own));
}

#[test]
fn wrong_values() {
    let cases = [
        ("", json!({ "mac": "x" }), "\"x\" is not a MAC address such as \"0a:58:0a:01:00:02\""),
        (
            "MAC=01:00:00:00:00:01",
            json!({}),
            "MAC address 01:00:00:00:00:01 cannot be an interface's: it is a group's or all zero",
        ),
        ("", json!({ "master": "a/b" }), "master \"a/b\" cannot be the name of an interface"),
        ("FOO=1", json!({}), "ARGS: unknown args [\"FOO=1\"]"),
        (
            "",
            json!({ "bcqueuelen": -1 }),
            "cannot decode \"bcqueuelen\" of network \"n\": invalid value: integer `-1`, expected u32",
        ),
    ];
    for (args, extra, msg) in cases {
        assert_eq!(refused(args, &extra), msg);
    }
}

/// A quirk of the reference that is not copied: it refuses `IP=…`, which is for the IPAM plugin.
#[test]
fn args_for_the_ipam_plugin_are_not_unknown() {
    with_call("IP=10.0.0.2;GATEWAY=10.0.0.1", &conf(&json!({})), parse).unwrap();
    with_call("FOO=1;IgnoreUnknown=true", &conf(&json!({})), parse).unwrap();
}
