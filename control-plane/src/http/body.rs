//! Bodies of requests: how many bytes, how long, of which type.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use crate::api::patch::Patch;
use crate::api::status::Status;
use crate::api::typed::{refused, settle, settle_body, target, typed};
use crate::protobuf::{self, ProtobufError};
use crate::registry::Kind;
use crate::schema::decode::{DecodeError, Decoded, FieldValidation};

/// The most bytes of a body, as kube-apiserver has it.
pub const MOST_BYTES: usize = 3 * 1024 * 1024;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
const OBJECTS: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// All bytes of a body.
pub async fn read<B>(body: B) -> Result<Bytes, Status>
where
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = tokio::time::timeout(PATIENCE, Limited::new(body, MOST_BYTES).collect()).await;
    match collected {
        Ok(Ok(found)) => Ok(found.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(Status::too_large(MOST_BYTES))
        }
        Ok(Err(error)) => Err(Status::bad_request(format!("the body could not be read: {error}"))),
        Err(_) => Err(Status::timeout("the body did not arrive in time")),
    }
}

/// The media type of a body, without parameters; JSON when nothing is said.
pub fn media_type(headers: &HeaderMap) -> String {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media.is_empty() { "application/json".to_owned() } else { media }
}

/// An object of the group, version and kind, and warnings about it.
pub fn object(
    headers: &HeaderMap,
    body: &[u8],
    of: &Kind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let Some(target) = target(of) else {
        return Ok((value(headers, body, &of.kind)?, Vec::new()));
    };
    match media_type(headers).as_str() {
        "application/json" => settle_body(target.json(body), body, of, validation),
        "application/yaml" => settle_body(target.yaml(body), body, of, validation),
        // what another kind's message holds is not read as this one's
        "application/vnd.kubernetes.protobuf" if of.custom.is_none() => {
            typed_if_same(of, decode_protobuf(body)?, validation)
        }
        _ if of.custom.is_some() => Err(Status::unsupported_media_type(&OBJECTS[..2])),
        _ => Err(Status::unsupported_media_type(&OBJECTS)),
    }
}

fn typed_if_same(
    kind: &Kind,
    value: Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    match value.get("kind") {
        Some(said) if *said != *kind.kind => Ok((value, Vec::new())),
        _ => typed(kind, value, validation),
    }
}

fn decode_protobuf(body: &[u8]) -> Result<Value, Status> {
    protobuf::decode(body).map_err(|error| match error {
        ProtobufError::TooLarge => Status::too_large(MOST_BYTES),
        ProtobufError::UnknownKind { .. } => {
            Status::new(415, "UnsupportedMediaType", error.to_string())
        }
        _ => Status::bad_request(error.to_string()),
    })
}

/// A value that is looked at later; an empty body is null. `kind`: what it should be.
pub fn value(headers: &HeaderMap, body: &[u8], kind: &str) -> Result<Value, Status> {
    let wrong = |error: DecodeError| Status::bad_request(error.unrecognized(kind, body));
    if body.is_empty() {
        return Ok(Value::Null);
    }
    match media_type(headers).as_str() {
        "application/json" => json(body).map_err(wrong),
        "application/yaml" => yaml(body).map_err(wrong),
        "application/vnd.kubernetes.protobuf" => decode_protobuf(body),
        _ => Err(Status::unsupported_media_type(&OBJECTS)),
    }
}

fn json(body: &[u8]) -> Result<Value, DecodeError> {
    serde_json::from_slice(body).map_err(|error| DecodeError::json(body, &error))
}

fn yaml(body: &[u8]) -> Result<Value, DecodeError> {
    let decoded: Decoded = crate::schema::decode::Target {
        definitions: crate::schema::definitions::Definitions::kubernetes(),
        shape: &crate::schema::Shape::Any,
        custom: true,
    }
    .yaml(body)?;
    Ok(decoded.value)
}

/// The body is a configuration for server-side apply.
pub fn is_apply(headers: &HeaderMap) -> bool {
    media_type(headers) == "application/apply-patch+yaml"
}

/// A configuration for server-side apply: YAML, or JSON, which is YAML as well.
pub fn applied(
    body: &[u8],
    of: &Kind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    match target(of) {
        Some(target) => settle(target.yaml(body), validation),
        None => Ok((applied_as_is(body)?, Vec::new())),
    }
}

/// The same, as nobody has looked at it yet.
pub fn applied_as_is(body: &[u8]) -> Result<Value, Status> {
    yaml(body).map_err(|error| refused(&error))
}

/// A patch of the other three types.
pub fn patch(headers: &HeaderMap, body: &[u8]) -> Result<Patch, Status> {
    match media_type(headers).as_str() {
        "application/json-patch+json" => {
            Ok(Patch::Json(patch_json(body, "error decoding patch: ")?))
        }
        "application/merge-patch+json" => {
            Ok(Patch::Merge(patch_json(body, "error decoding patch: ")?))
        }
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(patch_json(body, "")?)),
        _ => Err(Status::unsupported_media_type(&PATCHES)),
    }
}

fn patch_json(body: &[u8], head: &str) -> Result<Value, Status> {
    json(body).map_err(|error| match error {
        DecodeError::Json(why) => Status::bad_request(format!("{head}{why}")),
        other => refused(&other),
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use tokio::time::Instant;

    use super::*;

    type Piece = Result<Frame<Bytes>, std::io::Error>;

    /// What a client sends: pieces, each after so many seconds.
    fn sent(
        pieces: Vec<(u64, Piece)>,
    ) -> impl hyper::body::Body<Data = Bytes, Error = std::io::Error> {
        let pieces = futures::stream::unfold(pieces.into_iter(), |mut pieces| async move {
            let (pause, piece) = pieces.next()?;
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Some((piece, pieces))
        });
        StreamBody::new(Box::pin(pieces))
    }

    fn piece(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_arrives_in_its_time_or_not_at_all() {
        let whole = read(sent(vec![(10, Ok(piece("{"))), (10, Ok(piece("}")))])).await.unwrap();
        assert_eq!(whole, "{}");
        let begun = Instant::now();
        let slow = read(sent(vec![(1, Ok(piece("{"))), (3600, Ok(piece("}")))])).await.unwrap_err();
        assert_eq!((slow.code(), slow.reason()), (504, "Timeout"));
        assert_eq!(begun.elapsed(), PATIENCE, "and nobody waits any longer");
        // a byte from time to time does not buy more
        let drops = (0..100).map(|_| (1, Ok(piece("x")))).collect();
        assert_eq!(read(sent(drops)).await.unwrap_err().reason(), "Timeout");
    }

    #[tokio::test]
    async fn too_large_and_broken_bodies_are_told_apart() {
        let most = read(Full::new(Bytes::from(vec![b' '; MOST_BYTES]))).await.unwrap();
        assert_eq!(most.len(), MOST_BYTES);
        let large = read(Full::new(Bytes::from(vec![b' '; MOST_BYTES + 1]))).await.unwrap_err();
        assert_eq!(large.code(), 413);
        let gone = Err(std::io::Error::other("the client went away"));
        let broken = read(sent(vec![(0, Ok(piece("{"))), (0, gone)])).await.unwrap_err();
        assert_eq!(broken.code(), 400);
        assert!(broken.message().contains("the client went away"), "{broken}");
    }
}
