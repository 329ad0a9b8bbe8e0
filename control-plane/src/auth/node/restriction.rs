//! `NodeRestriction`: what a kubelet may change of what it may write. Asked after authorization and before anything is stored.

use serde_json::Value;

use super::graph::{Needed, references};
use crate::auth::User;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";

/// Labels under Kubernetes' own prefixes that a kubelet sets about itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum Verb {
    Create,
    Update,
    Delete,
}

/// A write that is about to be stored; patches have been applied.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// What is done.
    pub verb: Verb,
    /// The API group.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// Such as `status`; empty for the object itself.
    pub subresource: &'a str,
    /// The object's namespace.
    pub namespace: &'a str,
    /// The name in the path; empty when one is created.
    pub name: &'a str,
    /// The object as it would be stored, or the body of `eviction` and `token`; null for a deletion.
    pub new: &'a Value,
    /// What is stored: the object itself; for `eviction` the pod; for `token` the pod in `spec.boundObjectRef`. `None` when it does not exist.
    pub old: Option<&'a Value>,
    /// The uid of the kubelet's Node object, where it exists: an owner of mirror pods must have it.
    pub node_uid: Option<&'a str>,
}

/// Whether a change may be. Everybody who is no kubelet may. The error is the reason in the 403, after `… is forbidden: `.
pub fn admit(user: &User, change: &Change<'_>) -> Result<(), String> {
    let Some(node) = user.node() else { return Ok(()) };
    match (change.group, change.resource, change.subresource) {
        ("", "pods", "") => admit_pod(node, change),
        ("", "pods", "status") => admit_pod_status(node, change),
        ("", "pods", "eviction") => admit_eviction(node, change),
        ("", "pods", other) => Err(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        )),
        ("", "nodes", _) => admit_node(node, change),
        ("", "serviceaccounts", "token") => admit_token(node, change),
        ("coordination.k8s.io", "leases", _) => admit_lease(node, change),
        _ => Ok(()),
    }
}

fn admit_pod(node: &str, change: &Change<'_>) -> Result<(), String> {
    match change.verb {
        Verb::Create => admit_mirror_pod(node, change),
        Verb::Delete if runs_on(change.old, node) => Ok(()),
        Verb::Delete => {
            Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        Verb::Update => Err(format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        )),
    }
}

