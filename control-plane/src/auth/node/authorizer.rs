//! The Node authorizer's decision.

use std::sync::LazyLock;

use super::Graph;
use super::graph::Needed;
use crate::auth::attributes::{Attributes, Decision, Resource, Target};
use crate::auth::rbac::{Kind, Rule, defaults};

/// Where nodes say that they are alive.
const LEASES: &str = "kube-node-lease";
const ONE_ACCOUNT: &str = "can only create tokens for individual service accounts";

/// What every kubelet may do, whatever runs on it: the rules of the cluster role `system:node`.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let mut objects = defaults::objects().into_iter();
    let role = objects.find(|(kind, object)| {
        *kind == Kind::ClusterRole && object["metadata"]["name"] == "system:node"
    });
    role.map(|(_, role)| Rule::of_role(&role)).unwrap_or_default()
});

/// Whether a kubelet may do what it asks for. To all others: no opinion. What it may change of what it may write is
/// [`super::restriction::admit`]'s business.
pub fn decide(graph: &Graph, attributes: &Attributes<'_>) -> Decision {
    let Some(node) = attributes.user.node() else { return none("") };
    if node.is_empty() {
        return none(&format!("unknown node for user {:?}", attributes.user.name));
    }
    if let Target::Resource(it) = attributes.target {
        let verb = attributes.verb;
        let related = |kind| related(graph, node, &it, kind);
        match (it.group, it.resource) {
            ("", "secrets") => return read_named(&it, verb, || related(Needed::Secret)),
            ("", "configmaps") => {
                return read_named(&it, verb, || related(Needed::ConfigMap));
            }
            ("", "persistentvolumeclaims") => {
                return get(&it, verb, || related(Needed::Claim));
            }
            ("", "persistentvolumes") => {
                return get(&it, verb, || yes_if(graph.needs_volume(node, it.name), node));
            }
            ("", "serviceaccounts") => {
                return token(&it, verb, || related(Needed::ServiceAccount));
            }
            ("", "nodes") => return own_node(&it, verb, node),
            ("", "pods") => return pods(graph, &it, attributes, node),
            ("coordination.k8s.io", "leases") => return lease(&it, verb, node),
            _ => {}
        }
    }
    if RULES.iter().any(|rule| rule.allows(attributes)) { yes() } else { none("") }
}

fn related(graph: &Graph, node: &str, it: &Resource<'_>, kind: Needed) -> Decision {
    if it.name.is_empty() {
        return none("No Object name found");
    }
    yes_if(graph.needs(node, kind, it.namespace, it.name), node)
}

fn get(it: &Resource<'_>, verb: &str, find: impl FnOnce() -> Decision) -> Decision {
    match (verb, it.subresource) {
        ("get", "") => find(),
        ("get", _) => none("cannot get subresource"),
        _ => none("can only get individual resources of this type"),
    }
}

fn read_named(it: &Resource<'_>, verb: &str, find: impl FnOnce() -> Decision) -> Decision {
    if !["get", "list", "watch"].contains(&verb) {
        return none("can only read resources of this type");
    }
    if !it.subresource.is_empty() {
        return none("cannot read subresource");
    }
    if it.namespace.is_empty() {
        return none("can only read namespaced object of this type");
    }
    find()
}

fn token(it: &Resource<'_>, verb: &str, find: impl FnOnce() -> Decision) -> Decision {
    match (verb, it.subresource) {
        ("create", _) if it.name.is_empty() => none(ONE_ACCOUNT),
        ("create", "token") => find(),
        ("create", _) => none("can only create token subresource of serviceaccount"),
        _ => none(ONE_ACCOUNT),
    }
}

fn own_node(it: &Resource<'_>, verb: &str, node: &str) -> Decision {
    match (it.subresource, verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
        ("", "get" | "list" | "watch") if it.name == node => yes(),
        ("", "get" | "list" | "watch") => {
            let what = if it.name.is_empty() { "all nodes" } else { &format!("'{}'", it.name) };
            none(&format!("node '{node}' cannot read {what}, only its own Node object"))
        }
        _ => none(""),
    }
}

fn pods(graph: &Graph, it: &Resource<'_>, attributes: &Attributes<'_>, node: &str) -> Decision {
    match (it.subresource, attributes.verb) {
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
            yes()
        }
        ("", "list" | "watch") if attributes.selected_node == node => yes(),
        ("", "list" | "watch") if it.name.is_empty() => {
            none("can only list/watch pods with spec.nodeName field selector")
        }
        ("", "get" | "list" | "watch") => related(graph, node, it, Needed::Pod),
        _ => none(""),
    }
}

