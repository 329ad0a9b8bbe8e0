//! How this program shows an API server who it is: every way that a kubeconfig has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use data_encoding::BASE64;
use kube::api::ListParams;
use test_api_server::{Authority, Credential};
use tokio::net::TcpListener;

use super::*;

/// A server that asks who is there, and a folder for what a kubeconfig names.
struct Guarded {
    server: Server,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::serve_to(listener, &authority);
        server.put_all(objects(&plan(3)));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        Self { server, authority, folder }
    }

    /// Writes a file of the folder.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A credential plugin: a script that prints a credential, whose status a shell makes of `status`.
    fn plugin(&self, status: &str) -> PathBuf {
        let text = format!(
            "#!/bin/sh\necho run >>\"$RUNS\"\nprintf '%s' '{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\
             \"status\":'\n{status}\nprintf '}}'\n"
        );
        let path = self.file("plugin", &text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A kubeconfig with its own authority as a file.
    fn access(&self, user: Value) -> ApiAccess {
        self.access_with(json!({"certificate-authority": self.folder.path().join("ca.crt")}), user)
    }

    fn access_with(&self, mut cluster: Value, user: Value) -> ApiAccess {
        cluster["server"] = json!(format!("https://{}", self.server.address()));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        });
        let path = self.file("kubeconfig", &kubeconfig.to_string());
        ApiAccess { kubeconfig: Some(path), master: None }
    }

    /// Lists the services; who the server took us for.
    async fn asked_as(&self, access: &ApiAccess) -> Result<Vec<String>, String> {
        let client = connect(access).await.map_err(|error| one_line(&error))?;
        self.list_as(&client).await
    }

    async fn list_as(&self, client: &Client) -> Result<Vec<String>, String> {
        let services = Api::<Object>::all(client.clone());
        let listed = timeout(PATIENCE, services.list(&ListParams::default())).await;
        let listed = listed.expect("an answer in time").map_err(|error| one_line(&error))?;
        assert_eq!(listed.items.len(), 3);
        Ok(self.server.take_users())
    }
}

fn encoded(text: &str) -> String {
    BASE64.encode(text.as_bytes())
}

#[tokio::test]
async fn a_client_certificate_from_the_kubeconfig_or_from_files() {
    let guarded = Guarded::start().await;
    let Credential { certificate, key } = guarded.authority.client("system:kube-proxy");
    let inline =
        json!({"client-certificate-data": encoded(&certificate), "client-key-data": encoded(&key)});
    let want = Ok(vec!["certificate system:kube-proxy".to_owned()]);
    assert_eq!(guarded.asked_as(&guarded.access(inline.clone())).await, want);
    let authority = json!({"certificate-authority-data": encoded(guarded.authority.pem())});
    assert_eq!(guarded.asked_as(&guarded.access_with(authority, inline.clone())).await, want);
    let (certificate, key) = (guarded.file("tls.crt", &certificate), guarded.file("tls.key", &key));
    let files = json!({"client-certificate": certificate, "client-key": key});
    assert_eq!(guarded.asked_as(&guarded.access(files)).await, want);
    // as in a kubeconfig that lies beside its files
    let relative = json!({"client-certificate": "tls.crt", "client-key": "tls.key"});
    let beside = guarded.access_with(json!({"certificate-authority": "ca.crt"}), relative);
    assert_eq!(guarded.asked_as(&beside).await, want);

    let stranger = Authority::new().client("system:kube-proxy");
    let stranger = json!({
        "client-certificate-data": encoded(&stranger.certificate), "client-key-data": encoded(&stranger.key),
    });
    let refused = guarded.asked_as(&guarded.access(stranger)).await.unwrap_err();
    assert!(!refused.contains("Unauthorized"), "the handshake itself fails: {refused}");
    assert_eq!(guarded.server.take_users(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_told_anything() {
    let guarded = Guarded::start().await;
    guarded.server.set_tokens(&["secret"]);
    let user = json!({"token": "secret"});
    let other = Authority::new();
    for cluster in [json!({}), json!({"certificate-authority-data": encoded(other.pem())})] {
        let access = guarded.access_with(cluster, user.clone());
        let refused = guarded.asked_as(&access).await.unwrap_err();
        assert!(refused.to_lowercase().contains("certificate"), "{refused}");
        assert_eq!(guarded.server.take_requests(), [""; 0]);
    }
    let blind = guarded.access_with(json!({"insecure-skip-tls-verify": true}), user);
    assert_eq!(guarded.asked_as(&blind).await, Ok(vec!["token secret".to_owned()]));
}

#[tokio::test]
async fn a_token_from_the_kubeconfig_or_from_a_file() {
    let guarded = Guarded::start().await;
    guarded.server.set_tokens(&["secret"]);
    let want = Ok(vec!["token secret".to_owned()]);
    assert_eq!(guarded.asked_as(&guarded.access(json!({"token": "secret"}))).await, want);
    // with the end of line that editors leave
    let path = guarded.file("token", "secret\n");
    assert_eq!(guarded.asked_as(&guarded.access(json!({"tokenFile": path}))).await, want);
    for user in [json!({}), json!({"token": "wrong"})] {
        let refused = guarded.asked_as(&guarded.access(user)).await.unwrap_err();
        assert!(refused.contains("Unauthorized"), "{refused}");
    }
    let nowhere = guarded.access(json!({"tokenFile": "/nowhere/token"}));
    let refused = guarded.asked_as(&nowhere).await.unwrap_err();
    assert!(refused.contains("/nowhere/token"), "{refused}");
}

/// A token that ends within a minute is asked for again with each request, so that none goes out with one that has ended.
#[tokio::test]
async fn a_plugins_token_is_renewed_before_it_ends() {
    let guarded = Guarded::start().await;
    let token = guarded.file("token", "one");
    let runs = guarded.folder.path().join("runs");
    let plugin = guarded.plugin("printf '{\"token\":\"%s-%s\",\"expirationTimestamp\":\"%s\"}' \"$1\" \"$(cat \"$TOKEN\")\" \"$UNTIL\"");
    let access = |until: &str| {
        guarded.access(json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "args": ["prefix"],
            "interactiveMode": "Never",
            "env": [{"name": "TOKEN", "value": token}, {"name": "RUNS", "value": runs}, {"name": "UNTIL", "value": until}],
        }}))
    };
    guarded.server.set_tokens(&["prefix-one"]);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30);
    let client = connect(&access(&soon.to_string())).await.unwrap();
    assert_eq!(guarded.list_as(&client).await, Ok(vec!["token prefix-one".to_owned()]));
    guarded.file("token", "two");
    guarded.server.set_tokens(&["prefix-two"]);
    assert_eq!(guarded.list_as(&client).await, Ok(vec!["token prefix-two".to_owned()]));

    // one that is good for long is not asked for again
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let client = connect(&access(&later.to_string())).await.unwrap();
    fs::remove_file(&runs).unwrap();
    for _ in 0..3 {
        assert_eq!(guarded.list_as(&client).await, Ok(vec!["token prefix-two".to_owned()]));
    }
    assert!(!runs.exists(), "the plugin was not run again");
}

