//! Each feature with its rules. Comments are left out, `…` stands for the chains' hashes.

use std::net::IpAddr;

use super::*;
use crate::proxy::options::NodePortAddresses;

/// The rules of the only service, as `chain rule`, in the order of `iptables-save`.
fn rules_of(family: Family, spec: Value, endpoints: &str, options: &RuleOptions) -> String {
    let mut model = model();
    model.set_service(service("s", spec));
    if !endpoints.is_empty() {
        model.set_slice(slice("s", endpoints));
    }
    let ruleset = ruleset(family, model.ports(family), options, true);
    assert_eq!(lint::problems(&ruleset), Vec::<String>::new());
    lines(&ruleset, "default/s").lines().map(|line| short(line) + "\n").collect()
}

/// Without comments, hashes and what every rule of a port has.
fn short(line: &str) -> String {
    let mut words = Vec::new();
    let mut all = split_words(line).into_iter();
    while let Some(word) = all.next() {
        let next = all.as_slice().first().map(String::as_str);
        match (word.as_str(), next) {
            ("-m", Some("comment")) => drop(all.nth(2)),
            ("-m", Some("tcp" | "udp" | "sctp")) => drop(all.next()),
            ("nat", _) => {}
            _ => words.push(match word.rsplit_once('-') {
                Some((kind, hash)) if hash.len() == 16 => {
                    format!("{}…", kind.trim_start_matches("KUBE-"))
                }
                _ => word,
            }),
        }
    }
    words.join(" ")
}

fn expect(found: &str, expected: &str) {
    let trimmed =
        |text: &str| text.trim().lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(trimmed(found), trimmed(expected), "{found}");
}

fn v4(spec: Value, endpoints: &str) -> String {
    rules_of(Family::V4, spec, endpoints, &options())
}

const PORT: &str = r#"[{"port": 80}]"#;

fn ports() -> Value {
    serde_json::from_str(PORT).unwrap()
}

fn node_port() -> Value {
    json!([{"port": 80, "nodePort": 30080}])
}

#[test]
fn cluster_ip() {
    let found =
        v4(json!({"clusterIP": "10.96.0.1", "ports": ports()}), "10.244.0.2@n1 10.244.1.2@n2");
    expect(
        &found,
        "
        KUBE-SERVICES -d 10.96.0.1/32 -p tcp --dport 80 -j SVC…
        SEP… -s 10.244.1.2/32 -j KUBE-MARK-MASQ
        SEP… -p tcp -j DNAT --to-destination 10.244.1.2:8080
        SEP… -s 10.244.0.2/32 -j KUBE-MARK-MASQ
        SEP… -p tcp -j DNAT --to-destination 10.244.0.2:8080
        SVC… ! -s 10.240.0.0/12 -d 10.96.0.1/32 -p tcp --dport 80 -j KUBE-MARK-MASQ
        SVC… -m statistic --mode random --probability 0.50000000000 -j SEP…
        SVC… -j SEP…
    ",
    );
}

#[test]
fn show() {
    let lb = |extra: Value| {
        let mut spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": node_port(), "ingress": [{"ip": "192.0.2.1"}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    };
    let np = |extra: Value| {
        let mut spec = json!({"type": "NodePort", "clusterIP": "10.96.0.1", "ports": node_port()});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    };
    println!("np\n{}", v4(np(json!({})), "10.244.0.2@n1"));
    println!("np none\n{}", v4(np(json!({"externalIPs": ["198.51.100.1"]})), ""));
    println!(
        "np local\n{}",
        v4(np(json!({"externalTrafficPolicy": "Local"})), "10.244.0.2@n1 10.244.1.2@n2")
    );
    println!(
        "np local none here\n{}",
        v4(
            np(json!({"externalTrafficPolicy": "Local", "externalIPs": ["198.51.100.1"]})),
            "10.244.1.2@n2"
        )
    );
    println!(
        "np both local none here\n{}",
        v4(
            np(json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"})),
            "10.244.1.2@n2"
        )
    );
    println!(
        "itp local\n{}",
        v4(
            json!({"clusterIP": "10.96.0.1", "ports": ports(), "internalTrafficPolicy": "Local"}),
            "10.244.0.2@n1 10.244.1.2@n2"
        )
    );
    println!("lb\n{}", v4(lb(json!({"externalIPs": ["198.51.100.1"]})), "10.244.0.2@n1"));
    println!(
        "lb ranges\n{}",
        v4(
            lb(
                json!({"loadBalancerSourceRanges": ["203.0.113.0/24"], "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000})
            ),
            "10.244.0.2@n1"
        )
    );
    let at = RuleOptions { node_ip: Some("203.0.113.5".parse::<IpAddr>().unwrap()), ..options() };
    println!(
        "lb node\n{}",
        rules_of(
            Family::V4,
            lb(json!({"loadBalancerSourceRanges": ["203.0.113.0/24"]})),
            "10.244.0.2@n1",
            &at
        )
    );
    println!(
        "affinity\n{}",
        v4(
            json!({"clusterIP": "10.96.0.1", "ports": ports(), "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
            "10.244.0.2@n1 10.244.1.2@n2"
        )
    );
    println!(
        "v6\n{}",
        rules_of(
            Family::V6,
            json!({"type": "NodePort", "clusterIP": "fd00:96::1", "ports": node_port(), "sessionAffinity": "ClientIP"}),
            "fd00:10::2@n1",
            &options()
        )
    );
    println!(
        "v6 none\n{}",
        rules_of(
            Family::V6,
            json!({"type": "NodePort", "clusterIP": "fd00:96::1", "ports": node_port()}),
            "",
            &options()
        )
    );
    _ = NodePortAddresses::Any;
}
