//! The reference's `portmap` (Debian, 1.1.1) as an oracle: the same pods on two nodes, one with our `portmap` and one with theirs;
//! results, rules and sysctls must be equal. There are no differences but one that is left out of the cases: an upper-case
//! protocol is one of its own to the reference's list of ports.

mod node;

use node::oracle::{self, DUAL, V4, V6};
use node::{Node, Pod, Suite, state};
use serde_json::{Value, json};

struct Case {
    name: &'static str,
    subnets: &'static [&'static str],
    version: &'static str,
    mappings: Value,
    extra: Value,
}

fn case(name: &'static str, subnets: &'static [&'static str], extra: Value) -> Case {
    let mappings = json!([
        { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
        { "hostPort": 53, "containerPort": 5353, "protocol": "udp" },
        { "hostPort": 8081, "containerPort": 81, "protocol": "tcp", "hostIP": "192.0.2.1" },
        { "hostPort": 8082, "containerPort": 82, "protocol": "tcp", "hostIP": "0.0.0.0" },
        { "hostPort": 8083, "containerPort": 83, "protocol": "sctp", "hostIP": "2001:db8::1" },
        { "hostPort": 8084, "containerPort": 84, "protocol": "tcp", "hostIP": "::" },
        { "hostPort": 8085, "containerPort": 85, "protocol": "tcp", "hostIP": "" },
    ]);
    Case { name, subnets, version: "1.0.0", mappings, extra }
}

#[test]
fn families() {
    compare(&[case("v4", V4, json!({})), case("v6", V6, json!({})), case("dual", DUAL, json!({}))]);
}

#[test]
fn options() {
    let many: Vec<_> = (0..37)
        .map(|n| json!({ "hostPort": 9000 + n, "containerPort": n + 1, "protocol": if n % 3 == 0 { "udp" } else { "tcp" } }))
        .collect();
    compare(&[
        Case { mappings: json!(many), ..case("many ports", DUAL, json!({})) },
        case("no snat", DUAL, json!({ "snat": false })),
        case("mark bit 0", DUAL, json!({ "markMasqBit": 0 })),
        case("mark bit 31", DUAL, json!({ "markMasqBit": 31 })),
        case("external chain", DUAL, json!({ "externalSetMarkChain": "OTHER-MARK" })),
        case(
            "external chain, no snat",
            DUAL,
            json!({ "externalSetMarkChain": "NONE", "snat": false }),
        ),
        case(
            "conditions",
            DUAL,
            json!({ "conditionsV4": ["!", "-s", "192.0.2.9"], "conditionsV6": ["-m", "mark", "--mark", "7", "-i", "up0"] }),
        ),
        Case { mappings: json!([]), ..case("nothing to map", DUAL, json!({})) },
        Case { mappings: Value::Null, ..case("nothing said", DUAL, json!({})) },
        case("a long name", DUAL, json!({ "name": "n".repeat(200) })),
    ]);
}

#[test]
fn versions() {
    let of = |version| Case { version, ..case(version, DUAL, json!({})) };
    compare(&["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"].map(of));
}

/// A node with two pods made by our bridge, to try one suite's `portmap` on.
struct World {
    node: Node,
    pods: [(Pod, Value); 2],
}

fn world(suite: Suite, case: &Case) -> World {
    let node = Node::heddle();
    node.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    for program in ["iptables", "ip6tables"] {
        node.sh(&format!(
            "{program} -t nat -N OTHER-MARK && {program} -t nat -A OTHER-MARK -j RETURN"
        ));
    }
    let bridge = json!({
        "cniVersion": case.version, "name": "testnet", "type": "bridge", "bridge": "br0",
        "isDefaultGateway": true, "ipMasq": true, "ipam": node.ipam(case.subnets),
    });
    let pods = ["aaa", "bbb"].map(|id| {
        let pod = node.pod(id);
        let conf = conf(case, &node.add("bridge", &pod, &bridge));
        (pod, conf)
    });
    World { node: node.with_suite(suite), pods }
}

fn conf(case: &Case, prev: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": case.version, "name": "testnet", "type": "portmap", "prevResult": prev,
        "runtimeConfig": { "portMappings": case.mappings },
    });
    conf.as_object_mut().unwrap().extend(case.extra.as_object().unwrap().clone());
    conf
}