#[tokio::test]
async fn a_plugins_certificate() {
    let guarded = Guarded::start().await;
    let Credential { certificate, key } = guarded.authority.client("from-a-plugin");
    let status = json!({"clientCertificateData": certificate, "clientKeyData": key});
    let status = guarded.file("status", &status.to_string());
    let plugin = guarded.plugin("cat \"$1\"");
    let access = guarded.access(json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "args": [status],
        "env": [{"name": "RUNS", "value": "/dev/null"}],
    }}));
    assert_eq!(guarded.asked_as(&access).await, Ok(vec!["certificate from-a-plugin".to_owned()]));
}

#[tokio::test]
async fn a_plugin_that_fails_is_told_with_what_it_said() {
    let guarded = Guarded::start().await;
    let failing = guarded.file("failing", "#!/bin/sh\necho 'log in first' >&2\nexit 3\n");
    fs::set_permissions(&failing, fs::Permissions::from_mode(0o755)).unwrap();
    for (command, want) in
        [(failing, "log in first"), (PathBuf::from("/nowhere/plugin"), "No such file")]
    {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": command});
        let access = guarded.access(json!({"exec": exec}));
        let refused = guarded.asked_as(&access).await.unwrap_err();
        assert!(refused.contains(want), "{refused}");
    }
}

/// As when a token has ended and its renewal comes late: nothing is forgotten, and then it goes on.
#[tokio::test]
async fn a_server_that_knows_us_no_more_is_asked_again() {
    let guarded = Guarded::start().await;
    guarded.server.set_tokens(&["secret"]);
    let client = connect(&guarded.access(json!({"token": "secret"}))).await.unwrap();
    let (sender, mut events) = mpsc::channel(1024);
    let retry = Retry { first: Duration::from_millis(20), most: Duration::from_millis(100) };
    let _informers = follow_with(&client, "node", &sender, retry);
    let mut model = Model::default();
    let mut until = async |services: usize| {
        let end = Instant::now() + PATIENCE;
        while model.service_names().count() != services {
            let left = end.saturating_duration_since(Instant::now());
            let event = timeout(left, events.recv()).await.expect("an event in time").unwrap();
            // whatever is told: what is known is not taken back
            model.apply(event);
            assert!(model.service_names().count() <= services);
        }
        model.service_names().count()
    };
    assert_eq!(until(3).await, 3);
    guarded.server.set_tokens(&[]);
    guarded.server.cut();
    guarded.server.put(service(&plan(9), 7));
    let refused_at = Instant::now();
    while guarded.server.take_requests().len() < 3 {
        assert!(refused_at.elapsed() < PATIENCE, "it is asked again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    guarded.server.set_tokens(&["secret"]);
    assert_eq!(until(4).await, 4);
}
