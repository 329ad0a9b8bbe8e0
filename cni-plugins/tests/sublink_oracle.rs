//! The reference's `macvlan`, `ipvlan` and `vlan` (Debian, 1.1.1) as oracles: the same configuration on two nodes, one with our
//! plugins, one with theirs; results and kernel state must be equal but for the differences listed here.

mod node;

use node::oracle::{self, Meant};
use node::uplink::{self, Uplink, proven_here};
use node::{Node, Pod, Suite, state, with_prev};
use serde_json::{Value, json};

/// Differences that are meant. A line that contains all words of an entry is one of them.
const MEANT: [Meant; 2] = [oracle::TXQLEN, oracle::KEEP_ADDR];

struct Case {
    name: &'static str,
    plugin: &'static str,
    subnets: &'static [&'static str],
    version: &'static str,
    extra: Value,
    routes: Value,
    args: &'static str,
}

const V4: &[&str] = &[uplink::V4];
const V6: &[&str] = &[uplink::V6];
const DUAL: &[&str] = &[uplink::V4, uplink::V6];
const VERSIONS: [&str; 6] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];

fn case(
    plugin: &'static str,
    name: &'static str,
    subnets: &'static [&'static str],
    extra: Value,
) -> Case {
    Case { name, plugin, subnets, version: "1.0.0", extra, routes: Value::Null, args: "" }
}

fn defaults() -> Value {
    json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }])
}

/// The same for each kind: families, routes, name servers, versions. (1.1.1 does not know `linkInContainer` yet.)
fn common(plugin: &'static str) -> Vec<Case> {
    let mut cases = vec![
        case(plugin, "v4", V4, json!({})),
        case(plugin, "v6", V6, json!({})),
        Case { routes: defaults(), ..case(plugin, "routes", DUAL, json!({})) },
        Case {
            routes: json!([{ "dst": "10.9.0.0/16" }, { "dst": "10.9.0.0/16", "gw": "10.77.0.9" }]),
            ..case(plugin, "two gateways", V4, json!({}))
        },
        case(plugin, "dns", V4, json!({ "dns": { "nameservers": ["10.77.0.9"] } })),
        case(plugin, "mtu", V4, json!({ "mtu": 1400 })),
    ];
    cases
        .extend(VERSIONS.map(|version| Case { version, ..case(plugin, version, DUAL, json!({})) }));
    cases
}

#[test]
fn macvlan() {
    let mut cases = common("macvlan");
    for mode in ["bridge", "private", "vepa", "passthru"] {
        cases.push(case("macvlan", mode, V4, json!({ "mode": mode })));
    }
    cases.extend([
        case("macvlan", "layer 2", &[], json!({})),
        case("macvlan", "default master", V4, json!({ "master": null })),
        case("macvlan", "mac", V4, json!({ "mac": "0a:58:00:00:00:01" })),
        Case {
            args: "MAC=0a:58:00:00:00:02;IgnoreUnknown=1",
            ..case("macvlan", "mac in args", V4, json!({ "mac": "0a:58:00:00:00:01" }))
        },
        case(
            "macvlan",
            "mac of the runtime",
            V4,
            json!({ "mac": "0a:58:00:00:00:01", "runtimeConfig": { "mac": "0a:58:00:00:00:03" } }),
        ),
    ]);
    compare(&cases);
}

#[test]
fn ipvlan() {
    if !proven_here(&Node::heddle().ns, "ipvlan") {
        return;
    }
    let mut cases = common("ipvlan");
    for mode in ["l2", "l3", "l3s"] {
        cases.push(case("ipvlan", mode, V4, json!({ "mode": mode })));
    }
    let prev = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "up0" }],
        "ips": [{ "address": "10.77.0.2/24", "gateway": "10.77.0.1", "interface": 0 }],
        "routes": [{ "dst": "10.9.0.0/16" }],
        "dns": {},
    });
    cases.extend([
        case("ipvlan", "default master", V4, json!({ "master": null })),
        case("ipvlan", "chained", &[], json!({ "master": null, "prevResult": prev })),
        case("ipvlan", "large mtu", V4, json!({ "mtu": 9000 })),
    ]);
    compare(&cases);
}

