//! Bodies in Kubernetes' protobuf to JSON.
//!
//! Typed commands of kubectl and most controllers send nothing else, and 415 is the end for them. What we answer is JSON, which every
//! client reads.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>
//!
//! A body is an envelope (`k8s\0`, then `runtime.Unknown`) around a message. Messages are described by a table (`control-plane/data`)
//! made from the `.proto` files and from Go's structs: the JSON that comes out is what Go would write after reading the same
//! bytes, `"status":{}` and `"creationTimestamp":null` included.

mod message;
mod special;
mod table;
mod wire;

use serde_json::Value;

use crate::schema::decode::MOST_BYTES;
use crate::schema::definitions::Definitions;
use message::Reading;
use wire::{Fields, Wire};

const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages; what Kubernetes defines stays below 20, and objects within objects are added to that.
const MOST_LEVELS: usize = 100;
/// Values in an object. Two bytes may stand for a struct with a dozen fields: what is read must be bounded, not only what was sent.
const MOST_VALUES: usize = 200_000;

/// Why bytes are no object. The caller answers 400 (`TooLarge`: 413, `UnknownKind`: 415).
#[derive(Debug, thiserror::Error)]
pub enum ProtobufError {
    /// Too many bytes.
    #[error("Request entity too large: limit is {MOST_BYTES}")]
    TooLarge,
    /// The envelope's first bytes are missing.
    #[error("the body is not Kubernetes' protobuf: it must begin with the bytes 6b 38 73 00")]
    NoMagic,
    /// The bytes end within a value, or are none of the format's forms.
    #[error("the body is not protobuf: {0}")]
    Wire(&'static str),
    /// A field has a form that its type does not have.
    #[error("field {0:?} is not of the type that the kind has there")]
    Type(Box<str>),
    /// Messages within messages without end.
    #[error("more than {MOST_LEVELS} messages within each other")]
    TooDeep,
    /// Too much comes out.
    #[error("more than {MOST_VALUES} values in one object")]
    TooMany,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotText,
    /// Bytes within that should be JSON are not.
    #[error("an object within the object is not JSON: {0}")]
    Json(String),
    /// The envelope says that its content is packed.
    #[error("content encoding {0:?} is not supported: send the object as it is")]
    Encoding(String),
    /// No such kind, or none that has a form in protobuf.
    #[error("{kind} of {api_version:?} is not known in protobuf: send it as application/json")]
    UnknownKind {
        /// The group and version, such as `apps/v1`.
        api_version: String,
        /// The kind.
        kind: String,
    },
}

/// The object in a body with `Content-Type: application/vnd.kubernetes.protobuf`, as JSON.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    if body.len() > MOST_BYTES {
        return Err(ProtobufError::TooLarge);
    }
    Reading::new(MOST_VALUES, MOST_LEVELS).envelope(body)
}

