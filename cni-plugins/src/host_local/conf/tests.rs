use serde_json::json;

use super::*;
use crate::testcall::with_call;

fn document(version: &str, ipam: &Value, extra: &Value) -> Value {
    let mut conf = json!({ "cniVersion": version, "name": "net", "type": "bridge", "ipam": ipam });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

#[test]
fn ranges_come_in_the_reference_s_order() {
    let single =
        json!({ "subnet": "10.2.0.0/24", "rangeStart": "10.2.0.9", "gateway": "10.2.0.254" });
    let both = json!({ "subnet": "10.2.0.0/24", "ranges": [[{ "subnet": "10.3.0.0/24" }], [{ "subnet": "fd00::/64" }]] });
    let runtime = json!({ "runtimeConfig": { "ipRanges": [[{ "subnet": "10.1.0.0/24" }]] } });
    let cases = [
        (single, json!({}), vec!["10.2.0.9-10.2.0.254"]),
        (
            both.clone(),
            json!({}),
            vec!["10.2.0.1-10.2.0.254", "10.3.0.1-10.3.0.254", "fd00::1-fd00::ffff:ffff:ffff:ffff"],
        ),
        (
            both,
            runtime.clone(),
            vec![
                "10.1.0.1-10.1.0.254",
                "10.2.0.1-10.2.0.254",
                "10.3.0.1-10.3.0.254",
                "fd00::1-fd00::ffff:ffff:ffff:ffff",
            ],
        ),
        (json!({}), runtime, vec!["10.1.0.1-10.1.0.254"]),
        // Without a subnet there is no single range; null is absent.
        (
            json!({ "rangeStart": "10.9.0.1", "ranges": [[{ "subnet": "10.3.0.0/24", "gateway": null }]] }),
            json!({}),
            vec!["10.3.0.1-10.3.0.254"],
        ),
    ];
    for (ipam, extra, expected) in cases {
        let conf = with_call("", &document("1.0.0", &ipam, &extra), Conf::parse).unwrap();
        let sets: Vec<_> = conf.sets.iter().map(ToString::to_string).collect();
        assert_eq!(sets, expected, "{ipam}");
    }
}

#[test]
fn requests_from_everywhere_count() {
    let ipam = json!({ "subnet": "10.0.0.0/8" });
    let extra = json!({
        "args": { "cni": { "ips": ["10.0.0.2/24", ""] } },
        "runtimeConfig": { "ips": ["10.0.0.3", "::ffff:10.0.0.4"] },
    });
    let conf =
        with_call("IP=10.0.0.1;MAC=x", &document("1.0.0", &ipam, &extra), Conf::parse).unwrap();
    let requested: Vec<_> = conf.requested.iter().map(ToString::to_string).collect();
    assert_eq!(requested, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
}

#[test]
fn the_place_has_a_default() {
    for (ipam, dir) in [
        (json!({}), "/var/lib/cni/networks"),
        (json!({ "dataDir": "" }), "/var/lib/cni/networks"),
        (json!({ "dataDir": "/run/x" }), "/run/x"),
    ] {
        let place = with_call("", &document("1.0.0", &ipam, &json!({})), Place::parse).unwrap();
        assert_eq!((place.network.as_str(), place.data_dir.to_str().unwrap()), ("net", dir));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let dual = json!({ "ranges": [[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "fd00::/64" }]] });
    assert!(with_call("", &document("0.2.0", &dual, &json!({})), Conf::parse).is_ok());
    let two = json!({ "ranges": [[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "10.2.0.0/24" }]] });
    let good = || json!({ "subnet": "10.1.0.0/24" });
    let cases = [
        ("", "1.0.0", Value::Null, json!({}), 7, "IPAM config missing 'ipam' key"),
        ("", "1.0.0", json!({}), json!({}), 7, "no IP ranges specified"),
        (
            "",
            "1.0.0",
            json!({ "subnet": "10.1.0.1/24" }),
            json!({}),
            7,
            "invalid range set 0: Network has host bits set",
        ),
        (
            "",
            "0.2.0",
            two,
            json!({}),
            7,
            "CNI version 0.2.0 does not support more than 1 address per family",
        ),
        (
            "",
            "1.0.0",
            json!({ "ranges": [{ "subnet": "10.1.0.0/24" }] }),
            json!({}),
            6,
            "\"ipam.ranges[0]\"",
        ),
        (
            "",
            "1.0.0",
            json!({ "subnet": "10.1.0.0/24", "routes": [{ "dst": "x" }] }),
            json!({}),
            6,
            "\"ipam.routes[0].dst\"",
        ),
        (
            "",
            "1.0.0",
            good(),
            json!({ "args": { "cni": { "ips": "10.1.0.5" } } }),
            6,
            "\"args.cni.ips\"",
        ),
        (
            "",
            "1.0.0",
            good(),
            json!({ "runtimeConfig": { "ips": ["10.1.0"] } }),
            7,
            "requested IP \"10.1.0\" is not an IP address",
        ),
        (
            "IP=10.1.0.5/99x",
            "1.0.0",
            good(),
            json!({}),
            7,
            "requested IP \"10.1.0.5/99x\" is not an IP address",
        ),
        ("FOO=1", "1.0.0", good(), json!({}), 4, "ARGS: unknown args [\"FOO=1\"]"),
    ];
    for (args, version, ipam, extra, code, message) in cases {
        let error = with_call(args, &document(version, &ipam, &extra), Conf::parse).unwrap_err();
        assert!(error.msg.contains(message), "{ipam}: {error}");
        assert_eq!(error.code.code(), code, "{ipam}: {error}");
    }
}
