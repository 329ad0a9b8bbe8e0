//! A body as an object of its kind: what the schema does not know is found, dropped and told of.
//!
//! Built-in kinds are read as Go would read them into its structs: names are case-sensitive, `null` is absence, a wrong type is an error with
//! the words of `encoding/json`. Objects of custom kinds keep what they are: whether it may be is said by validation
//! (`structural`), with a field error.

mod scalar;
mod syntax;
mod walk;

use serde::de::DeserializeSeed;
use serde_json::Value;

use super::Shape;
use super::definitions::Definitions;
pub(crate) use scalar::{go_kind, timestamp, written as written_time};
use walk::{Node, Walk};

/// The largest body in bytes that kube-apiserver takes, and so do we.
pub const MOST_BYTES: usize = 3 * 1024 * 1024;

/// The most values of a body. A map with one field takes eight bytes to send and hundreds to keep.
const MOST_VALUES: usize = 200_000;

/// More mistakes of this sort are not told of.
const MOST_MISTAKES: usize = 100;

/// Why a body is no object of its kind; the caller answers 400 (`TooLarge`: 413).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too many bytes.
    #[error("Request entity too large: limit is {MOST_BYTES}")]
    TooLarge,
    /// Not JSON, in the words of Go's decoder where it would refuse it too.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// Not YAML.
    #[error("invalid YAML: {0}")]
    Yaml(String),
    /// A value is not of the type that the kind has there; in the words of Go's decoder.
    #[error("{0}")]
    Type(String),
    /// Fields are unknown or there twice, and the caller asked to be told (`fieldValidation=Strict`).
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

impl DecodeError {
    /// Why a body is no JSON.
    pub fn json(body: &[u8], error: &serde_json::Error) -> Self {
        let ours = error.to_string();
        let go = (error.is_syntax() || error.is_eof()).then(|| syntax::syntax_error(body));
        Self::Json(go.flatten().unwrap_or(ours))
    }

    /// The sentence about a body that nothing can be made of: what was asked for, and how the body begins.
    pub fn unrecognized(&self, kind: &str, body: &[u8]) -> String {
        let why = match self {
            Self::Json(why) => format!("couldn't get version/kind; json parse error: {why}"),
            Self::Yaml(why) => format!("yaml: {why}"),
            other => other.to_string(),
        };
        let begins = beginning(body);
        format!("the object provided is unrecognized (must be of type {kind}): {why} ({begins})")
    }

    /// The sentence as kube-apiserver answers it for built-in kinds: what was sent, and what was asked for.
    pub fn told(&self, kind: &str, version: &str, expected: &str) -> String {
        match self {
            Self::TooLarge => self.to_string(),
            _ => format!("{kind} in version {version:?} cannot be handled as a {expected}: {self}"),
        }
    }
}

/// How a body begins: as it is if it looks like JSON, else in hexadecimal.
fn beginning(body: &[u8]) -> String {
    const MOST: usize = 30;
    let shown = &body[..body.len().min(MOST)];
    let text = match body.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => data_encoding::HEXLOWER.encode(shown),
    };
    if body.len() > MOST { text + " ..." } else { text }
}

/// What is done about fields that are unknown or there twice (query parameter `fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped without a word.
    Ignore,
    /// They are dropped; the answer has a warning for each.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

impl FieldValidation {
    /// The value of the query parameter; `None`: none of the three.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Ignore" => Some(Self::Ignore),
            "" | "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// What a body is read as.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Where names of definitions lead.
    pub definitions: &'a Definitions,
    /// What the object may hold.
    pub shape: &'a Shape,
    /// The shape is that of a custom kind: types are left to validation.
    pub custom: bool,
}

/// An object, and what of the body did not become a part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object; no map if the shape is none.
    pub value: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.foo"`; one each, 100 at most.
    pub mistakes: Vec<String>,
}