/// `runtime.Unknown`.
#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
    content_type: String,
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Self, ProtobufError> {
        let mut envelope = Self::default();
        for field in Fields::of(body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?) {
            match field? {
                (1, Wire::Bytes(type_meta)) => envelope.read_type(type_meta)?,
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                    return Err(ProtobufError::Encoding(
                        String::from_utf8_lossy(encoding).into_owned(),
                    ));
                }
                (4, Wire::Bytes(content_type)) => {
                    wire::text(content_type)?.clone_into(&mut envelope.content_type);
                }
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_type(&mut self, type_meta: &[u8]) -> Result<(), ProtobufError> {
        for field in Fields::of(type_meta) {
            match field? {
                (1, Wire::Bytes(api_version)) => {
                    wire::text(api_version)?.clone_into(&mut self.api_version);
                }
                (2, Wire::Bytes(kind)) => wire::text(kind)?.clone_into(&mut self.kind),
                _ => {}
            }
        }
        Ok(())
    }

    /// The message of the object within.
    fn message(&self) -> Result<&'static table::Message, ProtobufError> {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        let definition = Definitions::kubernetes().kind(group, version, &self.kind);
        // options have the version of whatever they are options of
        let options =
            self.kind.ends_with("Options").then(|| format!("{}{}", special::META, self.kind));
        let found = definition.map(AsRef::as_ref).or(options.as_deref()).and_then(table::message);
        let unknown = || ProtobufError::UnknownKind {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
        };
        found.ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::schema::decode::{DecodeError, Target};

    /// What kubectl 1.32 sent, and what `--dry-run=client -o json` printed for the same command. For those that have no dry run
    /// (token, can-i, can-i-list, who, drain) it was written by hand from the Go structs.
    static RECORDED: &str = include_str!("fixtures/kubectl.json");

    #[derive(serde::Deserialize)]
    struct Recorded {
        body: String,
        object: Value,
    }

    fn recorded() -> BTreeMap<String, (Vec<u8>, Value)> {
        let recorded: BTreeMap<String, Recorded> = serde_json::from_str(RECORDED).expect("JSON");
        let read = |Recorded { body, object }| (STANDARD.decode(body).expect("base64"), object);
        recorded.into_iter().map(|(name, recorded)| (name, read(recorded))).collect()
    }

    /// A field of type bytes, text or message.
    fn field(number: u32, content: &[u8]) -> Vec<u8> {
        let mut written = Vec::new();
        prost::encoding::encode_key(
            number,
            prost::encoding::WireType::LengthDelimited,
            &mut written,
        );
        prost::encoding::encode_varint(content.len() as u64, &mut written);
        written.extend_from_slice(content);
        written
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC, &field(1, &type_meta), &field(2, raw)].concat()
    }

    #[test]
    fn what_kubectl_sends_is_what_it_prints() {
        let recorded = recorded();
        assert_eq!(recorded.len(), 30);
        for (name, (body, mut object)) in recorded {
            let mut read = decode(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
            // a dry run does not print the namespace that the request has
            for object in [&mut read, &mut object] {
                if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
                    metadata.remove("namespace");
                }
            }
            assert_eq!(read, object, "{name}");
        }
    }

    #[test]
    fn a_zero_that_was_meant_stays() {
        // spec { replicas: 0 }, a pointer; minReadySeconds 0, none
        let spec = [0x08, 0x00, 0x28, 0x00];
        let object =
            decode(&envelope("apps/v1", "Deployment", &field(2, &spec))).expect("a deployment");
        assert_eq!(object["spec"]["replicas"], 0);
        assert_eq!(object["spec"].get("minReadySeconds"), None);
        assert_eq!(object["spec"]["selector"], Value::Null);
        assert_eq!(object["spec"]["template"]["spec"]["containers"], Value::Null);
        assert_eq!(object["status"], json!({}));
    }

    #[test]
    fn values_with_a_form_of_their_own() {
        let read = |api_version, kind, raw: &[u8]| {
            decode(&envelope(api_version, kind, raw)).expect("an object")
        };
        // metadata { creationTimestamp { seconds: 1 } managedFields { fieldsV1 { raw } } }
        let managed = field(17, &field(7, &field(1, br#"{"f:a":{}}"#)));
        let metadata = [field(8, &[0x08, 0x01]), managed].concat();
        let object = read("v1", "ConfigMap", &field(1, &metadata));
        assert_eq!(object["metadata"]["creationTimestamp"], "1970-01-01T00:00:01Z");
        assert_eq!(object["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:a": {}}));
        // spec { renewTime { seconds: 1, nanos: 5000 } }
        let object = read(
            "coordination.k8s.io/v1",
            "Lease",
            &field(2, &field(4, &[0x08, 0x01, 0x10, 0x88, 0x27])),
        );
        assert_eq!(object["spec"]["renewTime"], "1970-01-01T00:00:01.000005Z");
        let data = field(1, br#"{"spec":{"a":[1,null]}}"#);
        let object = read("apps/v1", "ControllerRevision", &field(2, &data));
        assert_eq!(object["data"], json!({"spec": {"a": [1, null]}}));
        // an object in protobuf within an object
        let inner = envelope("v1", "Namespace", &field(1, &field(1, b"a")));
        let object = read("apps/v1", "ControllerRevision", &field(2, &field(1, &inner)));
        assert_eq!(object["data"]["metadata"]["name"], "a");
        let extra =
            [field(1, b"scopes"), field(2, &[field(1, b"a"), field(1, b"b")].concat())].concat();
        let object =
            read("authorization.k8s.io/v1", "SubjectAccessReview", &field(2, &field(5, &extra)));
        assert_eq!(object["spec"]["extra"], json!({"scopes": ["a", "b"]}));
        // the parts of a message that came in two pieces belong together
        let pieces = [field(1, &field(1, b"a")), field(1, &field(3, b"b"))].concat();
        let object = read("v1", "ConfigMap", &pieces);
        assert_eq!(
            (&object["metadata"]["name"], &object["metadata"]["namespace"]),
            (&json!("a"), &json!("b"))
        );
    }

    #[test]
    fn options_come_with_the_version_of_what_they_are_for() {
        let options = envelope("policy/v1", "DeleteOptions", &field(4, b"Background"));
        assert_eq!(
            decode(&options).expect("options"),
            json!({"apiVersion": "policy/v1", "kind": "DeleteOptions", "propagationPolicy": "Background"})
        );
        let error = decode(&envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", b""));
        assert!(error.expect_err("no table").to_string().contains("application/json"));
    }

    #[test]
    fn hostile_bodies_are_refused() {
        let refused = |body: &[u8]| decode(body).expect_err("hostile");
        assert!(matches!(refused(b"{}"), ProtobufError::NoMagic));
        assert!(matches!(refused(&vec![0; MOST_BYTES + 1]), ProtobufError::TooLarge));
        // a length beyond the end, and one that does not fit into any memory
        assert!(matches!(refused(b"k8s\0\x0a\x7f"), ProtobufError::Wire(_)));
        assert!(matches!(
            refused(b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            ProtobufError::Wire(_)
        ));
        assert!(matches!(
            refused(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            ProtobufError::Wire(_)
        ));
        // a million containers in two million bytes
        let containers = field(2, &[0x12, 0x00].repeat(1_000_000));
        assert!(matches!(refused(&envelope("v1", "Pod", &containers)), ProtobufError::TooMany));
        // objects within objects
        let mut body = Vec::new();
        for _ in 0..MOST_LEVELS {
            body = envelope("apps/v1", "ControllerRevision", &field(2, &field(1, &body)));
        }
        assert!(matches!(refused(&body), ProtobufError::TooDeep));
        // a text where a number is
        assert!(matches!(
            refused(&envelope("apps/v1", "Deployment", &field(2, &field(1, b"3")))),
            ProtobufError::Type(_)
        ));
        assert!(matches!(
            refused(&envelope("v1", "ConfigMap", &field(1, &field(1, b"\xff")))),
            ProtobufError::NotText
        ));
        let time =
            field(1, &field(8, &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]));
        assert!(matches!(refused(&envelope("v1", "ConfigMap", &time)), ProtobufError::Type(_)));
    }

    /// What came out must be an object of its kind: no field that the kind does not have, none of another type.
    fn check(body: &[u8]) {
        let Ok(object) = decode(body) else { return };
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let Some(target) = Target::kind(Definitions::kubernetes(), group, version, kind) else {
            return;
        };
        match target.value(object.clone()) {
            Ok(decoded) => assert_eq!(decoded.mistakes, Vec::<String>::new(), "{object}"),
            // a text that should be an amount is a mistake that only the kind shows
            Err(DecodeError::Type(error)) => {
                assert!(error.starts_with("quantities must match"), "{error}: {object}");
            }
            Err(error) => panic!("{error}: {object}"),
        }
    }

    #[test]
    fn a_body_that_was_cut_or_changed_is_refused_or_an_object() {
        for (body, _) in recorded().into_values() {
            for end in 0..body.len() {
                check(&body[..end]);
                let mut changed = body.clone();
                for value in [0x00, 0x7f, 0x80, 0xff, body[end] ^ 0x08, body[end].wrapping_add(1)] {
                    changed[end] = value;
                    check(&changed);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(kind in 0..5_usize, raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (api_version, kind) =
                [("v1", "Pod"), ("apps/v1", "Deployment"), ("v1", "DeleteOptions"), ("v1", "Node"), ("batch/v1", "CronJob")][kind];
            check(&raw);
            check(&envelope(api_version, kind, &raw));
            if let Ok(object) = decode(&envelope(api_version, kind, &raw)) {
                prop_assert_eq!(&object["kind"], kind);
            }
        }
    }
}
