//! Certificates, tokens and nobody, in the order in which they count.

use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

struct One(Value);

#[async_trait::async_trait]
impl Objects for One {
    async fn get(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, String> {
        let metadata = &self.0["metadata"];
        let same = metadata["name"] == name && metadata["namespace"] == namespace;
        Ok((resource == "serviceaccounts" && same).then(|| self.0.clone()))
    }
}

fn scene() -> (Authenticator, One, String) {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let tokens = TokenAuthority {
        keys: TokenKeys::new(&key, &[]).unwrap(),
        issuer: "https://k".to_owned(),
        audiences: vec!["https://k".to_owned()],
        longest: 3600,
    };
    let account = json!({"metadata": {"name": "a", "namespace": "dev", "uid": "u"}});
    let mut request = json!({});
    super::super::token::request::default(&mut request, &tokens);
    let answer =
        super::super::token::request::issue(&tokens, &request, &account, None, None, NOW).unwrap();
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    let fixed = StaticTokens::parse("lab-token,robot,,").unwrap();
    let authenticator =
        Authenticator { tokens: Arc::new(tokens), fixed, bootstrap: true, anonymous: false };
    (authenticator, One(account), token)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn the_certificate_counts_first_then_the_token_then_nobody() {
    let (mut authenticator, objects, token) = scene();
    let ada = User::new("ada", []).authenticated();
    let old = CertificateError::Expired { name: "ada".to_owned(), end: NOW };
    for anonymous in [false, true] {
        authenticator.anonymous = anonymous;
        let who = |certificate: Result<Option<User>, CertificateError>, bearer: Option<&str>| {
            let user = run(authenticator.authenticate(certificate, bearer, &objects, NOW));
            user.map(|user| user.name).map_err(|error| error.to_string())
        };
        assert_eq!(who(Ok(Some(ada.clone())), Some("nonsense")).unwrap(), "ada");
        assert_eq!(who(Ok(None), Some(&token)).unwrap(), "system:serviceaccount:dev:a");
        assert_eq!(who(Err(old.clone()), Some("lab-token")).unwrap(), "robot");
        assert!(who(Err(old.clone()), None).unwrap_err().contains("expired"));
        assert!(who(Ok(None), Some("nonsense")).is_err(), "a wrong token is not nobody");
        assert!(
            who(Ok(None), Some("abcdef.0123456789abcdef")).unwrap_err().contains("no such Secret")
        );
        assert!(who(Ok(None), Some(&token[..token.len() - 4])).is_err());
        assert_eq!(who(Ok(None), None).ok(), anonymous.then(|| "system:anonymous".to_owned()));
    }
}

#[test]
fn tokens_that_are_not_service_accounts_are_for_this_server_only() {
    let (authenticator, objects, _) = scene();
    let check = |audiences: &[&str]| {
        let audiences: Vec<_> = audiences.iter().map(|&one| one.to_owned()).collect();
        run(authenticator.token("lab-token", &audiences, &objects, NOW))
            .map(|found| found.audiences)
    };
    assert_eq!(check(&[]).unwrap(), ["https://k"]);
    assert_eq!(check(&["x", "https://k"]).unwrap(), ["https://k"]);
    assert_eq!(check(&["x"]), Err(Unauthenticated::Unknown));
}

#[test]
fn where_a_bearer_token_may_stand() {
    let cases = [
        (Some("Bearer abc"), None, Some("abc")),
        (Some("bearer  abc "), None, Some("abc")),
        (Some("Bearer "), None, None),
        (Some("Basic abc"), None, None),
        (Some("abc"), None, None),
        (None, Some("v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj"), Some("abc")),
        (None, Some("base64url.bearer.authorization.k8s.io.%%"), None),
        (None, None, None),
    ];
    for (authorization, protocols, expected) in cases {
        let found = bearer(authorization, protocols);
        assert_eq!(found.as_deref(), expected, "{authorization:?} {protocols:?}");
    }
}
