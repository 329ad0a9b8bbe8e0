//! Who owns which field: every write is noted in `metadata.managedFields`, and server-side apply is decided by it.

use serde_json::Value;

use super::options::WriteOptions;
use super::status::Status;
use super::update::Part;
use super::{Api, Place, adopt};
use crate::apply::engine::{ApplyError, Engine, all_but_status, only_status};
use crate::apply::fieldset::FieldSet;
use crate::meta::object::{Meta, MetaMut};
use crate::meta::time::Time;
use crate::registry::{Kind, Subresource};
use crate::schema::Shape;
use crate::schema::definitions::Definitions;

/// Who writes when a client does not say.
const NOBODY: &str = "unknown";

/// Calls a function with the engine of a kind's endpoint; `None` for kinds whose shape is not known.
fn with_engine<T>(kind: &Kind, part: Part, call: impl FnOnce(&Engine<'_>) -> T) -> Option<T> {
    let definitions = Definitions::kubernetes();
    let custom = kind.custom.as_ref();
    let shape_in = |group: &str, version: &str| -> Option<&Shape> {
        if let Some(custom) = custom {
            return custom.shapes.get(&format!("{group}/{version}"));
        }
        let name = definitions.kind(group, version, &kind.kind)?;
        definitions.reference(name)
    };
    let version = |api_version: &str| -> Option<&Shape> {
        match api_version.split_once('/') {
            Some((group, version)) => shape_in(group, version),
            None => shape_in("", api_version),
        }
    };
    let ignored = match part {
        Part::Status => only_status(),
        _ if kind.subresources.contains(&Subresource::Status) => all_but_status(),
        _ => FieldSet::default(),
    };
    let engine = Engine {
        schemas: definitions.schemas(),
        shape: shape_in(&kind.group, &kind.version)?,
        api_version: &kind.api_version(),
        subresource: part.subresource(),
        ignored: &ignored,
        version: &version,
        now: Time::now(),
    };
    Some(call(&engine))
}

/// Notes in an object who has written what differs from what it was. A write that changes nothing else changes no owner.
pub(super) fn note(
    kind: &Kind,
    part: Part,
    old: Option<&Value>,
    new: &mut Value,
    options: &WriteOptions,
) {
    if options.applied {
        return;
    }
    let manager = if options.manager.is_empty() { NOBODY } else { &options.manager };
    let sent = std::mem::take(new);
    let owners = |object: &Value| Meta::of(object).get("managedFields").clone();
    // somebody hands fields over, as `kubectl apply --server-side` does with what it applied itself before
    let hands_over = old.is_some_and(|old| {
        let said = owners(&sent);
        !said.is_null() && said != owners(old)
    });
    let noted = with_engine(kind, part, |engine| engine.update(old, sent.clone(), manager));
    *new = noted.unwrap_or(sent);
    if let Some(old) = old.filter(|_| !hands_over) {
        let mut unchanged = new.clone();
        MetaMut::of(&mut unchanged).set("managedFields", owners(old));
        if unchanged == *old {
            *new = unchanged;
        }
    }
}

impl Api {
    /// Server-side apply. The flag is set when the object did not exist and was made.
    pub async fn apply(
        &self,
        place: &Place,
        part: Part,
        mut config: Value,
        options: &WriteOptions,
    ) -> Result<(Value, bool), Status> {
        if options.manager.is_empty() {
            return Err(Status::bad_request(
                "fieldManager: Required value: is required for apply patch",
            ));
        }
        adopt(place, &mut config)?;
        let applied = WriteOptions { applied: true, ..options.clone() };
        let merge = |live: Option<&Value>| {
            let merged = with_engine(&place.kind, part, |engine| {
                engine.apply(live, &config, &options.manager, options.force)
            });
            merged.ok_or_else(Status::no_such_resource)?.map_err(|error| refused(&error))
        };
        if part == Part::Main && self.store.get(&place.key()).await?.is_none() {
            match self.create(place, merge(None)?, &applied).await {
                Err(status) if status.reason() == "AlreadyExists" => {}
                made => return Ok((made?, true)),
            }
        }
        Ok((self.modify(place, part, None, &applied, |old| merge(Some(old))).await?, false))
    }
}

fn refused(error: &ApplyError) -> Status {
    match error {
        ApplyError::Conflicts(conflicts) => {
            let causes = conflicts.causes().into_iter().map(|cause| (cause.field, cause.message));
            Status::apply_conflict(error.to_string(), causes)
        }
        ApplyError::BadRequest(_) | ApplyError::Schema { .. } => {
            Status::bad_request(error.to_string())
        }
        ApplyError::Live { .. } | ApplyError::Managed(_) => Status::internal(error.to_string()),
    }
}
