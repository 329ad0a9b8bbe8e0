use serde_json::{Value, json};

use super::*;
use crate::masquerade::Backend;
use crate::testcall::with_call;

fn parse(args: &str, keys: &Value) -> Result<Conf, Error> {
    with_call(args, &document(keys), Conf::parse)
}

fn document(keys: &Value) -> Value {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge" });
    conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    conf
}

fn defaults() -> Conf {
    Conf {
        bridge: "cni0".into(),
        gateway: false,
        default_gateway: false,
        force_address: false,
        masquerade: None,
        mtu: None,
        hairpin: false,
        promiscuous: false,
        isolated: false,
        spoof_check: false,
        vlans: None,
        mac: None,
        dad: false,
        container_down: false,
        ipam: None,
    }
}

type Change = Box<dyn Fn(&mut Conf)>;

#[test]
fn every_key() {
    let cases: Vec<(Value, Change)> = vec![
        (json!({}), Box::new(|_| ())),
        (json!({ "bridge": "" }), Box::new(|_| ())),
        (json!({ "bridge": "br-7.x" }), Box::new(|c| c.bridge = "br-7.x".into())),
        (json!({ "isGateway": true }), Box::new(|c| c.gateway = true)),
        (
            json!({ "isDefaultGateway": true }),
            Box::new(|c| (c.gateway, c.default_gateway) = (true, true)),
        ),
        (json!({ "forceAddress": true }), Box::new(|c| c.force_address = true)),
        (json!({ "ipMasq": true }), Box::new(|c| c.masquerade = Some(Backend::Auto))),
        (
            json!({ "ipMasq": true, "ipMasqBackend": "iptables" }),
            Box::new(|c| c.masquerade = Some(Backend::Iptables)),
        ),
        (
            json!({ "ipMasq": true, "ipMasqBackend": "nftables" }),
            Box::new(|c| c.masquerade = Some(Backend::Nftables)),
        ),
        (json!({ "macspoofchk": true }), Box::new(|c| c.spoof_check = true)),
        (
            json!({ "ipMasq": true, "ipMasqBackend": "" }),
            Box::new(|c| c.masquerade = Some(Backend::Auto)),
        ),
        (json!({ "mtu": 1400 }), Box::new(|c| c.mtu = Some(1400))),
        (json!({ "mtu": 0 }), Box::new(|_| ())),
        (json!({ "hairpinMode": true }), Box::new(|c| c.hairpin = true)),
        (json!({ "promiscMode": true }), Box::new(|c| c.promiscuous = true)),
        (json!({ "portIsolation": true }), Box::new(|c| c.isolated = true)),
        (
            json!({ "vlan": 100, "preserveDefaultVlan": true }),
            Box::new(|c| {
                c.vlans = Some(Vlans { access: Some(100), trunk: vec![], keep_default: true });
            }),
        ),
        (json!({ "enabledad": true }), Box::new(|c| c.dad = true)),
        (json!({ "disableContainerInterface": true }), Box::new(|c| c.container_down = true)),
        (
            json!({ "ipam": { "type": "host-local" } }),
            Box::new(|c| c.ipam = Some("host-local".into())),
        ),
        (json!({ "ipam": {} }), Box::new(|_| ())),
        // What is not built, switched off, and what is not ours.
        (
            json!({
                "vlan": 0, "vlanTrunk": [], "macspoofchk": false, "portIsolation": false, "preserveDefaultVlan": true,
                "ipMasqBackend": "nftables", "somebodyElses": 7,
            }),
            Box::new(|_| ()),
        ),
        (
            json!({ "isGateway": null, "mtu": null, "vlanTrunk": null, "args": null, "runtimeConfig": {} }),
            Box::new(|_| ()),
        ),
    ];
    for (keys, change) in cases {
        let mut expected = defaults();
        change(&mut expected);
        assert_eq!(parse("", &keys).unwrap(), expected, "{keys}");
    }
}

