//! May somebody do something: the Node authorizer, then RBAC, over one view of the objects that both look at.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value;

use super::User;
use super::attributes::{Attributes, Decision};
use super::node::{self, Graph};
use super::rbac::escalation::{self, EscalationError};
use super::rbac::{Index, Kind, Rule};
use super::user::MASTERS;

#[derive(Default)]
struct View {
    roles: Index,
    nodes: Graph,
}

/// The server's authorizer. One writer feeds it, requests ask it.
///
/// At the start: `put` every object of the kinds that [`Authorizer::watches`] names, then every change. A request may be decided by what was
/// there a moment before it; so does kube-apiserver.
#[derive(Default)]
pub struct Authorizer(RwLock<View>);

impl Authorizer {
    /// Whether objects of this kind (its group and plural) matter here.
    pub fn watches(group: &str, resource: &str) -> bool {
        match group {
            "" => ["pods", "persistentvolumes"].contains(&resource),
            super::rbac::GROUP => Kind::from_resource(resource).is_some(),
            _ => false,
        }
    }

    /// An object was made or changed.
    pub fn put(&self, resource: &str, object: &Value) {
        let mut view = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match (resource, Kind::from_resource(resource)) {
            ("pods", _) => view.nodes.put_pod(object),
            ("persistentvolumes", _) => view.nodes.put_volume(object),
            (_, Some(kind)) => view.roles.put(kind, object),
            _ => {}
        }
    }

    /// An object is gone.
    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let mut view = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match (resource, Kind::from_resource(resource)) {
            ("pods", _) => view.nodes.remove_pod(namespace, name),
            ("persistentvolumes", _) => view.nodes.remove_volume(name),
            (_, Some(kind)) => view.roles.remove(kind, namespace, name),
            _ => {}
        }
    }

    /// Whether somebody may do something. Anything but `Allow` is a 403 with the reason that is given.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        decide(&self.view(), attributes)
    }

    /// The rules that somebody has in a namespace, and whether there may be more that cannot be told in rules.
    pub fn rules(&self, user: &User, namespace: &str) -> (Vec<Rule>, bool) {
        let view = self.view();
        let own = view.roles.grants(user, namespace).map(|grant| grant.rule.clone());
        let all = user.is_in(MASTERS).then(Rule::everything).into_iter().flatten();
        (all.chain(own).collect(), user.node().is_some())
    }

    /// Whether somebody may write a role or a binding; see [`escalation::check`].
    pub fn check_escalation(
        &self,
        user: &User,
        kind: Kind,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), EscalationError> {
        let view = self.view();
        escalation::check(&view.roles, user, kind, new, old, &|attributes| {
            decide(&view, attributes)
        })
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decide(view: &View, attributes: &Attributes<'_>) -> Decision {
    if attributes.user.is_in(MASTERS) {
        return Decision::Allow(String::new());
    }
    let by_node = node::decide(&view.nodes, attributes);
    if by_node.is_allowed() {
        return by_node;
    }
    match view.roles.decide(attributes) {
        Decision::NoOpinion(reason) if reason.is_empty() => by_node,
        decision => decision,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::attributes::Resource;
    use crate::auth::rbac::defaults;

    fn scene() -> Authorizer {
        let authorizer = Authorizer::default();
        for (_, object) in defaults::objects() {
            let resource = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
            assert!(Authorizer::watches(super::super::rbac::GROUP, &resource), "{resource}");
            authorizer.put(&resource, &object);
        }
        authorizer
    }

    #[test]
    fn either_authorizer_may_say_yes_and_the_reason_for_a_no_is_kept() {
        let authorizer = scene();
        let secret =
            Resource { resource: "secrets", namespace: "dev", name: "tls", ..Resource::default() };
        let node = User::new("system:node:n1", ["system:nodes"]).authenticated();
        let ask = |user: &User, verb: &str, it| authorizer.decide(&Attributes::on(user, verb, it));
        assert_eq!(
            ask(&node, "get", secret).reason(),
            "no relationship found between node 'n1' and this object"
        );
        let pod = json!({"metadata": {"name": "web", "namespace": "dev"},
            "spec": {"nodeName": "n1", "volumes": [{"secret": {"secretName": "tls"}}]}});
        authorizer.put("pods", &pod);
        assert!(ask(&node, "get", secret).is_allowed());
        authorizer.remove("pods", "dev", "web");
        assert!(!ask(&node, "get", secret).is_allowed());
        let review = Resource {
            group: "authentication.k8s.io",
            resource: "selfsubjectreviews",
            ..Resource::default()
        };
        assert!(ask(&node, "create", review).is_allowed(), "by RBAC, as everybody");
        let root = User::new("root", [MASTERS]);
        authorizer.remove("clusterrolebindings", "", "cluster-admin");
        assert!(ask(&root, "delete", secret).is_allowed(), "whatever becomes of the bindings");
        let (rules, incomplete) = authorizer.rules(&root, "dev");
        assert_eq!((&rules[..2], incomplete), (&Rule::everything()[..], false));
        assert!(authorizer.rules(&node, "dev").1);
    }
}
