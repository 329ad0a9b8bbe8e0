//! Changing objects: optimistic concurrency, what a change may not touch, and the removal of what only waited for it.

use serde_json::{Value, json};

use super::options::WriteOptions;
use super::status::Status;
use super::type_meta::{check_name, of_place};
use super::{
    Admitted, Api, Leaving, Place, TRIES, adopt, carried_revision, decode, encode, owners,
    set_resource_version,
};
use crate::auth::User;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::object::{self, Meta, MetaMut};
use crate::registry::column::items;
use crate::registry::{Kind, Subresource};
use crate::store::{Condition, Operation, Outcome, Record, Write};

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object, without its status if that has a path of its own.
    Main,
    /// The status.
    Status,
    /// The finalizers of a namespace's spec.
    Finalize,
    /// How many replicas there are to be.
    Scale,
    /// What `/binding` sets, which no other write may.
    Binding,
}

impl Part {
    /// The subresource that the part is.
    pub fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Finalize => "finalize",
            Self::Scale => "scale",
            Self::Binding => "binding",
        }
    }
}

/// What metadata keeps, whatever the caller sends.
const KEPT: [&str; 6] = [
    "name",
    "namespace",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];

impl Api {
    /// Replaces an object. The flag is set when it did not exist and was made.
    pub async fn update(
        &self,
        place: &Place,
        part: Part,
        mut body: Value,
        options: &WriteOptions,
    ) -> Result<(Value, bool), Status> {
        of_place(&mut body, place)?;
        check_name(place, &body)?;
        adopt(place, &mut body)?;
        let expected = carried_revision(&body)?;
        if part == Part::Main
            && place.kind.create_on_update
            && self.store.get(&place.key()).await?.is_none()
        {
            MetaMut::of(&mut body).remove("resourceVersion");
            return Ok((self.create(place, body, options).await?, true));
        }
        if expected.is_none() && !place.kind.unconditional_update {
            let at = FieldPath::of_pointer("/metadata/resourceVersion");
            let error = FieldError::invalid(at, &json!(""), "must be specified for an update");
            return Err(Status::invalid(&place.kind, &place.name, &[error]));
        }
        let object = self.modify(place, part, expected, options, |_| Ok(body.clone())).await?;
        Ok((object, false))
    }

    /// Changes an object by a function of what it is. The function is called again when others were faster, unless the caller
    /// expects a revision. What it answers may carry a resourceVersion itself, which is then expected.
    pub async fn modify(
        &self,
        place: &Place,
        part: Part,
        expected: Option<u64>,
        options: &WriteOptions,
        mut change: impl FnMut(&Value) -> Result<Value, Status> + Send,
    ) -> Result<Value, Status> {
        for _ in 0..TRIES {
            let record = self.record(place).await?;
            let old = decode(&place.kind, &record)?;
            let mut new = change(&old)?;
            adopt(place, &mut new)?;
            let expected = expected.or(carried_revision(&new)?);
            if expected.is_some_and(|revision| revision != record.modified.0) {
                return Err(Status::modified(&place.kind, &place.name));
            }
            same_object(place, &new, &old)?;
            merge(&place.kind, part, &mut new, &old);
            owners::note(&place.kind, part, Some(&old), &mut new, options);
            let mut write = Admitted {
                place,
                old: Some(&old),
                object: &mut new,
                part,
                user: options.user.as_deref(),
                dry_run: options.dry_run,
                operations: Vec::new(),
            };
            self.admit(&mut write).await?;
            let operations = write.operations;
            validate(&place.kind, part, &new, &old)?;
            if matches!(part, Part::Main | Part::Scale) {
                options.warnings.add(place.kind.strategy.warnings(&new, Some(&old)));
            }
            if options.dry_run || (new == old && !is_released(&place.kind, &new)) {
                return Ok(new);
            }
            let user = options.user.as_deref();
            if let Some(object) = self.put(place, user, &record, new, operations).await? {
                return Ok(object);
            }
        }
        Err(Status::modified(&place.kind, &place.name))
    }

    /// Writes an object over its record, or removes it when nothing holds it any more. `None`: another write came first.
    pub(super) async fn put(
        &self,
        place: &Place,
        user: Option<&User>,
        record: &Record,
        mut object: Value,
        mut operations: Vec<Operation>,
    ) -> Result<Option<Value>, Status> {
        let write = if is_released(&place.kind, &object) {
            operations =
                self.part(&Leaving { place, object: &object, user, evicted: false }).await?;
            Write::Delete
        } else {
            Write::Put(encode(&place.kind, &object))
        };
        let condition = Condition::At(record.modified);
        operations.insert(0, Operation { key: record.key.clone(), condition, write });
        match self.commit(operations).await? {
            Outcome::Committed(revision) => {
                set_resource_version(&mut object, revision.0);
                Ok(Some(object))
            }
            Outcome::Refused(..) => Ok(None),
        }
    }
}

