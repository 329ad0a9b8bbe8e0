//! The roles and bindings that every cluster has, and how those that are there are brought up to them.
//!
//! "Auto-reconciliation" of the RBAC documentation: at each start what is missing is added; what somebody added stays; an object annotated
//! `rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::aggregation::{by_label, due};
use super::{GROUP, Kind, Rule};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";

/// What has to be written for an object to be as it should.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// It is not there.
    Create(Kind, Value),
    /// It lacks something.
    Update(Kind, Value),
    /// It speaks of another role, which cannot be changed: delete it, then create this.
    Recreate(Kind, Value),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Table {
    cluster_roles: Vec<Role>,
    controllers: Vec<Role>,
    cluster_role_bindings: Vec<Binding>,
    roles: Vec<Role>,
    role_bindings: Vec<Binding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    aggregate: Option<String>,
    #[serde(default)]
    rules: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    role: String,
    subjects: Vec<String>,
}

/// All of them, roles before bindings, with what aggregates gather already in them.
pub fn objects() -> Vec<(Kind, Value)> {
    let table: Table =
        serde_saphyr::from_str(include_str!("defaults.yaml")).expect("a table that a test reads");
    let Table { mut cluster_roles, controllers, mut cluster_role_bindings, roles, role_bindings } =
        table;
    for mut role in controllers {
        let subjects = vec![format!("ServiceAccount kube-system/{}", role.name)];
        role.name = format!("system:controller:{}", role.name);
        let (name, namespace) = (role.name.clone(), None);
        cluster_role_bindings.push(Binding { role: name.clone(), name, namespace, subjects });
        cluster_roles.push(role);
    }
    let mut cluster_roles: Vec<_> =
        cluster_roles.iter().map(|role| role.object("ClusterRole")).collect();
    gather(&mut cluster_roles);
    let bindings =
        cluster_role_bindings.iter().map(|one| one.object("ClusterRoleBinding", "ClusterRole"));
    let of = |kind: Kind| move |object: Value| (kind, object);
    cluster_roles
        .into_iter()
        .map(of(Kind::ClusterRole))
        .chain(roles.iter().map(|role| role.object("Role")).map(of(Kind::Role)))
        .chain(bindings.map(of(Kind::ClusterRoleBinding)))
        .chain(
            role_bindings
                .iter()
                .map(|one| one.object("RoleBinding", "Role"))
                .map(of(Kind::RoleBinding)),
        )
        .collect()
}

/// What to write so that one of [`objects`] is as it should be; `None` when it is. `existing`: what is there; `None` when nothing is.
/// Idempotent: what it answers, once written, needs nothing more.
pub fn reconcile(kind: Kind, wanted: &Value, existing: Option<&Value>) -> Option<Wanted> {
    let Some(existing) = existing else { return Some(Wanted::Create(kind, wanted.clone())) };
    if existing["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let mut merged = existing.clone();
    for field in ["labels", "annotations"] {
        add_missing(&mut merged["metadata"][field], &wanted["metadata"][field]);
    }
    match kind {
        Kind::Role | Kind::ClusterRole => merge_role(&mut merged, wanted),
        Kind::RoleBinding | Kind::ClusterRoleBinding => {
            if wanted["subjects"].is_array() {
                add_items(&mut merged["subjects"], &wanted["subjects"]);
            }
            if existing["roleRef"] != wanted["roleRef"] {
                return Some(Wanted::Recreate(kind, recreated(&merged, wanted)));
            }
        }
    }
    (merged != *existing).then_some(Wanted::Update(kind, merged))
}

impl Role {
    fn object(&self, kind: &str) -> Value {
        let mut object = skeleton(kind, &self.name, self.namespace.as_deref());
        for label in &self.labels {
            object["metadata"]["labels"][label] = json!("true");
        }
        object["rules"] = json!(self.rules);
        if let Some(label) = &self.aggregate {
            object["aggregationRule"] = by_label(label);
        }
        object
    }
}

impl Binding {
    fn object(&self, kind: &str, role_kind: &str) -> Value {
        let mut object = skeleton(kind, &self.name, self.namespace.as_deref());
        object["roleRef"] = json!({"apiGroup": GROUP, "kind": role_kind, "name": self.role});
        if !self.subjects.is_empty() {
            object["subjects"] = self.subjects.iter().map(|text| subject(text)).collect();
        }
        object
    }
}

fn skeleton(kind: &str, name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": name,
        "annotations": {AUTOUPDATE: "true"},
        "labels": {BOOTSTRAPPING: "rbac-defaults"},
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata})
}

fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(' ').unwrap_or((text, ""));
    match name.split_once('/') {
        Some((namespace, name)) if kind == "ServiceAccount" => {
            json!({"kind": kind, "name": name, "namespace": namespace})
        }
        _ => json!({"apiGroup": GROUP, "kind": kind, "name": name}),
    }
}

/// Fills aggregates in until nothing changes: `admin` gathers `edit`, which gathers `view`.
fn gather(roles: &mut [Value]) {
    loop {
        let written = due(roles);
        if written.is_empty() {
            return;
        }
        for object in written {
            let place = roles
                .iter_mut()
                .find(|role| role["metadata"]["name"] == object["metadata"]["name"]);
            if let Some(place) = place {
                *place = object;
            }
        }
    }
}

/// An aggregate's rules are its gatherer's business; others get the rules that they lack.
fn merge_role(merged: &mut Value, wanted: &Value) {
    if !wanted["aggregationRule"].is_null() {
        let list = |role: &Value| role["aggregationRule"]["clusterRoleSelectors"].clone();
        let mut selectors = list(merged);
        add_items(&mut selectors, &list(wanted));
        if selectors != list(merged) {
            merged["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        }
        return;
    }
    let own = Rule::of_role(merged);
    let missing: Vec<_> = Rule::of_role(wanted)
        .into_iter()
        .filter(|rule| {
            !rule.broken_down().iter().all(|part| own.iter().any(|own| own.covers(part)))
        })
        .collect();
    for rule in missing {
        add_items(&mut merged["rules"], &json!([rule.to_json()]));
    }
}

fn recreated(merged: &Value, wanted: &Value) -> Value {
    let mut object = wanted.clone();
    for field in ["labels", "annotations"] {
        object["metadata"][field] = merged["metadata"][field].clone();
    }
    object["subjects"] = merged["subjects"].clone();
    if object["subjects"].is_null() {
        object.as_object_mut().map(|fields| fields.remove("subjects"));
    }
    object
}

fn add_missing(into: &mut Value, from: &Value) {
    let Some(from) = from.as_object() else { return };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, value) in from {
        if into.get(key).is_none() {
            into[key] = value.clone();
        }
    }
}

fn add_items(into: &mut Value, from: &Value) {
    let missing: Vec<_> = {
        let own = into.as_array().map_or(&[][..], Vec::as_slice);
        from.as_array().into_iter().flatten().filter(|item| !own.contains(item)).cloned().collect()
    };
    if missing.is_empty() {
        return;
    }
    match into.as_array_mut() {
        Some(own) => own.extend(missing),
        None => *into = Value::Array(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::User;
    use crate::auth::attributes::{Attributes, Resource};
    use crate::auth::rbac::Index;

    fn index() -> Index {
        let mut index = Index::default();
        for (kind, object) in objects() {
            index.put(kind, &object);
        }
        index
    }

    fn find(name: &str, wanted: Kind) -> Value {
        let mut all = objects().into_iter();
        all.find(|(kind, object)| *kind == wanted && object["metadata"]["name"] == name).unwrap().1
    }

    #[test]
    fn every_binding_names_a_role_and_no_name_is_there_twice() {
        let (all, index) = (objects(), index());
        let mut seen = std::collections::BTreeSet::new();
        for (kind, object) in &all {
            let metadata = &object["metadata"];
            assert!(
                seen.insert(format!("{kind:?} {} {}", metadata["namespace"], metadata["name"]))
            );
            let (place, name) =
                (metadata["namespace"].as_str().unwrap_or_default(), &object["roleRef"]["name"]);
            if let Some(name) = name.as_str() {
                let place = if object["roleRef"]["kind"] == "Role" { place } else { "" };
                assert!(index.role(place, name).is_some(), "{object}");
            } else {
                assert!(!Rule::of_role(object).is_empty(), "{object}");
            }
        }
        assert!(all.len() > 60, "{}", all.len());
    }

    #[test]
    fn each_may_do_its_own_work() {
        let index = index();
        let may = |user: &User, verb: &str, what: &str| {
            if what.starts_with('/') {
                return index.decide(&Attributes::at(user, verb, what)).is_allowed();
            }
            let (resource, namespace) = what.split_once(' ').unwrap_or((what, ""));
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
            let it = Resource { group, resource, subresource, namespace, name: "" };
            index.decide(&Attributes::on(user, verb, it)).is_allowed()
        };
        let admin = User::new("kubernetes-admin", ["kubeadm:cluster-admins"]).authenticated();
        let anyone = User::new("ada", []).authenticated();
        let (proxy, scheduler) =
            (User::new("system:kube-proxy", []), User::new("system:kube-scheduler", []));
        let garbage = User::service_account("kube-system", "generic-garbage-collector", "");
        let deployments = User::service_account("kube-system", "deployment-controller", "");
        let cases = [
            (&admin, "escalate", "roles.rbac.authorization.k8s.io x", true),
            (&admin, "get", "/metrics", true),
            (&anyone, "create", "selfsubjectaccessreviews.authorization.k8s.io", true),
            (&anyone, "get", "/apis/apps/v1", true),
            (&anyone, "get", "/openapi/v3", true),
            (&anyone, "get", "/metrics", false),
            (&anyone, "list", "pods default", false),
            (&User::anonymous(), "get", "/version", true),
            (&User::anonymous(), "get", "/api", false),
            (&proxy, "watch", "endpointslices.discovery.k8s.io", true),
            (&proxy, "list", "secrets", false),
            (&scheduler, "create", "pods/binding x", true),
            (&garbage, "delete", "deployments.apps x", true),
            (&deployments, "create", "replicasets.apps x", true),
            (&deployments, "create", "secrets x", false),
            (&User::new("system:node:n1", ["system:nodes"]), "list", "secrets", false),
        ];
        for (user, verb, what, expected) in cases {
            assert_eq!(may(user, verb, what), expected, "{} {verb} {what}", user.name);
        }
    }

    #[test]
    fn admin_holds_edit_and_edit_holds_view() {
        let rules = |name| Rule::of_role(&find(name, Kind::ClusterRole));
        let (admin, edit, view) = (rules("admin"), rules("edit"), rules("view"));
        assert!(
            view.iter().all(|rule| edit.contains(rule))
                && edit.iter().all(|rule| admin.contains(rule))
        );
        assert!(admin.len() > edit.len() && edit.len() > view.len() && !view.is_empty());
        let secrets = |rules: &[Rule]| {
            rules.iter().any(|rule| rule.resources.iter().any(|name| name == "secrets"))
        };
        assert!(!secrets(&view), "who may view does not see secrets");
        assert!(secrets(&edit));
    }

    #[test]
    fn what_is_as_it_should_be_is_not_written() {
        for (kind, wanted) in objects() {
            assert_eq!(reconcile(kind, &wanted, None), Some(Wanted::Create(kind, wanted.clone())));
            assert_eq!(reconcile(kind, &wanted, Some(&wanted)), None);
        }
    }

    #[test]
    fn what_somebody_added_stays_and_what_is_missing_comes_back() {
        let wanted = find("system:discovery", Kind::ClusterRole);
        let mut existing = wanted.clone();
        existing["rules"] = json!([{"verbs": ["get"], "nonResourceURLs": ["/mine"]}]);
        existing["metadata"]["labels"] = json!({"team": "a"});
        existing["metadata"]["uid"] = json!("u");
        let Some(Wanted::Update(_, merged)) =
            reconcile(Kind::ClusterRole, &wanted, Some(&existing))
        else {
            panic!()
        };
        assert_eq!(merged["rules"].as_array().unwrap().len(), 2);
        assert_eq!(
            merged["metadata"]["labels"],
            json!({"team": "a", BOOTSTRAPPING: "rbac-defaults"})
        );
        assert_eq!(merged["metadata"]["uid"], "u");
        assert_eq!(reconcile(Kind::ClusterRole, &wanted, Some(&merged)), None);
        existing["metadata"]["annotations"][AUTOUPDATE] = json!("false");
        assert_eq!(reconcile(Kind::ClusterRole, &wanted, Some(&existing)), None);
    }

    #[test]
    fn a_binding_to_another_role_is_made_anew() {
        let wanted = find("cluster-admin", Kind::ClusterRoleBinding);
        let mut existing = wanted.clone();
        existing["subjects"] = json!([{"kind": "User", "name": "eve", "apiGroup": GROUP}]);
        let Some(Wanted::Update(_, merged)) =
            reconcile(Kind::ClusterRoleBinding, &wanted, Some(&existing))
        else {
            panic!()
        };
        assert_eq!(merged["subjects"].as_array().unwrap().len(), 2);
        existing["roleRef"]["name"] = json!("view");
        let Some(Wanted::Recreate(_, made)) =
            reconcile(Kind::ClusterRoleBinding, &wanted, Some(&existing))
        else {
            panic!()
        };
        assert_eq!(made["roleRef"]["name"], "cluster-admin");
        assert_eq!(made["subjects"].as_array().unwrap().len(), 2);
    }
}
