use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn parse(args: &str, extra: Value) -> Result<Conf, Error> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "tap" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with_call(args, &conf, Conf::parse)
}

#[test]
fn defaults() {
    let conf = parse("", json!({})).unwrap();
    assert!(!conf.multi_queue && conf.mtu.is_none() && conf.mac.is_none() && conf.ipam.is_none());
    assert!(conf.owner.is_none() && conf.group.is_none() && conf.bridge.is_none());
    assert!(!conf.device("tap0").vnet_hdr);
}

#[test]
fn every_key() {
    let conf = parse(
        "",
        json!({
            "multiQueue": true, "mtu": 1400, "mac": "0a:58:00:00:00:01", "owner": 0, "group": 107, "bridge": "br1",
            "selinuxContext": "system_u:system_r:container_t:s0", "ipam": { "type": "host-local" },
        }),
    )
    .unwrap();
    assert_eq!((conf.mtu, conf.owner, conf.group), (Some(1400), Some(0), Some(107)));
    assert_eq!(conf.bridge.as_deref(), Some("br1"));
    assert_eq!(conf.selinux_context.as_deref(), Some("system_u:system_r:container_t:s0"));
    assert!(conf.multi_queue && !conf.device("tap0").vnet_hdr);
    let plain = parse("", json!({ "owner": 0, "group": 0 })).unwrap();
    assert!(plain.device("tap0").vnet_hdr);
}

/// As the documentation of `OpenShift` writes it.
#[test]
fn the_context_is_also_read_in_lower_case() {
    let conf = parse("", json!({ "selinuxcontext": "a:b:c" })).unwrap();
    assert_eq!(conf.selinux_context.as_deref(), Some("a:b:c"));
}

#[test]
fn the_last_mac_wins() {
    let (a, b, c) = ("0a:58:00:00:00:01", "0a:58:00:00:00:02", "0a:58:00:00:00:03");
    let of = |args: &str, extra| parse(args, extra).unwrap().mac.unwrap().to_string();
    assert_eq!(of("", json!({ "mac": a })), a);
    assert_eq!(of(&format!("MAC={b}"), json!({ "mac": a })), b);
    assert_eq!(of(&format!("MAC={b}"), json!({ "mac": a, "runtimeConfig": { "mac": c } })), c);
}

#[test]
fn refusals() {
    let long = "a-very-long-name-for-a-bridge";
    for (extra, msg) in [
        (json!({ "mtu": 67 }), "invalid MTU 67, must be 0 or [68, 65521]"),
        (json!({ "mtu": 65522 }), "invalid MTU 65522, must be 0 or [68, 65521]"),
        (json!({ "mtu": -1 }), "invalid MTU -1, must be 0 or [68, 65521]"),
        (
            json!({ "mac": "nonsense" }),
            "invalid args nonsense for MAC addr: it is not a MAC address",
        ),
        (
            json!({ "mac": "01:00:5e:00:00:01" }),
            "MAC address 01:00:5e:00:00:01 cannot be an interface's: it is a group's or all zero",
        ),
        (
            json!({ "bridge": long }),
            "bridge \"a-very-long-name-for-a-bridge\" cannot be the name of an interface",
        ),
    ] {
        let error = parse("", extra).unwrap_err();
        assert_eq!((error.code.code(), error.msg.as_str()), (7, msg));
    }
    for extra in [json!({ "owner": -1 }), json!({ "owner": "root" }), json!({ "multiQueue": 1 })] {
        assert_eq!(parse("", extra.clone()).unwrap_err().code.code(), 6, "{extra}");
    }
    assert_eq!(parse("COLOUR=red", json!({})).unwrap_err().code.code(), 4);
}
