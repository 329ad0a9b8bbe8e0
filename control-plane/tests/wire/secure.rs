//! The server as it is for others: TLS, and somebody who asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use heddle_server::admission::Plugin;
use heddle_server::http::limits::LimitsConfig;
use heddle_server::server::{Config, Parts, Running, ServerError, start};
use heddle_server::store::Store;
use heddle_server::store::memory::MemoryStore;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{Answer, Lines};

const TOKENS: &str = "\
boss,boss,1,system:masters
ada,ada,2
n1,system:node:n1,3,system:nodes
builder,system:serviceaccount:default:builder,4,system:serviceaccounts
";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A server with tokens for the users above, called by their first column.
pub struct Secure {
    pub running: Running,
    pub data: tempfile::TempDir,
}

impl Secure {
    pub async fn new(change: impl FnOnce(&mut Config, &Path)) -> Result<Self, ServerError> {
        Self::on(Arc::new(MemoryStore::default()), change).await
    }

    pub async fn on(
        store: Arc<dyn Store>,
        change: impl FnOnce(&mut Config, &Path),
    ) -> Result<Self, ServerError> {
        let data = tempfile::tempdir().expect("a directory");
        let mut config = Config::in_directory(data.path().to_owned());
        let tokens = data.path().join("tokens.csv");
        std::fs::write(&tokens, TOKENS).expect("written");
        config.token_auth_file = Some(tokens);
        config.no_controllers = true;
        config.disable_admission_plugins = vec![Plugin::ServiceAccount];
        change(&mut config, data.path());
        let parts = Parts { store, config, limits: LimitsConfig::default() };
        let running = start(parts, ([127, 0, 0, 1], 0).into()).await?;
        Ok(Self { running, data })
    }

