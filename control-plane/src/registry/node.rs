//! Nodes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, map, name, or_none, text};
use super::defaults::{child, default};
use super::kind::{Kind, Selectable, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::name as names;

/// `v1 Node`.
pub fn kind() -> Kind {
    let mut kind = Kind::new("", "v1", "Node", "nodes")
        .cluster_scoped()
        .stored_as("minions")
        .short(&["no"])
        .with(&[Subresource::Status])
        .columns(columns(
            "Name Status Roles Age Version +Internal-IP +External-IP +OS-Image +Kernel-Version +Container-Runtime",
        ))
        .behaves(Node);
    kind.selectable.push(Selectable { absent: "false", ..Selectable::field("spec.unschedulable") });
    kind
}

struct Node;

impl Strategy for Node {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        // the field of one family is the first of the list of both
        let first = spec.pointer("/podCIDRs/0").cloned();
        match spec
            .get("podCIDR")
            .filter(|one| one.as_str().is_some_and(|one| !one.is_empty()))
            .cloned()
        {
            Some(one) if first.as_ref() != Some(&one) => spec["podCIDRs"] = json!([one]),
            None if first.is_some() => spec["podCIDR"] = json!(first),
            _ => {}
        }
    }

    /// A node reports itself with its status: the object and its first status come together.
    fn first_status(&self, object: &Value) -> Option<Value> {
        let mut status = object.get("status").cloned()?;
        if let Some(capacity) = status.get("capacity").cloned() {
            default(&mut status, "allocatable", capacity);
        }
        Some(status)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        check_taints(&spec.field("taints"), &mut findings);
        let networks = spec.field("podCIDRs");
        for network in networks.items() {
            if network.text().parse::<ipnetwork::IpNetwork>().is_err() {
                findings.invalid(
                    &network,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                );
            }
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (spec, before) = (Spot::root(object).field("spec"), Spot::root(old).field("spec"));
        for (field, shown) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
            let was = before.field(field);
            if !was.is_empty() && spec.field(field).value != was.value {
                let why = format!("node updates may not change {shown} except from \"\" to valid");
                findings.forbidden(&spec.field(field), why);
            }
        }
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let id = Spot::root(object).pointer("/spec/externalID");
        let told = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
        (!id.is_empty()).then(|| told.to_owned()).into_iter().collect()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let info = |field: &str| text(object, &format!("/status/nodeInfo/{field}"));
        let known =
            |text: &str| if text.is_empty() { "<unknown>".to_owned() } else { text.to_owned() };
        vec![
            json!(name(object)),
            json!(status(object)),
            json!(roles(object)),
            json!(age(object, now)),
            json!(info("kubeletVersion")),
            json!(address(object, "InternalIP")),
            json!(address(object, "ExternalIP")),
            json!(known(info("osImage"))),
            json!(known(info("kernelVersion"))),
            json!(known(info("containerRuntimeVersion"))),
        ]
    }
}

fn check_taints(taints: &Spot<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for taint in taints.items() {
        let [key, value, effect] = ["key", "value", "effect"].map(|field| taint.field(field));
        findings.sentences(&key, names::qualified(key.text()));
        findings.sentences(&value, names::label_value(value.text()));
        findings.required_one_of(&effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        if !seen.insert((key.text(), effect.text())) {
            findings.duplicate(&taint);
        }
    }
}

fn status(object: &Value) -> String {
    let ready =
        items(object, "/status/conditions").iter().find(|one| text(one, "/type") == "Ready");
    let first = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    match object.pointer("/spec/unschedulable") {
        Some(Value::Bool(true)) => format!("{first},SchedulingDisabled"),
        _ => first.to_owned(),
    }
}

fn roles(object: &Value) -> String {
    let found: BTreeSet<&str> = map(object, "/metadata/labels")
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then(|| value.as_str().unwrap_or_default()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    or_none(&found.into_iter().collect::<Vec<_>>().join(","))
}

fn address(object: &Value, of: &str) -> String {
    let found = items(object, "/status/addresses").iter().find(|one| text(one, "/type") == of);
    or_none(found.map_or("", |address| text(address, "/address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn taints_are_of_three_kinds_and_each_there_once() {
        let taint = |effect: &str| json!({"key": "a", "effect": effect});
        let node = |taints: Value| json!({"spec": {"taints": taints}});
        assert!(Node.validate(&node(json!([taint("NoSchedule"), taint("NoExecute")]))).is_empty());
        assert_eq!(
            told(&Node.validate(&node(json!([
                taint("NoSchedul"),
                taint("NoExecute"),
                taint("NoExecute")
            ])))),
            [
                r#"spec.taints[0].effect: Unsupported value: "NoSchedul": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
                r#"spec.taints[2]: Duplicate value: {"effect":"NoExecute","key":"a"}"#,
            ]
        );
    }

    #[test]
    fn a_network_is_given_to_a_node_once() {
        let node = |network: Value| {
            let mut node =
                json!({"spec": {"podCIDR": network}, "status": {"capacity": {"cpu": "4"}}});
            Node.default(&mut node);
            node
        };
        let old = node(json!("10.244.1.0/24"));
        assert_eq!(old["spec"]["podCIDRs"], json!(["10.244.1.0/24"]));
        assert_eq!(Node.first_status(&old).unwrap()["allocatable"], json!({"cpu": "4"}));
        assert_eq!(Node.validate_update(&old, &node(json!(null))), []);
        assert_eq!(
            told(&Node.validate_update(&node(json!("10.1.0.0/24")), &old)),
            [
                r#"spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid"#
            ]
        );
        assert_eq!(Node.validate(&node(json!("x"))).len(), 1);
    }

    #[test]
    fn a_row_tells_readiness_and_roles() {
        let node = json!({
            "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.32.0"},
            },
        });
        let row = Node.row(&node, Timestamp::UNIX_EPOCH);
        let shown: Vec<&str> = row.iter().map(|cell| cell.as_str().unwrap()).collect();
        assert_eq!(
            shown,
            [
                "n1",
                "Ready,SchedulingDisabled",
                "edge,worker",
                "<unknown>",
                "v1.32.0",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]
        );
        assert_eq!(kind().columns.len(), row.len());
    }
}
