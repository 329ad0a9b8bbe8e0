//! What there is to know of a kind, as data.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::column::Column;
use super::custom::Custom;
use super::strategy::{Plain, Strategy};
use crate::meta::name::{self, Rule};

/// A text that is usually written in the program, or else comes from a `CustomResourceDefinition`.
pub type Text = Cow<'static, str>;

/// A part of an object with a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subresource {
    /// `/status`: writes change the status only.
    Status,
    /// `/scale`: `autoscaling/v1 Scale` over `spec.replicas`.
    Scale,
    /// `/binding`: which node a pod runs on.
    Binding,
    /// `/eviction`: a deletion that respects disruption budgets.
    Eviction,
    /// `/finalize`: the finalizers of a namespace's spec.
    Finalize,
    /// `/token`: a token of a service account.
    Token,
}

impl Subresource {
    /// The last part of its path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Finalize => "finalize",
            Self::Token => "token",
        }
    }

    /// What may be asked of it.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Status | Self::Scale => &["get", "patch", "update"],
            Self::Finalize => &["update"],
            Self::Binding | Self::Eviction | Self::Token => &["create"],
        }
    }

    /// Group, version and kind of its bodies; `None`: those of the object.
    pub fn kind(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Self::Status | Self::Finalize => None,
            Self::Scale => Some(("autoscaling", "v1", "Scale")),
            Self::Binding => Some(("", "v1", "Binding")),
            Self::Eviction => Some(("policy", "v1", "Eviction")),
            Self::Token => Some(("authentication.k8s.io", "v1", "TokenRequest")),
        }
    }
}

/// A field by which objects can be selected.
#[derive(Clone, Debug)]
pub struct Selectable {
    /// Its name in a selector, such as `spec.nodeName`.
    pub name: Text,
    /// Where it stands, as JSON pointers; the first that is not empty counts.
    pub pointers: Vec<String>,
    /// What it is when it is absent.
    pub absent: &'static str,
}

impl Selectable {
    /// A field whose name is its place.
    pub fn field(name: impl Into<Text>) -> Self {
        let name = name.into();
        let pointer = format!("/{}", name.replace('.', "/"));
        Self { name, pointers: vec![pointer], absent: "" }
    }

    /// The field's value, as selectors see it.
    pub fn of(&self, object: &Value) -> String {
        self.pointers
            .iter()
            .filter_map(|pointer| match object.pointer(pointer)? {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            })
            .find(|text| !text.is_empty())
            .unwrap_or_else(|| self.absent.to_owned())
    }
}

/// The verbs of a resource that knows all of them, as discovery lists them.
pub const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A kind.
#[derive(Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a property of its own that a kind has or has not"
)]
pub struct Kind {
    /// The API group; empty is the core group.
    pub group: Text,
    /// The version of the group.
    pub version: Text,
    /// Its name in `kind:`.
    pub kind: Text,
    /// Its name in paths.
    pub plural: Text,
    /// Its name in kubectl's output.
    pub singular: Text,
    /// Other names that kubectl takes.
    pub short_names: Vec<Text>,
    /// Sets of kinds that it belongs to (`all`).
    pub categories: Vec<Text>,
    /// Its objects live in namespaces.
    pub namespaced: bool,
    /// What stands between `/registry/` and the namespace or name in the keys of the store.
    pub storage: Text,
    /// What may be asked of it.
    pub verbs: Vec<Text>,
    /// Its parts that have paths of their own.
    pub subresources: Vec<Subresource>,
    /// `metadata.generation` counts the changes of the spec.
    pub generation: bool,
    /// A PUT without resourceVersion overwrites whatever is there.
    pub unconditional_update: bool,
    /// A PUT to a name that does not exist makes it.
    pub create_on_update: bool,
    /// What names must look like.
    pub names: Rule,
    /// Fields that selectors can name, besides `metadata.name` and `metadata.namespace`.
    pub selectable: Vec<Selectable>,
    /// The columns of `kubectl get`.
    pub columns: Vec<Column>,
    /// How its objects are kept, where that is as another kind.
    pub form: Option<Form>,
    /// Defaults, validation and rows.
    pub strategy: Arc<dyn Strategy>,
    /// What a custom kind's definition says besides; `None`: it is built in.
    pub custom: Option<Arc<Custom>>,
}

/// A kind whose objects are those of another one, said in other words: both have the same keys.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// From the other kind's words to its own.
    pub shown: fn(&mut Value),
    /// From its own words to the other kind's.
    pub kept: fn(&mut Value),
}

/// How what is stored becomes an object of a kind, and back.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    form: Option<Form>,
    custom: Option<Arc<Custom>>,
}

impl Reading {
    /// What is stored, as the kind shows it.
    pub fn show(&self, object: &mut Value) {
        if let Some(form) = self.form {
            (form.shown)(object);
        }
        if let Some(custom) = &self.custom {
            custom.read(object);
        }
    }

    /// An object of the kind, as it is stored.
    pub fn keep(&self, object: &mut Value) {
        if let Some(form) = self.form {
            (form.kept)(object);
        }
        if let Some(custom) = &self.custom {
            object["apiVersion"] = Value::from(custom.stored_version.as_str());
        }
    }

    /// Grows with every change of a custom kind's definition.
    pub fn serial(&self) -> u64 {
        self.custom.as_ref().map_or(0, |custom| custom.serial)
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.resource(), self.version)
    }
}