    pub async fn open(
        &self,
        token: &str,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Response<Incoming> {
        let mut roots = RootCertStore::empty();
        let authority = self.data.path().join("pki/ca.crt");
        roots
            .add(CertificateDer::from_pem_file(authority).expect("a certificate"))
            .expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.running.address).await.expect("the server listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        request = request.header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(Full::new(Bytes::from(text))).expect("a request");
        sender.send_request(request).await.expect("an answer")
    }

    pub async fn ask(&self, token: &str, what: (&str, &str), body: Value) -> Answer {
        self.ask_with(token, what, &[("content-type", "application/json")], body).await
    }

    pub async fn ask_with(
        &self,
        token: &str,
        what: (&str, &str),
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let (parts, body) = self.open(token, what, headers, &body).await.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.ask(token, ("GET", path), Value::Null).await
    }

    pub async fn made(&self, path: &str, object: Value) -> Value {
        let answer = self.ask("boss", ("POST", path), object).await;
        assert_eq!(answer.code, 201, "{}", answer.text);
        answer.json()
    }
}

fn pod(name: &str, node: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn tokens_are_checked_with_the_keys_that_are_published() {
    let server = Secure::new(|_, _| {}).await.expect("the server starts");
    for path in ["/openid/v1/jwks", "/.well-known/openid-configuration"] {
        assert_eq!(server.get("ada", path).await.code, 403, "{path} is for service accounts");
    }
    let document = server.get("builder", "/.well-known/openid-configuration").await;
    assert_eq!(document.code, 200, "{}", document.text);
    assert_eq!(document.headers["content-type"], "application/json");
    let document = document.json();
    let keys = server.get("builder", "/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    let uri = document["jwks_uri"].as_str().expect("a URI");
    let port = server.running.address.port();
    assert!(
        uri.starts_with("https://") && uri.ends_with(&format!(":{port}/openid/v1/jwks")),
        "{uri}"
    );

    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.made(accounts, json!({"metadata": {"name": "builder"}})).await;
    let token = server.made(&format!("{accounts}/builder/token"), json!({"spec": {}})).await;
    let token = token["status"]["token"].as_str().expect("a token").to_owned();
    let claims = |index: usize| -> Value {
        let text = token.split('.').nth(index).expect("a part");
        let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).expect("base64");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    assert_eq!(claims(1)["iss"], document["issuer"]);
    let keys = keys.json();
    let published: Vec<_> =
        keys["keys"].as_array().expect("keys").iter().map(|key| &key["kid"]).collect();
    assert!(published.contains(&&claims(0)["kid"]), "{keys}");
}

#[tokio::test]
async fn a_kubelet_sees_and_evicts_the_pods_of_its_node() {
    let server = Secure::new(|_, _| {}).await.expect("the server starts");
    for (name, node) in [("mine", "n1"), ("other", "n2")] {
        server.made(PODS, pod(name, node)).await;
    }
    let all = "/api/v1/pods?fieldSelector=spec.nodeName%3D";
    let listed = server.get("n1", &format!("{all}n1")).await;
    assert_eq!(listed.code, 200, "{}", listed.text);
    assert_eq!(listed.json()["items"].as_array().expect("a list").len(), 1);
    assert_eq!(server.get("n1", &format!("{all}n2")).await.code, 403);
    let refused = server.get("n1", "/api/v1/pods").await;
    assert!(
        refused.message().ends_with("can only list/watch pods with spec.nodeName field selector")
    );
    let watched =
        server.open("n1", ("GET", &format!("{all}n1&watch=true")), &[], &Value::Null).await;
    assert_eq!(watched.status().as_u16(), 200);
    assert_eq!(Lines::of(watched).short().await.1, "mine");
    assert_eq!(server.get("n1", &format!("{all}n2&watch=true")).await.code, 403);

    let eviction = |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let evict = async |pod: &str, body: Value| {
        server.ask("n1", ("POST", &format!("{PODS}/{pod}/eviction")), body).await
    };
    let refused = evict("other", eviction("other")).await;
    assert_eq!(refused.code, 403);
    assert!(
        refused.message().contains("can only evict pods with spec.nodeName set to itself"),
        "{}",
        refused.text
    );
    assert_eq!(evict("mine", eviction("other")).await.code, 400, "the names differ");
    assert_eq!(evict("mine", eviction("mine")).await.code, 201);
    assert_eq!(server.get("boss", &format!("{PODS}/other")).await.code, 200);
}

/// Where the log of a server is that notes everything, with bodies of config maps.
fn audited(config: &mut Config, place: &Path) {
    let policy = place.join("policy.yaml");
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitManagedFields: true\nrules:\n\
        - {level: None, nonResourceURLs: [/healthz]}\n\
        - {level: RequestResponse, resources: [{group: '', resources: [configmaps]}]}\n\
        - {level: Metadata}\n";
    std::fs::write(&policy, text).expect("written");
    config.audit_policy_file = Some(policy);
    config.audit_log_path = Some(place.join("audit.log"));
}

/// The lines about a path, as soon as there are so many.
pub async fn lines(log: &Path, path: &str, count: usize) -> Vec<Value> {
    for _ in 0..600 {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let all =
            text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
        let found: Vec<Value> = all.filter(|line| line["requestURI"] == path).collect();
        if found.len() >= count {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("not {count} lines about {path}");
}

fn stages(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["stage"].as_str()).collect()
}

#[tokio::test]
async fn who_did_what_is_in_the_log() {
    let server = Secure::new(audited).await.expect("the server starts");
    let log = server.data.path().join("audit.log");
    let maps = "/api/v1/namespaces/default/configmaps";
    let headers =
        [("content-type", "application/json"), ("audit-id", "mine-1"), ("user-agent", "tester/1")];
    let made = server
        .ask_with(
            "boss",
            ("POST", maps),
            &headers,
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        )
        .await;
    assert_eq!((made.code, made.headers["audit-id"].to_str().expect("a text")), (201, "mine-1"));
    let noted = lines(&log, maps, 2).await;
    assert_eq!(stages(&noted), ["RequestReceived", "ResponseComplete"]);
    let last = &noted[1];
    assert_eq!(
        (&last["auditID"], &last["verb"], &last["userAgent"]),
        (&json!("mine-1"), &json!("create"), &json!("tester/1"))
    );
    assert_eq!(last["user"]["username"], "boss");
    assert_eq!(last["objectRef"]["name"], "a");
    assert_eq!(last["sourceIPs"], json!(["127.0.0.1"]));
    assert_eq!(last["requestObject"]["data"]["k"], "v");
    assert_eq!(last["responseObject"]["data"]["k"], "v");
    assert!(last["responseObject"]["metadata"]["managedFields"].is_null());
    assert_eq!(last["annotations"]["authorization.k8s.io/decision"], "allow");

    let secret = "/api/v1/namespaces/default/secrets";
    let body = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    server.made(secret, body).await;
    let noted = lines(&log, secret, 2).await;
    assert_eq!(noted[1]["objectRef"]["name"], "s");
    assert!(!std::fs::read_to_string(&log).expect("a log").contains("hunter2"), "metadata only");

    let nodes = "/api/v1/nodes";
    assert_eq!(server.get("ada", nodes).await.code, 403);
    let noted = lines(&log, nodes, 2).await;
    assert_eq!(noted[1]["responseStatus"]["code"], 403);
    assert_eq!(noted[1]["annotations"]["authorization.k8s.io/decision"], "forbid");

    let pods = "/api/v1/pods";
    assert_eq!(server.get("nobody-knows-it", pods).await.code, 401);
    assert_eq!(lines(&log, pods, 1).await[0]["responseStatus"]["code"], 401);

    server
        .ask_with("boss", ("GET", "/api/v1/services"), &[("impersonate-user", "eve")], Value::Null)
        .await;
    let noted = lines(&log, "/api/v1/services", 2).await;
    assert_eq!(
        (&noted[0]["user"]["username"], &noted[0]["impersonatedUser"]["username"]),
        (&json!("boss"), &json!("eve"))
    );

    let watched = format!("{maps}?watch=true");
    let answer = server.open("boss", ("GET", &watched), &[], &Value::Null).await;
    assert_eq!(stages(&lines(&log, &watched, 2).await), ["RequestReceived", "ResponseStarted"]);
    drop(answer);
    assert_eq!(lines(&log, &watched, 3).await[2]["stage"], "ResponseComplete");

    assert_eq!(server.get("boss", "/healthz").await.code, 200);
    assert!(
        !std::fs::read_to_string(&log).expect("a log").contains("/healthz"),
        "the policy does not want it"
    );
}

#[tokio::test]
async fn the_log_is_begun_anew_on_sighup_and_a_bad_policy_is_refused() {
    let server = Secure::new(audited).await.expect("the server starts");
    let log = server.data.path().join("audit.log");
    server.get("boss", "/version").await;
    lines(&log, "/version", 2).await;
    let moved: PathBuf = server.data.path().join("audit.log.old");
    std::fs::rename(&log, &moved).expect("moved");
    let told =
        std::process::Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status();
    assert!(told.expect("kill runs").success());
    while !log.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    server.get("boss", "/version").await;
    lines(&log, "/version", 2).await;
    assert_eq!(
        lines(&moved, "/version", 2).await.len(),
        2,
        "nothing is added to what was moved away"
    );

    let refused = Secure::new(|config, place| {
        audited(config, place);
        std::fs::write(
            place.join("policy.yaml"),
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Some}]",
        )
        .expect("written");
    });
    let error = refused.await.err().expect("no such level").to_string();
    assert!(error.starts_with("--audit-policy-file ") && error.contains("policy.yaml"), "{error}");
}

#[tokio::test]
async fn an_orderly_end_writes_every_line_that_waits() {
    let server = Secure::new(|config, place| {
        audited(config, place);
        config.audit_log_mode = heddle_server::auth::audit::Mode::Batch;
    });
    let server = server.await.expect("the server starts");
    for _ in 0..30 {
        server.get("boss", "/version").await;
    }
    let metrics = server.get("boss", "/metrics").await.text;
    let Secure { running, data } = server;
    running.end().await;
    let text = std::fs::read_to_string(data.path().join("audit.log")).expect("a log");
    assert_eq!(text.lines().filter(|line| line.contains("\"/version\"")).count(), 60);
    for name in ["apiserver_audit_event_total ", "apiserver_audit_error_total{plugin=\"log\"} 0"] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_refuses_requests_only_where_it_is_to() {
    use heddle_server::auth::audit::Mode;
    for (mode, code) in [(Mode::Blocking, 200), (Mode::Batch, 200), (Mode::BlockingStrict, 500)] {
        let server = Secure::new(|config, place| {
            audited(config, place);
            config.audit_log_path = Some("/dev/full".into());
            config.audit_log_mode = mode;
        });
        let server = server.await.expect("the server starts");
        assert_eq!(server.get("boss", "/version").await.code, code, "{mode:?}");
        assert_eq!(server.get("boss", "/healthz").await.code, 200, "of which nothing is noted");
    }
}