fn lease(it: &Resource<'_>, verb: &str, node: &str) -> Decision {
    if !["get", "create", "update", "patch", "delete"].contains(&verb) {
        return none("can only get, create, update, patch, or delete a node lease");
    }
    if it.namespace != LEASES {
        return none(&format!("can only access leases in the {LEASES:?} system namespace"));
    }
    if verb != "create" && it.name != node {
        return none("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn yes_if(holds: bool, node: &str) -> Decision {
    if holds {
        yes()
    } else {
        none(&format!("no relationship found between node '{node}' and this object"))
    }
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

fn none(reason: &str) -> Decision {
    Decision::NoOpinion(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::User;

    fn graph() -> Graph {
        let mut graph = Graph::default();
        graph.put_pod(&json!({"metadata": {"name": "web", "namespace": "dev"}, "spec": {"nodeName": "n1",
            "serviceAccountName": "builder", "volumes": [{"secret": {"secretName": "tls"}}, {"configMap": {"name": "conf"}},
            {"persistentVolumeClaim": {"claimName": "data"}}]}}));
        graph.put_volume(&json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "dev", "name": "data"}}}));
        graph
    }

    /// `VERB RESOURCE[.GROUP][/SUBRESOURCE] [NAMESPACE/][NAME]`
    fn ask(user: &User, question: &str, selected: &str) -> Decision {
        let mut words = question.split(' ');
        let (verb, what, which) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        if what.starts_with('/') {
            return decide(&graph(), &Attributes::at(user, verb, what));
        }
        let (what, subresource) = what.split_once('/').unwrap_or((what, ""));
        let (resource, group) = what.split_once('.').unwrap_or((what, ""));
        let (namespace, name) = which.split_once('/').unwrap_or(("", which));
        let it = Resource { group, resource, subresource, namespace, name };
        decide(&graph(), &Attributes::on(user, verb, it).of_node(selected))
    }

    #[test]
    fn a_kubelet_reads_what_its_pods_need_and_writes_about_itself() {
        let node = User::new("system:node:n1", ["system:nodes"]);
        for question in [
            "get secrets dev/tls",
            "watch secrets dev/tls",
            "get configmaps dev/conf",
            "get persistentvolumeclaims dev/data",
            "get persistentvolumes pv",
            "create serviceaccounts/token dev/builder",
            "get pods dev/web",
            "create pods dev/",
            "update pods/status dev/any",
            "create pods/eviction dev/any",
            "get nodes n1",
            "watch nodes n1",
            "create nodes",
            "patch nodes/status n2",
            "get leases.coordination.k8s.io kube-node-lease/n1",
            "create leases.coordination.k8s.io kube-node-lease/",
            "list services",
            "create events dev/",
            "create tokenreviews.authentication.k8s.io",
            "create subjectaccessreviews.authorization.k8s.io",
        ] {
            assert!(ask(&node, question, "").is_allowed(), "{question}");
        }
        assert!(ask(&node, "watch pods", "n1").is_allowed());
    }

    #[test]
    fn and_nothing_else() {
        let node = User::new("system:node:n1", ["system:nodes"]);
        let unrelated = "no relationship found between node 'n1' and this object";
        for (question, reason) in [
            ("get secrets dev/other", unrelated),
            ("list secrets dev/", "No Object name found"),
            ("list secrets", "can only read namespaced object of this type"),
            ("update secrets dev/tls", "can only read resources of this type"),
            ("get configmaps prod/conf", unrelated),
            (
                "list persistentvolumeclaims dev/data",
                "can only get individual resources of this type",
            ),
            ("get persistentvolumes other", unrelated),
            ("create serviceaccounts/token dev/default", unrelated),
            (
                "get serviceaccounts dev/builder",
                "can only create tokens for individual service accounts",
            ),
            (
                "create serviceaccounts dev/builder",
                "can only create token subresource of serviceaccount",
            ),
            ("list pods", "can only list/watch pods with spec.nodeName field selector"),
            ("get pods dev/other", unrelated),
            ("update pods dev/web", ""),
            ("get nodes n2", "node 'n1' cannot read 'n2', only its own Node object"),
            ("list nodes", "node 'n1' cannot read all nodes, only its own Node object"),
            ("delete nodes n1", ""),
            (
                "update leases.coordination.k8s.io kube-node-lease/n2",
                "can only access node lease with the same name as the requesting node",
            ),
            (
                "get leases.coordination.k8s.io kube-system/n1",
                "can only access leases in the \"kube-node-lease\" system namespace",
            ),
            (
                "list leases.coordination.k8s.io kube-node-lease/",
                "can only get, create, update, patch, or delete a node lease",
            ),
            ("create deployments.apps dev/", ""),
            ("get /metrics", ""),
        ] {
            assert_eq!(ask(&node, question, ""), none(reason), "{question}");
        }
        assert!(!ask(&node, "watch pods", "n2").is_allowed());
    }

    #[test]
    fn who_is_no_node_is_somebody_elses_business() {
        for user in [User::new("ada", ["system:nodes"]), User::new("system:node:n1", [])] {
            assert_eq!(ask(&user, "get secrets dev/tls", ""), none(""));
        }
        let nameless = User::new("system:node:", ["system:nodes"]);
        assert_eq!(
            ask(&nameless, "list services", ""),
            none(r#"unknown node for user "system:node:""#)
        );
    }
}
