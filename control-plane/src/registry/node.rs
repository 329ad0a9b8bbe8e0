//! Nodes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, map, name, or_none, text};
use super::defaults::{child, default};
use super::kind::{Kind, Selectable, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;
use crate::meta::name as names;
use crate::meta::quantity::Quantity;

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
        let root = Spot::root(object);
        let spec = root.field("spec");
        // Kubernetes tells of taints as if they stood in the metadata
        let taints = root.field("metadata").path.field("taints");
        check_taints(&Spot::at(spec.field("taints").value, taints), &mut findings);
        check_resources(&root.field("status"), &mut findings);
        let networks = spec.field("podCIDRs");
        check_families(&networks, &mut findings);
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
        let id = spec.field("externalID");
        if id.text() != before.field("externalID").text() {
            findings.forbidden(&id, "may not be updated");
        }
        check_addresses(object, &mut findings);
        findings.into_vec()
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        check_resources(&Spot::root(object).field("status"), &mut findings);
        check_addresses(object, &mut findings);
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
        let why = names::label_value(value.text());
        if !why.is_empty() {
            findings.invalid(&value, why.join(";"));
        }
        findings.required_one_of(&effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        if !seen.insert((key.text(), effect.text())) {
            let mistake = Mistake::Duplicate(taint.value.clone());
            let why = "taints must be unique by key and effect pair";
            findings.add(FieldError::new(taint.path, mistake, why).of(&go_value::TAINT));
        }
    }
}

/// How much there is of a resource is not negative, and of what is counted a whole number.
fn check_resources(status: &Spot<'_>, findings: &mut Findings) {
    for list in ["capacity", "allocatable"] {
        let list = status.field(list);
        for (resource, amount) in list.entries() {
            let Ok(quantity) = Quantity::from_json(amount.value) else { continue };
            let told = json!(quantity.to_string());
            let spot = Spot::at(&told, list.path.field(resource));
            if quantity.is_negative() {
                findings.invalid(&spot, "must be greater than or equal to 0");
            }
            let counted = resource == "pods" || resource.contains('/');
            if counted && quantity.milli_value() % 1000 != 0 {
                findings.invalid(&spot, "must be an integer");
            }
        }
    }
}

/// A node has one network of each family.
fn check_families(networks: &Spot<'_>, findings: &mut Findings) {
    if networks.len() < 2 {
        return;
    }
    let families: Vec<bool> = networks.items().map(|one| one.text().contains(':')).collect();
    if families.len() > 2 || families[0] == families[1] {
        findings.invalid(networks, "may specify no more than one CIDR for each IP family");
    }
    let mut seen = BTreeSet::new();
    for network in networks.items() {
        if !seen.insert(network.text()) {
            findings.duplicate(&network);
        }
    }
}

fn check_addresses(object: &Value, findings: &mut Findings) {
    let mut seen: Vec<&Value> = Vec::new();
    for address in Spot::root(object).pointer("/status/addresses").items() {
        if seen.contains(&address.value) {
            findings.duplicate(&address);
        }
        seen.push(address.value);
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
                r#"metadata.taints[0].effect: Unsupported value: "NoSchedul": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
                r#"metadata.taints[2]: Duplicate value: core.Taint{Key:"a", Value:"", Effect:"NoExecute", TimeAdded:(*v1.Time)(nil)}: taints must be unique by key and effect pair"#,
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
    fn networks_and_amounts_are_looked_at() {
        let node = json!({
            "spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"], "externalID": "x"},
            "status": {"capacity": {"cpu": "-1", "pods": "1500m"}, "addresses": [{"type": "A", "address": "b"}, {"type": "A", "address": "b"}]},
        });
        assert_eq!(
            told(&Node.validate(&node)),
            [
                r#"status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0"#,
                r#"status.capacity.pods: Invalid value: "1500m": must be an integer"#,
                r#"spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family"#,
            ]
        );
        assert_eq!(
            told(&Node.validate_update(&node, &json!({}))),
            [
                "spec.externalID: Forbidden: may not be updated",
                r#"status.addresses[1]: Duplicate value: {"address":"b","type":"A"}"#,
            ]
        );
        assert_eq!(
            Node.warnings(&node, None),
            ["spec.externalID: this field is deprecated, and is unused by Kubernetes"]
        );
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
