//! Kinds from a `CustomResourceDefinition`: one for each version that it serves, all over the same stored objects.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::column::{Column, age, items, name, since, text};
use super::definition_version::{COLUMN_FORMATS, COLUMN_TYPES};
use super::jsonpath::JsonPath;
use super::kind::{Kind, Selectable, Subresource, Text};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::object::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Meta};
use crate::schema::Shape;
use crate::schema::decode::Target;
use crate::schema::definitions::Definitions;
use crate::schema::structural::{Structural, blocks_rules};

/// How many kinds were made.
static MADE: AtomicU64 = AtomicU64::new(1);

/// What there is to know of a custom kind beyond other kinds.
#[derive(Debug)]
pub struct Custom {
    /// The name of its definition.
    pub definition: String,
    /// Another state of the definition makes other kinds.
    pub stamp: String,
    /// Grows with every kind that this process makes: of two, the later one is what the definition says now.
    pub serial: u64,
    /// `group/version` of this kind.
    pub api_version: String,
    /// `group/version` under which objects are stored.
    pub stored_version: String,
    /// Its lists' name in `kind:`.
    pub list_kind: String,
    /// What objects may hold.
    pub schema: Arc<Structural>,
    /// The schema as it is written.
    pub written: Value,
    /// The shapes of all versions, served or not, by `group/version`.
    pub shapes: Arc<BTreeMap<String, Shape>>,
    /// Where the scale stands.
    pub scale: Option<Scale>,
}

/// JSON pointers to the parts of a scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// How many replicas there are to be.
    pub replicas: String,
    /// The same as a path, for messages.
    pub replicas_path: String,
    /// How many there are.
    pub status: String,
    /// Which objects they are: a selector as text.
    pub selector: Option<String>,
}

impl Custom {
    /// Objects as they are read by a decoder.
    pub fn target(&self) -> Target<'_> {
        Target { definitions: Definitions::kubernetes(), shape: self.schema.shape(), custom: true }
    }

    /// Makes of a stored object one of this version: what the version does not know is dropped, and its defaults stand.
    pub fn read(&self, object: &mut Value) {
        object["apiVersion"] = json!(self.api_version);
        // what was stored was decoded when it came: only another schema than then can refuse it, and the object is shown as it is
        if let Ok(decoded) = self.target().value(object.clone()) {
            *object = decoded.value;
        }
        self.schema.default(object);
    }
}

/// A definition is to be read as the kinds that it makes.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'a> {
    /// The object.
    pub object: &'a Value,
    /// The names under which it is served: `status.acceptedNames`.
    pub names: &'a Value,
    /// It is about to go: nothing new is made.
    pub ending: bool,
}

impl Definition<'_> {
    /// Changes when the kinds do.
    pub fn stamp(&self) -> String {
        let at = |pointer| text(self.object, pointer);
        let generation = &self.object["metadata"]["generation"];
        format!("{} {generation} {} {}", at("/metadata/uid"), self.names, self.ending)
    }

    /// Its kinds, the preferred version first. A version whose schema this server does not take is left out and told of.
    pub fn kinds(&self) -> (Vec<Kind>, Vec<FieldError>) {
        let group = text(self.object, "/spec/group");
        let (mut read, mut wrong) = (Vec::new(), Vec::new());
        let versions = items(self.object, "/spec/versions");
        for (index, version) in versions.iter().enumerate() {
            match schema_of(version, &schema_path(versions, index)) {
                Ok(schema) => read.push((version, Arc::new(schema))),
                Err(errors) => wrong.extend(errors),
            }
        }
        let api_version = |version: &Value| format!("{group}/{}", text(version, "/name"));
        let shapes: BTreeMap<String, Shape> = read
            .iter()
            .map(|(version, schema)| (api_version(version), schema.shape().clone()))
            .collect();
        let shapes = Arc::new(shapes);
        let stored_version = storage_version(self.object).map(api_version).unwrap_or_default();
        read.retain(|(version, _)| version["served"] == true);
        read.sort_by_cached_key(|(version, _)| priority(text(version, "/name")));
        let kinds = read.into_iter().map(|(version, schema)| {
            let custom = Custom {
                definition: name(self.object).to_owned(),
                stamp: self.stamp(),
                serial: MADE.fetch_add(1, Ordering::Relaxed),
                api_version: api_version(version),
                stored_version: stored_version.clone(),
                list_kind: text(self.names, "/listKind").to_owned(),
                schema,
                written: version["schema"]["openAPIV3Schema"].clone(),
                shapes: shapes.clone(),
                scale: scale_of(version),
            };
            self.kind(version, custom)
        });
        (kinds.collect(), wrong)
    }

    fn kind(&self, version: &Value, custom: Custom) -> Kind {
        let words = |field: &str| -> Vec<Text> {
            let words = items(self.names, field).iter().filter_map(Value::as_str);
            words.map(|word| word.to_owned().into()).collect()
        };
        let mut kind = stored(self.object, self.names);
        kind.version = text(version, "/name").to_owned().into();
        kind.singular = text(self.names, "/singular").to_owned().into();
        kind.short_names = words("/shortNames");
        kind.categories = words("/categories");
        kind.generation = true;
        kind.unconditional_update = false;
        if self.ending {
            kind.verbs.retain(|verb| verb != "create");
        }
        if version.pointer("/subresources/status").is_some_and(Value::is_object) {
            kind.subresources.push(Subresource::Status);
        }
        if custom.scale.is_some() {
            kind.subresources.push(Subresource::Scale);
        }
        let selectable = items(version, "/selectableFields").iter();
        kind.selectable = selectable
            .map(|field| text(field, "/jsonPath").trim_start_matches('.').to_owned())
            .map(Selectable::field)
            .collect();
        let printed = items(version, "/additionalPrinterColumns");
        let cells: Vec<Cell> = printed.iter().filter_map(Cell::of).collect();
        if !cells.is_empty() {
            kind.columns = std::iter::once(Column::object_name())
                .chain(cells.iter().map(|cell| cell.column.clone()))
                .collect();
        }
        kind.strategy = Arc::new(Described { schema: custom.schema.clone(), cells });
        kind.custom = Some(Arc::new(custom));
        kind
    }
}

