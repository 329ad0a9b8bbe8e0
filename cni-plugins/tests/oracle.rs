//! The reference's `bridge` + `host-local` (Debian, 1.1.1) as an oracle: the same configuration on two nodes, one with
//! our plugins, one with theirs; results and kernel state must be equal but for the differences listed here.

mod node;

use node::oracle::{self, DUAL, Meant, V4, V6};
use node::{Node, Suite, state, with_prev};
use serde_json::{Value, json};

/// Differences that are meant. A line that contains all words of an entry is one of them.
const MEANT: [Meant; 8] = [
    oracle::TXQLEN,
    oracle::KEEP_ADDR,
    oracle::NODAD,
    (
        &["down/node", "address: ours \"MAC\", reference \"00:00:00:00:00:00\""],
        "our bridge keeps its MAC address",
    ),
    (
        &["br0.100/accept_ra:0", "br0.100/accept_ra:1"],
        "a gateway takes no other router's word, whichever interface it is",
    ),
    (
        &["/up/vlans/2/vlans", "reference [{\"flags\":[\"Egress Untagged\"],\"vlan\":1}"],
        "the port of a VLAN's gateway is in its VLAN only",
    ),
    (
        &["/up/node/", "operstate: ours \"UP\", reference \"UNKNOWN\""],
        "some kernels (6.1) do not look again at the reference's bridge that filters VLANs, which works all the same",
    ),
    oracle::TAG,
];

struct Case {
    name: &'static str,
    subnets: &'static [&'static str],
    version: &'static str,
    extra: Value,
    routes: Value,
    args: &'static str,
}

