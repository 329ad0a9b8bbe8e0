//! An object's metadata, read from and written to its JSON.
//!
//! Readers answer with the empty value for what is absent or of another type: types are the decoder's to check, before an object
//! comes here.

use serde_json::{Map, Value};

use super::field_error::{FieldError, FieldPath, Mistake};
use super::go_value::{GoType, OWNERS, TEXTS};
use super::label;
use super::name::{self, Rule};

/// The finalizer of a deletion that leaves the dependents.
pub const FINALIZER_ORPHAN: &str = "orphan";
/// The finalizer of a deletion that waits for the dependents.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";

/// The metadata of an object, to be read.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a>(Option<&'a Map<String, Value>>);

/// Who an object belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// The owner's API version.
    pub api_version: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// It manages the object.
    pub controller: bool,
    /// A foreground deletion of it waits for the object.
    pub block_owner_deletion: bool,
}

impl<'a> Meta<'a> {
    /// The metadata of an object.
    pub fn of(object: &'a Value) -> Self {
        Self(object.get("metadata").and_then(Value::as_object))
    }

    /// What stands in a field of the metadata; null for nothing.
    pub fn get(self, field: &str) -> &'a Value {
        self.0.and_then(|fields| fields.get(field)).unwrap_or(&Value::Null)
    }

    /// A field that is a text.
    pub fn text(self, field: &str) -> &'a str {
        self.get(field).as_str().unwrap_or_default()
    }

    /// `name`.
    pub fn name(self) -> &'a str {
        self.text("name")
    }

    /// `generateName`.
    pub fn generate_name(self) -> &'a str {
        self.text("generateName")
    }

    /// `namespace`; empty for objects of the cluster.
    pub fn namespace(self) -> &'a str {
        self.text("namespace")
    }

    /// `uid`.
    pub fn uid(self) -> &'a str {
        self.text("uid")
    }

    /// `resourceVersion`.
    pub fn resource_version(self) -> &'a str {
        self.text("resourceVersion")
    }

    /// `generation`; 0 when there is none.
    pub fn generation(self) -> i64 {
        self.get("generation").as_i64().unwrap_or_default()
    }

    /// `creationTimestamp`, as it is written.
    pub fn creation_timestamp(self) -> Option<&'a str> {
        self.get("creationTimestamp").as_str()
    }

    /// `deletionTimestamp`, as it is written; `None`: nobody deletes the object.
    pub fn deletion_timestamp(self) -> Option<&'a str> {
        self.get("deletionTimestamp").as_str()
    }

    /// `deletionGracePeriodSeconds`.
    pub fn deletion_grace_period(self) -> Option<i64> {
        self.get("deletionGracePeriodSeconds").as_i64()
    }

    /// `labels`: a map of texts, or null.
    pub fn labels(self) -> &'a Value {
        self.get("labels")
    }

    /// The value of a label.
    pub fn label(self, key: &str) -> Option<&'a str> {
        self.labels().get(key)?.as_str()
    }

    /// The value of an annotation.
    pub fn annotation(self, key: &str) -> Option<&'a str> {
        self.get("annotations").get(key)?.as_str()
    }

    /// `finalizers`.
    pub fn finalizers(self) -> Vec<&'a str> {
        self.list("finalizers").iter().filter_map(Value::as_str).collect()
    }

    /// `ownerReferences`.
    pub fn owner_references(self) -> Vec<OwnerReference<'a>> {
        self.list("ownerReferences").iter().map(owner_reference).collect()
    }

    /// The owner that manages the object.
    pub fn controller(self) -> Option<OwnerReference<'a>> {
        self.owner_references().into_iter().find(|owner| owner.controller)
    }

    fn list(self, field: &str) -> &'a [Value] {
        self.get(field).as_array().map_or(&[], Vec::as_slice)
    }
}

fn owner_reference(owner: &Value) -> OwnerReference<'_> {
    let text = |field| owner.get(field).and_then(Value::as_str).unwrap_or_default();
    let flag = |field| owner.get(field).and_then(Value::as_bool).unwrap_or_default();
    OwnerReference {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        uid: text("uid"),
        controller: flag("controller"),
        block_owner_deletion: flag("blockOwnerDeletion"),
    }
}

/// The metadata of an object, to be changed.
#[derive(Debug)]
pub struct MetaMut<'a>(&'a mut Map<String, Value>);

impl<'a> MetaMut<'a> {
    /// The metadata of an object. It is made when it is absent; what is not a map, as the object itself, becomes one.
    pub fn of(object: &'a mut Value) -> Self {
        Self(map(map(object).entry("metadata").or_insert(Value::Null)))
    }