/// The schema of a version.
pub fn schema_of(version: &Value, path: &FieldPath) -> Result<Structural, Vec<FieldError>> {
    Structural::read(&version["schema"]["openAPIV3Schema"], path)
}

/// Where the schema of a version stands. One that all versions share is told of as the definition's own, which it was before `v1`.
pub fn schema_path(versions: &[Value], index: usize) -> FieldPath {
    let spec = FieldPath::root("spec");
    let holder = if is_shared(versions, "schema") {
        spec.field("validation")
    } else {
        spec.field("versions").index(index).field("schema")
    };
    holder.field("openAPIV3Schema")
}

/// Whether all versions of a definition say the same in a field.
pub fn is_shared(versions: &[Value], field: &str) -> bool {
    versions.windows(2).all(|pair| pair[0][field] == pair[1][field])
}

/// The version under which objects are stored.
pub fn storage_version(definition: &Value) -> Option<&Value> {
    items(definition, "/spec/versions").iter().find(|version| version["storage"] == true)
}

/// The kind of a definition's objects as they are stored, without schema: to see and delete them whatever is served.
pub fn stored(definition: &Value, names: &Value) -> Kind {
    let group = text(definition, "/spec/group").to_owned();
    let version = storage_version(definition).map_or("", |version| text(version, "/name"));
    let plural = text(definition, "/spec/names/plural").to_owned();
    let storage = format!("{group}/{plural}");
    let kind = text(names, "/kind").to_owned();
    let mut kind = Kind::new(group, version.to_owned(), kind, plural);
    kind.namespaced = text(definition, "/spec/scope") == "Namespaced";
    kind.storage = storage.into();
    kind
}

/// Sorts versions, the preferred one first: stable ones, then betas, then alphas, each from the highest; then all others by name.
/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority>
pub fn priority(version: &str) -> (Reverse<(u8, u64, u64)>, String) {
    let known = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at(digits);
        let minor = |level: &str| rest.strip_prefix(level)?.parse().ok();
        let (level, minor) = match rest {
            "" => (3, 0),
            _ => minor("beta").map(|minor| (2, minor)).or_else(|| Some((1, minor("alpha")?)))?,
        };
        Some((level, major.parse().ok()?, minor))
    };
    match known() {
        Some(known) => (Reverse(known), String::new()),
        None => (Reverse((0, 0, 0)), version.to_owned()),
    }
}

/// A JSON pointer from a path in dots.
fn pointer(path: &str) -> String {
    path.replace('~', "~0").replace('/', "~1").replace('.', "/")
}

fn scale_of(version: &Value) -> Option<Scale> {
    let scale = version.pointer("/subresources/scale").filter(|scale| scale.is_object())?;
    let selector = text(scale, "/labelSelectorPath");
    Some(Scale {
        replicas: pointer(text(scale, "/specReplicasPath")),
        replicas_path: text(scale, "/specReplicasPath").to_owned(),
        status: pointer(text(scale, "/statusReplicasPath")),
        selector: (!selector.is_empty()).then(|| pointer(selector)),
    })
}

/// A column and where its cells come from.
#[derive(Clone, Debug)]
struct Cell {
    column: Column,
    path: JsonPath,
}

