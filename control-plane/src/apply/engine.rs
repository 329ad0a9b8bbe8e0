//! What a write does to an object and to the owners of its fields.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::conflict::Conflicts;
use super::fieldset::{FieldSet, Path};
use super::last_applied;
use super::managed::{Entry, Managed, ManagedError, Manager, Operation};
use super::typed::{Comparison, Typed, TypedError};
use crate::meta::object::{Meta, MetaMut};
use crate::meta::time::Time;
use crate::patch::check_depth;
use crate::schema::{Schemas, Shape};

/// Who owns what was there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Why an apply was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else owns fields that were to be changed: 409, with causes.
    #[error("{0}")]
    Conflicts(Conflicts),
    /// What was sent cannot be applied at all: 400.
    #[error("{0}")]
    BadRequest(String),
    /// What was sent is not of the schema: Kubernetes answers 500, which a client's mistake is not: 400.
    #[error("failed to create typed patch object ({object}): {error}")]
    Schema {
        /// Which object: namespace/name; apiVersion, kind.
        object: String,
        /// What is wrong, and where.
        error: TypedError,
    },
    /// What is stored cannot be merged with: 500.
    #[error("failed to merge with the live object ({object}): {error}")]
    Live {
        /// Which object.
        object: String,
        /// What is wrong, and where.
        error: TypedError,
    },
    /// The owners of the stored object cannot be read: 500.
    #[error("failed to decode managed fields: {0}")]
    Managed(#[from] ManagedError),
}

/// What holds for all writes of a kind through an endpoint.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    /// The definitions.
    pub schemas: &'a Schemas,
    /// The kind.
    pub shape: &'a Shape,
    /// The version of the endpoint, such as `apps/v1`.
    pub api_version: &'a str,
    /// The subresource of the endpoint; empty for the object itself.
    pub subresource: &'a str,
    /// What a write through this endpoint does not change, and so does not own: `.status` for objects themselves,
    /// `.metadata` and `.spec` for their status. That it does not change them is for the caller to see to, as it is that what
    /// belongs to the server (uid, generation, …) stays as it was.
    pub ignored: &'a FieldSet,
    /// The kind in another version; `None` when it is not served. Owners in such a version are forgotten.
    pub version: &'a dyn Fn(&str) -> Option<&'a Shape>,
    /// When the write takes place.
    pub now: Time,
}

impl fmt::Debug for Engine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Engine")
            .field("api_version", &self.api_version)
            .field("subresource", &self.subresource)
            .finish_non_exhaustive()
    }
}

/// An object without `metadata.managedFields`, and what stood there.
struct Owned {
    object: Value,
    owners: Managed,
}

impl<'a> Engine<'a> {
    /// What an object is after somebody applied a configuration: `live` is what is stored (`None`: nothing), without defaults for
    /// what comes in anew. When nothing changes, the answer is equal to `live`.
    pub fn apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, ApplyError> {
        self.check(config)?;
        let config = &without_null_metadata(config);
        let live = self.live_for_apply(live)?;
        let result = match self.merged(&live, config, manager, force) {
            Err(ApplyError::Conflicts(conflicts)) if manager == last_applied::MANAGER => {
                // what kubectl applied by itself before is its own, and may be changed
                let allowed = last_applied::untouched(self, &live.object).unwrap_or_default();
                match conflicts.outside(&allowed) {
                    Some(conflicts) => return Err(ApplyError::Conflicts(conflicts)),
                    None => self.merged(&live, config, manager, true),
                }
            }
            result => result,
        };
        let Owned { mut object, owners } = result?;
        if manager == last_applied::MANAGER {
            last_applied::refresh(&mut object, config);
        }
        MetaMut::of(&mut object).set("managedFields", owners.to_json());
        Ok(object)
    }

    /// An object that is written as a whole or was patched, with its owners: what differs from the live object (`None`: there is
    /// none) is the writer's. It never fails: when the owners cannot be found out, those of the live object stay.
    pub fn update(&self, live: Option<&Value>, mut new: Value, manager: &str) -> Value {
        let empty = Value::Object(Map::new());
        let live = live.unwrap_or(&empty);
        let before = Meta::of(live).get("managedFields");
        let sent = MetaMut::of(&mut new).remove("managedFields").unwrap_or_default();
        let mut owners = Managed::after_write(before, &sent, !self.subresource.is_empty());
        let old = without_managed(live);
        let fields = match self.updated(&old, &new, &mut owners, manager) {
            Ok(()) => owners.to_json(),
            Err(error) => {
                tracing::warn!(object = self.name(&new), %error, "the owners of fields were not updated");
                before.clone()
            }
        };
        MetaMut::of(&mut new).set("managedFields", fields);
        new
    }

