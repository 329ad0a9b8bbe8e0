//! A kubeconfig for somebody who is to reach the server.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::CommandError;
use crate::pki::{Pki, PkiOptions, Subject};

/// Whom it is for.
#[derive(Clone, Debug, Args)]
pub struct Wish {
    /// The user; what it may do is up to the roles that are bound to it or to its groups.
    #[arg(long, required_unless_present = "node")]
    pub user: Option<String>,
    /// A group of the user; may be given several times.
    #[arg(long = "group", requires = "user")]
    pub groups: Vec<String>,
    /// The node, which may do what a kubelet may.
    #[arg(long, conflicts_with = "user")]
    pub node: Option<String>,
    /// The server's URL as it is reached from there. Left out: that of the administrator's kubeconfig.
    #[arg(long)]
    pub server: Option<String>,
    /// The data directory of the server.
    #[arg(long, default_value = "/var/lib/heddle/server")]
    pub data_dir: PathBuf,
}

impl Wish {
    /// The kubeconfig, with a certificate that is signed now and a key that is kept nowhere else.
    pub fn render(&self, now: Timestamp) -> Result<String, CommandError> {
        let directory = self.data_dir.join("pki");
        let authority = directory.join("ca.crt");
        // to open the directory would make an authority that no server knows
        if !authority.exists() {
            return Err(CommandError::NoServer { path: authority });
        }
        let own = self.own_url()?;
        let server = match (&self.server, &own) {
            (Some(named), _) => named.clone(),
            (None, Some(own)) => own.clone(),
            (None, None) => return Err(CommandError::NoAddress { path: self.admin() }),
        };
        let options = PkiOptions {
            directory,
            names: Vec::new(),
            addresses: Vec::new(),
            // what the administrator's file says stays what it is
            server: own.unwrap_or_else(|| server.clone()),
            serving: None,
        };
        let pki = Pki::open(&options, now)?;
        Ok(pki.kubeconfig_for(&self.subject(), &server, now)?.render())
    }

    fn subject(&self) -> Subject {
        match &self.node {
            Some(node) => Subject::node(node),
            None => Subject::new(self.user.as_deref().unwrap_or_default())
                .groups(self.groups.iter().map(String::as_str)),
        }
    }

    fn admin(&self) -> PathBuf {
        self.data_dir.join("pki/admin.kubeconfig")
    }

    /// The URL in the administrator's kubeconfig, where there is one.
    fn own_url(&self) -> Result<Option<String>, CommandError> {
        let path = self.admin();
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CommandError::File { what: "read", path, source }),
            Ok(text) => text,
        };
        let config: Value = serde_saphyr::from_str(&text).unwrap_or_default();
        match config.pointer("/clusters/0/cluster/server").and_then(Value::as_str) {
            Some(url) => Ok(Some(url.to_owned())),
            None => Err(CommandError::NoAddress { path }),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::auth::certificate::user_of;
    use crate::pki::Certificate;

    fn wish(data_dir: &std::path::Path) -> Wish {
        Wish {
            user: None,
            groups: Vec::new(),
            node: None,
            server: None,
            data_dir: data_dir.to_owned(),
        }
    }

    fn begun() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let options = PkiOptions {
            directory: place.path().join("pki"),
            names: vec!["api.example".to_owned()],
            addresses: Vec::new(),
            server: "https://127.0.0.1:7443".to_owned(),
            serving: None,
        };
        Pki::open(&options, Timestamp::now()).unwrap();
        place
    }

    fn who(text: &str) -> (String, Vec<String>) {
        let config: Value = serde_json::from_str(text).unwrap();
        let data = config["users"][0]["user"]["client-certificate-data"].as_str().unwrap();
        let pem = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
        let chain: Vec<_> =
            Certificate::parse_pem(&pem).unwrap().into_iter().map(|one| one.der).collect();
        let user = user_of(Some(&chain), Timestamp::now()).unwrap().unwrap();
        (user.name, user.groups)
    }

    #[test]
    fn users_and_nodes_get_a_certificate_and_nothing_else_changes() {
        let place = begun();
        let files =
            |name: &str| std::fs::read_to_string(place.path().join("pki").join(name)).unwrap();
        let before = ["ca.crt", "apiserver.crt", "admin.kubeconfig"].map(files);
        let ada = Wish {
            user: Some("ada".to_owned()),
            groups: vec!["dev".to_owned()],
            ..wish(place.path())
        };
        let text = ada.render(Timestamp::now()).unwrap();
        assert!(text.contains("https://127.0.0.1:7443"), "the server's own URL");
        assert_eq!(who(&text).0, "ada");
        assert!(who(&text).1.contains(&"dev".to_owned()));
        let node = Wish {
            node: Some("edge-1".to_owned()),
            server: Some("https://192.0.2.1:6443".to_owned()),
            ..wish(place.path())
        };
        let text = node.render(Timestamp::now()).unwrap();
        assert!(text.contains("https://192.0.2.1:6443"));
        assert_eq!(who(&text).0, "system:node:edge-1");
        assert!(who(&text).1.contains(&"system:nodes".to_owned()));
        assert_eq!(["ca.crt", "apiserver.crt", "admin.kubeconfig"].map(files), before);
    }

    #[test]
    fn without_a_server_or_the_key_it_says_so() {
        let empty = tempfile::tempdir().unwrap();
        let ada = |path| Wish { user: Some("ada".to_owned()), ..wish(path) };
        let error = ada(empty.path()).render(Timestamp::now()).unwrap_err();
        assert!(error.to_string().contains("ca.crt"), "{error}");
        assert!(!empty.path().join("pki").exists(), "nothing was made");
        let place = begun();
        std::fs::remove_file(place.path().join("pki/ca.key")).unwrap();
        let error = ada(place.path()).render(Timestamp::now()).unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("put ca.key"), "{why}");
    }
}