fn same_object(place: &Place, new: &Value, old: &Value) -> Result<(), Status> {
    let (said, is) = (Meta::of(new).uid(), Meta::of(old).uid());
    if said.is_empty() || said == is {
        return Ok(());
    }
    let why = format!("Precondition failed: UID in precondition: {said}, UID in object meta: {is}");
    Err(Status::conflict(&place.kind, &place.name, &why))
}

/// Brings what the caller sent together with what is there.
fn merge(kind: &Kind, part: Part, new: &mut Value, old: &Value) {
    match part {
        Part::Main | Part::Scale => merge_main(kind, new, old),
        Part::Binding => {}
        Part::Status => merge_status(kind, new, old),
        Part::Finalize => {
            let finalizers = new.pointer("/spec/finalizers").cloned();
            *new = old.clone();
            if let Some(spec) = crate::registry::defaults::child(new, "spec") {
                spec["finalizers"] =
                    finalizers.filter(Value::is_array).unwrap_or_else(|| json!([]));
            }
        }
    }
    keep_metadata(new, old);
    if kind.generation && part != Part::Status && spec_of(kind, new) != spec_of(kind, old) {
        MetaMut::of(new).set("generation", Meta::of(old).generation() + 1);
    }
}

fn merge_main(kind: &Kind, new: &mut Value, old: &Value) {
    if kind.subresources.contains(&Subresource::Status) {
        match old.get("status") {
            Some(status) => new["status"] = status.clone(),
            None => drop(new.as_object_mut().map(|map| map.remove("status"))),
        }
    }
    keep_metadata(new, old);
    kind.strategy.keep(new, old);
    kind.strategy.drop_disabled(new, Some(old));
    kind.strategy.default(new);
}

/// A write of the status changes the status, and labels and annotations of built-in kinds.
fn merge_status(kind: &Kind, new: &mut Value, old: &Value) {
    let mut merged = old.clone();
    match new.get("status") {
        Some(status) => merged["status"] = status.clone(),
        None if kind.custom.is_some() => {
            drop(merged.as_object_mut().map(|map| map.remove("status")));
        }
        None => {}
    }
    let fields: &[&str] = if kind.custom.is_some() {
        &["managedFields"]
    } else {
        &["labels", "annotations", "managedFields"]
    };
    for field in fields {
        MetaMut::of(&mut merged).set(field, Meta::of(new).get(field).clone());
    }
    *new = merged;
    if kind.custom.is_some() {
        kind.strategy.default(new);
    }
    kind.strategy.settle_status(new, old);
}

fn keep_metadata(new: &mut Value, old: &Value) {
    let mut meta = MetaMut::of(new);
    for field in KEPT.into_iter().chain(["uid", "resourceVersion"]) {
        let kept = Meta::of(old).get(field).clone();
        // 0 is a value of the grace period, which `set` keeps
        meta.set(field, kept);
    }
    meta.remove("selfLink");
}

/// Everything whose change is a new generation. A custom kind's status is one field of many unless it has a path of its own.
fn spec_of<'a>(kind: &Kind, object: &'a Value) -> Vec<(&'a String, &'a Value)> {
    const OTHER: [&str; 4] = ["metadata", "apiVersion", "kind", "status"];
    let plain = kind.custom.is_some() && !kind.subresources.contains(&Subresource::Status);
    let other = if plain { &OTHER[..3] } else { &OTHER };
    object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(field, _)| !other.contains(&field.as_str()))
        .collect()
}

fn validate(kind: &Kind, part: Part, new: &Value, old: &Value) -> Result<(), Status> {
    let mut errors = object::validate_update(new, old);
    if !kind.names_finalizers_freely() && Meta::of(new).finalizers() != Meta::of(old).finalizers() {
        errors.extend(object::validate_finalizer_names(new));
    }
    match part {
        Part::Main | Part::Scale => {
            errors.extend(new_mistakes(kind, new, old));
            errors.extend(kind.strategy.validate_update(new, old));
        }
        Part::Status => errors.extend(kind.strategy.validate_status(new, old)),
        Part::Finalize | Part::Binding => {}
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(kind, Meta::of(new).name(), &errors))
    }
}

/// What is wrong with an object that was not before. What an earlier version of the program let in can still be changed, and above all
/// be let go.
fn new_mistakes(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut found = kind.strategy.validate(new);
    if !found.is_empty() {
        let before = kind.strategy.validate(old);
        found.retain(|mistake| !before.contains(mistake));
    }
    found
}

/// An object is to be deleted, and nothing holds it any more: no finalizer, no time to end in, no content.
pub(super) fn is_released(kind: &Kind, object: &Value) -> bool {
    let meta = Meta::of(object);
    let content = &*kind.plural == "namespaces" && !items(object, "/spec/finalizers").is_empty();
    meta.deletion_timestamp().is_some()
        && meta.finalizers().is_empty()
        && meta.deletion_grace_period().unwrap_or_default() == 0
        && !content
}
