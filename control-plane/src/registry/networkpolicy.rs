//! Network policies: kept for those who enforce them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::address;
use super::column::{age, columns, name, selector as shown};
use super::defaults::{child, default, each};
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;
use crate::meta::{name as names, selector};

/// `networking.k8s.io/v1 NetworkPolicy`.
pub fn kind() -> Kind {
    Kind::new("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
        .short(&["netpol"])
        .with_generation()
        .columns(columns("Name Pod-Selector Age"))
        .behaves(Policy)
}

struct Policy;

impl Strategy for Policy {
    /// Every policy is about what comes in; about what goes out only when it says something of it.
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        let goes_out =
            spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
        if spec.get("policyTypes") == Some(&json!([])) {
            spec["policyTypes"] = Value::Null;
        }
        default(
            spec,
            "policyTypes",
            if goes_out { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) },
        );
        for direction in ["ingress", "egress"] {
            for rule in each(spec, direction) {
                for port in each(rule, "ports") {
                    default(port, "protocol", "TCP");
                }
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        let pods = spec.field("podSelector");
        findings.extend(selector::validate(pods.value, &pods.path));
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec.field(direction).items() {
                rule.field("ports").items().for_each(|port| check_port(&port, &mut findings));
                rule.field(peers).items().for_each(|peer| check_peer(&peer, &mut findings));
            }
        }
        let types = spec.field("policyTypes").of(&go_value::POLICY_TYPES);
        if types.len() > 2 {
            findings.invalid(&types, "may not specify more than two policyTypes");
        } else {
            types.items().for_each(|one| findings.one_of(&one, &["Ingress", "Egress"]));
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            json!(name(object)),
            json!(shown(object.pointer("/spec/podSelector"))),
            json!(age(object, now)),
        ]
    }
}

fn check_port(port: &Spot<'_>, findings: &mut Findings) {
    const NO_PORT: &str = "must be between 1 and 65535, inclusive";
    findings.one_of(&port.field("protocol"), &["TCP", "UDP", "SCTP"]);
    let (first, last) = (port.field("port"), port.field("endPort"));
    let why = match first.value {
        Value::Null => "may not be specified when `port` is not specified",
        Value::String(text) => {
            findings.sentences(&first, names::port(text));
            "may not be specified when `port` is non-numeric"
        }
        _ => {
            if !is_port(&first) {
                findings.invalid(&first, NO_PORT);
            }
            if last.is_there() && last.integer() < first.integer() {
                // the value that is shown is that of the port in Kubernetes, too
                let shown = Spot::at(first.value, last.path.clone());
                findings.invalid(&shown, "must be greater than or equal to `port`");
            }
            if last.is_there() && !is_port(&last) {
                findings.invalid(&last, NO_PORT);
            }
            return;
        }
    };
    if last.is_there() {
        findings.invalid(&last, why);
    }
}

fn is_port(port: &Spot<'_>) -> bool {
    port.integer().is_some_and(|number| (1..=65535).contains(&number))
}

fn check_peer(peer: &Spot<'_>, findings: &mut Findings) {
    let selectors = ["podSelector", "namespaceSelector"].map(|field| peer.field(field));
    let block = peer.field("ipBlock");
    for one in selectors.iter().filter(|one| one.is_there()) {
        findings.extend(selector::validate(one.value, &one.path));
    }
    if block.is_there() {
        check_block(&block, findings);
    }
    match (selectors.iter().any(Spot::is_there), block.is_there()) {
        (false, false) => findings.required(peer, "must specify a peer"),
        (true, true) => findings.forbidden(peer, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn check_block(block: &Spot<'_>, findings: &mut Findings) {
    const WRONG: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let cidr = block.field("cidr");
    if cidr.is_empty() {
        findings.required(&cidr, "");
        return;
    }
    let Some(whole) = address::network(cidr.text()) else {
        findings.invalid(&cidr, WRONG);
        return;
    };
    for hole in block.field("except").items() {
        match address::network(hole.text()) {
            None => findings.invalid(&hole, WRONG),
            Some(part) if !whole.contains(part.ip()) || part.prefix() <= whole.prefix() => {
                findings.invalid(&hole, "must be a strict subset of `cidr`");
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_and_ports() {
        let mut policy = json!({"spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}], "from": [{"podSelector": {}}]}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}});
        Policy.default(&mut policy);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert!(Policy.validate(&policy).is_empty());
        let wrong = json!({"spec": {"ingress": [{
            "ports": [{"port": "http", "endPort": 90}, {"port": 90, "endPort": 80}],
            "from": [{}, {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.0.0/8"]}}],
        }]}});
        let told: Vec<String> = Policy.validate(&wrong).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric",
                "spec.ingress[0].ports[1].endPort: Invalid value: 90: must be greater than or equal to `port`",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
                r#"spec.ingress[0].from[2].ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`"#,
            ]
        );
    }

    #[test]
    fn what_a_rule_may_say() {
        let port = |port: Value| json!({"ingress": [{"ports": [port]}]});
        let block = |block: Value| json!({"ingress": [{"from": [{"ipBlock": block}]}]});
        for (spec, expected) in [
            (port(json!({"port": 80, "endPort": 80})), ""),
            (port(json!({"port": "http"})), ""),
            (
                port(json!({"endPort": 80})),
                "endPort: Invalid value: 80: may not be specified when `port` is not specified",
            ),
            (port(json!({"port": 0})), "port: Invalid value: 0: must be between 1 and 65535"),
            (
                port(json!({"port": 1, "endPort": 70_000})),
                "endPort: Invalid value: 70000: must be between",
            ),
            (
                port(json!({"protocol": "tcp"})),
                "Unsupported value: \"tcp\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
            ),
            (block(json!({"cidr": ""})), "cidr: Required value"),
            (
                block(json!({"cidr": "10.0.0.0"})),
                "cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value",
            ),
            (block(json!({"cidr": "10.0.0.0/255.0.0.0"})), "must be a valid CIDR value"),
            (
                block(json!({"cidr": "10.0.0.0/8", "except": ["fd00::/64"]})),
                "must be a strict subset",
            ),
            (
                json!({"policyTypes": ["In"]}),
                "Unsupported value: \"In\": supported values: \"Ingress\", \"Egress\"",
            ),
            (
                json!({"policyTypes": ["Ingress", "Egress", "Ingress"]}),
                "may not specify more than two policyTypes",
            ),
        ] {
            let errors = Policy.validate(&json!({"spec": spec}));
            let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), usize::from(!expected.is_empty()), "{spec}: {told:?}");
            assert!(told.iter().all(|one| one.contains(expected)), "{spec}: {told:?}");
        }
        let mut policy = json!({"spec": {"policyTypes": []}});
        Policy.default(&mut policy);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
    }
}
