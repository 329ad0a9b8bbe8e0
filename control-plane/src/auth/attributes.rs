//! What somebody wants to do, and the sentence that refuses it.

use serde_json::{Value, json};

use super::User;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Objects of the API.
    Resource(Resource<'a>),
    /// A path that is none, such as `/healthz`.
    Path(&'a str),
}

/// Objects of the API. What does not apply is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resource<'a> {
    /// The API group; empty for the core.
    pub group: &'a str,
    /// The plural, such as `pods`.
    pub resource: &'a str,
    /// Such as `status`.
    pub subresource: &'a str,
    /// The namespace; empty for the whole cluster.
    pub namespace: &'a str,
    /// The object; empty for all, and when one is created.
    pub name: &'a str,
}

/// A question to an authorizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// Kubernetes' verb (`get list watch create update patch delete deletecollection`, …), or the HTTP method in small letters for a path.
    pub verb: &'a str,
    /// What for.
    pub target: Target<'a>,
    /// The node that a field selector `spec.nodeName=…` pins a list or watch to; empty without one.
    pub selected_node: &'a str,
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No, whatever others say, and why.
    Deny(String),
    /// Nothing that this authorizer knows of allows it; the reason may be empty.
    NoOpinion(String),
}

impl Decision {
    /// Whether it is a yes.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The reason that was given.
    pub fn reason(&self) -> &str {
        let (Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason)) = self;
        reason
    }
}

impl<'a> Attributes<'a> {
    /// A question about objects. For a list or watch with the field selector `metadata.name=…` that is the resource's name.
    pub const fn on(user: &'a User, verb: &'a str, resource: Resource<'a>) -> Self {
        Self { user, verb, target: Target::Resource(resource), selected_node: "" }
    }

    /// The same, of the pods of one node.
    #[must_use]
    pub const fn of_node(self, node: &'a str) -> Self {
        Self { selected_node: node, ..self }
    }

    /// A question about a path.
    pub const fn at(user: &'a User, verb: &'a str, path: &'a str) -> Self {
        Self { user, verb, target: Target::Path(path), selected_node: "" }
    }

    /// What the user cannot do, as kube-apiserver says it.
    fn cannot(&self) -> String {
        let (user, verb) = (&self.user.name, self.verb);
        match self.target {
            Target::Path(path) => format!("User {user:?} cannot {verb} path {path:?}"),
            Target::Resource(it) => {
                let (what, group) = (it.qualified(), it.group);
                let place = match it.namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                format!(
                    "User {user:?} cannot {verb} resource {what:?} in API group {group:?} {place}"
                )
            }
        }
    }

    /// The message of the 403. `reason`: the authorizer's, may be empty.
    pub fn forbidden_message(&self, reason: &str) -> String {
        let cannot = self.cannot();
        let said = if reason.is_empty() { cannot } else { format!("{cannot}: {reason}") };
        match self.target {
            Target::Path(_) => format!("forbidden: {said}"),
            Target::Resource(it) => forbidden_message(it.group, it.resource, it.name, &said),
        }
    }

    /// The 403 as a `Status`.
    pub fn forbidden(&self, reason: &str) -> Value {
        status(self.forbidden_message(reason), self.details())
    }

    /// The details of the 403: what was asked for.
    pub fn details(&self) -> Value {
        match self.target {
            Target::Path(_) => json!({}),
            Target::Resource(it) => details(it.group, it.resource, it.name),
        }
    }
}

impl Resource<'_> {
    /// `pods` or `pods/log`.
    pub fn qualified(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

/// `roles.rbac.authorization.k8s.io "x" is forbidden: …`
pub fn forbidden_message(group: &str, resource: &str, name: &str, why: &str) -> String {
    let qualified =
        if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    match name {
        "" => format!("{qualified} is forbidden: {why}"),
        name => format!("{qualified} {name:?} is forbidden: {why}"),
    }
}

/// A 403 `Status` for an object.
pub fn forbidden_status(group: &str, resource: &str, name: &str, why: &str) -> Value {
    status(forbidden_message(group, resource, name, why), details(group, resource, name))
}

fn details(group: &str, resource: &str, name: &str) -> Value {
    let pairs = [("name", name), ("group", group), ("kind", resource)];
    let filled = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    filled
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn status(message: String, details: Value) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "Forbidden",
        "details": details,
        "code": 403,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_kube_apiservers() {
        let user = User::new("ada", []);
        let pods = Resource { resource: "pods", namespace: "default", ..Resource::default() };
        let scale = Resource {
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            namespace: "dev",
            name: "web",
        };
        let nodes = Resource { resource: "nodes", ..Resource::default() };
        let cases = [
            (
                Attributes::on(&user, "list", pods),
                r#"pods is forbidden: User "ada" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                Attributes::on(&user, "patch", scale),
                r#"deployments.apps "web" is forbidden: User "ada" cannot patch resource "deployments/scale" in API group "apps" in the namespace "dev""#,
            ),
            (
                Attributes::on(&user, "watch", nodes),
                r#"nodes is forbidden: User "ada" cannot watch resource "nodes" in API group "" at the cluster scope"#,
            ),
            (
                Attributes::at(&user, "get", "/metrics"),
                r#"forbidden: User "ada" cannot get path "/metrics""#,
            ),
        ];
        for (attributes, expected) in cases {
            assert_eq!(attributes.forbidden_message(""), expected);
        }
        let status = Attributes::on(&user, "patch", scale).forbidden("no relationship found");
        assert_eq!(
            status["details"],
            json!({"name": "web", "group": "apps", "kind": "deployments"})
        );
        assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")));
        assert!(status["message"].as_str().unwrap().ends_with(r#""dev": no relationship found"#));
    }
}