impl Kind {
    /// A namespaced kind with every verb, whose keys begin with its plural, and with neither defaults nor rules of its own.
    pub fn new(
        group: impl Into<Text>,
        version: impl Into<Text>,
        kind: impl Into<Text>,
        plural: impl Into<Text>,
    ) -> Self {
        let (kind, plural) = (kind.into(), plural.into());
        Self {
            group: group.into(),
            version: version.into(),
            singular: kind.to_lowercase().into(),
            storage: plural.clone(),
            kind,
            plural,
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: ALL_VERBS.iter().map(|verb| Text::Borrowed(*verb)).collect(),
            subresources: Vec::new(),
            generation: false,
            unconditional_update: true,
            create_on_update: false,
            names: name::dns_subdomain,
            selectable: Vec::new(),
            columns: Column::name_and_age(),
            form: None,
            strategy: Arc::new(Plain),
            custom: None,
        }
    }

    /// Objects stand beside namespaces, not in them.
    #[must_use]
    pub fn cluster_scoped(mut self) -> Self {
        self.namespaced = false;
        self
    }

    /// Keys begin with this.
    #[must_use]
    pub fn stored_as(mut self, storage: &'static str) -> Self {
        self.storage = storage.into();
        self
    }

    /// Other names that kubectl takes.
    #[must_use]
    pub fn short(mut self, names: &[&'static str]) -> Self {
        self.short_names = names.iter().map(|name| Text::Borrowed(*name)).collect();
        self
    }

    /// Belongs to `kubectl get all`.
    #[must_use]
    pub fn in_all(mut self) -> Self {
        self.categories.push("all".into());
        self
    }

    /// Has these subresources.
    #[must_use]
    pub fn with(mut self, subresources: &[Subresource]) -> Self {
        self.subresources = subresources.to_vec();
        self
    }

    /// Counts the changes of its spec.
    #[must_use]
    pub fn with_generation(mut self) -> Self {
        self.generation = true;
        self
    }

    /// Names follow this rule.
    #[must_use]
    pub fn named(mut self, names: Rule) -> Self {
        self.names = names;
        self
    }

    /// Selectors can name these fields.
    #[must_use]
    pub fn select_by(mut self, fields: &[&'static str]) -> Self {
        self.selectable.extend(fields.iter().map(|name| Selectable::field(*name)));
        self
    }

    /// `kubectl get` shows these columns.
    #[must_use]
    pub fn columns(mut self, columns: Vec<Column>) -> Self {
        self.columns = columns;
        self
    }

    /// Behaves like this.
    #[must_use]
    pub fn behaves(mut self, strategy: impl Strategy) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        match &*self.group {
            "" => self.version.to_string(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The resource as messages name it: `pods`, `deployments.apps`.
    pub fn resource(&self) -> String {
        match &*self.group {
            "" => self.plural.to_string(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The kind as messages name it: `Pod`, `Deployment.apps`.
    pub fn group_kind(&self) -> String {
        match &*self.group {
            "" => self.kind.to_string(),
            group => format!("{}.{group}", self.kind),
        }
    }

    /// What its lists are called in `kind:`.
    pub fn list_kind(&self) -> String {
        self.custom
            .as_ref()
            .map_or_else(|| format!("{}List", self.kind), |custom| custom.list_kind.clone())
    }

    /// How what is stored becomes an object of this kind.
    pub fn reading(&self) -> Reading {
        Reading { form: self.form, custom: self.custom.clone() }
    }

    /// What all keys of the kind begin with, or those of one namespace.
    pub fn prefix(&self, namespace: &str) -> String {
        match namespace {
            "" => format!("/registry/{}/", self.storage),
            namespace => format!("/registry/{}/{namespace}/", self.storage),
        }
    }

    /// The key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        let namespace = if self.namespaced { namespace } else { "" };
        format!("{}{name}", self.prefix(namespace))
    }

    /// Its objects may have finalizers without a domain, which are only warned of: custom ones, and definitions of their kinds.
    pub fn names_finalizers_freely(&self) -> bool {
        self.custom.is_some() || self.group == "apiextensions.k8s.io"
    }

    /// A verb is served.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<Subresource> {
        self.subresources.iter().copied().find(|known| known.name() == name)
    }

    /// A field of an object as selectors see it; `None`: the kind cannot be selected by it.
    pub fn field(&self, object: &Value, name: &str) -> Option<String> {
        let at = |pointer| {
            object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        match name {
            "metadata.name" => Some(at("/metadata/name")),
            "metadata.namespace" if self.namespaced => Some(at("/metadata/namespace")),
            name => Some(self.selectable.iter().find(|field| field.name == name)?.of(object)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_those_of_kube_apiserver() {
        let services = Kind::new("", "v1", "Service", "services").stored_as("services/specs");
        assert_eq!(services.key("default", "web"), "/registry/services/specs/default/web");
        let nodes = Kind::new("", "v1", "Node", "nodes").cluster_scoped().stored_as("minions");
        assert_eq!(nodes.key("", "n1"), "/registry/minions/n1");
        assert_eq!(nodes.key("ignored", "n1"), "/registry/minions/n1");
        assert_eq!(services.prefix(""), "/registry/services/specs/");
    }

    #[test]
    fn absent_fields_have_a_value_for_selectors() {
        let mut kind = Kind::new("", "v1", "Node", "nodes").cluster_scoped();
        kind.selectable
            .push(Selectable { absent: "false", ..Selectable::field("spec.unschedulable") });
        assert_eq!(kind.field(&json!({}), "spec.unschedulable").unwrap(), "false");
        let cordoned = json!({"spec": {"unschedulable": true}});
        assert_eq!(kind.field(&cordoned, "spec.unschedulable").unwrap(), "true");
        assert_eq!(kind.field(&json!({}), "spec.other"), None);
        assert_eq!(kind.field(&json!({}), "metadata.namespace"), None);
    }
}
