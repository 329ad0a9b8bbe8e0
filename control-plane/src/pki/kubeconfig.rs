//! The file that kubectl reads: where the server is, whom to trust, who one is. Everything is in the file itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Issued;

/// How a user shows who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// With a certificate.
    Certificate(Issued),
    /// With a bearer token.
    Token(String),
}

/// What a kubeconfig says.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The server's URL, such as `https://10.0.0.1:6443`.
    pub server: String,
    /// The certificates to trust, as PEM.
    pub authorities: String,
    /// The user's name; the context is called `NAME@heddle`.
    pub user: String,
    /// How it shows that it is that user.
    pub credential: Credential,
}

impl Kubeconfig {
    /// The file's text. It is JSON, which is YAML too: no text needs escaping in two ways. To be written with mode 0600.
    pub fn render(&self) -> String {
        let context = format!("{}@heddle", self.user);
        let cluster = json!({
            "server": self.server,
            "certificate-authority-data": STANDARD.encode(&self.authorities),
        });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "heddle", "cluster": cluster}],
            "users": [{"name": self.user, "user": self.user_entry()}],
            "contexts": [{"name": context, "context": {"cluster": "heddle", "user": self.user}}],
            "current-context": context,
        });
        format!("{config:#}\n")
    }

    fn user_entry(&self) -> Value {
        match &self.credential {
            Credential::Certificate(issued) => json!({
                "client-certificate-data": STANDARD.encode(&issued.certificate),
                "client-key-data": STANDARD.encode(&issued.key),
            }),
            Credential::Token(token) => json!({"token": token}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_yaml_that_names_server_trust_and_user() {
        let config = Kubeconfig {
            server: "https://[fd00::1]:6443".to_owned(),
            authorities: "CA".to_owned(),
            user: "a\"b: c".to_owned(),
            credential: Credential::Token("abc".to_owned()),
        };
        let read: Value = serde_saphyr::from_str(&config.render()).unwrap();
        assert_eq!(read["clusters"][0]["cluster"]["server"], "https://[fd00::1]:6443");
        assert_eq!(read["clusters"][0]["cluster"]["certificate-authority-data"], "Q0E=");
        assert_eq!(read["users"][0]["user"]["token"], "abc");
        assert_eq!(read["contexts"][0]["context"]["user"], "a\"b: c");
        assert_eq!(read["current-context"], "a\"b: c@heddle");
        let issued = Issued { certificate: "C".to_owned(), key: "K".to_owned() };
        let config = Kubeconfig { credential: Credential::Certificate(issued), ..config };
        let read: Value = serde_saphyr::from_str(&config.render()).unwrap();
        assert_eq!(read["users"][0]["user"]["client-certificate-data"], "Qw==");
        assert_eq!(read["users"][0]["user"]["client-key-data"], "Sw==");
    }
}
