//! `metadata.managedFields`: who owns which fields of an object.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers>

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fmt;

use serde_json::{Map, Value};

use super::fieldset::{FieldSet, FieldSetError};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::time::Time;

/// How many managers by `Update` an object keeps; the oldest ones above it become [`ANCIENT`].
pub const UPDATERS_MAX: usize = 10;
/// Who owns what managers did that are not kept apart any more.
pub const ANCIENT: &str = "ancient-changes";
/// How many bytes the name of a manager may have.
pub const NAME_MAX: usize = 128;

/// Entries that are not of the form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// The list, or an entry of it.
    #[error("metadata.managedFields is a list of maps, not {0}")]
    Shape(String),
    /// Neither `Apply` nor `Update`.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No `apiVersion`.
    #[error("apiVersion must not be empty")]
    ApiVersion,
    /// No `fieldsType`, in which entry.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// Another `fieldsType` than `FieldsV1`.
    #[error("invalid fieldsType {found:?} in managed fields entry {index}")]
    FieldsType {
        /// What it is.
        found: String,
        /// In which entry.
        index: usize,
    },
    /// The set.
    #[error("error decoding set: {0}")]
    Set(#[from] FieldSetError),
}

/// What a manager did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply: what it does not apply any more goes.
    Apply,
    /// Everything else.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// The name that the client gave.
    pub name: String,
    /// What it did.
    pub operation: Operation,
    /// In which version it updated; empty for `Apply`: a new version does not make another manager.
    pub api_version: String,
    /// Through which subresource; empty for the object itself.
    pub subresource: String,
}

impl fmt::Display for Manager {
    /// As conflicts name it: `"kubectl" with subresource "scale" using apps/v1`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(out, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Update => write!(out, " using {}", self.api_version),
            Operation::Apply => Ok(()),
        }
    }
}

/// What a manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In which version the paths are.
    pub api_version: String,
    /// The paths.
    pub fields: FieldSet,
    /// When it last changed something.
    pub time: Option<Time>,
}

/// The managers of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed(pub BTreeMap<Manager, Entry>);

impl Managed {
    /// Reads `metadata.managedFields`; null has no managers.
    pub fn read(list: &Value) -> Result<Self, ManagedError> {
        let entries = match list {
            Value::Null => return Ok(Self::default()),
            Value::Array(entries) => entries,
            other => return Err(ManagedError::Shape(other.to_string())),
        };
        let entries = entries.iter().enumerate().map(|(index, entry)| read_entry(entry, index));
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// The managers after a write of an object. A client may write them itself, and empty them (`[]` or `[{}]`), except through
    /// a subresource; when it sent none, or ones that cannot be read, those of the live object stay.
    pub fn after_write(live: &Value, new: &Value, subresource: bool) -> Self {
        let of_live = || Self::read(live).unwrap_or_default();
        if subresource {
            return of_live();
        }
        if is_reset(new) {
            return Self::default();
        }
        match Self::read(new) {
            Ok(managed) if !managed.0.is_empty() => managed,
            _ => of_live(),
        }
    }

    /// The list in the order of Kubernetes: appliers first, then by time, name, version and subresource. Null when there is none.
    pub fn to_json(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let mut entries: Vec<(&Manager, &Entry)> = self.0.iter().collect();
        entries.sort_by_key(|(manager, entry)| {
            let second = entry.time.map_or(0, |time| time.0.as_second());
            let api_version = entry.api_version.as_str();
            (manager.operation, second, &manager.name, api_version, &manager.subresource)
        });
        entries.into_iter().map(|(manager, entry)| entry_json(manager, entry)).collect()
    }

    /// Folds the oldest updaters into one per version until there are no more than [`UPDATERS_MAX`].
    pub fn cap(&mut self) {
        let mut updaters: Vec<Manager> =
            self.0.keys().filter(|one| is_updater(one)).cloned().collect();
        let mut count = updaters.len();
        if count <= UPDATERS_MAX {
            return;
        }
        updaters.sort_by_cached_key(|manager| {
            let time = self.0.get(manager).and_then(|entry| entry.time);
            (time.map_or(0, |time| time.0.as_second()), manager.clone())
        });
        let mut first_of: BTreeMap<String, Manager> = BTreeMap::new();
        for manager in updaters {
            if count <= UPDATERS_MAX {
                break;
            }
            match first_of.entry(manager.api_version.clone()) {
                MapEntry::Vacant(place) => {
                    place.insert(manager);
                }
                MapEntry::Occupied(first) => {
                    let first = first.get().clone();
                    count -= self.fold(&first, &manager);
                }
            }
        }
    }

    /// Puts what two updaters of a version own into the version's bucket; answers by how many updaters there are fewer.
    fn fold(&mut self, first: &Manager, manager: &Manager) -> usize {
        let bucket = Manager {
            name: ANCIENT.to_owned(),
            operation: Operation::Update,
            api_version: manager.api_version.clone(),
            subresource: String::new(),
        };
        if *manager == bucket {
            return 0;
        }
        let before = self.0.len();
        for one in [first, manager] {
            if *one == bucket {
                continue;
            }
            let Some(entry) = self.0.remove(one) else { continue };
            match self.0.entry(bucket.clone()) {
                MapEntry::Vacant(place) => {
                    place.insert(entry);
                }
                MapEntry::Occupied(mut place) => {
                    let into = place.get_mut();
                    into.fields = std::mem::take(&mut into.fields).union(entry.fields);
                    // the later of the two, so that the bucket is not taken for older than it is
                    into.time = into.time.max(entry.time);
                }
            }
        }
        before - self.0.len()
    }
}

fn is_updater(manager: &Manager) -> bool {
    manager.operation == Operation::Update
}

/// Whether a client asks for the managers to be forgotten.
fn is_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.values().all(|value| match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            _ => false,
        }),
        _ => false,
    }
}

