//! One connection that asks one thing after the other.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::Failure;

/// A connection.
pub struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub async fn connect(port: u16) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        accept: &str,
        body: String,
    ) -> Result<Response<Incoming>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("accept", accept)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.0.ready().await?;
        let answer = self.0.send_request(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let text = answer.into_body().collect().await?.to_bytes();
        Err(format!("{method} {path}: {}", String::from_utf8_lossy(&text)).into())
    }

    /// The bytes of an answer.
    pub async fn get(&mut self, path: &str, accept: &str) -> Result<Bytes, Failure> {
        let answer = self.ask("GET", path, accept, String::new()).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    /// Makes an object.
    pub async fn made(&mut self, path: &str, object: &Value) -> Result<(), Failure> {
        let answer = self.ask("POST", path, "application/json", object.to_string()).await?;
        answer.into_body().collect().await?;
        Ok(())
    }

    /// The lines of a watch.
    pub async fn watch(mut self, path: &str) -> Result<Lines, Failure> {
        let answer = self.ask("GET", path, "application/json", String::new()).await?;
        Ok(Lines { _client: self, body: answer.into_body(), rest: Vec::new() })
    }
}

/// The lines of a watch.
pub struct Lines {
    _client: Client,
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// Waits for the end of the next line.
    pub async fn next(&mut self) -> Result<(), Failure> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                self.rest.drain(..=end);
                return Ok(());
            }
            let frame = self.body.frame().await.ok_or("the watch ended")??;
            self.rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
    }
}