#[test]
fn the_last_mac_wins() {
    let args = || json!({ "args": { "cni": { "mac": "02:00:00:00:00:02" } } });
    let both = || {
        json!({
            "args": { "cni": { "mac": "02:00:00:00:00:02" } },
            "runtimeConfig": { "mac": "02:00:00:00:00:03" },
        })
    };
    let given = "MAC=02:00:00:00:00:01";
    let cases = [
        ("", json!({}), None),
        (given, json!({}), Some(1)),
        ("MAC=", json!({}), None),
        (given, args(), Some(2)),
        (given, both(), Some(3)),
        ("", json!({ "runtimeConfig": { "mac": "" } }), None),
        // For the IPAM plugin, or known to nobody but accepted by the runtime's word.
        ("MAC=02:00:00:00:00:01;IP=10.0.0.5", json!({}), Some(1)),
        ("IgnoreUnknown=1;K8S_POD_NAME=x", json!({}), None),
    ];
    for (cni_args, keys, last) in cases {
        let conf = parse(cni_args, &keys).unwrap();
        assert_eq!(conf.mac, last.map(|n| MacAddr([2, 0, 0, 0, 0, n])), "{cni_args} {keys}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        (
            "",
            json!({ "bridge": "a-name-too-long-for-it" }),
            7,
            "bridge \"a-name-too-long-for-it\" cannot be the name",
        ),
        ("", json!({ "bridge": "a/b" }), 7, "cannot be the name of an interface"),
        ("", json!({ "bridge": ".." }), 7, "cannot be the name of an interface"),
        ("", json!({ "bridge": 5 }), 6, "\"bridge\""),
        ("", json!({ "isGateway": "true" }), 6, "\"isGateway\""),
        ("", json!({ "mtu": -1 }), 7, "invalid MTU -1"),
        ("", json!({ "mtu": 67 }), 7, "invalid MTU 67"),
        ("", json!({ "mtu": 65536 }), 7, "invalid MTU 65536"),
        (
            "",
            json!({ "hairpinMode": true, "promiscMode": true }),
            7,
            "cannot set hairpin mode and promiscuous mode at the same time",
        ),
        (
            "",
            json!({ "disableContainerInterface": true, "ipam": { "type": "x" } }),
            7,
            "cannot use IPAM when DisableContainerInterface flag is set",
        ),
        ("", json!({ "vlan": 4095 }), 7, "invalid VLAN ID 4095 (must be between 0 and 4094)"),
        ("", json!({ "vlan": -1 }), 7, "invalid VLAN ID -1 (must be between 0 and 4094)"),
        (
            "",
            json!({ "bridge": "twelve-chars", "isGateway": true, "vlan": 100 }),
            7,
            "bridge \"twelve-chars\" leaves no room for the name of the VLAN's gateway",
        ),
        ("", json!({ "macspoofchk": "yes" }), 6, "\"macspoofchk\""),
        ("", json!({ "ipMasq": true, "ipMasqBackend": "x" }), 7, "unknown ipmasq backend \"x\""),
        ("MAC=nonsense", json!({}), 7, "\"nonsense\" is not a MAC address"),
        ("MAC=01:00:5e:00:00:01", json!({}), 7, "01:00:5e:00:00:01 cannot be an interface's"),
        ("K8S_POD_NAME=x", json!({}), 4, "ARGS: unknown args [\"K8S_POD_NAME=x\"]"),
    ];
    for (args, keys, code, message) in cases {
        let error = parse(args, &keys).unwrap_err();
        assert!(error.msg.contains(message), "{keys}: {error}");
        assert_eq!(error.code.code(), code, "{keys}: {error}");
    }
}

/// DEL must work with whatever was good enough for an earlier version.
#[test]
fn del_reads_only_what_it_needs() {
    let keys = json!({ "bridge": "br9", "ipMasq": true, "ipMasqBackend": "x", "macspoofchk": true, "mtu": -1, "vlan": 5000, "hairpinMode": true, "promiscMode": true });
    let conf = with_call("K8S_POD_NAME=x", &document(&keys), Teardown::parse);
    assert_eq!(conf, Teardown { bridge: "br9".into(), masquerade: true, spoof_check: true });
    let conf = with_call("", &document(&json!({})), Teardown::parse);
    assert_eq!(conf, Teardown { bridge: "cni0".into(), masquerade: false, spoof_check: false });
    let unreadable = json!({ "bridge": 5, "ipMasq": "perhaps", "macspoofchk": 3 });
    let conf = with_call("", &document(&unreadable), Teardown::parse);
    assert_eq!(conf, Teardown { bridge: "cni0".into(), masquerade: true, spoof_check: true });
}
