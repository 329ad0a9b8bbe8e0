//! A server that is reached as kubectl reaches it: a kubeconfig says where it is, whom to trust and who one is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long the server may take until it begins to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most of a refusal that is read.
const MOST_WORDS: usize = 64 * 1024;

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The kubeconfig.
    #[error("the kubeconfig {} cannot be used: {reason}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Nobody answers.
    #[error("cannot reach {server}: {reason}; does the server run there?")]
    Unreachable {
        /// The URL.
        server: String,
        /// Why.
        reason: String,
    },
    /// It answers with an error.
    #[error("{server} refused it ({code}): {message}")]
    Refused {
        /// The URL.
        server: String,
        /// The HTTP status code.
        code: u16,
        /// In the server's words.
        message: String,
    },
}

/// A server, and how to ask it.
#[derive(Debug)]
pub struct Remote {
    server: String,
    uri: Uri,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(default)]
    current_context: String,
}

/// An entry of one of the lists; which of the three it holds depends on the list.
#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(default, alias = "cluster", alias = "user", alias = "context")]
    entry: Value,
}

impl Remote {
    /// The server that a kubeconfig's current context names, or another one with the same credentials.
    pub fn open(path: &Path, server: Option<&str>) -> Result<Self, RemoteError> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        Self::parse(text, path, server)
            .map_err(|reason| RemoteError::Kubeconfig { path: path.to_owned(), reason })
    }

    fn parse(
        text: Result<String, String>,
        path: &Path,
        server: Option<&str>,
    ) -> Result<Self, String> {
        let config: Kubeconfig =
            serde_saphyr::from_str(&text?).map_err(|error| error.to_string())?;
        let context = entry(&config.contexts, &config.current_context, "context")?;
        let name = |field: &str| context[field].as_str().unwrap_or_default();
        let cluster = Part { entry: entry(&config.clusters, name("cluster"), "cluster")?, path };
        let user = Part { entry: entry(&config.users, name("user"), "user")?, path };
        if let Some(way) = ["exec", "auth-provider", "username"].iter().find(|way| user.has(way)) {
            return Err(format!(
                "its user shows who it is by {way}, and only certificates and tokens are known here; take the server's own pki/admin.kubeconfig"
            ));
        }
        let server = server.or(cluster.entry["server"].as_str()).unwrap_or_default().to_owned();
        let uri: Uri = server.parse().map_err(|error| format!("{server:?} is no URL: {error}"))?;
        let host = uri.host().ok_or_else(|| format!("{server:?} is no URL of a server"))?;
        let tls = match uri.scheme_str() {
            Some("https") => {
                let named = cluster.entry["tls-server-name"].as_str().unwrap_or(bare(host));
                let name = ServerName::try_from(named.to_owned());
                let name =
                    name.map_err(|error| format!("{named:?} is no server's name: {error}"))?;
                Some((Arc::new(tls(&cluster, &user)?), name))
            }
            Some("http") => None,
            _ => return Err(format!("{server:?} is neither https:// nor http://")),
        };
        let token = match user.entry["token"].as_str() {
            Some(token) => Some(token.to_owned()),
            None => user.file("tokenFile")?.map(|text| text.trim().to_owned()),
        };
        Ok(Self { server, uri, tls, token })
    }

    /// Sends a request without a body; what is not answered with 200 is an error.
    pub async fn ask(&self, method: Method, path: &str) -> Result<Response<Incoming>, RemoteError> {
        let asked = tokio::time::timeout(PATIENCE, self.send(method, path)).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => return Err(self.unreachable(reason)),
            Err(_) => return Err(self.unreachable("no answer in time".to_owned())),
        };
        if answer.status() == 200 {
            return Ok(answer);
        }
        let code = answer.status().as_u16();
        Err(RemoteError::Refused {
            server: self.server.clone(),
            code,
            message: words(answer).await,
        })
    }

    fn unreachable(&self, reason: String) -> RemoteError {
        RemoteError::Unreachable { server: self.server.clone(), reason }
    }

    async fn send(&self, method: Method, path: &str) -> Result<Response<Incoming>, String> {
        let host = bare(self.uri.host().unwrap_or_default());
        let port = self.uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
        let base = self.uri.path().trim_end_matches('/');
        let authority = self.uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut request =
            Request::builder().method(method).uri(format!("{base}{path}")).header(HOST, authority);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(name.clone(), stream).await;
                exchange(stream.map_err(|error| error.to_string())?, request).await
            }
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    // how it ends is seen in the answer
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// What a refusal says.
async fn words(answer: Response<Incoming>) -> String {
    let read = Limited::new(answer.into_body(), MOST_WORDS).collect();
    let bytes = match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        _ => Bytes::new(),
    };
    let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match status["message"].as_str() {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(&bytes).trim().to_owned(),
    }
}