fn seen(node: &Node) -> Value {
    let localnet = node.sh("grep -H . /proc/sys/net/ipv4/conf/*/route_localnet");
    let own = localnet.lines().filter(|line| !line.contains("/veth"));
    json!({ "state": state::of(&node.ns), "localnet": own.collect::<Vec<_>>() })
}

fn story(suite: Suite, case: &Case) -> Value {
    let World { node, pods } = world(suite, case);
    let mut results = Vec::new();
    for (pod, conf) in &pods {
        let answer = node.call("portmap", "ADD", pod, conf);
        assert!(answer.ok, "{suite:?}, {}: {answer:#?}", case.name);
        let mut result = answer.json();
        // 1.1.1 prints an empty dns; newer ones do not.
        result.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
        state::Names::default().normalise(&mut result);
        results.push(result);
    }
    let up = seen(&node);
    if case.version >= "0.4.0" {
        for (pod, conf) in &pods {
            let check = node.call("portmap", "CHECK", pod, conf);
            assert!(check.ok || cannot_check(suite), "{suite:?}, {}: {check:#?}", case.name);
        }
    }
    let [(a, conf_a), (b, conf_b)] = &pods;
    node.del("portmap", a, conf_a);
    let one = seen(&node);
    node.del("portmap", b, conf_b);
    json!({ "results": results, "up": up, "one": one, "none": seen(&node) })
}

/// 1.1.1 looks for each address's rules in both families, so that its CHECK fails whatever is there.
fn cannot_check(suite: Suite) -> bool {
    suite == Suite::Reference
}

fn compare(cases: &[Case]) {
    oracle::compare(cases, &[], |case| case.name.to_owned(), story);
}

/// Either suite checks and deletes what the other added.
#[test]
fn each_deletes_what_the_other_added() {
    for (adds, deletes) in [(Suite::Heddle, Suite::Reference), (Suite::Reference, Suite::Heddle)] {
        for subnets in [V4, V6, DUAL] {
            hand_over(adds, deletes, &case("hand over", subnets, json!({})));
        }
    }
}

fn hand_over(adds: Suite, deletes: Suite, case: &Case) {
    let World { node, pods } = world(adds, case);
    let rules = |node: &Node| {
        let all = node.sh("iptables-save -t nat; ip6tables-save -t nat");
        all.lines().filter(|line| line.contains("CNI-DN-")).count()
    };
    for (pod, conf) in &pods {
        node.add("portmap", pod, conf);
    }
    let node = node.with_suite(deletes);
    let all = rules(&node);
    assert!(all > 0);
    for (n, (pod, conf)) in pods.iter().enumerate() {
        let check = node.call("portmap", "CHECK", pod, conf);
        assert!(check.ok || cannot_check(deletes), "{adds:?} then {deletes:?}: {check:#?}");
        node.del("portmap", pod, conf);
        assert_eq!(rules(&node), all / 2 * (1 - n), "{adds:?} then {deletes:?}");
    }
}

/// What the reference takes for another protocol is the same to us: its rules are merged, and it deletes them.
#[test]
fn an_upper_case_protocol_is_the_same_protocol() {
    let mut case = case("upper case", V4, json!({}));
    case.mappings = json!([
        { "hostPort": 1, "containerPort": 1, "protocol": "TCP" },
        { "hostPort": 2, "containerPort": 2, "protocol": "tcp" },
    ]);
    let World { node, pods } = world(Suite::Heddle, &case);
    let (pod, conf) = &pods[0];
    node.add("portmap", pod, conf);
    let rules = node.sh("iptables-save -t nat | grep multiport");
    assert!(
        rules.lines().count() == 1 && rules.contains("-p tcp") && rules.contains("--dports 1,2 "),
        "{rules}"
    );
    let node = node.with_suite(Suite::Reference);
    node.del("portmap", pod, conf);
    assert!(!node.sh("iptables-save -t nat").contains("CNI-DN-"));
}