fn read_entry(entry: &Value, index: usize) -> Result<(Manager, Entry), ManagedError> {
    let Value::Object(map) = entry else {
        return Err(ManagedError::Shape(entry.to_string()));
    };
    let text = |field| map.get(field).and_then(Value::as_str).unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(ManagedError::Operation),
    };
    let api_version = match text("apiVersion") {
        "" => return Err(ManagedError::ApiVersion),
        version => version.to_owned(),
    };
    match text("fieldsType") {
        "FieldsV1" => {}
        "" => return Err(ManagedError::NoFieldsType(index)),
        other => return Err(ManagedError::FieldsType { found: other.to_owned(), index }),
    }
    let fields = match map.get("fieldsV1") {
        None | Some(Value::Null) => FieldSet::default(),
        Some(fields) => FieldSet::from_json(fields)?,
    };
    let manager = Manager {
        name: text("manager").to_owned(),
        operation,
        api_version: if operation == Operation::Apply {
            String::new()
        } else {
            api_version.clone()
        },
        subresource: text("subresource").to_owned(),
    };
    let time = Time::parse(text("time")).ok();
    Ok((manager, Entry { api_version, fields, time }))
}

fn entry_json(manager: &Manager, entry: &Entry) -> Value {
    let mut map = Map::new();
    let mut set = |field: &str, value: Value| map.insert(field.to_owned(), value);
    set("operation", manager.operation.name().into());
    set("apiVersion", entry.api_version.as_str().into());
    set("fieldsType", "FieldsV1".into());
    set("fieldsV1", entry.fields.to_json());
    for (field, text) in [("manager", &manager.name), ("subresource", &manager.subresource)] {
        if !text.is_empty() {
            set(field, text.as_str().into());
        }
    }
    if let Some(time) = entry.time {
        set("time", time.to_string().into());
    }
    Value::Object(map)
}

/// What is wrong with the name of a manager, the query parameter `fieldManager`.
pub fn check_name(name: &str) -> Vec<FieldError> {
    let path = FieldPath::root("fieldManager");
    let mut wrong = Vec::new();
    if name.len() > NAME_MAX {
        wrong.push(FieldError::new(path.clone(), Mistake::TooLong(NAME_MAX), ""));
    }
    if name.chars().any(char::is_control) {
        let text = "should only contain printable characters";
        wrong.push(FieldError::new(path, Mistake::Invalid(name.into()), text));
    }
    wrong
}

#[cfg(test)]
#[path = "managed_tests.rs"]
mod tests;