    fn check(&self, config: &Value) -> Result<(), ApplyError> {
        let refuse = |sentence| Err(ApplyError::BadRequest(sentence));
        if !config.is_object() {
            return refuse(format!("an applied configuration is a map, not {config}"));
        }
        let version = config.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if version != self.api_version {
            return refuse(format!(
                "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
                self.api_version
            ));
        }
        if !Meta::of(config).get("managedFields").is_null() {
            return refuse("metadata.managedFields must be nil".to_owned());
        }
        check_depth(config).map_err(|error| ApplyError::BadRequest(error.to_string()))
    }

    /// The live object and its owners; what has none is owned by "before-first-apply".
    fn live_for_apply(&self, live: Option<&Value>) -> Result<Owned, ApplyError> {
        let empty = Value::Object(Map::new());
        let Some(live) = live.filter(|live| live.is_object()) else {
            return Ok(Owned { object: empty, owners: Managed::default() });
        };
        let mut owners = Managed::read(Meta::of(live).get("managedFields"))?;
        let object = without_managed(live);
        if owners.0.is_empty() {
            let updated = self.updated(&empty, &object, &mut owners, BEFORE_FIRST_APPLY);
            updated.map_err(|error| self.live_error(&object, error))?;
        }
        Ok(Owned { object, owners })
    }

