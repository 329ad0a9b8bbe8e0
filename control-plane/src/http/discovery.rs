//! What can be asked for: the aggregated form that clients of today read, and the older one with a document per group and version.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXUPPER;
use hyper::HeaderMap;
use hyper::header::{ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::{self, Answer};
use super::negotiate::wanted;
use crate::api::status::Status;
use crate::registry::custom::priority;
use crate::registry::{Kind, Registry, Subresource};

/// A document that is the same until the kinds change.
#[derive(Clone, Debug)]
struct Document {
    body: Arc<str>,
    etag: String,
}

/// The aggregated documents, kept until the kinds change.
#[derive(Debug, Default)]
pub struct Cache(Mutex<(u64, BTreeMap<String, Document>)>);

impl Cache {
    fn get(&self, registry: &Registry, key: &str, make: impl FnOnce() -> Value) -> Document {
        let generation = registry.generation();
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.0 != generation {
            *cache = (generation, BTreeMap::new());
        }
        let document = || {
            let body: Arc<str> = make().to_string().into();
            let etag = format!("\"{}\"", HEXUPPER.encode(&Sha256::digest(body.as_bytes())));
            Document { body, etag }
        };
        cache.1.entry(key.to_owned()).or_insert_with(document).clone()
    }

    /// `/api` (core) or `/apis`.
    pub fn root(&self, registry: &Registry, core: bool, headers: &HeaderMap) -> Answer {
        const TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=";
        for wanted in wanted(headers) {
            let aggregated = wanted.parameter("g") == "apidiscovery.k8s.io"
                && wanted.parameter("as") == "APIGroupDiscoveryList";
            let version = wanted.parameter("v");
            match wanted.media.as_str() {
                "application/json" if aggregated && matches!(version, "v2" | "v2beta1") => {
                    let document = self.get(registry, &format!("{version}/{core}"), || {
                        aggregate(registry, core, version)
                    });
                    return answered(
                        headers,
                        &document,
                        &format!("{TYPE}{version};as=APIGroupDiscoveryList"),
                    );
                }
                "application/json" | "application/*" | "*/*"
                    if wanted.parameter("as").is_empty() =>
                {
                    let document = self.get(registry, &format!("legacy/{core}"), || {
                        if core { core_versions() } else { groups(registry) }
                    });
                    return answered(headers, &document, "application/json");
                }
                _ => {}
            }
        }
        answer::status(&Status::not_acceptable(&["application/json"]))
    }
}

fn answered(headers: &HeaderMap, document: &Document, content_type: &str) -> Answer {
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let same = known.is_some_and(|known| {
        known.split(',').any(|one| one.trim().trim_start_matches("W/") == document.etag)
    });
    let body = if same { String::new() } else { document.body.to_string() };
    let mut answer = answer::bytes(if same { 304 } else { 200 }, content_type, body);
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        answer.headers_mut().insert(ETAG, etag);
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

/// A version of a group, and its kinds.
type Version = (String, Vec<Arc<Kind>>);
/// A group and its versions.
type Group = (String, Vec<Version>);

/// Kinds by group, then version, in the order in which they were added.
fn by_group(registry: &Registry, core: bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for kind in registry.all().into_iter().filter(|kind| kind.group.is_empty() == core) {
        let versions = at(&mut groups, &kind.group);
        at(versions, &kind.version).push(kind);
    }
    for (_, versions) in &mut groups {
        versions.sort_by_cached_key(|(version, _)| priority(version));
    }
    groups
}

fn at<'a, T: Default>(list: &'a mut Vec<(String, T)>, name: &str) -> &'a mut T {
    let index = list.iter().position(|(own, _)| own == name).unwrap_or_else(|| {
        list.push((name.to_owned(), T::default()));
        list.len() - 1
    });
    &mut list[index].1
}

fn aggregate(registry: &Registry, core: bool, version: &str) -> Value {
    let items: Vec<Value> = by_group(registry, core)
        .into_iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|(version, kinds)| {
                    let resources: Vec<Value> =
                        kinds.iter().map(|kind| resource_of(kind)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let mut metadata = json!({"creationTimestamp": null});
            if !group.is_empty() {
                metadata["name"] = json!(group);
            }
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items})
}

fn resource_of(kind: &Kind) -> Value {
    let own = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let mut resource = json!({
        "resource": kind.plural, "responseKind": own, "singularResource": kind.singular,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }, "verbs": kind.verbs,
    });
    for (field, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !names.is_empty() {
            resource[field] = json!(names);
        }
    }
    let parts: Vec<Value> = kind
        .subresources
        .iter()
        .map(|part| {
            let of = part.kind().map_or(
                own.clone(),
                |(group, version, kind)| json!({"group": group, "version": version, "kind": kind}),
            );
            json!({"subresource": part.name(), "responseKind": of, "verbs": part.verbs()})
        })
        .collect();
    if !parts.is_empty() {
        resource["subresources"] = json!(parts);
    }
    resource
}

fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> = by_group(registry, false)
        .iter()
        .map(|(group, versions)| {
            let mut group = group_of(group, versions);
            // within the list they are of the list's kind
            group.as_object_mut().map(|map| (map.remove("kind"), map.remove("apiVersion")));
            group
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_of(group: &str, versions: &[Version]) -> Value {
    let versions: Vec<Value> =
        versions.iter().map(|(version, _)| json!({"groupVersion": format!("{group}/{version}"), "version": version})).collect();
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": group, "preferredVersion": versions.first(), "versions": versions})
}

/// `/apis/<group>`.
pub fn group(registry: &Registry, name: &str) -> Answer {
    match by_group(registry, false).iter().find(|(group, _)| group == name) {
        Some((group, versions)) => answer::json(200, &group_of(group, versions)),
        None => answer::status(&Status::no_such_resource()),
    }
}

/// `/api/v1` or `/apis/<group>/<version>`.
pub fn resources(registry: &Registry, group: &str, version: &str) -> Answer {
    let kinds: Vec<Arc<Kind>> = registry
        .all()
        .into_iter()
        .filter(|kind| kind.group == group && kind.version == version)
        .collect();
    let Some(first) = kinds.first() else { return answer::status(&Status::no_such_resource()) };
    let resources: Vec<Value> = kinds.iter().flat_map(|kind| legacy(kind)).collect();
    answer::json(
        200,
        &json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": resources,
        }),
    )
}

fn legacy(kind: &Kind) -> Vec<Value> {
    let mut own = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": kind.verbs,
    });
    for (field, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !names.is_empty() {
            own[field] = json!(names);
        }
    }
    std::iter::once(own)
        .chain(kind.subresources.iter().map(|part| legacy_part(kind, *part)))
        .collect()
}

fn legacy_part(kind: &Kind, part: Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", kind.plural, part.name()), "singularName": "", "namespaced": kind.namespaced,
        "kind": part.kind().map_or(&*kind.kind, |(_, _, kind)| kind), "verbs": part.verbs(),
    });
    if let Some((group, version, _)) = part.kind() {
        value["group"] = json!(group);
        value["version"] = json!(version);
    }
    value
}