fn admit_mirror_pod(node: &str, change: &Change<'_>) -> Result<(), String> {
    let pod = change.new;
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if !runs_on(Some(pod), node) {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    admit_owner(node, &pod["metadata"]["ownerReferences"], change.node_uid)?;
    let names = [
        (Needed::ServiceAccount, "a service account"),
        (Needed::Secret, "secrets"),
        (Needed::ConfigMap, "configmaps"),
        (Needed::Claim, "persistentvolumeclaims"),
    ];
    let found = references(pod);
    let forbidden = names.iter().find(|(kind, _)| found.iter().any(|(own, _)| own == kind));
    match forbidden {
        Some((_, what)) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

fn admit_owner(node: &str, owners: &Value, uid: Option<&str>) -> Result<(), String> {
    let itself_only = "can only create pods with an owner reference set to itself";
    let owner = match owners.as_array().map_or(&[][..], Vec::as_slice) {
        [owner] => owner,
        [] => return Err(format!("node {node:?} {itself_only}")),
        _ => {
            return Err(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    let itself = owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == node;
    if !itself {
        return Err(format!("node {node:?} {itself_only}"));
    }
    if owner["controller"] != true {
        return Err(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let given = owner["uid"].as_str().unwrap_or_default();
    match uid {
        Some(uid) if uid == given => Ok(()),
        Some(uid) => Err(format!("node {node} UID mismatch: expected {uid} got {given}")),
        None => Err(format!("error looking up node {node} to verify uid: node {node:?} not found")),
    }
}

fn admit_pod_status(node: &str, change: &Change<'_>) -> Result<(), String> {
    if change.verb != Verb::Update {
        return Err(format!("unexpected operation {:?}", word(change.verb)));
    }
    if !runs_on(change.old, node) {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let labels =
        |pod: Option<&Value>| pod.map(|pod| map(&pod["metadata"]["labels"])).unwrap_or_default();
    if labels(Some(change.new)) != labels(change.old) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    Ok(())
}

fn admit_eviction(node: &str, change: &Change<'_>) -> Result<(), String> {
    if change.verb != Verb::Create {
        return Err(format!("unexpected operation {:?}", word(change.verb)));
    }
    // An eviction names its pod in the path, or in its metadata: where both do, they must agree.
    let named = change.new["metadata"]["name"].as_str().filter(|name| !name.is_empty());
    let same = named.is_none_or(|name| change.name.is_empty() || name == change.name);
    if same && runs_on(change.old, node) {
        return Ok(());
    }
    Err(format!("node {node} can only evict pods with spec.nodeName set to itself"))
}

fn admit_node(node: &str, change: &Change<'_>) -> Result<(), String> {
    own_name(node, change)
        .map_err(|name| format!("node {node:?} is not allowed to modify node {name:?}"))?;
    let (metadata, spec) = (&change.new["metadata"], &change.new["spec"]);
    let old = change.old.unwrap_or(&Value::Null);
    if change.verb == Verb::Create {
        let forbidden = forbidden_labels(&metadata["labels"], &Value::Null);
        if !forbidden.is_empty() {
            let list = forbidden.join(", ");
            return Err(format!(
                "node {node:?} is not allowed to set the following labels: {list}"
            ));
        }
    }
    if change.verb == Verb::Update {
        if list(&spec["taints"]) != list(&old["spec"]["taints"]) {
            return Err(format!("node {node:?} is not allowed to modify taints"));
        }
        let forbidden = forbidden_labels(&metadata["labels"], &old["metadata"]["labels"]);
        if !forbidden.is_empty() {
            let list = forbidden.join(", ");
            return Err(format!("is not allowed to modify labels: {list}"));
        }
        if list(&metadata["ownerReferences"]) != list(&old["metadata"]["ownerReferences"]) {
            return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
        }
    }
    Ok(())
}

fn admit_token(node: &str, change: &Change<'_>) -> Result<(), String> {
    let bound = &change.new["spec"]["boundObjectRef"];
    let named = bound["name"].as_str().is_some_and(|name| !name.is_empty());
    if bound["apiVersion"] != "v1" || bound["kind"] != "Pod" || !named {
        return Err("node requested token not bound to a pod".to_owned());
    }
    let uid = bound["uid"].as_str().unwrap_or_default();
    if uid.is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    let Some(pod) = change.old else {
        return Err(format!("pod {} not found", bound["name"]));
    };
    if pod["metadata"]["uid"] != uid {
        return Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if !runs_on(Some(pod), node) {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    Ok(())
}

fn admit_lease(node: &str, change: &Change<'_>) -> Result<(), String> {
    if change.namespace != LEASES {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    own_name(node, change).map_err(|_| {
        "can only access node lease with the same name as the requesting node".to_owned()
    })
}

/// The name in the path and that of the object must be the node's; the error is the other name.
fn own_name(node: &str, change: &Change<'_>) -> Result<(), String> {
    let inner = change.new["metadata"]["name"].as_str().unwrap_or_default();
    let mut names = [change.name, inner].into_iter().filter(|name| !name.is_empty()).peekable();
    if names.peek().is_none() {
        return Err(String::new());
    }
    names.find(|name| *name != node).map_or(Ok(()), |other| Err(other.to_owned()))
}

/// The labels that differ and that a kubelet must leave alone, in order.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let (new, old) = (map(new), map(old));
    let mut keys: Vec<_> =
        new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key)).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter().filter(|key| is_forbidden(key)).cloned().collect()
}

/// A label under one of Kubernetes' prefixes, unless kubelets set it or it is under a prefix of theirs.
fn is_forbidden(label: &str) -> bool {
    let Some((prefix, _)) = label.split_once('/') else { return false };
    let below = |parent: &str| {
        prefix.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if below("node-restriction.kubernetes.io") {
        return true;
    }
    let theirs = below("kubelet.kubernetes.io") || below("node.kubernetes.io");
    (below("kubernetes.io") || below("k8s.io")) && !theirs && !OWN_LABELS.contains(&label)
}

fn runs_on(pod: Option<&Value>, node: &str) -> bool {
    pod.is_some_and(|pod| pod["spec"]["nodeName"] == node)
}

fn map(value: &Value) -> serde_json::Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

const fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "CREATE",
        Verb::Update => "UPDATE",
        Verb::Delete => "DELETE",
    }
}

#[cfg(test)]
#[path = "restriction_tests.rs"]
mod tests;
