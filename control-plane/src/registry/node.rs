//! Nodes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, map, name, or_none, text};
use super::defaults::child;
use super::kind::{Kind, Selectable, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::findings::Findings;

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
        let _ = child(object, "spec");
    }

    /// A node reports itself with its status: the object and its first status come together.
    fn first_status(&self, object: &Value) -> Option<Value> {
        object.get("status").cloned()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        for field in ["/spec/podCIDR", "/spec/providerID"] {
            let (now, before) = (text(object, field), text(old, field));
            if !before.is_empty() && now != before {
                let why = "node updates may not change it except from \"\" to valid";
                findings.add(FieldError::invalid(FieldPath::of_pointer(field), &json!(now), why));
            }
        }
        findings.into_vec()
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
