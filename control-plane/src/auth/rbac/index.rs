//! All roles and bindings, arranged by who they speak of, so that a question costs a few look-ups whatever their number.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::rule::Rule;
use crate::auth::attributes::{Attributes, Decision, Target};
use crate::auth::user::{User, service_account_name};

/// The four kinds of `rbac.authorization.k8s.io/v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum Kind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl Kind {
    /// From the plural in a path or a store's key.
    pub fn from_resource(resource: &str) -> Option<Self> {
        match resource {
            "roles" => Some(Self::Role),
            "clusterroles" => Some(Self::ClusterRole),
            "rolebindings" => Some(Self::RoleBinding),
            "clusterrolebindings" => Some(Self::ClusterRoleBinding),
            _ => None,
        }
    }
}

/// A namespace and a name; the namespace is empty for what belongs to the cluster.
type Key = (String, String);

/// One subject of a binding, ready to be matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// A binding as far as it decides anything.
#[derive(Debug)]
struct Binding {
    key: Key,
    /// Namespace and name of the role; the namespace is empty for a cluster role.
    role: Key,
    subjects: Vec<(Subject, String)>,
}

/// The bindings of a namespace, or those of the cluster, by their subjects.
#[derive(Debug, Default)]
struct Scope(HashMap<Subject, Vec<Arc<Binding>>>);

/// A rule that a user has, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// The rule.
    pub rule: &'a Rule,
    binding: &'a Binding,
    subject: &'a str,
}

/// The index. Fed with every object at the start and with every change afterwards; the order does not matter, a binding may come
/// before its role.
///
/// # Examples
/// ```
/// use heddle_server::auth::rbac::{Index, Kind};
/// # use heddle_server::auth::{User, attributes::{Attributes, Resource}};
/// # use serde_json::json;
/// let mut index = Index::default();
/// index.put(Kind::ClusterRole, &json!({"metadata": {"name": "reader"},
///     "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}));
/// index.put(Kind::RoleBinding, &json!({"metadata": {"name": "b", "namespace": "dev"},
///     "roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": [{"kind": "User", "name": "ada"}]}));
/// let ada = User::new("ada", []);
/// let pods = Resource { resource: "pods", namespace: "dev", ..Resource::default() };
/// assert!(index.decide(&Attributes::on(&ada, "get", pods)).is_allowed());
/// ```
#[derive(Debug, Default)]
pub struct Index {
    roles: HashMap<Key, Arc<Vec<Rule>>>,
    bindings: HashMap<Key, Arc<Binding>>,
    scopes: HashMap<String, Scope>,
}

impl Index {
    /// An object was made or changed.
    pub fn put(&mut self, kind: Kind, object: &Value) {
        let key = key_of(object);
        match kind {
            Kind::Role | Kind::ClusterRole => {
                self.roles.insert(key, Arc::new(Rule::of_role(object)));
            }
            Kind::RoleBinding | Kind::ClusterRoleBinding => {
                self.unbind(&key);
                let binding = Arc::new(Binding::read(key, object));
                let scope = self.scopes.entry(binding.key.0.clone()).or_default();
                for (subject, _) in &binding.subjects {
                    let held = scope.0.entry(subject.clone()).or_default();
                    if !held.iter().any(|other| Arc::ptr_eq(other, &binding)) {
                        held.push(Arc::clone(&binding));
                    }
                }
                self.bindings.insert(binding.key.clone(), binding);
            }
        }
    }

    /// An object is gone. `namespace`: empty for the cluster's.
    pub fn remove(&mut self, kind: Kind, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match kind {
            Kind::Role | Kind::ClusterRole => drop(self.roles.remove(&key)),
            Kind::RoleBinding | Kind::ClusterRoleBinding => self.unbind(&key),
        }
    }

