//! Answers as bytes.

use std::io;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use crate::api::status::Status;

/// What is sent. An error breaks the connection off, so that nobody takes what was sent before it for the whole.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub type Answer = Response<Body>;

/// Bodies below this size are sent as they are: packing costs more than it saves.
pub const WORTH_PACKING: usize = 128 * 1024;
/// As much as a connection takes at once.
const SLICE: usize = 64 * 1024;
/// Signs of all warnings of an answer, because headers have limits, and of each of them where all together have more.
const ALL_WARNINGS: usize = 4096;
const LONGEST_WARNING: usize = 256;

/// Bytes of a type.
pub fn bytes(code: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    describe(&mut answer, content_type, false);
    answer
}

/// Bytes that are there as a whole.
pub fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Bytes that are sent in pieces of 64 kB: what holds the answer does so until the last of them is on its way.
pub fn sliced(body: Bytes) -> Body {
    let slices = stream::unfold(body, |mut body| async {
        let next = body.split_to(body.len().min(SLICE));
        (!next.is_empty()).then(|| (Ok(Frame::data(next)), body))
    });
    StreamBody::new(slices).boxed_unsync()
}

/// Marks an answer, by being in its extensions, of which something is still in the making or waits to be sent when its head is.
#[derive(Clone, Copy, Debug)]
pub struct Streamed;

/// Keeps something until the answer has been sent, or can no longer be.
pub fn holding<T: Send + 'static>(answer: Answer, held: T) -> Answer {
    answer.map(|body| {
        body.map_frame(move |frame| {
            // held as long as there is a body
            let _ = &held;
            frame
        })
        .boxed_unsync()
    })
}

/// A JSON value.
pub fn json(code: u16, value: &Value) -> Answer {
    bytes(code, "application/json", value.to_string())
}

/// A text.
pub fn text(code: u16, text: impl Into<String>) -> Answer {
    bytes(code, "text/plain; charset=utf-8", text.into())
}

/// An error.
pub fn status(status: &Status) -> Answer {
    let mut answer = json(status.code(), &status.to_value());
    if let Some(seconds) = status.retry_after() {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status.code() == 401 {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Adds warnings that clients show to their users. As in kube-apiserver they are cut only where all of them are too many.
pub fn warn(answer: &mut Answer, warnings: &[String]) {
    let length = |warning: &String| warning.chars().count();
    let cut = warnings.iter().map(length).sum::<usize>() > ALL_WARNINGS;
    let mut written = 0;
    for warning in warnings {
        if written >= ALL_WARNINGS {
            break;
        }
        let most = if cut { LONGEST_WARNING } else { usize::MAX };
        written += length(warning).min(most);
        let plain = warning.chars().map(|sign| if sign.is_control() { ' ' } else { sign });
        let plain: String = plain.take(most).collect();
        let quoted = plain.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            answer.headers_mut().append(header::WARNING, value);
        }
    }
}

/// The client unpacks what is packed with gzip.
pub fn takes_gzip(asked: &HeaderMap) -> bool {
    asked
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            matches!(coding.trim().split_once(';').map_or(coding.trim(), |(name, _)| name), "gzip")
        })
}

/// Bytes of a type that were packed with gzip.
pub fn gzip(code: u16, content_type: &str, packed: Vec<u8>) -> Answer {
    let mut answer = bytes(code, content_type, packed);
    describe(&mut answer, content_type, true);
    answer
}

/// Says what a body is.
pub fn describe(answer: &mut Answer, content_type: &str, packed: bool) {
    let headers = answer.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}
