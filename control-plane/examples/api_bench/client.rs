//! One connection, over which one thing is asked after the other, or with HTTP/2 several at a time.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Failure;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One request at a time on a connection.
    Http1,
    /// As client-go speaks: all requests of a program share a connection.
    Http2,
}

/// Where a server is, and with which certificates it is spoken to.
#[derive(Clone)]
pub struct Door {
    pub port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Door {
    /// Without TLS.
    pub fn open(port: u16) -> Self {
        Self { port, tls: None }
    }

    /// With TLS and the administrator's certificate, from the server's own folder.
    pub fn locked(port: u16, pki: &Path) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.join("ca.crt"))?)?;
        let own = CertificateDer::from_pem_file(pki.join("admin.crt"))?;
        let key = PrivateKeyDer::from_pem_file(pki.join("admin.key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own], key)?;
        Ok(Self { port, tls: Some(Arc::new(config)) })
    }

    pub async fn connect(&self, protocol: Protocol) -> Result<Client, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Client::over(stream, protocol).await };
        let mut tls = ClientConfig::clone(tls);
        tls.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        let name = ServerName::try_from("127.0.0.1")?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        Client::over(stream, protocol).await
    }
}

/// A connection.
pub enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    async fn over<S>(stream: S, protocol: Protocol) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        Ok(match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Self::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        })
    }

    /// The same connection, for somebody who asks at the same time; `None` where that cannot be.
    pub fn shared(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Response<Incoming>, Failure> {
        // HTTP/2 wants the whole address, HTTP/1.1 the path and a host
        let (uri, host) = match self {
            Self::Http1(_) => (path.to_owned(), Some("localhost")),
            Self::Http2(_) => (format!("https://localhost{path}"), None),
        };
        let mut request = Request::builder().method(method).uri(uri);
        let all = host.map(|host| ("host", host)).into_iter().chain(headers.iter().copied());
        for (name, value) in all.chain([("content-type", "application/json")]) {
            request = request.header(name, value);
        }
        let answer = self.send(request.body(Full::new(Bytes::from(body)))?).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let text = answer.into_body().collect().await?.to_bytes();
        Err(format!("{method} {path}: {}", String::from_utf8_lossy(&text)).into())
    }

    /// The bytes of an answer.
    pub async fn get(&mut self, path: &str, accept: &str) -> Result<Bytes, Failure> {
        let answer = self.ask("GET", path, &[("accept", accept)], String::new()).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    /// How many bytes an answer has, of which none is kept.
    pub async fn measured(&mut self, path: &str, coding: &str) -> Result<usize, Failure> {
        let answer = self.ask("GET", path, &[("accept-encoding", coding)], String::new()).await?;
        let (mut body, mut count) = (answer.into_body(), 0);
        while let Some(frame) = body.frame().await {
            count += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(count)
    }

    /// Makes an object.
    pub async fn made(&mut self, path: &str, object: &Value) -> Result<(), Failure> {
        let answer = self.ask("POST", path, &[], object.to_string()).await?;
        answer.into_body().collect().await?;
        Ok(())
    }

    /// The lines of a watch.
    pub async fn watch(mut self, path: &str) -> Result<Lines, Failure> {
        let answer = self.ask("GET", path, &[], String::new()).await?;
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
