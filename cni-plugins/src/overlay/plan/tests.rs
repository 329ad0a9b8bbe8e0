use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

const FLANNELS: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";
const BOTH: &str = "HEDDLE_NETWORK=10.244.0.0/16\nHEDDLE_SUBNET=10.244.1.1/24\nHEDDLE_IPV6_NETWORK=fd00:244::/48\n\
    HEDDLE_IPV6_SUBNET=fd00:244:0:1::1/64\nHEDDLE_MTU=1450\nHEDDLE_IPMASQ=true\n";

/// What the delegate gets, for a configuration with these keys.
fn planned(keys: Value, lease: Option<&str>) -> Value {
    let mut conf = json!({ "cniVersion": "1.0.0", "name": "mynet", "type": "overlay" });
    conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let lease = lease.map(|text| Lease::parse(text).unwrap());
    with_call("", &conf, |call| {
        let conf = Conf::parse(call).unwrap();
        Value::from(delegate(&call.conf.raw, &conf, lease.as_ref()))
    })
}

/// The example of flannel's own document, less what it does not say: the default route and hairpin mode, which its shipped
/// network list asks for.
#[test]
fn the_example_of_flannels_document() {
    let delegate = json!({ "isDefaultGateway": false, "hairpinMode": false });
    assert_eq!(
        planned(json!({ "delegate": delegate }), Some(FLANNELS)),
        json!({
            "cniVersion": "1.0.0", "name": "mynet", "type": "bridge", "mtu": 1472, "ipMasq": false,
            "isGateway": true, "isDefaultGateway": false, "hairpinMode": false,
            "ipam": {
                "type": "host-local", "ranges": [[{ "subnet": "10.1.17.0/24" }]], "routes": [{ "dst": "10.1.0.0/16" }],
            },
        })
    );
}

#[test]
fn flannels_shipped_list() {
    let keys = json!({ "delegate": { "hairpinMode": true, "isDefaultGateway": true } });
    let found = planned(keys, Some(FLANNELS));
    assert_eq!(found, planned(json!({}), Some(FLANNELS)), "the defaults are these");
    assert_eq!((&found["hairpinMode"], &found["isDefaultGateway"]), (&json!(true), &json!(true)));
}

#[test]
fn what_the_delegate_section_says_stays() {
    let keys = json!({ "delegate": { "bridge": "mynet0", "mtu": 1400, "ipMasq": true, "isGateway": false, "x": [1] } });
    let found = planned(keys, Some(FLANNELS));
    for (key, expected) in [
        ("bridge", json!("mynet0")),
        ("mtu", json!(1400)),
        ("ipMasq", json!(true)),
        ("isGateway", json!(false)),
        ("isDefaultGateway", json!(false)),
        ("x", json!([1])),
    ] {
        assert_eq!(found[key], expected, "{key}");
    }
    let other =
        planned(json!({ "delegate": { "type": "ipvlan", "master": "eth0" } }), Some(FLANNELS));
    assert_eq!((&other["type"], &other["master"]), (&json!("ipvlan"), &json!("eth0")));
    assert!(other.get("isGateway").is_none() && other["mtu"] == 1472, "{other}");
    let promiscuous = planned(json!({ "delegate": { "promiscMode": true } }), Some(FLANNELS));
    assert_eq!(promiscuous["hairpinMode"], false);
}

