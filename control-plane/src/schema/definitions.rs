//! The definitions that Kubernetes publishes, as shapes.
//!
//! The data is part of the program (`control-plane/data`), packed; it is read when the first kind is asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, LazyLock};

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

use super::{Field, List, Name, Object, PatchStrategy, Scalar, Schemas, Shape, Topology};

/// Texts or whole numbers.
pub const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
/// Amounts such as `100m` or `2Gi`.
pub const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
/// Points in time, to the second.
pub const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
/// Points in time, to the microsecond.
pub const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
/// Any object.
pub const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
/// Who owns which fields.
pub const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
/// What every object has.
pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// A schema of a custom kind.
pub const JSON_SCHEMA: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
/// A schema, or whether anything may be.
pub const JSON_SCHEMA_OR_BOOL: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool";
/// A schema, or several.
pub const JSON_SCHEMA_OR_ARRAY: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray";

static PACKED: &[u8] = include_bytes!("../../data/openapi.json.gz");
static KUBERNETES: LazyLock<Definitions> = LazyLock::new(|| Definitions::read(&unpacked()));

/// The definitions as they are published: a JSON object from names to schemas of `OpenAPI` v3.
pub(super) fn unpacked() -> String {
    let mut text = String::new();
    let packed = GzDecoder::new(PACKED).read_to_string(&mut text);
    packed.expect("the data is part of the program, and a test reads it");
    text
}

/// Changes with the data.
pub(super) fn fingerprint() -> &'static [u8] {
    // gzip ends with a sum of the content and its length
    &PACKED[PACKED.len() - 8..]
}

/// What a whole number or a text is when JSON does not tell: Go's types are narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A whole number of 64 bits; others have 32.
    Int64,
    /// A text that is bytes in base64.
    Bytes,
}

/// Shapes of built-in kinds.
#[derive(Debug, Default)]
pub struct Definitions {
    schemas: Schemas,
    kinds: BTreeMap<String, Name>,
    references: BTreeMap<Name, Shape>,
    formats: BTreeMap<Name, BTreeMap<Box<str>, Format>>,
}

impl Definitions {
    /// Those of Kubernetes 1.32. The first call takes some milliseconds.
    pub fn kubernetes() -> &'static Self {
        &KUBERNETES
    }

    fn read(text: &str) -> Self {
        let written: BTreeMap<Box<str>, Written<'_>> = serde_json::from_str(text)
            .expect("the data is part of the program, and a test reads it");
        let written: All<'_> =
            written.into_iter().map(|(name, schema)| (name.into(), schema)).collect();
        let mut definitions = Self::default();
        for (name, schema) in &written {
            definitions.references.insert(name.clone(), Shape::Named(name.clone()));
            for kind in &schema.kinds {
                definitions.kinds.insert(key(&kind.group, &kind.version, &kind.kind), name.clone());
            }
            let properties = schema.properties.iter();
            let formats =
                properties.filter_map(|(name, field)| Some((name.clone(), format(field)?)));
            let formats: BTreeMap<_, _> = formats.collect();
            if !formats.is_empty() {
                definitions.formats.insert(name.clone(), formats);
            }
        }
        let shapes =
            written.iter().map(|(name, schema)| (name.clone(), defined(name, schema, &written)));
        definitions.schemas = Schemas::new(shapes);
        definitions
    }

    /// The shapes by name.
    pub fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// The name of a kind's definition; `group` is empty for the core group.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Name> {
        self.kinds.get(&key(group, version, kind))
    }

    /// A definition by its name, as a shape that names it.
    pub fn reference(&self, name: &str) -> Option<&Shape> {
        self.references.get(name)
    }

    /// The format of a definition's field, or of what its list or map holds.
    pub fn format(&self, definition: &str, field: &str) -> Option<Format> {
        self.formats.get(definition)?.get(field).copied()
    }
}

fn key(group: &str, version: &str, kind: &str) -> String {
    format!("{group}/{version}/{kind}")
}

/// A schema as it is published; what we do not need (most of it is prose) is passed over.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(rename = "$ref", borrow)]
    reference: Option<Cow<'a, str>>,
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    format: Option<Cow<'a, str>>,
    #[serde(default)]
    properties: BTreeMap<Box<str>, Written<'a>>,
    #[serde(default)]
    required: Vec<Box<str>>,
    #[serde(borrow)]
    items: Option<Box<Written<'a>>>,
    #[serde(rename = "additionalProperties", borrow)]
    others: Option<Box<Written<'a>>>,
    #[serde(rename = "allOf", default, borrow)]
    all_of: Vec<Written<'a>>,
    default: Option<Value>,
    #[serde(rename = "x-kubernetes-list-type", borrow)]
    list_type: Option<Cow<'a, str>>,
    #[serde(rename = "x-kubernetes-list-map-keys", default)]
    list_keys: Vec<Box<str>>,
    #[serde(rename = "x-kubernetes-map-type", borrow)]
    map_type: Option<Cow<'a, str>>,
    #[serde(rename = "x-kubernetes-patch-strategy", borrow)]
    patch_strategy: Option<Cow<'a, str>>,
    #[serde(rename = "x-kubernetes-patch-merge-key")]
    merge_key: Option<Box<str>>,
    #[serde(rename = "x-kubernetes-group-version-kind", default, borrow)]
    kinds: Vec<WrittenKind<'a>>,
}

