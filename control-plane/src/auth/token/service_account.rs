//! Whose a service-account token is, and whether it still holds.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{JwtError, Objects, TokenKeys};
use crate::auth::User;
use crate::auth::certificate::CREDENTIAL_ID;

/// By how much the clocks of several servers may differ, in seconds.
const LEEWAY: i64 = 10;
/// How long a token outlives the deletion of what it is bound to, in seconds: its pod may still be shutting down.
const AFTERLIFE: i64 = 60;

/// Issues and verifies the tokens of service accounts.
pub struct TokenAuthority {
    /// The keys.
    pub keys: TokenKeys,
    /// The `iss` of tokens, usually `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// The audiences that this server is: those of a request that names none, and one of them must be in a token.
    pub audiences: Vec<String>,
    /// The longest life of a token in seconds; a longer request gets this.
    pub longest: i64,
}

/// What a token may be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum BoundKind {
    Pod,
    Secret,
    Node,
}

impl BoundKind {
    /// The plural.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Secret => "secrets",
            Self::Node => "nodes",
        }
    }

    /// As in `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Secret => "Secret",
            Self::Node => "Node",
        }
    }

    /// As in the claims.
    pub(super) const fn claim(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Secret => "secret",
            Self::Node => "node",
        }
    }
}

/// A token that is refused. To the client all of them are 401; the log says which.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Its form or its signature.
    #[error("the token cannot be used: {0}")]
    Jwt(#[from] JwtError),
    /// Signed with our key, but not as a service account's token.
    #[error("the token's claims cannot be used: {0}")]
    Claims(String),
    /// Past its end.
    #[error("service account token has expired (at {0})")]
    Expired(i64),
    /// Before its beginning.
    #[error("service account token is not valid yet (until {0}): do the servers' clocks agree?")]
    Early(i64),
    /// For somebody else.
    #[error("the token is for the audiences {found:?}, not for {expected:?}")]
    Audience {
        /// What it is for.
        found: Vec<String>,
        /// Who we are.
        expected: Vec<String>,
    },
    /// What it stands for is gone, is going, or is another of the same name.
    #[error("service account token has been invalidated: {what} {name:?} {why}")]
    Invalidated {
        /// The plural.
        what: &'static str,
        /// The name.
        name: String,
        /// What became of it.
        why: &'static str,
    },
    /// It is not known whether it holds.
    #[error("the token cannot be checked: {0}")]
    Store(String),
}

#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Audiences,
    exp: i64,
    #[serde(default)]
    nbf: i64,
    #[serde(default)]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    private: Private,
}

/// RFC 7519, 4.1.3: one text or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
struct Private {
    namespace: String,
    serviceaccount: Named,
    pod: Option<Named>,
    secret: Option<Named>,
    node: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    uid: String,
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The service account's user.
    pub user: User,
    /// The audiences that are both the token's and those that were asked for.
    pub audiences: Vec<String>,
}

impl TokenAuthority {
    /// The life of a token for which so many seconds were asked.
    pub fn lifetime(&self, asked: i64) -> i64 {
        asked.min(self.longest)
    }

    /// Whose a token is. `audiences`: who the token must be for, the server's own when empty.
    pub async fn verify(
        &self,
        token: &str,
        audiences: &[String],
        objects: &dyn Objects,
        now: Timestamp,
    ) -> Result<Verified, TokenError> {
        let claims = self.keys.verify(token)?;
        let claims: Claims = serde_json::from_value(claims)
            .map_err(|error| TokenError::Claims(error.to_string()))?;
        let expected = if audiences.is_empty() { &self.audiences } else { audiences };
        let audiences = self.check(&claims, expected, now.as_second())?;
        check_objects(&claims.private, objects, now).await?;
        Ok(Verified { user: claims.user(), audiences })
    }

    /// What can be said without looking anything up.
    fn check(
        &self,
        claims: &Claims,
        expected: &[String],
        now: i64,
    ) -> Result<Vec<String>, TokenError> {
        let Private { namespace, serviceaccount, .. } = &claims.private;
        let own = crate::auth::user::service_account_name(namespace, &serviceaccount.name);
        if claims.iss != self.issuer || claims.sub != own || serviceaccount.uid.is_empty() {
            let why = "the issuer, the subject or the service account's uid is not as we issue it";
            return Err(TokenError::Claims(why.to_owned()));
        }
        if now > claims.exp.saturating_add(LEEWAY) {
            return Err(TokenError::Expired(claims.exp));
        }
        if now < claims.nbf.saturating_sub(LEEWAY) {
            return Err(TokenError::Early(claims.nbf));
        }
        let found = match &claims.aud {
            Audiences::One(one) => std::slice::from_ref(one),
            Audiences::Many(many) => many,
        };
        let both: Vec<_> = found.iter().filter(|one| expected.contains(one)).cloned().collect();
        if both.is_empty() {
            return Err(TokenError::Audience {
                found: found.to_vec(),
                expected: expected.to_vec(),
            });
        }
        Ok(both)
    }
}

impl Claims {
    fn user(&self) -> User {
        let Private { namespace, serviceaccount, pod, node, .. } = &self.private;
        let mut user = User::service_account(namespace, &serviceaccount.name, &serviceaccount.uid);
        let mut tell = |key: &str, value: &str| {
            if !value.is_empty() {
                let key = format!("authentication.kubernetes.io/{key}");
                user.extra.insert(key, vec![value.to_owned()]);
            }
        };
        for (kind, named) in [("pod", pod), ("node", node)] {
            if let Some(Named { name, uid }) = named {
                tell(&format!("{kind}-name"), name);
                tell(&format!("{kind}-uid"), uid);
            }
        }
        if !self.jti.is_empty() {
            user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", self.jti)]);
        }
        user.authenticated()
    }
}

/// Whether everything that a token stands for is still there and the same.
async fn check_objects(
    private: &Private,
    objects: &dyn Objects,
    now: Timestamp,
) -> Result<(), TokenError> {
    let Private { namespace, serviceaccount, pod, secret, node } = private;
    let alone = pod.is_none() && secret.is_none();
    let bound = [
        ("serviceaccounts", namespace.as_str(), Some(serviceaccount)),
        ("pods", namespace, pod.as_ref()),
        ("secrets", namespace, secret.as_ref()),
        // A pod's token tells where the pod runs; only a token for the node alone ends with it.
        ("nodes", "", node.as_ref().filter(|_| alone)),
    ];
    for (what, namespace, named) in bound {
        let Some(Named { name, uid }) = named else { continue };
        let object = objects.get(what, namespace, name).await.map_err(TokenError::Store)?;
        if let Some(why) = invalid(object.as_ref(), uid, now) {
            return Err(TokenError::Invalidated { what, name: name.clone(), why });
        }
    }
    Ok(())
}

fn invalid(object: Option<&Value>, uid: &str, now: Timestamp) -> Option<&'static str> {
    let Some(metadata) = object.map(|object| &object["metadata"]) else {
        return Some("does not exist any more");
    };
    if metadata["uid"] != uid {
        return Some("was deleted and made anew");
    }
    let deleted = metadata["deletionTimestamp"].as_str()?;
    let deleted = deleted.parse::<Timestamp>().map_or(0, Timestamp::as_second);
    (now.as_second() > deleted.saturating_add(AFTERLIFE)).then_some("is being deleted")
}

#[cfg(test)]
#[path = "service_account_tests.rs"]
mod tests;