#[test]
fn the_ipam_section_is_completed() {
    let routes = json!([{ "dst": "10.96.0.0/12" }, { "dst": "10.244.0.0/16", "gw": "10.244.1.9" }]);
    let keys = json!({ "ipam": { "dataDir": "/x", "routes": routes } });
    let found = planned(keys, Some(BOTH));
    assert_eq!(
        found["ipam"],
        json!({
            "type": "host-local", "dataDir": "/x",
            "ranges": [[{ "subnet": "10.244.1.0/24" }], [{ "subnet": "fd00:244:0:1::/64" }]],
            "routes": [{ "dst": "10.96.0.0/12" }, { "dst": "10.244.0.0/16", "gw": "10.244.1.9" }, { "dst": "fd00:244::/48" }],
        })
    );
    let gateway = BOTH.replace("10.244.1.1/24", "10.244.1.254/24");
    let found = planned(json!({}), Some(&gateway));
    assert_eq!(
        found["ipam"]["ranges"][0][0],
        json!({ "subnet": "10.244.1.0/24", "gateway": "10.244.1.254" })
    );
    assert_eq!(
        planned(json!({ "ipam": { "type": "static" } }), Some(BOTH))["ipam"]["type"],
        "static"
    );
}

#[test]
fn ptp_has_default_routes() {
    let routes = |keys| planned(keys, Some(BOTH))["ipam"]["routes"].clone();
    let networks = json!([{ "dst": "10.244.0.0/16" }, { "dst": "fd00:244::/48" }]);
    let mut all = networks.as_array().unwrap().clone();
    all.extend([json!({ "dst": "0.0.0.0/0" }), json!({ "dst": "::/0" })]);
    assert_eq!(routes(json!({ "mode": "ptp" })), json!(all));
    assert_eq!(routes(json!({ "delegate": { "type": "ptp" } })), json!(all));
    let without = json!({ "mode": "ptp", "delegate": { "isDefaultGateway": false } });
    assert_eq!(routes(without), networks);
    assert_eq!(routes(json!({ "mode": "bridge" })), networks);
    let own = json!({ "mode": "ptp", "ipam": { "routes": [{ "dst": "0.0.0.0/0", "gw": "10.244.1.7" }] } });
    assert_eq!(routes(own).as_array().unwrap().len(), 4);
    let v6: String = BOTH
        .lines()
        .filter(|line| !line.contains("E_N") && !line.contains("E_S"))
        .fold(String::new(), |all, line| all + line + "\n");
    let found = planned(json!({ "mode": "ptp" }), Some(&v6));
    assert_eq!(found["ipam"]["routes"], json!([{ "dst": "fd00:244::/48" }, { "dst": "::/0" }]));
}

#[test]
fn who_masquerades() {
    assert_eq!(planned(json!({}), Some(BOTH))["ipMasq"], false);
    assert_eq!(planned(json!({}), Some(&BOTH.replace("true", "false")))["ipMasq"], true);
    // DEL without a lease looks for rules
    let without = planned(json!({}), None);
    assert_eq!(
        (&without["ipMasq"], &without["ipam"]),
        (&json!(true), &json!({ "type": "host-local" }))
    );
    assert!(without.get("mtu").is_none());
}

#[test]
fn what_the_runtime_says_is_passed_on() {
    let said = json!({
        "args": { "cni": { "mac": "0a:58:00:00:00:01" } }, "runtimeConfig": { "bandwidth": {} },
        "dns": { "nameservers": ["10.96.0.10"] }, "capabilities": { "bandwidth": true },
        "cni.dev/valid-attachments": [], "subnetFile": "/x", "dataDir": "/y",
        "delegate": { "runtimeConfig": { "old": true }, "dns": { "nameservers": ["10.96.0.11"] } },
    });
    let found = planned(said.clone(), Some(BOTH));
    for key in ["args", "runtimeConfig", "cni.dev/valid-attachments"] {
        assert_eq!(found[key], said[key], "{key}");
    }
    assert_eq!(found["dns"], said["delegate"]["dns"]);
    for key in ["capabilities", "subnetFile", "dataDir", "delegate", "mode"] {
        assert!(found.get(key).is_none(), "{key}");
    }
    let lasting = without_passing(found.as_object().unwrap().clone());
    assert!(!lasting.contains_key("args") && !lasting.contains_key("cni.dev/valid-attachments"));
    assert!(lasting.contains_key("ipam") && lasting.contains_key("name"));
}