#[derive(Deserialize)]
struct WrittenKind<'a> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

type All<'a> = BTreeMap<Name, Written<'a>>;

impl Written<'_> {
    /// The definition that stands for this schema; what says more about the field stands beside it, in `allOf`.
    fn target(&self) -> Option<&str> {
        let reference =
            self.reference.as_deref().or_else(|| self.all_of.first()?.reference.as_deref())?;
        reference.rsplit('/').next()
    }
}

/// The shape of a definition: some are not what their schema says.
fn defined(name: &str, schema: &Written<'_>, all: &All<'_>) -> Shape {
    match name {
        INT_OR_STRING | QUANTITY => Shape::Scalar(Scalar::IntOrString),
        RAW_EXTENSION | FIELDS_V1 => Shape::Any,
        _ => shape(schema, all),
    }
}

fn shape(schema: &Written<'_>, all: &All<'_>) -> Shape {
    if let Some(target) = schema.target() {
        return named(target, schema, all);
    }
    match schema.kind.as_deref() {
        Some("object") => Shape::Object(Box::new(object(schema, all))),
        Some("array") => Shape::List(Box::new(List {
            items: schema.items.as_ref().map_or(Shape::Any, |items| shape(items, all)),
            topology: topology(schema),
        })),
        Some("string") => Shape::Scalar(Scalar::String),
        Some("integer") => Shape::Scalar(Scalar::Integer),
        Some("number") => Shape::Scalar(Scalar::Number),
        Some("boolean") => Shape::Scalar(Scalar::Boolean),
        _ => Shape::Any,
    }
}

/// A reference; a field may take a map apart that its definition calls atomic (`claimRef` of a `PersistentVolume`).
fn named(target: &str, schema: &Written<'_>, all: &All<'_>) -> Shape {
    let found = all.get_key_value(target);
    match (schema.map_type.as_deref(), found) {
        (Some("granular"), Some((_, definition))) => {
            Shape::Object(Box::new(Object { atomic: false, ..object(definition, all) }))
        }
        (_, Some((name, _))) => Shape::Named(name.clone()),
        (_, None) => Shape::Named(Arc::from(target)),
    }
}

fn object(schema: &Written<'_>, all: &All<'_>) -> Object {
    let described = |field: &Written<'_>| Field {
        shape: shape(field, all),
        default: field.default.clone(),
        patch: patch_strategy(field),
    };
    Object {
        fields: schema
            .properties
            .iter()
            .map(|(name, field)| (name.clone(), described(field)))
            .collect(),
        required: schema.required.clone(),
        others: schema.others.as_ref().map(|others| shape(others, all)),
        keep_unknown: false,
        atomic: schema.map_type.as_deref() == Some("atomic"),
    }
}

fn topology(schema: &Written<'_>) -> Topology {
    match schema.list_type.as_deref() {
        Some("set") => Topology::Set,
        Some("map") => Topology::Map(schema.list_keys.clone()),
        _ => Topology::Atomic,
    }
}

fn patch_strategy(schema: &Written<'_>) -> PatchStrategy {
    let strategies = schema.patch_strategy.as_deref().unwrap_or_default();
    PatchStrategy {
        merge: strategies.split(',').any(|strategy| strategy == "merge"),
        retain_keys: strategies.split(',').any(|strategy| strategy == "retainKeys"),
        merge_key: schema.merge_key.clone(),
    }
}

