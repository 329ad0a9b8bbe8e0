//! A server in this process on a loopback port, and a client that speaks plain HTTP to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_server::admission::Plugin;
use heddle_server::http::limits::LimitsConfig;
use heddle_server::server::{Config, Parts, Running, start};
use heddle_server::store::Store;
use heddle_server::store::memory::MemoryStore;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A server with a store in memory.
pub struct Fixture {
    pub running: Running,
    pub store: Arc<dyn Store>,
    _data: tempfile::TempDir,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with(LimitsConfig::default()).await
    }

    pub async fn with(limits: LimitsConfig) -> Self {
        Self::open_on(Arc::new(MemoryStore::default()), limits).await
    }

    /// One more server on a store.
    pub async fn on(store: Arc<dyn Store>) -> Self {
        Self::open_on(store, LimitsConfig::default()).await
    }

    pub async fn open_on(store: Arc<dyn Store>, limits: LimitsConfig) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let mut config = Config::in_directory(data.path().to_owned());
        config.insecure_loopback = true;
        // what a test counts is what it made
        config.no_controllers = true;
        config.disable_admission_plugins = vec![Plugin::ServiceAccount];
        let parts = Parts { store: store.clone(), config, limits };
        let running = start(parts, ([127, 0, 0, 1], 0).into()).await.expect("the server starts");
        Self { running, store, _data: data }
    }

    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        let stream = TcpStream::connect(self.running.address).await.expect("the server listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        sender.send_request(request).await.expect("an answer")
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let (parts, body) = self.open(method, path, headers, body).await.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], &body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask("PUT", path, &[("content-type", "application/json")], &body.to_string()).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> Answer {
        self.ask("DELETE", path, &[("content-type", "application/json")], &body.to_string()).await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        let media = format!("application/{kind}-patch+json");
        self.ask("PATCH", path, &[("content-type", &media)], &body.to_string()).await
    }

    pub async fn watch(&self, path: &str) -> Lines {
        let answer = self.open("GET", path, &[], "").await;
        assert_eq!(answer.status().as_u16(), 200);
        Lines::of(answer)
    }
}

/// The lines of a watch.
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    pub fn of(answer: Response<Incoming>) -> Self {
        Self { body: answer.into_body(), rest: Vec::new() }
    }

    /// The next event; `None` when the watch has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("a line of JSON"));
            }
            let frame = tokio::time::timeout(Duration::from_mins(1), self.body.frame())
                .await
                .expect("an event in time")?;
            self.rest.extend(frame.expect("a frame").into_data().expect("data"));
        }
    }

    /// Type, name and resourceVersion of the next event.
    pub async fn short(&mut self) -> (String, String, u64) {
        let event = self.next().await.expect("an event");
        let text = |pointer: &str| {
            event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let revision = text("/object/metadata/resourceVersion").parse().unwrap_or_default();
        (text("/type"), text("/object/metadata/name"), revision)
    }
}