    fn merged(
        &self,
        live: &Owned,
        config: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Owned, ApplyError> {
        let (strict, lenient) = (Typed::strict(self.schemas), Typed::lenient(self.schemas));
        let wrong = |error| ApplyError::Schema { object: self.name(config), error };
        let broken = |error| self.live_error(config, error);
        let fields = strict.fields(config, self.shape).map_err(wrong)?;
        let fields = fields.recursive_difference(self.ignored);
        let merged = lenient.merge(live.object.clone(), config, self.shape).map_err(broken)?;

        let manager = self.manager(manager, Operation::Apply);
        let mut owners = live.owners.clone();
        let last = owners.0.get(&manager).cloned();
        let api_version = self.api_version.to_owned();
        let time = last.as_ref().and_then(|last| last.time);
        owners.0.insert(manager.clone(), Entry { api_version, fields, time });
        let object = match &last {
            Some(last) => self.pruned(merged, config, &owners, last).map_err(broken)?,
            None => merged,
        };
        let settled = self.settle(&live.object, &object, &mut owners, Some(&manager), force);
        let changes = settled.map_err(|refusal| match refusal {
            Refusal::Conflicts(conflicts) => ApplyError::Conflicts(conflicts),
            Refusal::Typed(error) => broken(error),
        })?;
        if let Some(entry) = owners.0.get_mut(&manager) {
            entry.fields = entry.fields.difference(&never_owned());
            let same = last.is_some_and(|last| last.fields == entry.fields);
            if !(same && changes.is_same()) {
                entry.time = Some(self.now);
            }
        }
        owners.0.retain(|_, entry| !entry.fields.is_empty());
        let object = if changes.is_same() { live.object.clone() } else { object };
        Ok(Owned { object, owners })
    }

    /// Takes away what a manager applied before, does not apply now, and nobody else owns.
    fn pruned(
        &self,
        merged: Value,
        config: &Value,
        owners: &Managed,
        last: &Entry,
    ) -> Result<Value, TypedError> {
        let Some(shape) = (self.version)(&last.api_version) else { return Ok(merged) };
        let typed = Typed::lenient(self.schemas);
        let named = |set: FieldSet| typed.with_named_fields(set, shape);
        let empty = || Value::Object(Map::new());
        let last = last.fields.recursive_difference(self.ignored);
        let whole = typed.present(&merged, shape)?;

        let rest = typed.remove(merged.clone(), &last, shape).unwrap_or_else(empty);
        // what others own comes back, and what is applied now, with the empty lists that nobody owns
        let owned = owners.0.values().filter(|entry| (self.version)(&entry.api_version).is_some());
        let owned = owned.fold(FieldSet::default(), |all, entry| all.union(entry.fields.clone()));
        let keep = typed.present(&rest, shape)?.union(named(owned));
        let keep = keep.union(typed.present(config, shape)?);
        let gone = whole.difference(&keep);
        let rest = typed.remove_exactly(merged.clone(), &gone, shape);
        // and so does what this manager never had, but went with what it had
        let gone = whole.difference(&typed.present(&rest, shape)?).intersection(&named(last));
        Ok(typed.remove_exactly(merged, &gone, shape))
    }

    fn updated(
        &self,
        old: &Value,
        new: &Value,
        owners: &mut Managed,
        manager: &str,
    ) -> Result<(), TypedError> {
        let changes = match self.settle(old, new, owners, None, true) {
            Ok(changes) => changes,
            Err(Refusal::Typed(error)) => return Err(error),
            Err(Refusal::Conflicts(_)) => unreachable!("a forced write has no conflicts"),
        };
        let taken = changes.modified.union(changes.added).difference(&never_owned());
        if !taken.is_empty() {
            let manager = self.manager(manager, Operation::Update);
            let api_version = self.api_version.to_owned();
            let entry = owners.0.entry(manager).or_insert_with(|| Entry {
                api_version,
                fields: FieldSet::default(),
                time: None,
            });
            entry.fields = std::mem::take(&mut entry.fields).union(taken);
            entry.time = Some(self.now);
        }
        owners.cap();
        Ok(())
    }

    /// What differs between two objects, and what it takes from the owners, except `writer`: fields that changed are theirs no more
    /// (or, when nobody forces it, a conflict), nor are those that are gone.
    fn settle(
        &self,
        old: &Value,
        new: &Value,
        owners: &mut Managed,
        writer: Option<&Manager>,
        force: bool,
    ) -> Result<Comparison, Refusal> {
        let mut versions = BTreeMap::new();
        versions.insert(self.api_version.to_owned(), Some(self.compare(old, new, self.shape)?));
        let mut taken = BTreeMap::new();
        for (manager, entry) in &owners.0 {
            if Some(manager) == writer {
                continue;
            }
            if !versions.contains_key(&entry.api_version) {
                let shape = (self.version)(&entry.api_version);
                let compared = shape.map(|shape| self.compare(old, new, shape)).transpose()?;
                versions.insert(entry.api_version.clone(), compared);
            }
            let Some(Some(changes)) = versions.get(&entry.api_version) else { continue };
            let lost = entry
                .fields
                .intersection(&changes.modified)
                .union(entry.fields.intersection(&changes.added));
            if !lost.is_empty() {
                taken.insert(manager.clone(), lost);
            }
        }
        if let (false, Some(conflicts)) = (force, Conflicts::of(&taken)) {
            return Err(Refusal::Conflicts(conflicts));
        }
        owners.0.retain(|manager, entry| {
            if Some(manager) == writer {
                return !entry.fields.is_empty();
            }
            let Some(Some(changes)) = versions.get(&entry.api_version) else { return false };
            if let Some(lost) = taken.get(manager) {
                entry.fields = entry.fields.difference(lost);
            }
            entry.fields = entry.fields.difference(&changes.removed);
            !entry.fields.is_empty()
        });
        Ok(versions.remove(self.api_version).flatten().unwrap_or_default())
    }

    fn compare(&self, old: &Value, new: &Value, shape: &'a Shape) -> Result<Comparison, Refusal> {
        let compared = Typed::lenient(self.schemas).compare(old, new, shape);
        compared.map(|changes| changes.without(self.ignored)).map_err(Refusal::Typed)
    }

    fn manager(&self, name: &str, operation: Operation) -> Manager {
        let api_version = match operation {
            Operation::Apply => "",
            Operation::Update => self.api_version,
        };
        Manager {
            name: name.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: self.subresource.to_owned(),
        }
    }

    fn live_error(&self, object: &Value, error: TypedError) -> ApplyError {
        ApplyError::Live { object: self.name(object), error }
    }

    /// An object's name for messages.
    fn name(&self, object: &Value) -> String {
        let meta = Meta::of(object);
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        format!("{}/{}; {}, Kind={kind}", meta.namespace(), meta.name(), self.api_version)
    }
}

/// Why owners could not be settled.
enum Refusal {
    Conflicts(Conflicts),
    Typed(TypedError),
}

/// What belongs to the server, or says which object it is: nobody owns it.
fn never_owned() -> FieldSet {
    let of_metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let of_object = ["apiVersion", "kind", "metadata"].map(|name| Path::fields(&[name]));
    FieldSet::of(
        of_metadata.map(|name| Path::fields(&["metadata", name])).into_iter().chain(of_object),
    )
}

/// What a write of an object itself does not change when its status has an endpoint of its own.
pub fn all_but_status() -> FieldSet {
    FieldSet::of([Path::fields(&["status"])])
}

/// What a write of the status of an object does not change.
pub fn only_status() -> FieldSet {
    FieldSet::of([Path::fields(&["metadata"]), Path::fields(&["spec"])])
}

/// A configuration without the nulls in its metadata: clients write `creationTimestamp: null`, and do not mean that it should go.
fn without_null_metadata(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !value.is_null());
    }
    config
}

fn without_managed(object: &Value) -> Value {
    let mut object = object.clone();
    if object.get("metadata").is_some() {
        MetaMut::of(&mut object).remove("managedFields");
    }
    object
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
