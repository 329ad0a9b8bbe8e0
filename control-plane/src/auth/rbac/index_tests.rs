//! Questions to an index that changes.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::attributes::Resource;

fn role(namespace: &str, name: &str, verb: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]})
}

fn binding(namespace: &str, name: &str, role: &str, subjects: Value) -> Value {
    let (kind, role) = role.split_once(' ').unwrap();
    json!({"metadata": {"name": name, "namespace": namespace},
        "roleRef": {"kind": kind, "name": role}, "subjects": subjects})
}

fn ask(index: &Index, user: &User, verb: &str, namespace: &str) -> Decision {
    let pods = Resource { resource: "pods", namespace, ..Resource::default() };
    index.decide(&Attributes::on(user, verb, pods))
}

fn scene() -> Index {
    let mut index = Index::default();
    let builder =
        json!([{"kind": "ServiceAccount", "name": "builder"}, {"kind": "User", "name": "ada"}]);
    index.put(Kind::RoleBinding, &binding("dev", "b", "Role r", builder));
    index.put(
        Kind::RoleBinding,
        &binding("dev", "c", "ClusterRole lister", json!([{"kind": "Group", "name": "ops"}])),
    );
    index.put(Kind::ClusterRoleBinding, &binding("", "w", "ClusterRole watcher", json!([
        {"kind": "ServiceAccount", "name": "x", "namespace": "kube-system"}, {"kind": "ServiceAccount", "name": "nowhere"}])));
    index.put(Kind::Role, &role("dev", "r", "get"));
    index.put(Kind::Role, &role("prod", "r", "delete"));
    index.put(Kind::ClusterRole, &role("", "lister", "list"));
    index.put(Kind::ClusterRole, &role("", "watcher", "watch"));
    index
}

#[test]
fn bindings_reach_as_far_as_their_namespace() {
    let index = scene();
    let (ada, ops) = (User::new("ada", []), User::new("bob", ["ops"]));
    let builder = User::service_account("dev", "builder", "");
    let foreign = User::service_account("prod", "builder", "");
    let system = User::service_account("kube-system", "x", "");
    let cases = [
        (&ada, "get", "dev", r#"RBAC: allowed by RoleBinding "b/dev" of Role "r" to User "ada""#),
        (&ada, "get", "prod", ""),
        (&ada, "get", "", ""),
        (&ada, "delete", "dev", ""),
        (
            &builder,
            "get",
            "dev",
            r#"RBAC: allowed by RoleBinding "b/dev" of Role "r" to ServiceAccount "builder/dev""#,
        ),
        (&foreign, "get", "dev", ""),
        (
            &ops,
            "list",
            "dev",
            r#"RBAC: allowed by RoleBinding "c/dev" of ClusterRole "lister" to Group "ops""#,
        ),
        (&ops, "list", "", ""),
        (
            &system,
            "watch",
            "",
            r#"RBAC: allowed by ClusterRoleBinding "w" of ClusterRole "watcher" to ServiceAccount "x/kube-system""#,
        ),
        (
            &system,
            "watch",
            "anywhere",
            r#"RBAC: allowed by ClusterRoleBinding "w" of ClusterRole "watcher" to ServiceAccount "x/kube-system""#,
        ),
    ];
    for (user, verb, namespace, reason) in cases {
        let decision = ask(&index, user, verb, namespace);
        assert_eq!(decision.is_allowed(), !reason.is_empty(), "{} {verb} {namespace}", user.name);
        assert_eq!(decision.reason(), reason);
    }
}

#[test]
fn a_change_counts_at_once_and_leaves_nothing_behind() {
    let mut index = scene();
    let ada = User::new("ada", []);
    index.put(Kind::Role, &role("dev", "r", "patch"));
    assert!(ask(&index, &ada, "patch", "dev").is_allowed());
    assert!(!ask(&index, &ada, "get", "dev").is_allowed());
    index.put(
        Kind::RoleBinding,
        &binding("dev", "b", "Role r", json!([{"kind": "User", "name": "eve"}])),
    );
    assert!(!ask(&index, &ada, "patch", "dev").is_allowed());
    assert!(ask(&index, &User::new("eve", []), "patch", "dev").is_allowed());
    index.remove(Kind::Role, "dev", "r");
    assert!(!ask(&index, &User::new("eve", []), "patch", "dev").is_allowed());
    index.remove(Kind::RoleBinding, "dev", "b");
    index.remove(Kind::RoleBinding, "dev", "c");
    index.remove(Kind::RoleBinding, "dev", "never");
    index.remove(Kind::ClusterRoleBinding, "", "w");
    assert!(index.scopes.is_empty() && index.bindings.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Bind(usize, usize, usize),
    Unbind(usize),
    Role(usize, usize),
    NoRole(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4usize, 0..3usize, 0..3usize).prop_map(|(name, role, who)| Step::Bind(name, role, who)),
        (0..4usize).prop_map(Step::Unbind),
        (0..3usize, 0..3usize).prop_map(|(role, verb)| Step::Role(role, verb)),
        (0..3usize).prop_map(Step::NoRole),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    /// An index that followed all changes decides as one that is built from what is left.
    #[test]
    fn following_is_as_good_as_building_anew(steps in steps()) {
        let verbs = ["get", "list", "watch"];
        let mut index = Index::default();
        let (mut roles, mut bindings) = (HashMap::new(), HashMap::new());
        for step in steps {
            match step {
                Step::Bind(name, of, who) => {
                    let object = binding("dev", &format!("b{name}"), &format!("Role r{of}"),
                        json!([{"kind": "User", "name": format!("u{who}")}, {"kind": "Group", "name": "g"}]));
                    index.put(Kind::RoleBinding, &object);
                    bindings.insert(name, object);
                }
                Step::Unbind(name) => {
                    index.remove(Kind::RoleBinding, "dev", &format!("b{name}"));
                    bindings.remove(&name);
                }
                Step::Role(name, verb) => {
                    let object = role("dev", &format!("r{name}"), verbs[verb]);
                    index.put(Kind::Role, &object);
                    roles.insert(name, object);
                }
                Step::NoRole(name) => {
                    index.remove(Kind::Role, "dev", &format!("r{name}"));
                    roles.remove(&name);
                }
            }
        }
        let mut anew = Index::default();
        for object in bindings.values() {
 anew.put(Kind::RoleBinding, object);
}
        for object in roles.values() {
 anew.put(Kind::Role, object);
}
        for user in [User::new("u0", []), User::new("u1", []), User::new("u2", []), User::new("x", ["g"])] {
            for verb in verbs {
                let (followed, built) = (ask(&index, &user, verb, "dev"), ask(&anew, &user, verb, "dev"));
                prop_assert_eq!(followed.is_allowed(), built.is_allowed());
            }
        }
    }
}
