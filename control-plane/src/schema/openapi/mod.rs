//! What the server can do, as `OpenAPI` v3: an index, and a document for each group and version.
//!
//! kubectl reads it for `explain`, and for `apply`, `create` and `edit` to see that the server validates fields.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3>
//!
//! A document is made when it is first asked for and kept packed: most are never asked for.

mod components;
mod paths;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A group, a version and a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `Pod`.
    pub kind: String,
}

/// A resource that is served.
#[derive(Clone, Debug, Serialize)]
pub struct Served {
    /// What its objects are.
    pub kind: GroupVersionKind,
    /// Its name in paths, such as `pods`.
    pub plural: String,
    /// Its objects are in namespaces.
    pub namespaced: bool,
    /// As discovery names them: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verbs: Vec<String>,
    /// What stands below an object.
    pub subresources: Vec<Subresource>,
    /// The schema of a custom kind, as its definition has it; `None` for built-in kinds.
    pub schema: Option<Value>,
}

/// What stands below an object, such as `pods/eviction`.
#[derive(Clone, Debug, Serialize)]
pub struct Subresource {
    /// Its name in paths, such as `eviction`.
    pub name: String,
    /// What is sent there, such as `policy/v1 Eviction`.
    pub kind: GroupVersionKind,
    /// As discovery names them.
    pub verbs: Vec<String>,
}

/// The index and the documents.
#[derive(Debug, Default)]
pub struct OpenApi {
    documents: BTreeMap<String, Arc<Document>>,
    index: Bytes,
}

impl OpenApi {
    /// Describes these resources.
    pub fn new(served: Vec<Served>) -> Self {
        Self::default().with(served)
    }

    /// Describes these resources instead; what is the same keeps its document.
    #[must_use]
    pub fn with(&self, served: Vec<Served>) -> Self {
        let mut groups: BTreeMap<String, Vec<Served>> = BTreeMap::new();
        for resource in served {
            groups.entry(paths::root(&resource.kind)).or_default().push(resource);
        }
        let documents = groups.into_iter().map(|(path, served)| {
            let document = Document::new(served);
            let kept = self.documents.get(&path).filter(|kept| kept.hash == document.hash);
            (path, kept.map_or_else(|| Arc::new(document), Arc::clone))
        });
        let documents: BTreeMap<String, Arc<Document>> = documents.collect();
        let index = index(&documents);
        Self { documents, index }
    }

    /// The JSON at `/openapi/v3`.
    pub fn index(&self) -> Bytes {
        self.index.clone()
    }

    /// The document of a path below `/openapi/v3/`, such as `api/v1` or `apis/apps/v1`.
    pub fn document(&self, path: &str) -> Option<Arc<Document>> {
        self.documents.get(path).cloned()
    }
}

fn index(documents: &BTreeMap<String, Arc<Document>>) -> Bytes {
    let place = |(path, document): (&String, &Arc<Document>)| {
        let url = format!("/openapi/v3/{path}?hash={}", document.hash);
        (path.clone(), json!({ "serverRelativeURL": url }))
    };
    let paths: serde_json::Map<String, Value> = documents.iter().map(place).collect();
    json!({ "paths": paths }).to_string().into()
}

/// The description of a group and version.
#[derive(Debug)]
pub struct Document {
    hash: String,
    served: Vec<Served>,
    packed: OnceLock<Bytes>,
}

impl Document {
    fn new(served: Vec<Served>) -> Self {
        // the definitions and the code are the program's: what is served makes the rest of the difference
        let mut hash = Sha256::new_with_prefix(env!("CARGO_PKG_VERSION"));
        hash.update(super::definitions::fingerprint());
        hash.update(serde_json::to_vec(&served).expect("texts and lists become JSON"));
        let hash = hexadecimal(&hash.finalize());
        Self { hash, served, packed: OnceLock::new() }
    }

    /// Other descriptions have other hashes: it stands in the index and serves as an `ETag` (in quotes).
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The JSON, packed with gzip. The first call takes some milliseconds.
    pub fn packed(&self) -> Bytes {
        let packed = self.packed.get_or_init(|| {
            let mut packed = GzEncoder::new(Vec::new(), Compression::default());
            let written = packed.write_all(&self.written()).and_then(|()| packed.finish());
            written.expect("memory takes what is written").into()
        });
        packed.clone()
    }

    /// The JSON, for clients that do not unpack.
    pub fn plain(&self) -> Bytes {
        let mut plain = Vec::new();
        let unpacked = GzDecoder::new(&*self.packed()).read_to_end(&mut plain);
        unpacked.expect("we packed it");
        plain.into()
    }

    fn written(&self) -> Vec<u8> {
        let unpacked = super::definitions::unpacked();
        let schemas = components::of(&self.served, &unpacked);
        let document = Written {
            openapi: "3.0.0",
            info: json!({ "title": "Kubernetes", "version": "v1.32.0" }),
            paths: paths::of(&self.served),
            components: Components { schemas },
        };
        serde_json::to_vec(&document).expect("texts and lists become JSON")
    }
}