#[test]
fn vlan() {
    if !proven_here(&Node::heddle().ns, "vlan") {
        return;
    }
    let mut cases = common("vlan");
    cases.extend([0, 5, 4094].map(|id| case("vlan", "id", V4, json!({ "vlanId": id }))));
    compare(&cases);
}

fn conf(node: &Node, case: &Case) -> Value {
    let mut conf = json!({
        "cniVersion": case.version, "name": "testnet", "type": case.plugin, "master": uplink::MASTER,
    });
    if !case.subnets.is_empty() {
        conf["ipam"] = node.ipam(case.subnets);
        if !case.routes.is_null() {
            conf["ipam"]["routes"] = case.routes.clone();
        }
    }
    for (key, value) in case.extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

fn prepared(suite: Suite) -> (Uplink, Pod) {
    let up = Uplink::new(suite);
    up.node.sh("ip addr add 10.77.0.200/24 dev up0 && ip route add default via 10.77.0.1");
    let pod = up.pod("aaa");
    (up, pod)
}

fn seen(up: &Uplink, pod: &Pod) -> Value {
    json!({ "node": state::of(&up.node.ns), "pod": state::of(&pod.ns), "leases": up.node.leases("testnet") })
}

/// A pod comes and goes; everything that can be seen of it.
fn story(suite: Suite, case: &Case) -> Value {
    let (up, pod) = prepared(suite);
    let conf = conf(&up.node, case);
    let env = [("CNI_ARGS", case.args)];
    let call = |command: &str, conf: &Value| {
        let answer = up.node.call_with(case.plugin, command, &pod, conf, &env);
        assert!(answer.ok, "{suite:?}, {} {}: {answer:#?}", case.plugin, case.name);
        answer
    };
    let result = call("ADD", &conf).json();
    let mut told = result.clone();
    // 1.1.1 prints an empty dns; newer ones do not.
    told.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
    state::Names::default().normalise(&mut told);
    let during = seen(&up, &pod);
    // Theirs does not find routes that it added without a gateway, and needs the master's name.
    let checks =
        suite == Suite::Heddle || (case.routes.is_null() && conf.get("prevResult").is_none());
    if case.version >= "0.4.0" && checks && !conf["master"].is_null() {
        call("CHECK", &with_prev(&conf, &result));
    }
    call("DEL", &conf);
    json!({ "result": told, "up": during, "down": seen(&up, &pod) })
}

fn compare(cases: &[Case]) {
    oracle::compare(cases, &MEANT, |case| format!("{} {}", case.plugin, case.name), story);
}

/// Either suite deletes, and checks, what the other added.
fn each_deletes_what_the_other_added(plugin: &'static str) {
    for (adds, deletes) in [(Suite::Heddle, Suite::Reference), (Suite::Reference, Suite::Heddle)] {
        let (Uplink { node, outside }, pod) = prepared(adds);
        let conf = conf(&node, &case(plugin, "", DUAL, json!({})));
        let result = node.add(plugin, &pod, &conf);
        let node = node.with_suite(deletes);
        let prev = with_prev(&conf, &result);
        let check = node.call(plugin, "CHECK", &pod, &prev);
        assert!(check.ok, "{adds:?} then {deletes:?}: {check:#?}");
        node.del(plugin, &pod, &prev);
        assert_eq!(node.leases("testnet"), [""; 0], "{adds:?} then {deletes:?}");
        assert!(!pod.sh("ip -o link").contains("eth0"), "{adds:?} then {deletes:?}");
        drop(outside);
    }
}

#[test]
fn macvlan_each_deletes_what_the_other_added() {
    each_deletes_what_the_other_added("macvlan");
}

#[test]
fn ipvlan_each_deletes_what_the_other_added() {
    if proven_here(&Node::heddle().ns, "ipvlan") {
        each_deletes_what_the_other_added("ipvlan");
    }
}

#[test]
fn vlan_each_deletes_what_the_other_added() {
    if proven_here(&Node::heddle().ns, "vlan") {
        each_deletes_what_the_other_added("vlan");
    }
}
