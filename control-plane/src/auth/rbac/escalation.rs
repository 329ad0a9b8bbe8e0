//! Nobody hands on what he does not have.
//!
//! "Privilege escalation prevention and bootstrapping" of the RBAC documentation: who writes a role must hold all of its rules or have the
//! verb `escalate` on it; who writes a binding must hold all rules of the role, or have the verb `bind` on it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::aggregation::is_aggregate;
use super::{GROUP, Index, Kind, Rule, quoted};
use crate::auth::User;
use crate::auth::attributes::{Attributes, Decision, Resource};
use crate::auth::user::MASTERS;

/// A role or binding that must not be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EscalationError {
    /// The user lacks some of the rules.
    #[error(
        "user {user:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
        missing.join("\n")
    )]
    NotHeld {
        /// Who.
        user: String,
        /// In which groups, as Go writes a list.
        groups: String,
        /// The rules, a line each.
        missing: Vec<String>,
    },
    /// What it gathers is not known in advance.
    #[error("must have cluster-admin privileges to use the aggregationRule")]
    Aggregation,
    /// The binding names a role that is not there: answered with 404.
    #[error("{resource}.rbac.authorization.k8s.io {name:?} not found")]
    NoRole {
        /// `roles` or `clusterroles`.
        resource: &'static str,
        /// Its name.
        name: String,
    },
}