/// An address without the brackets that it has in a URL.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn entry<'c>(list: &'c [Named], name: &str, what: &str) -> Result<&'c Value, String> {
    let found = list.iter().find(|one| one.name == name);
    found.map(|one| &one.entry).ok_or_else(|| format!("it has no {what} {name:?}"))
}

/// A cluster or a user.
struct Part<'c> {
    entry: &'c Value,
    /// The kubeconfig: files that it names are beside it.
    path: &'c Path,
}

impl Part<'_> {
    fn has(&self, field: &str) -> bool {
        !self.entry[field].is_null()
    }

    /// What a file holds that is named in a field.
    fn file(&self, field: &str) -> Result<Option<String>, String> {
        let Some(name) = self.entry[field].as_str().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let path = self.path.parent().unwrap_or(Path::new("")).join(name);
        let text = std::fs::read_to_string(&path);
        text.map(Some).map_err(|error| format!("{field} {}: {error}", path.display()))
    }

    /// A PEM text: in the field `…-data`, or in the file that the field names.
    fn pem(&self, field: &str) -> Result<Option<String>, String> {
        let data = format!("{field}-data");
        let Some(text) = self.entry[&data].as_str().filter(|text| !text.is_empty()) else {
            return self.file(field);
        };
        let bytes = STANDARD.decode(text).map_err(|error| format!("{data}: {error}"))?;
        String::from_utf8(bytes).map(Some).map_err(|error| format!("{data}: {error}"))
    }
}

fn tls(cluster: &Part<'_>, user: &Part<'_>) -> Result<ClientConfig, String> {
    let pem = cluster.pem("certificate-authority")?.ok_or(
        "its cluster has no certificate-authority-data, and without it nobody knows who answers; take the server's own pki/admin.kubeconfig",
    )?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem)? {
        roots.add(certificate).map_err(|error| format!("certificate-authority: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match (user.pem("client-certificate")?, user.pem("client-key")?) {
        (Some(chain), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| format!("client-key: {error}"))?;
            builder
                .with_client_auth_cert(certificates(&chain)?, key)
                .map_err(|error| format!("client-certificate: {error}"))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err("its user has a client-certificate or a client-key, but not both".to_owned()),
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|error| format!("a certificate cannot be read: {error}"))?;
    if all.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config");
        let mut config = json!({
            "clusters": [{"name": "c", "cluster": {"server": "https://[::1]:6443"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        change(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
        Remote::open(&path, None).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_used_is_told_with_what_to_do() {
        assert!(refusal(|_| {}).contains("take the server's own pki/admin.kubeconfig"));
        assert!(refusal(|config| config["current-context"] = json!("y")).contains("context \"y\""));
        let exec = refusal(|config| config["users"][0]["user"] = json!({"exec": {}}));
        assert!(exec.contains("by exec"), "{exec}");
        let no_url =
            |text: &str| refusal(|config| config["clusters"][0]["cluster"]["server"] = json!(text));
        for text in ["", "host:1", "ftp://host", "/path"] {
            assert!(no_url(text).contains("cannot be used"), "{text}");
        }
        let half = refusal(|config| {
            let cluster = &mut config["clusters"][0]["cluster"];
            cluster["certificate-authority-data"] = json!("!");
        });
        assert!(half.contains("certificate-authority-data"), "{half}");
        let gone = Remote::open(Path::new("/none/config"), None).unwrap_err().to_string();
        assert!(gone.contains("/none/config"), "{gone}");
    }

    #[test]
    fn another_server_is_asked_with_the_same_credentials() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config");
        let config = "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {tokenFile: token}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n";
        std::fs::write(&path, config).unwrap();
        std::fs::write(home.path().join("token"), "secret\n").unwrap();
        let remote = Remote::open(&path, Some("http://127.0.0.2:7")).unwrap();
        assert_eq!(
            (remote.server.as_str(), remote.token.as_deref()),
            ("http://127.0.0.2:7", Some("secret"))
        );
    }
}