    /// Sets a field; null and empty texts, lists and maps remove it.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        let value = value.into();
        let empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        if empty {
            self.0.remove(field);
        } else {
            self.0.insert(field.to_owned(), value);
        }
    }

    /// Removes a field, and answers with what stood there.
    pub fn remove(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field)
    }

    /// Sets a label, or removes it (`None`).
    pub fn set_label(&mut self, key: &str, value: Option<&str>) {
        self.set_entry("labels", key, value);
    }

    /// Sets an annotation, or removes it (`None`).
    pub fn set_annotation(&mut self, key: &str, value: Option<&str>) {
        self.set_entry("annotations", key, value);
    }

    /// Adds a finalizer, unless it is there.
    pub fn add_finalizer(&mut self, finalizer: &str) {
        let mut all = self.finalizers();
        if !all.iter().any(|one| one == finalizer) {
            all.push(finalizer.to_owned());
            self.set("finalizers", all);
        }
    }

    /// Takes a finalizer away.
    pub fn remove_finalizer(&mut self, finalizer: &str) {
        let mut all = self.finalizers();
        all.retain(|one| one != finalizer);
        self.set("finalizers", all);
    }

    fn finalizers(&self) -> Vec<String> {
        let all = self.0.get("finalizers").and_then(Value::as_array);
        all.into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    }

    fn set_entry(&mut self, field: &str, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            let entries = map(self.0.entry(field).or_insert(Value::Null));
            entries.insert(key.to_owned(), value.into());
        } else if let Some(entries) = self.0.get_mut(field).and_then(Value::as_object_mut) {
            entries.remove(key);
            if entries.is_empty() {
                self.0.remove(field);
            }
        }
    }
}

/// A value as a map; what is none becomes an empty one.
fn map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("it was made a map"),
    }
}

/// Whether objects of a kind live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They do.
    Namespaced,
    /// There is one of a name in the cluster.
    Cluster,
}

/// What is wrong with the metadata of a new object, whose name was generated already if it is to be
/// (`ValidateObjectMeta`).
pub fn validate(object: &Value, scope: Scope, rule: Rule) -> Vec<FieldError> {
    let (meta, path) = (Meta::of(object), FieldPath::root("metadata"));
    let mut wrong = Vec::new();
    if !meta.generate_name().is_empty() {
        let sentences = name::generate_name(rule, meta.generate_name());
        wrong.extend(label::invalid(&path.field("generateName"), meta.generate_name(), sentences));
    }
    if meta.name().is_empty() {
        wrong.push(required(&path.field("name"), "name or generateName is required"));
    } else {
        wrong.extend(label::invalid(&path.field("name"), meta.name(), rule(meta.name())));
    }
    wrong.extend(validate_namespace(meta, scope, &path.field("namespace")));
    wrong.extend(validate_common(meta, &path));
    wrong
}

fn validate_namespace(meta: Meta<'_>, scope: Scope, path: &FieldPath) -> Vec<FieldError> {
    match (scope, meta.namespace()) {
        (Scope::Cluster, "") => Vec::new(),
        (Scope::Cluster, _) => {
            vec![FieldError::new(path.clone(), Mistake::Forbidden, "not allowed on this type")]
        }
        (Scope::Namespaced, "") => vec![required(path, "")],
        (Scope::Namespaced, name) => label::invalid(path, name, name::dns_label(name)),
    }
}

/// What holds of new and of changed metadata.
fn validate_common(meta: Meta<'_>, path: &FieldPath) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    if meta.generation() < 0 {
        let value = Mistake::Invalid(meta.generation().into());
        let text = "must be greater than or equal to 0";
        wrong.push(FieldError::new(path.field("generation"), value, text));
    }
    wrong.extend(label::labels(meta.labels(), &path.field("labels")));
    wrong.extend(label::annotations(meta.get("annotations"), &path.field("annotations")));
    wrong.extend(validate_owners(meta, &path.field("ownerReferences")));
    wrong.extend(validate_finalizers(meta, &path.field("finalizers")));
    wrong
}

fn validate_owners(meta: Meta<'_>, path: &FieldPath) -> Vec<FieldError> {
    let owners = meta.owner_references();
    let mut wrong: Vec<FieldError> =
        owners.iter().flat_map(|owner| validate_owner(owner, path)).collect();
    let mut first = None;
    for owner in owners.iter().filter(|owner| owner.controller) {
        let name = format!("{}/{}", owner.kind, owner.name);
        match &first {
            None => first = Some(name),
            Some(first) => {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                let value = Mistake::Invalid(meta.get("ownerReferences").clone());
                wrong.push(FieldError::new(path.clone(), value, why).of(&OWNERS));
            }
        }
    }
    wrong
}