impl Decoded {
    /// The object and the warnings for the client, or the refusal.
    pub fn settle(self, validation: FieldValidation) -> Result<(Value, Vec<String>), DecodeError> {
        match validation {
            FieldValidation::Strict if !self.mistakes.is_empty() => {
                Err(DecodeError::Strict(self.mistakes))
            }
            FieldValidation::Warn => Ok((self.value, self.mistakes)),
            _ => Ok((self.value, Vec::new())),
        }
    }
}

impl<'a> Target<'a> {
    /// A built-in kind; `group` is empty for the core group.
    pub fn kind(
        definitions: &'a Definitions,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Option<Self> {
        Self::definition(definitions, definitions.kind(group, version, kind)?)
    }

    /// A definition by its name.
    pub fn definition(definitions: &'a Definitions, name: &str) -> Option<Self> {
        // a shape that is a name: errors tell of the struct by it
        let shape = definitions.reference(name)?;
        Some(Self { definitions, shape, custom: false })
    }

    /// Reads JSON. More than 128 levels are refused, and more than 200 000 values.
    pub fn json(&self, body: &[u8]) -> Result<Decoded, DecodeError> {
        self.json_within(body, &mut { MOST_VALUES })
    }

    /// Reads JSON of at most so many values; tells how many are left.
    pub(crate) fn json_within(
        &self,
        body: &[u8],
        values: &mut usize,
    ) -> Result<Decoded, DecodeError> {
        if body.len() > MOST_BYTES {
            return Err(DecodeError::TooLarge);
        }
        let walk = Walk::new(self.definitions, *values);
        let mut source = serde_json::Deserializer::from_slice(body);
        let root = Node::root(&walk, self);
        let value = root.deserialize(&mut source);
        let value = value.and_then(|value| source.end().map(|()| value));
        *values = walk.values_left();
        walk.finish(root.whole(value.map_err(|error| DecodeError::json(body, &error))?))
    }