/// Whether somebody may write this role or binding. `old`: what it replaces. `decide`: the server's whole authorizer, for the verbs
/// `escalate` and `bind`. The error's text is the reason in `forbidden_message(GROUP, resource, name, …)`.
pub fn check(
    index: &Index,
    user: &User,
    kind: Kind,
    new: &Value,
    old: Option<&Value>,
    decide: &dyn Fn(&Attributes<'_>) -> Decision,
) -> Result<(), EscalationError> {
    if user.is_in(MASTERS) || old.is_some_and(|old| differs_in_ownership_only(new, old)) {
        return Ok(());
    }
    let namespace = new["metadata"]["namespace"].as_str().unwrap_or_default();
    let may = |verb, resource, name| {
        let it = Resource { group: GROUP, resource, namespace, name, ..Resource::default() };
        decide(&Attributes::on(user, verb, it)).is_allowed()
    };
    if let Kind::Role | Kind::ClusterRole = kind {
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        let resource = if kind == Kind::Role { "roles" } else { "clusterroles" };
        if may("escalate", resource, name) {
            return Ok(());
        }
        held(index, user, namespace, &Rule::of_role(new))?;
        return aggregation(index, user, new, old);
    }
    let reference = &new["roleRef"];
    let name = reference["name"].as_str().unwrap_or_default();
    let (resource, place) = match reference["kind"].as_str() {
        Some("Role") => ("roles", namespace),
        _ => ("clusterroles", ""),
    };
    if may("bind", resource, name) {
        return Ok(());
    }
    let missing = || EscalationError::NoRole { resource, name: name.to_owned() };
    let rules = index.role(place, name).ok_or_else(missing)?;
    held(index, user, namespace, &rules)
}

/// An aggregate may come to hold anything, so only who may do everything may write it, or make an ordinary role of it.
fn aggregation(
    index: &Index,
    user: &User,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), EscalationError> {
    if !is_aggregate(new) && !old.is_some_and(is_aggregate) {
        return Ok(());
    }
    held(index, user, "", &Rule::everything()).map_err(|_| EscalationError::Aggregation)
}

/// Whether a user holds all rules in a namespace, or in the cluster when that is empty.
fn held(
    index: &Index,
    user: &User,
    namespace: &str,
    rules: &[Rule],
) -> Result<(), EscalationError> {
    let own: Vec<&Rule> = index.grants(user, namespace).map(|grant| grant.rule).collect();
    let parts = rules.iter().flat_map(Rule::broken_down);
    let missing: Vec<_> = parts.filter(|part| !own.iter().any(|own| own.covers(part))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (user, groups) = (user.name.clone(), quoted(&user.groups));
    Err(EscalationError::NotHeld { user, groups, missing: lines(missing) })
}

/// Broken-down rules a line each, verbs of the same thing together.
fn lines(parts: Vec<Rule>) -> Vec<String> {
    let mut together: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    for mut part in parts {
        let verbs = std::mem::take(&mut part.verbs);
        let held = together.entry(part).or_default();
        held.extend(verbs.into_iter().filter(|verb| !held.contains(verb)).collect::<Vec<_>>());
    }
    let rules = together.into_iter().map(|(rule, verbs)| Rule { verbs, ..rule });
    let mut lines: Vec<_> = rules.map(|rule| rule.compact()).collect();
    lines.sort();
    lines
}

/// The garbage collector must be able to let go of an object whatever it grants. Labels count: they choose what is aggregated.
fn differs_in_ownership_only(new: &Value, old: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in ["ownerReferences", "finalizers", "resourceVersion", "managedFields"] {
                metadata.remove(field);
            }
        }
        object
    };
    bare(new) == bare(old)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Ada may read pods in `dev` and everything about config maps everywhere; bob may do everything.
    fn scene() -> Index {
        let mut index = Index::default();
        let rules = |name: &str, namespace: &str, rules: Value| json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules});
        let binding = |namespace: &str, kind: &str, name: &str, user: &str| {
            json!({"metadata": {"name": name, "namespace": namespace}, "roleRef": {"kind": kind, "name": name},
                "subjects": [{"kind": "User", "name": user}]})
        };
        index.put(
            Kind::Role,
            &rules(
                "pods",
                "dev",
                json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]),
            ),
        );
        index.put(
            Kind::ClusterRole,
            &rules(
                "maps",
                "",
                json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]),
            ),
        );
        index.put(
            Kind::ClusterRole,
            &rules("all", "", Rule::everything().iter().map(Rule::to_json).collect()),
        );
        index.put(Kind::RoleBinding, &binding("dev", "Role", "pods", "ada"));
        index.put(Kind::ClusterRoleBinding, &binding("", "ClusterRole", "maps", "ada"));
        index.put(Kind::ClusterRoleBinding, &binding("", "ClusterRole", "all", "bob"));
        index
    }

    fn role(namespace: &str, resource: &str, verbs: &[&str]) -> Value {
        json!({"metadata": {"name": "x", "namespace": namespace},
            "rules": [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]})
    }

    fn binding(namespace: &str, kind: &str, name: &str) -> Value {
        json!({"metadata": {"name": "x", "namespace": namespace}, "roleRef": {"kind": kind, "name": name}})
    }

    fn write(
        user: &User,
        kind: Kind,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), EscalationError> {
        let index = scene();
        check(&index, user, kind, new, old, &|attributes| index.decide(attributes))
    }

    #[test]
    fn what_is_held_may_be_handed_on_and_nothing_else() {
        let (ada, bob) = (User::new("ada", ["dev"]), User::new("bob", []));
        let masters = User::new("root", [MASTERS]);
        let secrets = role("dev", "secrets", &["get", "list"]);
        let cases = [
            (&ada, Kind::Role, role("dev", "pods", &["get"]), true),
            (&ada, Kind::Role, role("prod", "pods", &["get"]), false),
            (&ada, Kind::Role, role("prod", "configmaps", &["delete"]), true),
            (&ada, Kind::ClusterRole, role("", "configmaps", &["*"]), true),
            (&ada, Kind::ClusterRole, role("", "pods", &["get"]), false),
            (&ada, Kind::Role, secrets.clone(), false),
            (&bob, Kind::Role, secrets.clone(), true),
            (&masters, Kind::Role, secrets, true),
            (&ada, Kind::RoleBinding, binding("dev", "Role", "pods"), true),
            (&ada, Kind::RoleBinding, binding("prod", "ClusterRole", "maps"), true),
            (&ada, Kind::RoleBinding, binding("dev", "ClusterRole", "all"), false),
            (&ada, Kind::ClusterRoleBinding, binding("", "ClusterRole", "maps"), true),
            (&bob, Kind::ClusterRoleBinding, binding("", "ClusterRole", "all"), true),
        ];
        for (user, kind, object, allowed) in cases {
            let checked = write(user, kind, &object, None);
            assert_eq!(checked.is_ok(), allowed, "{} {kind:?} {object}: {checked:?}", user.name);
        }
    }

    #[test]
    fn refusals_read_as_kube_apiservers() {
        let ada = User::new("ada", ["dev", "system:authenticated"]);
        let error = write(&ada, Kind::Role, &role("dev", "secrets", &["get", "list"]), None);
        assert_eq!(
            error.unwrap_err().to_string(),
            "user \"ada\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
            {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
        );
        let error =
            write(&ada, Kind::RoleBinding, &binding("dev", "Role", "none"), None).unwrap_err();
        assert_eq!(error.to_string(), r#"roles.rbac.authorization.k8s.io "none" not found"#);
        let mut gather = role("", "configmaps", &["get"]);
        gather["aggregationRule"] = super::super::aggregation::by_label("to");
        assert_eq!(
            write(&ada, Kind::ClusterRole, &gather, None),
            Err(EscalationError::Aggregation)
        );
        assert_eq!(write(&ada, Kind::ClusterRole, &gather, Some(&gather)), Ok(()), "no change");
        let plain = role("", "configmaps", &["get"]);
        let made_plain = write(&ada, Kind::ClusterRole, &plain, Some(&gather));
        assert_eq!(made_plain, Err(EscalationError::Aggregation), "what it gathered would stay");
        assert_eq!(write(&User::new("bob", []), Kind::ClusterRole, &gather, None), Ok(()));
    }

    #[test]
    fn the_verbs_escalate_and_bind_stand_for_all_rules() {
        let (index, eve) = (scene(), User::new("eve", []));
        let only = |verb: &'static str| {
            move |attributes: &Attributes<'_>| match attributes.verb {
                asked if asked == verb => Decision::Allow(String::new()),
                _ => Decision::NoOpinion(String::new()),
            }
        };
        let secrets = role("dev", "secrets", &["get"]);
        let all = binding("dev", "ClusterRole", "all");
        let may = |kind, object, verb| check(&index, &eve, kind, object, None, &only(verb)).is_ok();
        assert!(may(Kind::Role, &secrets, "escalate") && !may(Kind::Role, &secrets, "bind"));
        assert!(may(Kind::RoleBinding, &all, "bind") && !may(Kind::RoleBinding, &all, "escalate"));
    }

    #[test]
    fn letting_go_is_no_escalation_but_a_label_is() {
        let ada = User::new("ada", []);
        let mut old = role("dev", "secrets", &["get"]);
        old["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
        let mut new = role("dev", "secrets", &["get"]);
        assert_eq!(write(&ada, Kind::Role, &new, Some(&old)), Ok(()));
        new["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-admin": "true"});
        assert!(write(&ada, Kind::Role, &new, Some(&old)).is_err());
    }
}