fn validate_owner(owner: &OwnerReference<'_>, path: &FieldPath) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let version = owner.api_version.rsplit('/').next().unwrap_or_default();
    for (field, value, absent, text) in [
        ("apiVersion", owner.api_version, version.is_empty(), "version must not be empty"),
        ("kind", owner.kind, owner.kind.is_empty(), "must not be empty"),
        ("name", owner.name, owner.name.is_empty(), "must not be empty"),
        ("uid", owner.uid, owner.uid.is_empty(), "must not be empty"),
    ] {
        if absent {
            wrong.extend(label::invalid(&path.field(field), value, vec![text.to_owned()]));
        }
    }
    if (owner.api_version, owner.kind) == ("v1", "Event") {
        let text = "/v1, Kind=Event is disallowed from being an owner";
        wrong.extend(label::invalid(path, owner.name, vec![text.to_owned()]));
    }
    wrong
}

fn validate_finalizers(meta: Meta<'_>, path: &FieldPath) -> Vec<FieldError> {
    let all = meta.finalizers();
    let mut wrong: Vec<FieldError> =
        all.iter().flat_map(|one| label::invalid(path, one, name::qualified(one))).collect();
    if all.contains(&FINALIZER_ORPHAN) && all.contains(&FINALIZER_FOREGROUND) {
        let text =
            format!("finalizer {FINALIZER_ORPHAN} and {FINALIZER_FOREGROUND} cannot be both set");
        wrong.push(FieldError::new(path.clone(), Mistake::Invalid(all.into()), text).of(&TEXTS));
    }
    wrong
}

/// Finalizers of kinds that are built in have a domain, or are Kubernetes' own (`validateKubeFinalizerName`).
pub fn validate_finalizer_names(object: &Value) -> Vec<FieldError> {
    const KNOWN: [&str; 3] = [FINALIZER_ORPHAN, FINALIZER_FOREGROUND, "kubernetes"];
    const WHY: &str = "name is neither a standard finalizer name nor is it fully qualified";
    let path = FieldPath::root("metadata").field("finalizers");
    let all = Meta::of(object).finalizers().into_iter().enumerate();
    all.filter(|(_, name)| !name.contains('/') && !KNOWN.contains(name))
        .flat_map(|(index, name)| label::invalid(&path.index(index), name, vec![WHY.to_owned()]))
        .collect()
}

/// What is wrong with changed metadata (`ValidateObjectMetaUpdate`). Fields that the server sets itself must have been carried
/// over from the old object before.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (new, old, path) = (Meta::of(new), Meta::of(old), FieldPath::root("metadata"));
    let mut wrong = Vec::new();
    if old.deletion_timestamp().is_some() {
        wrong.extend(no_new_finalizers(new, old, &path.field("finalizers")));
    }
    if new.resource_version().is_empty() {
        let text = "must be specified for an update".to_owned();
        wrong.extend(label::invalid(&path.field("resourceVersion"), "", vec![text]));
    }
    if new.generation() < old.generation() {
        let value = Mistake::Invalid(new.generation().into());
        wrong.push(FieldError::new(path.field("generation"), value, "must not be decremented"));
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if new.get(field) != old.get(field) {
            let value = Mistake::Invalid(new.get(field).clone());
            let of = field.ends_with("Timestamp").then_some(&GoType::Time);
            wrong.push(FieldError::new(path.field(field), value, "field is immutable").of(of));
        }
    }
    wrong.extend(validate_common(new, &path));
    wrong
}

fn no_new_finalizers(new: Meta<'_>, old: Meta<'_>, path: &FieldPath) -> Option<FieldError> {
    let kept = old.finalizers();
    let mut added: Vec<&str> = new.finalizers();
    added.retain(|one| !kept.contains(one));
    added.sort_unstable();
    added.dedup();
    let names: Vec<String> = added.iter().map(|one| format!("{one:?}")).collect();
    let text = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        names.join(", ")
    );
    (!added.is_empty()).then(|| FieldError::new(path.clone(), Mistake::Forbidden, text))
}

fn required(path: &FieldPath, detail: &str) -> FieldError {
    FieldError::new(path.clone(), Mistake::Required, detail)
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