fn case(name: &'static str, subnets: &'static [&'static str], extra: Value) -> Case {
    Case { name, subnets, version: "1.0.0", extra, routes: Value::Null, args: "" }
}

#[test]
fn ipv4() {
    compare(&[
        case("plain", V4, json!({})),
        case("gateway", V4, json!({ "isGateway": true })),
        Case { routes: default_route(), ..case("route", V4, json!({ "isGateway": true })) },
        case("default gateway", V4, json!({ "isDefaultGateway": true })),
        Case {
            routes: json!([{ "dst": "0.0.0.0/0", "gw": "10.88.0.7" }]),
            ..case("default route through another gateway", V4, json!({ "isDefaultGateway": true }))
        },
        Case {
            routes: json!([{ "dst": "10.9.0.0/16" }, { "dst": "10.9.0.0/16", "gw": "10.88.0.9" }]),
            ..case("two gateways", V4, json!({ "isGateway": true }))
        },
    ]);
}

#[test]
fn ipv6() {
    compare(&[
        case("v6", V6, json!({ "isDefaultGateway": true })),
        case("dual", DUAL, json!({ "isDefaultGateway": true })),
        case("dad", DUAL, json!({ "enabledad": true, "isDefaultGateway": true })),
    ]);
}

#[test]
fn masquerading() {
    compare(&[
        case("v4", V4, json!({ "isDefaultGateway": true, "ipMasq": true })),
        case("v6", V6, json!({ "isDefaultGateway": true, "ipMasq": true })),
        case("dual", DUAL, json!({ "isDefaultGateway": true, "ipMasq": true })),
    ]);
}

#[test]
fn options() {
    compare(&[
        case("mtu", V4, json!({ "mtu": 1400, "isGateway": true })),
        case("hairpin", V4, json!({ "hairpinMode": true, "isGateway": true })),
        case("promisc", V4, json!({ "promiscMode": true, "isGateway": true })),
        case("no ipam", &[], json!({})),
        case(
            "dns",
            V4,
            json!({ "dns": { "nameservers": ["10.96.0.10"], "search": ["x.example"] } }),
        ),
        Case { args: "MAC=0a:58:0a:58:00:02;IgnoreUnknown=1", ..case("mac", V4, json!({})) },
    ]);
}

#[test]
fn versions() {
    let of = |version| Case { version, ..case(version, DUAL, json!({ "isDefaultGateway": true })) };
    compare(&["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"].map(of));
}

#[test]
fn vlans() {
    if !netns_tools::link::port_vlan::is_supported().unwrap() {
        println!(
            "not proven on this kernel: VLANs as the reference's (CONFIG_BRIDGE_VLAN_FILTERING is off)"
        );
        return;
    }
    // 1.1.1 knows no vlanTrunk, and leaves every port in the default VLAN.
    let access = json!({ "vlan": 100, "preserveDefaultVlan": true });
    let mut gateway = access.clone();
    gateway["isGateway"] = json!(true);
    compare(&[
        case("access, layer 2", &[], access.clone()),
        case("access", V4, access),
        case("access with a gateway", V4, gateway),
    ]);
}

fn default_route() -> Value {
    json!([{ "dst": "0.0.0.0/0" }])
}

fn conf(node: &Node, case: &Case) -> Value {
    let mut conf =
        json!({ "cniVersion": case.version, "name": "testnet", "type": "bridge", "bridge": "br0" });
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

/// Two pods come and go on a node; everything that can be seen of it.
fn story(suite: Suite, case: &Case) -> Value {
    let node = Node::new(suite);
    // Duplicate address detection on the host's side is the kernel's and takes seconds.
    node.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    let conf = conf(&node, case);
    let (a, b) = (node.pod("aaa"), node.pod("bbb"));
    let env = [("CNI_ARGS", case.args)];
    let mut told = Vec::new();
    let mut results = Vec::new();
    for pod in [&a, &b] {
        let answer = node.call_with("bridge", "ADD", pod, &conf, &env);
        assert!(answer.ok, "{suite:?}, {}: {answer:#?}", case.name);
        let result = answer.json();
        results.push(result.clone());
        told.push(result);
    }
    let mut names = state::Names::default();
    for result in &mut told {
        // 1.1.1 prints an empty dns; newer ones do not.
        result.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
        names.normalise(result);
    }
    let up = json!({
        "node": state::of(&node.ns), "a": state::of(&a.ns), "leases": node.leases("testnet"), "vlans": vlans_of_ports(&node, case),
    });
    // The reference's bridge takes over its ports' MAC addresses unless it is a gateway itself, and then does not pass its own CHECK;
    // its CHECK needs IPAM, and it does not find routes that it added without a gateway.
    let is_gateway = case.extra["isGateway"] == json!(true) && case.extra.get("vlan").is_none();
    let checks = suite == Suite::Heddle || (is_gateway && case.routes.is_null());
    if case.version >= "0.4.0" && checks {
        let check = node.call_with("bridge", "CHECK", &a, &with_prev(&conf, &results[0]), &env);
        assert!(check.ok, "{suite:?}, {}: {check:#?}", case.name);
    }
    for pod in [&a, &b] {
        let answer = node.call_with("bridge", "DEL", pod, &conf, &env);
        assert!(answer.ok, "{suite:?}, {}: {answer:#?}", case.name);
    }
    // The kernel notices a little later that the bridge has no ports.
    wait_until(|| node.sh("ip -o link show br0").contains("NO-CARRIER"));
    let down = json!({ "node": state::of(&node.ns), "a": state::of(&a.ns), "leases": node.leases("testnet") });
    json!({ "results": told, "up": up, "down": down })
}

/// Which VLANs the ports are in, where that is what the case is about.
fn vlans_of_ports(node: &Node, case: &Case) -> Value {
    if case.extra.get("vlan").or(case.extra.get("vlanTrunk")).is_none() {
        return Value::Null;
    }
    let mut vlans = node.ns.json(&["bridge", "-j", "vlan", "show"]);
    state::Names::default().normalise(&mut vlans);
    vlans
}

fn wait_until(so: impl Fn() -> bool) {
    for _ in 0..200 {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn compare(cases: &[Case]) {
    oracle::compare(cases, &MEANT, |case| case.name.to_owned(), story);
}

/// Either suite deletes what the other added.
#[test]
fn each_deletes_what_the_other_added() {
    for (adds, deletes) in [(Suite::Heddle, Suite::Reference), (Suite::Reference, Suite::Heddle)] {
        let node = Node::new(adds);
        let case = case("masquerade", DUAL, json!({ "isDefaultGateway": true, "ipMasq": true }));
        let conf = conf(&node, &case);
        let pod = node.pod("aaa");
        let result = node.add("bridge", &pod, &conf);
        let node = node.with_suite(deletes);
        if adds == Suite::Heddle {
            let check = node.call("bridge", "CHECK", &pod, &with_prev(&conf, &result));
            assert!(check.ok, "{check:#?}");
        }
        node.del("bridge", &pod, &with_prev(&conf, &result));
        assert_eq!(node.leases("testnet"), [""; 0], "{adds:?} then {deletes:?}");
        assert!(
            !node.sh("iptables-save; ip6tables-save").contains("CNI-"),
            "{adds:?} then {deletes:?}"
        );
        assert_eq!(node.sh("ip -o link show type veth"), "", "{adds:?} then {deletes:?}");
    }
}
