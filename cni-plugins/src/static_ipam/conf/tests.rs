use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn parse(args: &str, extra: &Value) -> Result<Conf, Error> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": { "type": "static" } });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with_call(args, &conf, Conf::parse)
}

fn addresses(ips: &Value) -> Value {
    json!({ "ipam": { "type": "static", "addresses": ips } })
}

/// `address via gateway`, a line each.
fn told(args: &str, extra: &Value) -> Vec<String> {
    let ips = parse(args, extra).unwrap().ips;
    let via = |ip: &IpConfig| ip.gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
    ips.iter().map(|ip| format!("{}{}", ip.address, via(ip))).collect()
}

#[test]
fn every_key() {
    let conf = json!({ "ipam": {
        "type": "static",
        "addresses": [
            { "address": "10.1.0.5/24", "gateway": "10.1.0.1" },
            { "address": "fd00::5/64", "gateway": "" },
            { "address": "::ffff:10.2.0.5/120", "gateway": null },
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "10.0.0.0/8", "gw": "10.1.0.9", "priority": 7 }],
        "dns": { "nameservers": ["10.96.0.10"], "domain": "x.example", "search": ["y.example"], "options": ["ndots:5"] },
    } });
    assert_eq!(told("", &conf), ["10.1.0.5/24 via 10.1.0.1", "fd00::5/64", "10.2.0.5/24"]);
    let conf = parse("", &conf).unwrap();
    assert_eq!(conf.routes[1].priority, Some(7));
    assert_eq!(conf.dns.options, ["ndots:5"]);
}

/// The reference gives a gateway of `CNI_ARGS` only to the addresses of `CNI_ARGS`, though it means to give it to every
/// address: it has not read the others by then. A quirk that is not copied.
#[test]
fn who_wins() {
    let own = addresses(&json!([{ "address": "10.1.0.5/24" }]));
    assert_eq!(
        told("IP=10.2.0.5/24, fd00::5/64;GATEWAY=10.1.0.1, 10.2.0.1,fd00::1", &own),
        ["10.1.0.5/24 via 10.1.0.1", "10.2.0.5/24 via 10.2.0.1", "fd00::5/64 via fd00::1"]
    );
    assert_eq!(told("IP=;GATEWAY=", &own), ["10.1.0.5/24"]);
    let mut with = own.clone();
    with["args"] = json!({ "cni": { "ips": ["10.3.0.5/24"] } });
    assert_eq!(told("IP=10.2.0.5/24;GATEWAY=10.3.0.1", &with), ["10.3.0.5/24"]);
    with["runtimeConfig"] = json!({ "ips": ["10.4.0.5/24", "10.4.0.6/24"] });
    assert_eq!(told("IP=10.2.0.5/24", &with), ["10.4.0.5/24", "10.4.0.6/24"]);
    with["runtimeConfig"] = json!({ "ips": [] });
    assert_eq!(told("", &with), ["10.3.0.5/24"]);
    // What is replaced need not be right.
    let mut wrong = addresses(&json!([{ "address": "to be replaced" }]));
    wrong["runtimeConfig"] = json!({ "ips": ["10.4.0.5/24"] });
    assert_eq!(told("", &wrong), ["10.4.0.5/24"]);
    assert_eq!(told("", &json!({})), [""; 0]);
}

/// The reference takes no `MAC` in `CNI_ARGS`, which is for the plugin that delegates; a quirk that is not copied.
#[test]
fn args_of_others() {
    assert_eq!(told("MAC=0a:58:0a:01:00:02", &json!({})), [""; 0]);
    let error = parse("K8S_POD_NAME=x", &json!({})).unwrap_err();
    assert_eq!(error.msg, "ARGS: unknown args [\"K8S_POD_NAME=x\"]");
    assert_eq!(told("K8S_POD_NAME=x;IgnoreUnknown=1", &json!({})), [""; 0]);
}

#[test]
fn mistakes() {
    let bad = |address: &str| addresses(&json!([{ "address": address }]));
    let expected = |field: &str, got: &str| {
        format!("the '{field}' field is expected to be in CIDR notation, got: '{got}'")
    };
    for text in
        ["10.1.0.5", "", "10.1.0.5/", "10.1.0.5/33", "10.1.0.5/+8", "10.1.0.5/255.0.0.0", "x/8"]
    {
        assert_eq!(parse("", &bad(text)).unwrap_err().msg, expected("address", text));
    }
    assert_eq!(parse("IP=10.1.0.5", &json!({})).unwrap_err().msg, expected("ip", "10.1.0.5"));
    let error = parse("IP=10.1.0.5/24;GATEWAY=10.1.0.300", &json!({})).unwrap_err();
    assert_eq!(error.msg, "invalid gateway address: 10.1.0.300");
    let gateway = addresses(&json!([{ "address": "10.1.0.5/24", "gateway": "x" }]));
    assert_eq!(parse("", &gateway).unwrap_err().msg, "invalid gateway address: x");
    for (key, value) in [
        ("runtimeConfig", json!({ "ips": ["10.1.0.5"] })),
        ("args", json!({ "cni": { "ips": ["10.1.0.5"] } })),
    ] {
        let error = parse("", &json!({ key: value })).unwrap_err();
        let msg = "an entry in the 'ips' field is NOT in CIDR notation, got: '10.1.0.5'";
        assert_eq!((error.code.code(), error.msg.as_str()), (7, msg));
        assert!(error.details.contains(key), "{error}");
    }
    assert_eq!(
        parse("", &json!({ "ipam": null })).unwrap_err().msg,
        "IPAM config missing 'ipam' key"
    );
    for ips in [["10.1.0.5/24", "10.2.0.5/24"], ["fd00::5/64", "fd01::5/64"]] {
        let conf = json!({ "cniVersion": "0.2.0", "runtimeConfig": { "ips": ips } });
        let msg = "CNI version 0.2.0 does not support more than 1 address per family";
        assert_eq!(parse("", &conf).unwrap_err().msg, msg);
    }
}