    /// Whether a rule allows what is asked for.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let namespace = match attributes.target {
            Target::Resource(it) => it.namespace,
            Target::Path(_) => "",
        };
        let grants = self.grants(attributes.user, namespace);
        for grant in grants {
            if grant.rule.allows(attributes) {
                return Decision::Allow(grant.reason());
            }
        }
        Decision::NoOpinion(String::new())
    }

    /// Every rule that a user has in a namespace, those of the cluster first; an empty namespace means those only.
    pub fn grants<'a>(
        &'a self,
        user: &'a User,
        namespace: &str,
    ) -> impl Iterator<Item = Grant<'a>> {
        let cluster = self.scopes.get("");
        let local = Some(namespace).filter(|name| !name.is_empty());
        let scopes = cluster.into_iter().chain(local.and_then(|name| self.scopes.get(name)));
        scopes.flat_map(move |scope| self.scope_grants(scope, user))
    }

    fn scope_grants<'a>(
        &'a self,
        scope: &'a Scope,
        user: &'a User,
    ) -> impl Iterator<Item = Grant<'a>> {
        let name = std::iter::once(Subject::User(user.name.clone()));
        let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
        let matched = name.chain(groups).filter_map(|subject| scope.0.get_key_value(&subject));
        let bindings =
            matched.flat_map(|(subject, held)| held.iter().map(move |one| (subject, one)));
        bindings.flat_map(move |(subject, binding)| {
            let rules = self.roles.get(&binding.role).into_iter().flat_map(|rules| rules.iter());
            let subject = binding.describe(subject);
            rules.map(move |rule| Grant { rule, binding, subject })
        })
    }

    /// The rules of a role; `None` when there is none. `namespace`: empty for a cluster role.
    pub fn role(&self, namespace: &str, name: &str) -> Option<Arc<Vec<Rule>>> {
        self.roles.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn unbind(&mut self, key: &Key) {
        let Some(binding) = self.bindings.remove(key) else { return };
        let Some(scope) = self.scopes.get_mut(&key.0) else { return };
        for (subject, _) in &binding.subjects {
            if let Some(held) = scope.0.get_mut(subject) {
                held.retain(|other| other.key != *key);
                if held.is_empty() {
                    scope.0.remove(subject);
                }
            }
        }
        if scope.0.is_empty() {
            self.scopes.remove(&key.0);
        }
    }
}

impl Binding {
    fn read(key: Key, object: &Value) -> Self {
        let reference = &object["roleRef"];
        let namespace =
            if text(&reference["kind"]) == "Role" { key.0.clone() } else { String::new() };
        let subjects = object["subjects"].as_array().into_iter().flatten();
        let subjects = subjects.filter_map(|subject| read_subject(subject, &key.0)).collect();
        Self { role: (namespace, text(&reference["name"])), key, subjects }
    }

    /// A subject as it stands in the binding.
    fn describe(&self, wanted: &Subject) -> &str {
        let found = self.subjects.iter().find(|(subject, _)| subject == wanted);
        found.map_or("", |(_, described)| described)
    }
}

impl Grant<'_> {
    /// Why something is allowed, as kube-apiserver says it in audit logs and reviews.
    pub fn reason(&self) -> String {
        let ((namespace, name), (role_namespace, role)) = (&self.binding.key, &self.binding.role);
        let kind = if role_namespace.is_empty() { "ClusterRole" } else { "Role" };
        let binding = if namespace.is_empty() {
            format!("ClusterRoleBinding {name:?}")
        } else {
            format!("RoleBinding \"{name}/{namespace}\"")
        };
        format!("RBAC: allowed by {binding} of {kind} {role:?} to {}", self.subject)
    }
}

fn read_subject(subject: &Value, namespace: &str) -> Option<(Subject, String)> {
    let name = text(&subject["name"]);
    match subject["kind"].as_str()? {
        "User" => Some((Subject::User(name.clone()), format!("User {name:?}"))),
        "Group" => Some((Subject::Group(name.clone()), format!("Group {name:?}"))),
        "ServiceAccount" => {
            let own = text(&subject["namespace"]);
            let namespace = if own.is_empty() { namespace.to_owned() } else { own };
            let described = format!("ServiceAccount \"{name}/{namespace}\"");
            let user = Subject::User(service_account_name(&namespace, &name));
            (!namespace.is_empty()).then_some((user, described))
        }
        _ => None,
    }
}

fn key_of(object: &Value) -> Key {
    (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