/// Words that live as long as the program.
fn lasting(word: &str, known: &[&'static str]) -> &'static str {
    known.iter().find(|known| **known == word).copied().unwrap_or_default()
}

impl Cell {
    fn of(printed: &Value) -> Option<Self> {
        let priority = printed["priority"].as_i64().unwrap_or_default();
        let column = Column {
            name: text(printed, "/name").to_owned(),
            kind: lasting(text(printed, "/type"), &COLUMN_TYPES),
            format: lasting(text(printed, "/format"), &COLUMN_FORMATS),
            description: text(printed, "/description").to_owned(),
            priority: u8::try_from(priority.max(0)).unwrap_or(u8::MAX),
        };
        Some(Self { column, path: JsonPath::parse(text(printed, "/jsonPath")).ok()? })
    }

    /// The cell of an object; nothing when there is no value of the column's type.
    fn value(&self, object: &Value, now: Timestamp) -> Value {
        let Some(found) = self.path.find(object) else { return Value::Null };
        match (self.column.kind, found) {
            (_, Value::Null) => Value::Null,
            ("string", Value::String(text)) => json!(text),
            ("string", other) => json!(other.to_string()),
            #[expect(clippy::cast_possible_truncation, reason = "a whole number is asked for")]
            ("integer", Value::Number(number)) => {
                json!(number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)))
            }
            ("number", Value::Number(number)) => json!(number.as_f64()),
            ("boolean", Value::Bool(flag)) => json!(flag),
            ("date", Value::String(moment)) => match since(moment, now).as_str() {
                "<unknown>" => json!("<invalid>"),
                age => json!(age),
            },
            _ => Value::Null,
        }
    }
}

/// A kind that behaves as its definition says.
struct Described {
    schema: Arc<Structural>,
    cells: Vec<Cell>,
}

impl Described {
    /// What is wrong with an object: its values, and the rules that it breaks. With some mistakes in its values it is not what the rules are
    /// written for, and they are not asked.
    fn mistakes(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut mistakes = self.schema.validate(object, old);
        if !self.schema.has_rules() {
            return mistakes;
        }
        if mistakes.iter().any(|one| blocks_rules(&one.mistake)) {
            let unchecked = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            mistakes.push(FieldError::invalid(FieldPath::default(), &json!("null"), unchecked));
        } else {
            mistakes.extend(aside(|| self.schema.keep(object, old)));
        }
        mistakes
    }
}

/// A finalizer that others may have taken as well.
fn finalizer_warning(finalizer: &str) -> Option<String> {
    const KNOWN: [&str; 3] = [FINALIZER_ORPHAN, FINALIZER_FOREGROUND, "kubernetes"];
    (!finalizer.contains('/') && !KNOWN.contains(&finalizer)).then(|| {
        format!(
            "metadata.finalizers: {finalizer:?}: prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"
        )
    })
}

/// Does what may take a second of computing without being in the way of other requests.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl Strategy for Described {
    fn default(&self, object: &mut Value) {
        self.schema.default(object);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        self.mistakes(object, None)
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        self.mistakes(object, Some(old))
    }

    fn validate_status(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        self.mistakes(object, Some(old))
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let empty = Value::Null;
        let before = Meta::of(old.unwrap_or(&empty)).finalizers();
        let mut added = Meta::of(object).finalizers();
        added.retain(|one| !before.contains(one));
        added.sort_unstable();
        added.dedup();
        added.into_iter().filter_map(finalizer_warning).collect()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        if self.cells.is_empty() {
            return vec![json!(name(object)), json!(age(object, now))];
        }
        let cells = self.cells.iter().map(|cell| cell.value(object, now));
        std::iter::once(json!(name(object))).chain(cells).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_preferred_as_documented() {
        let mut versions = vec![
            "v1",
            "v10beta3",
            "foo10",
            "v11alpha2",
            "v3beta1",
            "v12alpha1",
            "foo1",
            "v2",
            "v11beta2",
            "v10",
        ];
        versions.sort_by_cached_key(|version| priority(version));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "foo1",
                "foo10"
            ]
        );
    }

    #[test]
    fn cells_have_the_columns_type() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let object = json!({"n": 3.0, "t": "x", "b": true, "m": {"a": 1}, "d": "2026-01-01T00:00:00Z", "z": null});
        for (kind, path, expected) in [
            ("integer", ".n", json!(3)),
            ("integer", ".t", Value::Null),
            ("number", ".n", json!(3.0)),
            ("boolean", ".b", json!(true)),
            ("string", ".m", json!("{\"a\":1}")),
            ("string", ".b", json!("true")),
            ("string", ".z", Value::Null),
            ("date", ".d", json!("60m")),
            ("date", ".t", json!("<invalid>")),
            ("date", ".none", Value::Null),
        ] {
            let printed = json!({"name": "C", "type": kind, "jsonPath": path, "priority": 1});
            let cell = Cell::of(&printed).unwrap();
            assert_eq!(cell.value(&object, now), expected, "{kind} {path}");
            assert_eq!((cell.column.kind, cell.column.priority), (kind, 1));
        }
    }
}