fn format(field: &Written<'_>) -> Option<Format> {
    let inner = field.items.as_deref().or(field.others.as_deref()).unwrap_or(field);
    match inner.format.as_deref()? {
        "int64" => Some(Format::Int64),
        "byte" => Some(Format::Bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object_of(name: &str) -> &'static Object {
        match Definitions::kubernetes().schemas().named(name) {
            Some(Shape::Object(object)) => object,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn field(definition: &str, field: &str) -> &'static Field {
        &object_of(&format!("io.k8s.api.{definition}")).fields[field]
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(schemas: &Schemas, shape: &Shape) {
            match shape {
                Shape::Named(name) => assert!(schemas.named(name).is_some(), "{name}"),
                Shape::List(list) => walk(schemas, &list.items),
                Shape::Object(object) => {
                    object.fields.values().for_each(|field| walk(schemas, &field.shape));
                    object.others.iter().for_each(|others| walk(schemas, others));
                }
                Shape::Scalar(_) | Shape::Any => {}
            }
        }
        let schemas = Definitions::kubernetes().schemas();
        assert!(schemas.definitions.len() > 400);
        schemas.definitions.values().for_each(|shape| walk(schemas, shape));
    }

    #[test]
    fn kinds_are_found_by_group_and_version() {
        let definitions = Definitions::kubernetes();
        for (group, version, kind, name) in [
            ("", "v1", "Pod", "io.k8s.api.core.v1.Pod"),
            ("apps", "v1", "Deployment", "io.k8s.api.apps.v1.Deployment"),
            ("rbac.authorization.k8s.io", "v1", "Role", "io.k8s.api.rbac.v1.Role"),
            ("autoscaling", "v1", "Scale", "io.k8s.api.autoscaling.v1.Scale"),
            ("policy", "v1", "Eviction", "io.k8s.api.policy.v1.Eviction"),
            (
                "authentication.k8s.io",
                "v1",
                "TokenRequest",
                "io.k8s.api.authentication.v1.TokenRequest",
            ),
        ] {
            assert_eq!(definitions.kind(group, version, kind).map(AsRef::as_ref), Some(name));
        }
        assert_eq!(definitions.kind("apps", "v1", "Pod"), None);
    }

    #[test]
    fn lists_know_how_they_merge() {
        let Shape::List(ports) = &field("core.v1.ServiceSpec", "ports").shape else {
            panic!("a list")
        };
        assert_eq!(ports.topology, Topology::Map(vec!["port".into(), "protocol".into()]));
        // a key that is absent has this value: without it two ports would be one
        assert_eq!(field("core.v1.ServicePort", "protocol").default, Some(json!("TCP")));
        assert_eq!(field("core.v1.ContainerPort", "protocol").default, Some(json!("TCP")));
        let Shape::List(addresses) = &field("discovery.v1.Endpoint", "addresses").shape else {
            panic!("a list")
        };
        assert_eq!(addresses.topology, Topology::Set);
        let containers = field("core.v1.PodSpec", "containers");
        assert_eq!(
            containers.patch,
            PatchStrategy { merge: true, retain_keys: false, merge_key: Some("name".into()) }
        );
        let volumes = field("core.v1.PodSpec", "volumes");
        assert!(volumes.patch.merge && volumes.patch.retain_keys);
        // the published definitions say how every list merges, but for those of list kinds and of discovery
        for (name, shape) in &Definitions::kubernetes().schemas().definitions {
            if name.ends_with("List") || name.contains(".meta.v1.API") {
                continue;
            }
            let Shape::Object(object) = shape else { continue };
            for (field, found) in &object.fields {
                let Shape::List(list) = &found.shape else { continue };
                if found.patch.merge && found.patch.merge_key.is_some() {
                    assert_ne!(list.topology, Topology::Set, "{name}.{field}");
                }
            }
        }
    }

    #[test]
    fn what_json_does_not_tell_is_known() {
        let named = |definition, name| &field(definition, name).shape;
        let schemas = Definitions::kubernetes().schemas();
        let port = schemas.resolve(named("core.v1.ServicePort", "targetPort"));
        assert_eq!(*port, Shape::Scalar(Scalar::IntOrString));
        assert_eq!(*schemas.resolve(named("apps.v1.ControllerRevision", "data")), Shape::Any);
        let Shape::Object(claim) = named("core.v1.PersistentVolumeSpec", "claimRef") else {
            panic!("its definition is atomic, this use of it is not")
        };
        assert!(!claim.atomic && claim.fields.contains_key("uid"));
        assert!(object_of("io.k8s.api.core.v1.ObjectReference").atomic);
        let format = |name, field| Definitions::kubernetes().format(name, field);
        assert_eq!(format("io.k8s.api.core.v1.Secret", "data"), Some(Format::Bytes));
        assert_eq!(
            format("io.k8s.api.batch.v1.JobSpec", "activeDeadlineSeconds"),
            Some(Format::Int64)
        );
        assert_eq!(format("io.k8s.api.batch.v1.JobSpec", "parallelism"), None);
    }

    #[test]
    fn what_contains_itself_is_one_definition() {
        let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let properties = &object_of(name).fields["properties"];
        let Shape::Object(map) = &properties.shape else { panic!("a map") };
        assert_eq!(map.others, Some(Shape::Named(name.into())));
    }
}