    /// Reads one document of YAML.
    pub fn yaml(&self, body: &[u8]) -> Result<Decoded, DecodeError> {
        if body.len() > MOST_BYTES {
            return Err(DecodeError::TooLarge);
        }
        let walk = Walk::new(self.definitions, MOST_VALUES);
        // a key that is there twice must reach us: it is a mistake that may be ignored, like in JSON
        let root = Node::root(&walk, self);
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
            with_snippet: false,
            // modes of files: Kubernetes' reader takes 0400 as YAML 1.1 does
            legacy_octal_numbers: true,
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST_VALUES },
        };
        let value =
            serde_saphyr::with_deserializer_from_slice_with_options(body, options, |source| {
                root.deserialize(source)
            });
        walk.finish(root.whole(value.map_err(|error| DecodeError::Yaml(error.to_string()))?))
    }

    /// Reads what is JSON already, such as what a patch made.
    pub fn value(&self, value: Value) -> Result<Decoded, DecodeError> {
        let walk = Walk::new(self.definitions, usize::MAX);
        let root = Node::root(&walk, self);
        let value = root.deserialize(value);
        walk.finish(root.whole(value.map_err(|error| DecodeError::Json(error.to_string()))?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{Field, Object, Scalar};
    use super::*;

    fn target(group: &str, version: &str, kind: &str) -> Target<'static> {
        Target::kind(Definitions::kubernetes(), group, version, kind).expect("a kind")
    }

    fn deployment(body: &str) -> Result<Decoded, DecodeError> {
        target("apps", "v1", "Deployment").json(body.as_bytes())
    }

    fn type_error(group: &str, kind: &str, body: Value) -> String {
        let error = target(group, "v1", kind)
            .json(body.to_string().as_bytes())
            .expect_err("of the wrong type");
        assert!(matches!(error, DecodeError::Type(_)), "{error:?}");
        error.to_string()
    }

    #[test]
    fn unknown_and_double_fields_are_told_of_in_order() {
        let decoded = deployment(
            r#"{"kind":"Deployment","spec":{"replicas":1,"foo":{"bar":1},"replicas":2,
                "template":{"spec":{"containers":[{"name":"a"},{"name":"b","imagePullPolic":"Always"}]}},
                "Template":{}},"metadata":{"labels":{"a":"1","a":"2"}}}"#,
        )
        .expect("an object");
        assert_eq!(
            decoded.mistakes,
            [
                r#"unknown field "spec.foo""#,
                r#"duplicate field "spec.replicas""#,
                r#"unknown field "spec.template.spec.containers[1].imagePullPolic""#,
                r#"unknown field "spec.Template""#,
                r#"duplicate field "metadata.labels.a""#,
            ]
        );
        let expected = json!({
            "kind": "Deployment",
            "metadata": {"labels": {"a": "2"}},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}},
        });
        assert_eq!(decoded.value, expected);
        let warned = decoded.clone().settle(FieldValidation::Warn).expect("no refusal");
        assert_eq!((warned.0, warned.1.len()), (expected.clone(), 5));
        let ignored = decoded.clone().settle(FieldValidation::Ignore);
        assert_eq!(ignored, Ok((expected, vec![])));
        let told = DecodeError::Strict(vec!["a".to_owned()]).told("Deployment", "v1", "Deployment");
        assert_eq!(
            told,
            r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: a"#
        );
        let refused = Decoded { mistakes: decoded.mistakes[..2].to_vec(), ..decoded };
        assert_eq!(
            refused.settle(FieldValidation::Strict).expect_err("strict").to_string(),
            r#"strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas""#
        );
    }

    #[test]
    fn wrong_types_are_told_of_in_the_words_of_go() {
        for (group, kind, body, expected) in [
            (
                "apps",
                "Deployment",
                json!({"spec": {"replicas": "3"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "apps",
                "Deployment",
                json!({"spec": {"replicas": 1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "apps",
                "Deployment",
                json!({"spec": {"replicas": 3_000_000_000_u64}}),
                "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "",
                "Pod",
                json!({"spec": {"containers": [{"name": "a", "ports": [{"hostPort": true}]}]}}),
                "json: cannot unmarshal bool into Go struct field ContainerPort.spec.containers.ports.hostPort of type int32",
            ),
            (
                "",
                "Pod",
                json!({"spec": {"containers": {}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                "",
                "Pod",
                json!({"spec": []}),
                "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
            ),
            (
                "",
                "Pod",
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                "",
                "Pod",
                json!("text"),
                "json: cannot unmarshal string into Go value of type v1.Pod",
            ),
            (
                "",
                "Service",
                json!({"spec": {"ports": [{"targetPort": true}]}}),
                "json: cannot unmarshal bool into Go value of type int32",
            ),
            ("", "Secret", json!({"data": {"a": "no!"}}), "illegal base64 data at input byte 2"),
            (
                "",
                "ResourceQuota",
                json!({"spec": {"hard": {"pods": "many"}}}),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                "",
                "Pod",
                json!({"metadata": {"creationTimestamp": "today"}}),
                r#"parsing time "today" as "2006-01-02T15:04:05Z07:00": cannot parse "today" as "2006""#,
            ),
        ] {
            assert_eq!(type_error(group, kind, body), expected);
        }
    }

    #[test]
    fn null_is_absence_but_in_what_is_kept_as_it_is() {
        let decoded = deployment(
            r#"{"status":null,"metadata":{"creationTimestamp":null,"labels":{"a":null},"finalizers":["a",null]},
                "spec":{"template":{"spec":{"volumes":[null]}}}}"#,
        );
        let expected = json!({
            "metadata": {"labels": {"a": ""}, "finalizers": ["a", ""]},
            "spec": {"template": {"spec": {"volumes": [{}]}}},
        });
        assert_eq!(decoded.expect("an object").value, expected);
        assert_eq!(deployment("null").expect("an object").value, json!({}));
        let revision = json!({"data": {"spec": null, "list": [null]}});
        let decoded = target("apps", "v1", "ControllerRevision").value(revision.clone());
        assert_eq!(decoded.expect("an object").value, revision);
    }

    #[test]
    fn values_with_a_form_of_their_own_become_it() {
        let decoded = target("", "v1", "Pod").value(json!({
            "metadata": {"creationTimestamp": "2026-03-01T12:00:00.75+02:00"},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 2, "memory": "1Gi"}}}]},
        }));
        let expected = json!({
            "metadata": {"creationTimestamp": "2026-03-01T10:00:00Z"},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}]},
        });
        assert_eq!(decoded.expect("an object").value, expected);
        let lease = json!({"spec": {"renewTime": "2026-03-01T10:00:00.5Z"}});
        let decoded = target("coordination.k8s.io", "v1", "Lease").value(lease).expect("an object");
        assert_eq!(decoded.value["spec"]["renewTime"], "2026-03-01T10:00:00.500000Z");
    }

    #[test]
    fn yaml_reads_like_json() {
        let yaml = b"kind: Deployment\nspec:\n  replicas: 1\n  foo: 1\n  replicas: 2\n  template: {spec: {nodeName: \"3\"}}\n";
        let decoded = target("apps", "v1", "Deployment").yaml(yaml).expect("an object");
        let spec = json!({"replicas": 2, "template": {"spec": {"nodeName": "3"}}});
        assert_eq!(decoded.value, json!({"kind": "Deployment", "spec": spec}));
        assert_eq!(
            decoded.mistakes,
            [r#"unknown field "spec.foo""#, r#"duplicate field "spec.replicas""#]
        );
        let mode = b"spec: {volumes: [{name: a, secret: {defaultMode: 0400}}]}";
        let octal = target("", "v1", "Pod").yaml(mode).expect("an object").value;
        assert_eq!(octal["spec"]["volumes"][0]["secret"]["defaultMode"], 0o400);
        let wrong = target("", "v1", "ConfigMap").yaml(b"data: {a: 1}").expect_err("a number");
        assert!(wrong.to_string().contains("cannot unmarshal number"), "{wrong}");
        let broken = target("", "v1", "ConfigMap").yaml(b"data: [").expect_err("broken");
        assert!(matches!(broken, DecodeError::Yaml(_)));
    }

    #[test]
    fn schemas_within_schemas_are_looked_into() {
        let schema = json!({"properties": {"a": {"items": {"typ": "string"}, "additionalProperties": {"maxLenght": 1}}}});
        let version = json!({"name": "v1", "schema": {"openAPIV3Schema": schema}});
        let target = target("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let decoded = target.value(json!({"spec": {"versions": [version]}})).expect("a definition");
        let path = "spec.versions[0].schema.openAPIV3Schema.properties.a";
        let unknown = |field: &str| format!(r#"unknown field "{path}.{field}""#);
        assert_eq!(
            decoded.mistakes,
            [unknown("additionalProperties.maxLenght"), unknown("items.typ")]
        );
        let either = json!({"additionalProperties": true, "items": [{"type": "string"}]});
        let version = json!({"name": "v1", "schema": {"openAPIV3Schema": either}});
        let body = json!({"spec": {"versions": [version]}});
        assert_eq!(target.value(body.clone()).expect("a definition").value, body);
        let wrong =
            json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"items": true}}}]}});
        assert!(target.value(wrong).is_err());
    }

    #[test]
    fn custom_kinds_keep_types_and_nulls() {
        let any_field =
            |shape| Field { shape, default: None, patch: super::super::PatchStrategy::default() };
        let spec = Object {
            fields: [("size".into(), any_field(Shape::Scalar(Scalar::Integer)))].into(),
            ..Object::default()
        };
        let kept = Object { keep_unknown: true, ..Object::default() };
        let shape = Shape::Object(Box::new(Object {
            fields: [
                (
                    "metadata".into(),
                    any_field(Shape::Named(super::super::definitions::OBJECT_META.into())),
                ),
                ("spec".into(), any_field(Shape::Object(Box::new(spec)))),
                ("free".into(), any_field(Shape::Object(Box::new(kept)))),
            ]
            .into(),
            ..Object::default()
        }));
        let target = Target { definitions: Definitions::kubernetes(), shape: &shape, custom: true };
        let body = json!({
            "metadata": {"name": "a", "labels": null, "shoe": 1},
            "spec": {"size": "big", "colour": 1},
            "free": {"a": [null]},
        });
        let decoded = target.value(body).expect("an object");
        let free = json!({"a": [null]});
        assert_eq!(
            decoded.value,
            json!({"metadata": {"name": "a"}, "spec": {"size": "big"}, "free": free})
        );
        assert_eq!(
            decoded.mistakes,
            [r#"unknown field "metadata.shoe""#, r#"unknown field "spec.colour""#]
        );
        let null = target.value(json!({"spec": {"size": null}})).expect("an object");
        assert_eq!(null.value, json!({"spec": {"size": null}}));
        for (body, found) in [(json!("a"), "string"), (json!(null), "null"), (json!([]), "array")] {
            let error = target.value(body).expect_err("no map").to_string();
            assert_eq!(
                error,
                format!(
                    "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
                )
            );
        }
        // metadata is Go's in every kind
        let wrong = target.value(json!({"metadata": {"name": 1}})).expect_err("a number");
        assert!(wrong.to_string().contains("ObjectMeta.metadata.name of type string"), "{wrong}");
    }

    #[test]
    fn what_is_no_object_is_told_with_its_beginning() {
        const HEAD: &str = "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error:";
        let told = |body: &str| {
            let error = deployment(body).expect_err("no JSON");
            error.unrecognized("Deployment", body.as_bytes())
        };
        for (body, rest) in [
            ("", "unexpected end of JSON input (<empty>)"),
            ("{\"spec\":", "unexpected end of JSON input ({\"spec\":)"),
            (
                "{\"spec\": {\"replicas\": 1, \"selector\"",
                "unexpected end of JSON input ({\"spec\": {\"replicas\": 1, \"sele ...)",
            ),
            ("kind", "invalid character 'k' looking for beginning of value (6b696e64)"),
        ] {
            assert_eq!(told(body), format!("{HEAD} {rest}"));
        }
    }

    #[test]
    fn hostile_bodies_are_refused() {
        let deep = format!(r#"{{"data":{}}}"#, "[".repeat(100_000));
        assert!(matches!(
            target("apps", "v1", "ControllerRevision").json(deep.as_bytes()),
            Err(DecodeError::Json(_))
        ));
        assert!(matches!(deployment("{} {}"), Err(DecodeError::Json(_))));
        assert_eq!(deployment(&" ".repeat(MOST_BYTES + 1)), Err(DecodeError::TooLarge));
        let list = format!(r#"{{"data":[{}1]}}"#, "1,".repeat(MOST_VALUES));
        let list = target("apps", "v1", "ControllerRevision").json(list.as_bytes());
        assert!(list.expect_err("too many").to_string().contains("200000 values"));
        let many: Vec<String> = (0..1000).map(|index| format!(r#""f{index}":1,"#)).collect();
        let many = many.concat();
        let decoded = deployment(&format!(r#"{{{many}"kind":"Deployment"}}"#)).expect("an object");
        assert_eq!(decoded.mistakes.len(), MOST_MISTAKES);
        // a few bytes that stand for billions
        let mut bomb = String::from("data:\n  a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let one = format!("*a{},", level - 1).repeat(9);
            bomb.push_str(&format!("  a{level}: &a{level} [{}]\n", one.trim_end_matches(',')));
        }
        let bomb = target("apps", "v1", "ControllerRevision").yaml(bomb.as_bytes());
        assert!(matches!(bomb, Err(DecodeError::Yaml(_))), "{bomb:?}");
    }

    proptest! {
        #[test]
        fn what_was_read_reads_the_same_again(text in r#"(\{|\}|\[|\]|:|,|"(kind|spec|metadata|name|labels|containers|template|x)"|1|-7|1e9|null|true|"2Gi"| ){0,40}"#) {
            for kind in ["Pod", "Service", "ConfigMap"] {
                let target = target("", "v1", kind);
                let _ = target.yaml(text.as_bytes());
                let Ok(decoded) = target.json(text.as_bytes()) else { continue };
                let again = target.value(decoded.value.clone()).expect("it was read before");
                prop_assert_eq!(again, Decoded { value: decoded.value, mistakes: vec![] });
            }
        }
    }
}
