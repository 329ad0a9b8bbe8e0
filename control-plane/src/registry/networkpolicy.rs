//! Network policies: kept for those who enforce them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, name, selector as shown};
use super::defaults::{child, default, each};
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
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
        let types = spec.field("policyTypes");
        if types.len() > 2 {
            findings.invalid(&types, "may not specify more than two policyTypes");
        } else {
            types.items().for_each(|one| findings.one_of(&one, &["Egress", "Ingress"]));
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
    findings.one_of(&port.field("protocol"), &["SCTP", "TCP", "UDP"]);
    let (first, last) = (port.field("port"), port.field("endPort"));
    match first.value {
        Value::String(text) => findings.sentences(&first, names::port(text)),
        Value::Null => {}
        _ if !is_port(&first) => findings.invalid(&first, "must be between 1 and 65535, inclusive"),
        _ => {}
    }
    if last.is_absent() {
        return;
    }
    if first.is_absent() {
        findings.required(&first, "must be specified when `endPort` is specified");
    } else if first.value.is_string() {
        findings.forbidden(&last, "may not be specified when `port` is non-numeric");
    } else if last.integer() < first.integer() {
        findings.invalid(&last, "must be greater than or equal to `port`");
    }
    if !is_port(&last) {
        findings.invalid(&last, "must be between 1 and 65535, inclusive");
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
    let selects = selectors.iter().any(Spot::is_there);
    match (selects, block.is_there()) {
        (false, false) => findings.required(peer, "must specify a peer"),
        (true, true) => findings.forbidden(peer, "may not specify both ipBlock and another peer"),
        (_, true) => check_block(&block, findings),
        (true, false) => {}
    }
}

fn check_block(block: &Spot<'_>, findings: &mut Findings) {
    const WRONG: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let cidr = block.field("cidr");
    if cidr.is_empty() {
        findings.required(&cidr, "");
        return;
    }
    let Ok(whole) = cidr.text().parse::<ipnetwork::IpNetwork>() else {
        findings.invalid(&cidr, WRONG);
        return;
    };
    for hole in block.field("except").items() {
        match hole.text().parse::<ipnetwork::IpNetwork>() {
            Err(_) => findings.invalid(&hole, WRONG),
            Ok(part) if !whole.contains(part.ip()) || part.prefix() <= whole.prefix() => {
                findings.invalid(&hole, "must be a strict subset of `cidr`");
            }
            Ok(_) => {}
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
                "spec.ingress[0].ports[0].endPort: Forbidden: may not be specified when `port` is non-numeric",
                "spec.ingress[0].ports[1].endPort: Invalid value: 80: must be greater than or equal to `port`",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
                r#"spec.ingress[0].from[2].ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`"#,
            ]
        );
    }
}
