//! What is noted of requests: from the first byte to the last of the answer.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::HeaderMap;
use hyper::body::Frame;
use hyper::header::{CONTENT_ENCODING, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::request::Parts;
use jiff::Timestamp;
use serde_json::Value;

use super::answer::{self, Answer};
use super::{Asker, Caller, body};
use crate::api::status::Status;
use crate::auth::User;
use crate::auth::attributes::{self, Attributes, Resource, Target};
use crate::auth::audit::{Decision, Event, Exchange, Level, Lost, Policy, Stage, Writer};

/// The header that joins a request to its lines.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const LONGEST_ID: usize = 64;
const MOST_AGENT: usize = 1024;
/// The longest line, and the most of an answer that is read to be noted: what is longer is noted without what was sent and answered, as
/// kube-apiserver does with `--audit-log-truncate-enabled`.
const MOST_BYTES: usize = 10 * 1024 * 1024;
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// What is noted, and where.
pub struct Audit {
    /// Which requests, and how much of them.
    pub policy: Policy,
    /// The file, and who writes it.
    pub log: Writer,
}

/// The notes of one request; does nothing when nothing is to be noted.
pub struct Trail(Option<Box<Noted>>);

struct Noted {
    audit: Arc<Audit>,
    id: String,
    uri: String,
    agent: String,
    sources: Vec<IpAddr>,
    received: Timestamp,
    long: bool,
    asker: Asker,
    verb: String,
    object: Option<Named>,
    path: String,
    version: String,
    annotations: BTreeMap<String, String>,
    decision: Decision,
    sent: Option<Value>,
}

/// What a request is about, kept beyond the request.
struct Named {
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

impl Trail {
    /// A request has arrived.
    pub fn begin(audit: Option<&Arc<Audit>>, caller: &Caller, parts: &Parts, long: bool) -> Self {
        let Some(audit) = audit else { return Self(None) };
        let text = |name: &str| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let nobody = Asker::from(User::default());
        let verb = parts.method.as_str().to_ascii_lowercase();
        let path = parts.uri.path().to_owned();
        // who is not known is judged like everybody whom no rule names
        let decision = audit.policy.decide(&Attributes::at(&nobody.user, &verb, &path));
        Self(Some(Box::new(Noted {
            audit: audit.clone(),
            id: id(text(AUDIT_ID.as_str())),
            uri: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            agent: text(USER_AGENT.as_str()).chars().take(MOST_AGENT).collect(),
            sources: sources(text("x-forwarded-for"), text("x-real-ip"), caller.address),
            received: Timestamp::now(),
            long,
            asker: nobody,
            verb,
            object: None,
            path,
            version: String::new(),
            annotations: BTreeMap::new(),
            decision,
            sent: None,
        })))
    }

    /// Who asks for what is known: the first line, if one is wanted. An error where a request without it is refused.
    pub async fn known(
        &mut self,
        asker: &Asker,
        attributes: &Attributes<'_>,
        version: &str,
    ) -> Result<(), Status> {
        let Some(noted) = &mut self.0 else { return Ok(()) };
        noted.asker = asker.clone();
        attributes.verb.clone_into(&mut noted.verb);
        noted.object = match attributes.target {
            Target::Path(_) => None,
            Target::Resource(it) => Some(Named::of(&it)),
        };
        version.clone_into(&mut noted.version);
        noted.decision = noted.audit.policy.decide(attributes);
        let log = &noted.audit.log;
        log.counts().level(noted.decision.level);
        let written = noted.write(Stage::RequestReceived, None, None).await;
        if written.is_err() && log.is_strict() {
            log.counts().rejected();
            return Err(Status::internal("the request cannot be noted in the audit log"));
        }
        Ok(())
    }

    /// The authorizer has spoken.
    pub fn decided(&mut self, decision: &attributes::Decision) {
        let Some(noted) = &mut self.0 else { return };
        let word = if decision.is_allowed() { "allow" } else { "forbid" };
        let pairs = [("decision", word), ("reason", decision.reason())];
        noted.annotations.extend(
            pairs.map(|(what, text)| (format!("authorization.k8s.io/{what}"), text.to_owned())),
        );
    }

    /// The body of the request; it is read for the name of what is made as well.
    pub fn sent(&mut self, headers: &HeaderMap, bytes: &[u8]) {
        let Some(noted) = &mut self.0 else { return };
        if noted.decision.level == Level::None || bytes.is_empty() {
            return;
        }
        // a body that cannot be read is refused, and then not to be shown
        noted.sent = match body::media_type(headers).as_str() {
            "application/apply-patch+yaml" => body::applied_as_is(bytes).ok(),
            kind if kind.ends_with("patch+json") => serde_json::from_slice(bytes).ok(),
            _ => body::value(headers, bytes, "").ok(),
        };
    }

    /// The answer is on its way: the last line, or for a long one the line before, and the last when it ends.
    pub async fn finish(self, mut answer: Answer) -> Answer {
        let Some(mut noted) = self.0 else { return answer };
        if let Ok(id) = HeaderValue::from_str(&noted.id) {
            answer.headers_mut().insert(AUDIT_ID, id);
        }
        let code = answer.status().as_u16();
        if noted.long && answer.status().is_success() {
            // whoever lost a line told and counted it
            let _ = noted.write(Stage::ResponseStarted, Some(code), None).await;
            let ending = Ending { noted, code };
            return answer::holding(answer, ending);
        }
        let wanted = noted.decision.wants(Stage::ResponseComplete);
        let shown = wanted && (noted.decision.level == Level::RequestResponse || code >= 400);
        let (answer, value, cut) = if shown { read(answer).await } else { (answer, None, false) };
        if cut {
            noted.annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
        }
        let _ = noted.write(Stage::ResponseComplete, Some(code), value.as_ref()).await;
        answer
    }
}

/// Writes the last line of a long answer when it is over, however it ends.
struct Ending {
    noted: Box<Noted>,
    code: u16,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(line) = self.noted.line(Stage::ResponseComplete, Some(self.code), None) {
            // nobody can wait here; what is lost is told and counted
            let _ = self.noted.audit.log.offer(line);
        }
    }
}

impl Noted {
    async fn write(
        &self,
        stage: Stage,
        code: Option<u16>,
        response: Option<&Value>,
    ) -> Result<(), Lost> {
        match self.line(stage, code, response) {
            Some(line) => self.audit.log.write(line).await,
            None => Ok(()),
        }
    }

    /// The line of a stage, if it is wanted.
    fn line(&self, stage: Stage, code: Option<u16>, response: Option<&Value>) -> Option<String> {
        if !self.decision.wants(stage) {
            return None;
        }
        let line = self.event(stage, code, self.sent.as_ref(), response, &self.annotations);
        if line.len() <= MOST_BYTES {
            return Some(line);
        }
        let mut annotations = self.annotations.clone();
        annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
        Some(self.event(stage, code, None, None, &annotations))
    }

    fn event(
        &self,
        stage: Stage,
        code: Option<u16>,
        request: Option<&Value>,
        response: Option<&Value>,
        annotations: &BTreeMap<String, String>,
    ) -> String {
        let user = &self.asker.user;
        let attributes = match &self.object {
            None => Attributes::at(user, &self.verb, &self.path),
            Some(named) => Attributes::on(user, &self.verb, named.resource()),
        };
        let exchange = Exchange {
            id: &self.id,
            uri: &self.uri,
            attributes,
            impersonator: self.asker.behind.as_ref(),
            version: &self.version,
            sources: &self.sources,
            agent: &self.agent,
            received: self.received,
            annotations,
        };
        let time = Timestamp::now();
        let event = Event { exchange: &exchange, stage, time, code, request, response };
        event.to_json(&self.decision).to_string()
    }
}

impl Named {
    fn of(it: &Resource<'_>) -> Self {
        let [group, resource, subresource, namespace, name] =
            [it.group, it.resource, it.subresource, it.namespace, it.name].map(str::to_owned);
        Self { group, resource, subresource, namespace, name }
    }

    fn resource(&self) -> Resource<'_> {
        let Self { group, resource, subresource, namespace, name } = self;
        Resource { group, resource, subresource, namespace, name }
    }
}

