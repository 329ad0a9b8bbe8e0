use serde_json::{Value, json};

use super::*;
use crate::masquerade::Backend;
use crate::testcall::with_call;

fn parse(args: &str, keys: &Value) -> Result<Conf, Error> {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "ptp", "ipam": { "type": "host-local" },
    });
    conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    with_call(args, &conf, Conf::parse)
}

#[test]
fn every_key() {
    let plain = Conf { masquerade: None, mtu: None, ipam: "host-local".into() };
    let cases = [
        (json!({}), plain.clone()),
        (json!({ "mtu": 1400 }), Conf { mtu: Some(1400), ..plain.clone() }),
        (json!({ "mtu": 0, "ipMasq": false, "ipMasqBackend": "nftables" }), plain.clone()),
        (json!({ "ipMasq": true }), Conf { masquerade: Some(Backend::Auto), ..plain.clone() }),
        (
            json!({ "ipMasq": true, "ipMasqBackend": "iptables" }),
            Conf { masquerade: Some(Backend::Iptables), ..plain.clone() },
        ),
        (
            json!({ "ipMasq": true, "ipMasqBackend": "nftables" }),
            Conf { masquerade: Some(Backend::Nftables), ..plain.clone() },
        ),
        (json!({ "ipam": { "type": "dhcp" } }), Conf { ipam: "dhcp".into(), ..plain.clone() }),
    ];
    for (keys, expected) in cases {
        // CNI_ARGS are the IPAM plugin's.
        assert_eq!(parse("IP=10.1.0.5;K8S_POD_NAME=x", &keys).unwrap(), expected, "{keys}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        (json!({ "ipam": {} }), 7, "ptp requires an IPAM configuration"),
        (json!({ "ipam": null }), 7, "ptp requires an IPAM configuration"),
        (json!({ "mtu": -1 }), 7, "invalid MTU -1"),
        (json!({ "mtu": "x" }), 6, "\"mtu\""),
        (json!({ "ipMasq": 1 }), 6, "\"ipMasq\""),
        (json!({ "ipMasq": true, "ipMasqBackend": "x" }), 7, "unknown ipmasq backend \"x\""),
    ];
    for (keys, code, message) in cases {
        let error = parse("", &keys).unwrap_err();
        assert!(error.msg.contains(message), "{keys}: {error}");
        assert_eq!(error.code.code(), code, "{keys}: {error}");
    }
}
