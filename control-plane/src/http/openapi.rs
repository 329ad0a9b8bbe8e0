//! `/openapi/v3`: the index, and a document per group and version, put together anew when the kinds change.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};

use super::answer::{self, Answer};
use super::negotiate::wanted;
use crate::api::status::Status;
use crate::registry::{Kind, Registry};
use crate::schema::openapi::{GroupVersionKind, OpenApi, Served, Subresource};

/// The documents, as they were last put together.
#[derive(Debug, Default)]
pub struct Cache(Mutex<(u64, Arc<OpenApi>)>);

impl Cache {
    fn current(&self, registry: &Registry) -> Arc<OpenApi> {
        let generation = registry.generation();
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.0 != generation {
            let served = registry.all().iter().map(|kind| served(kind)).collect();
            *cache = (generation, Arc::new(cache.1.with(served)));
        }
        cache.1.clone()
    }

    /// The answer to a path at or below `/openapi/v3`.
    pub fn answer(&self, registry: &Registry, path: &str, headers: &HeaderMap) -> Answer {
        let openapi = self.current(registry);
        let Some(of) = path.strip_prefix("/openapi/v3/") else {
            return answer::bytes(200, "application/json", openapi.index());
        };
        let Some(document) = openapi.document(of) else {
            return answer::status(&Status::no_such_resource());
        };
        let json = |media: &str| matches!(media, "application/json" | "application/*" | "*/*");
        if !wanted(headers).iter().any(|one| json(&one.media)) {
            return answer::status(&Status::not_acceptable(&["application/json"]));
        }
        let etag = format!("\"{}\"", document.hash());
        if headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == etag) {
            return answer::bytes(304, "application/json", "");
        }
        let packed = answer::takes_gzip(headers);
        let body = if packed { document.packed() } else { document.plain() };
        let mut answer = answer::bytes(200, "application/json", body);
        let headers = answer.headers_mut();
        if packed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            headers.insert(header::ETAG, etag);
        }
        answer
    }
}

/// `/openapi/v2` as protobuf (`gnostic.openapi.v2.Document`): the version of the format, and a title with a version of its own.
const EMPTY_V2: &[u8] = b"\n\x032.0\x12\x13\n\nKubernetes\x12\x05v1.32";

/// The answer to `/openapi/v2`: a document without kinds. kubectl asks it about manifests of kinds that are not in `/openapi/v3`; from
/// an empty one it learns that nothing is known of them, and goes on to tell its user that there is no such kind.
pub fn version_two(headers: &HeaderMap) -> Answer {
    const MEDIA: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let media = wanted(headers);
    let json = media.iter().find(|one| matches!(&*one.media, "application/json" | MEDIA));
    match json {
        // what clients ask for is no media type by RFC 7231, so what they get is called a little otherwise
        Some(one) if one.media == MEDIA => answer::bytes(
            200,
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
            EMPTY_V2,
        ),
        _ => answer::json(
            200,
            &serde_json::json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.32"}, "paths": {}}),
        ),
    }
}

fn served(kind: &Kind) -> Served {
    let own = || named(&kind.group, &kind.version, &kind.kind);
    let texts = |verbs: &[&str]| verbs.iter().map(|&verb| verb.to_owned()).collect();
    let subresource = |part: &crate::registry::Subresource| Subresource {
        name: part.name().to_owned(),
        kind: part.kind().map_or_else(own, |(group, version, kind)| named(group, version, kind)),
        verbs: texts(part.verbs()),
    };
    Served {
        kind: own(),
        plural: kind.plural.to_string(),
        namespaced: kind.namespaced,
        verbs: kind.verbs.iter().map(ToString::to_string).collect(),
        subresources: kind.subresources.iter().map(subresource).collect(),
        schema: kind.custom.as_ref().map(|custom| custom.written.clone()),
    }
}

fn named(group: &str, version: &str, kind: &str) -> GroupVersionKind {
    let [group, version, kind] = [group, version, kind].map(str::to_owned);
    GroupVersionKind { group, version, kind }
}