/// The id that the client gave, if it can be one, or else a new one.
fn id(given: &str) -> String {
    let sound = !given.is_empty()
        && given.len() <= LONGEST_ID
        && given.chars().all(|sign| sign.is_ascii_graphic());
    if sound { given.to_owned() } else { uuid::Uuid::new_v4().to_string() }
}

/// Where a request comes from: what proxies say, which is not proven, and last who is really there.
fn sources(forwarded: &str, real: &str, peer: Option<IpAddr>) -> Vec<IpAddr> {
    let said = forwarded.split(',').chain([real]).filter_map(|text| text.trim().parse().ok());
    let mut found: Vec<IpAddr> = Vec::new();
    for address in said.take(16).chain(peer) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// The value of an answer, and the answer again; the flag says that it is too long to be noted, and then it is not read to its end.
async fn read(answer: Answer) -> (Answer, Option<Value>, bool) {
    let (parts, mut body) = answer.into_parts();
    let (mut frames, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        length += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
        frames.push(frame);
        if length > MOST_BYTES {
            let all =
                futures::stream::iter(frames).chain(body.into_data_stream().map_ok(Frame::data));
            return (Answer::from_parts(parts, StreamBody::new(all).boxed_unsync()), None, true);
        }
    }
    let data = frames.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
    let mut bytes = Vec::with_capacity(length);
    data.for_each(|piece| bytes.extend_from_slice(piece));
    let text =
        if parts.headers.contains_key(CONTENT_ENCODING) { unpacked(&bytes) } else { Some(bytes) };
    let value = text.as_ref().and_then(|text| serde_json::from_slice(text).ok());
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    (Answer::from_parts(parts, body), value, text.is_none())
}

fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    GzDecoder::new(bytes).take(MOST_BYTES as u64 + 1).read_to_end(&mut text).ok()?;
    (text.len() <= MOST_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_sources_of_clients_are_taken_with_care() {
        assert_eq!(id("abc-1"), "abc-1");
        for bad in ["", "a b", "a\nb", &"x".repeat(65)] {
            assert_eq!(id(bad).len(), 36, "{bad:?}");
        }
        let peer = "192.0.2.9".parse().unwrap();
        let found = sources("198.51.100.1, nonsense, 192.0.2.9", "198.51.100.1", Some(peer));
        assert_eq!(found, ["198.51.100.1".parse::<IpAddr>().unwrap(), peer]);
        assert_eq!(sources("", "", None), Vec::<IpAddr>::new());
    }

    #[tokio::test]
    async fn an_answer_is_read_as_far_as_it_can_be_noted_and_sent_as_it_was() {
        let text = r#"{"kind":"x"}"#;
        let (answer, value, cut) = read(answer::bytes(200, "application/json", text)).await;
        assert_eq!((value, cut), (Some(serde_json::json!({"kind": "x"})), false));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), text);
        let long = vec![b' '; MOST_BYTES / 4 + 1];
        let frames = (0..5).map(|_| Ok(Frame::data(Bytes::from(long.clone()))));
        let body = StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>()));
        let (answer, value, cut) = read(hyper::Response::new(body.boxed_unsync())).await;
        assert_eq!((value, cut), (None, true));
        let sent = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(sent.len(), 5 * long.len());
    }
}