#[derive(Serialize)]
struct Written<'a> {
    openapi: &'static str,
    info: Value,
    paths: BTreeMap<String, Value>,
    components: Components<'a>,
}

#[derive(Serialize)]
struct Components<'a> {
    schemas: components::Schemas<'a>,
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|half| char::from(b"0123456789ABCDEF"[usize::from(half)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, version: &str, kind: &str) -> GroupVersionKind {
        GroupVersionKind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    fn served(kind: GroupVersionKind, plural: &str, schema: Option<Value>) -> Served {
        let verbs = "get list watch create update patch delete deletecollection".split(' ');
        let scale = Subresource {
            name: "scale".to_owned(),
            kind: self::kind("autoscaling", "v1", "Scale"),
            verbs: vec!["get".to_owned(), "patch".to_owned(), "update".to_owned()],
        };
        Served {
            kind,
            plural: plural.to_owned(),
            namespaced: true,
            verbs: verbs.map(str::to_owned).collect(),
            subresources: vec![scale],
            schema,
        }
    }

    fn document(api: &OpenApi, path: &str) -> Value {
        let document = api.document(path).expect("a document");
        serde_json::from_slice(&document.plain()).expect("JSON")
    }

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_index_leads_to_documents() {
        let api = OpenApi::new(vec![
            served(kind("", "v1", "Pod"), "pods", None),
            served(kind("apps", "v1", "Deployment"), "deployments", None),
        ]);
        let index: Value = serde_json::from_slice(&api.index()).expect("JSON");
        let hash = api.document("apis/apps/v1").expect("a document").hash().to_owned();
        assert_eq!(hash.len(), 64);
        assert_eq!(
            index["paths"]["apis/apps/v1"]["serverRelativeURL"],
            format!("/openapi/v3/apis/apps/v1?hash={hash}")
        );
        assert!(index["paths"]["api/v1"].is_object());
        assert!(api.document("apis/apps/v2").is_none());
    }

    #[test]
    fn a_document_has_what_kubectl_looks_for() {
        let api = OpenApi::new(vec![served(kind("apps", "v1", "Deployment"), "deployments", None)]);
        let document = document(&api, "apis/apps/v1");
        let object = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
        let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
        for verb in ["get", "put", "patch", "delete"] {
            assert_eq!(object[verb]["x-kubernetes-group-version-kind"], gvk);
        }
        let parameters = object["patch"]["parameters"].as_array().expect("a list");
        for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
            assert!(
                parameters
                    .iter()
                    .any(|parameter| parameter["name"] == name && parameter["in"] == "query"),
                "{name}"
            );
        }
        let list = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"];
        assert_eq!(list["get"]["x-kubernetes-group-version-kind"], gvk);
        assert_eq!(list["post"]["x-kubernetes-action"], "post");
        assert_eq!(list["delete"]["x-kubernetes-action"], "deletecollection");
        assert!(document["paths"]["/apis/apps/v1/deployments"]["get"].is_object());
        let scale =
            &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"];
        assert_eq!(scale["patch"]["x-kubernetes-group-version-kind"]["kind"], "Scale");
        let schema = &document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(schema["x-kubernetes-group-version-kind"][0], gvk);
        assert!(schema["properties"]["spec"]["description"].is_string());
    }

    #[test]
    fn every_reference_is_in_the_document() {
        let api = OpenApi::new(vec![served(kind("apps", "v1", "Deployment"), "deployments", None)]);
        let document = document(&api, "apis/apps/v1");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 200);
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
        let schemas = document["components"]["schemas"].as_object().expect("a map");
        assert!(
            schemas.contains_key("io.k8s.api.core.v1.PodSpec")
                && !schemas.contains_key("io.k8s.api.core.v1.Node")
        );
    }

    #[test]
    fn custom_kinds_stand_beside_the_others() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object"}, "metadata": {"type": "object"}}});
        let api = OpenApi::new(vec![served(
            kind("stable.example.com", "v1", "CronTab"),
            "crontabs",
            Some(schema),
        )]);
        let document = document(&api, "apis/stable.example.com/v1");
        let crontab = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
        assert_eq!(crontab["properties"]["spec"], json!({"type": "object"}));
        let metadata = &crontab["properties"]["metadata"]["allOf"][0]["$ref"];
        assert_eq!(
            metadata,
            "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
        assert_eq!(crontab["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
        let list = &document["components"]["schemas"]["com.example.stable.v1.CronTabList"];
        assert_eq!(list["x-kubernetes-group-version-kind"][0]["kind"], "CronTabList");
    }

    #[test]
    fn what_did_not_change_keeps_its_document() {
        let pods = || served(kind("", "v1", "Pod"), "pods", None);
        let custom = |schema| served(kind("a.example", "v1", "A"), "as", Some(schema));
        let before = OpenApi::new(vec![pods(), custom(json!({"type": "object"}))]);
        let after =
            before.with(vec![pods(), custom(json!({"type": "object", "description": "other"}))]);
        let same = |path| {
            Arc::ptr_eq(&before.document(path).expect("one"), &after.document(path).expect("one"))
        };
        assert!(same("api/v1") && !same("apis/a.example/v1"));
        assert_ne!(before.index(), after.index());
    }
}
