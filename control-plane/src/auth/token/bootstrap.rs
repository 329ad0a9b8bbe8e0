//! Tokens that a new node joins with: `abcdef.0123456789abcdef`, kept in Secrets of `kube-system`.
//!
//! Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens".

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::{Objects, digest};
use crate::auth::User;

/// The group of everybody who shows such a token.
const GROUP: &str = "system:bootstrappers";
const KIND: &str = "bootstrap.kubernetes.io/token";

/// The two halves of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BootstrapToken<'a> {
    /// Six characters, no secret.
    pub id: &'a str,
    secret: &'a str,
}

/// A bootstrap token that is refused. To the client all of them are 401.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// No such Secret, or it says something else.
    #[error("bootstrap token {id:?} is refused: {why}")]
    Refused {
        /// The token's public half.
        id: String,
        /// What is wrong with its Secret.
        why: String,
    },
    /// It is not known whether it holds.
    #[error("bootstrap token {id:?} cannot be checked: {reason}")]
    Store {
        /// The token's public half.
        id: String,
        /// What the store says.
        reason: String,
    },
}

impl<'a> BootstrapToken<'a> {
    /// From a bearer token; `None` when it is of another kind.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (id, secret) = token.split_once('.')?;
        let well_formed = |text: &str, length: usize| {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            text.len() == length && text.bytes().all(allowed)
        };
        (well_formed(id, 6) && well_formed(secret, 16)).then_some(Self { id, secret })
    }

    /// Whose it is, from its Secret.
    pub async fn verify(
        &self,
        objects: &dyn Objects,
        now: Timestamp,
    ) -> Result<User, BootstrapError> {
        let name = format!("bootstrap-token-{}", self.id);
        let found = objects.get("secrets", "kube-system", &name).await;
        let found =
            found.map_err(|reason| BootstrapError::Store { id: self.id.to_owned(), reason })?;
        self.check(found.as_ref(), now)
            .map_err(|why| BootstrapError::Refused { id: self.id.to_owned(), why })
    }

    fn check(&self, secret: Option<&Value>, now: Timestamp) -> Result<User, String> {
        let Some(object) = secret else { return Err("there is no such Secret".to_owned()) };
        let field = |name: &str| datum(object, name);
        let same = digest(field("token-secret").as_bytes()) == digest(self.secret.as_bytes());
        if object["type"] != KIND || field("token-id") != self.id || !same {
            return Err(format!("the Secret is not of type {KIND} with this id and secret"));
        }
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return Err("the Secret is being deleted".to_owned());
        }
        check_expiration(&field("expiration"), now)?;
        if field("usage-bootstrap-authentication") != "true" {
            return Err("usage-bootstrap-authentication is not true".to_owned());
        }
        let mut groups = extra_groups(&field("auth-extra-groups"))?;
        groups.insert(GROUP.to_owned());
        let name = format!("system:bootstrap:{}", self.id);
        Ok(User::new(&name, groups.iter().map(String::as_str)).authenticated())
    }
}

fn datum(secret: &Value, name: &str) -> String {
    let encoded = secret["data"][name].as_str().unwrap_or_default();
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

fn check_expiration(text: &str, now: Timestamp) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    match text.parse::<Timestamp>() {
        Ok(end) if now < end => Ok(()),
        Ok(end) => Err(format!("it expired at {end}")),
        Err(_) => Err(format!("its expiration {text:?} is not a time (RFC 3339)")),
    }
}

fn extra_groups(text: &str) -> Result<BTreeSet<String>, String> {
    let groups = text.split(',').filter(|_| !text.is_empty());
    let checked = groups.map(|group| {
        let refused = || {
            format!(
                "auth-extra-groups: {group:?} must be {GROUP}: and small letters, digits, : or -"
            )
        };
        is_group(group).then(|| group.to_owned()).ok_or_else(refused)
    });
    checked.collect()
}

fn is_group(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let allowed = |byte: u8| plain(byte) || byte == b':' || byte == b'-';
    rest.len() <= 256 && rest.bytes().all(allowed) && rest.bytes().next_back().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn secret(change: &[(&str, &str)]) -> Value {
        let mut fields = vec![
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2027-01-15T08:00:01Z"),
            (
                "auth-extra-groups",
                "system:bootstrappers:kubeadm:default-node-token,system:bootstrappers:edge",
            ),
        ];
        fields.extend(change);
        let data: serde_json::Map<_, _> = fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), json!(STANDARD.encode(value))))
            .collect();
        json!({"type": KIND, "data": data, "metadata": {}})
    }

    fn check(secret: Option<&Value>) -> Result<User, String> {
        BootstrapToken::parse("abcdef.0123456789abcdef").unwrap().check(secret, NOW)
    }

    #[test]
    fn a_token_makes_a_bootstrapper() {
        let user = check(Some(&secret(&[]))).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        let groups = [
            "system:bootstrappers",
            "system:bootstrappers:edge",
            "system:bootstrappers:kubeadm:default-node-token",
            "system:authenticated",
        ];
        assert_eq!(user.groups, groups);
    }

    #[test]
    fn what_is_wrong_with_the_secret_is_said() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[("token-secret", "0123456789abcdeg")], "is not of type"),
            (&[("token-id", "abcdeg")], "is not of type"),
            (&[("expiration", "2027-01-15T08:00:00Z")], "it expired at 2027-01-15T08:00:00Z"),
            (&[("expiration", "soon")], "is not a time"),
            (&[("usage-bootstrap-authentication", "yes")], "is not true"),
            (&[("auth-extra-groups", "system:masters")], r#""system:masters" must be"#),
            (&[("auth-extra-groups", "system:bootstrappers:")], "must be"),
        ];
        for (change, expected) in cases {
            let refused = check(Some(&secret(change))).unwrap_err();
            assert!(refused.contains(expected), "{change:?}: {refused}");
        }
        assert_eq!(check(None).unwrap_err(), "there is no such Secret");
        let mut other = secret(&[]);
        other["type"] = json!("Opaque");
        assert!(check(Some(&other)).is_err());
        let mut going = secret(&[]);
        going["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
        assert!(check(Some(&going)).is_err());
        assert!(check(Some(&secret(&[("expiration", ""), ("auth-extra-groups", "")]))).is_ok());
    }

    proptest! {
        #[test]
        fn only_the_exact_form_is_a_token(text in "\\PC{0,40}", id in "[a-zA-Z0-9.]{5,7}", secret in "[a-z0-9_]{15,17}") {
            let form = regex_lite::Regex::new(r"\A[a-z0-9]{6}\.[a-z0-9]{16}\z").unwrap();
            for candidate in [text, format!("{id}.{secret}")] {
                prop_assert_eq!(BootstrapToken::parse(&candidate).is_some(), form.is_match(&candidate));
            }
        }
    }
}
