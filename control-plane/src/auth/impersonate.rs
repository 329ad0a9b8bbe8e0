//! Asking in somebody else's name.
//!
//! Source: Kubernetes documentation, "User impersonation". Every part of the other identity is a question of its own to the authorizer.

use std::collections::BTreeMap;

use serde_json::Value;

use super::User;
use super::attributes::{Attributes, Decision, Resource};
use super::user::{ANONYMOUS, SERVICE_ACCOUNTS, UNAUTHENTICATED, service_account_parts};

const PREFIX: &str = "impersonate-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Who a request wants to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// Headers that make no sense together: 400.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImpersonationError {
    /// Something of a user, and no user.
    #[error("requested {what} without impersonating a user: set Impersonate-User too")]
    NoUser {
        /// The header's meaning.
        what: &'static str,
    },
    /// A header that begins as one of these and is none: passing over it would ask with other rights than the client thinks.
    #[error("unknown impersonation header {0:?}")]
    Unknown(String),
    /// The part of a header's name that is the key of an extra value.
    #[error("the key in the header {0:?} is not percent-encoded UTF-8, or is empty")]
    Key(String),
}

impl Wanted {
    /// From the request's headers (names in any case, a value each); `None` when it asks in its own name. The headers must be taken out of
    /// what is handed on to other servers.
    pub fn from_headers<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<Self>, ImpersonationError> {
        let mut wanted = Self::default();
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            let Some(part) = name.strip_prefix(PREFIX) else { continue };
            match (part, part.strip_prefix("extra-")) {
                ("user", _) => value.clone_into(&mut wanted.user),
                ("uid", _) => value.clone_into(&mut wanted.uid),
                ("group", _) => wanted.groups.push(value.to_owned()),
                (_, Some(key)) => {
                    let key = decoded(key).ok_or_else(|| ImpersonationError::Key(name.clone()))?;
                    wanted.extra.entry(key).or_default().push(value.to_owned());
                }
                _ => return Err(ImpersonationError::Unknown(name)),
            }
        }
        wanted.checked()
    }

    fn checked(self) -> Result<Option<Self>, ImpersonationError> {
        if !self.user.is_empty() {
            return Ok(Some(self));
        }
        let parts = [
            (!self.uid.is_empty(), "uid"),
            (!self.groups.is_empty(), "groups"),
            (!self.extra.is_empty(), "userExtra"),
        ];
        match parts.into_iter().find(|(set, _)| *set) {
            Some((_, what)) => Err(ImpersonationError::NoUser { what }),
            None => Ok(None),
        }
    }

    /// Who the request is from now on, when its own user may be all of that; otherwise the 403 `Status`.
    pub fn assume(
        self,
        user: &User,
        decide: &dyn Fn(&Attributes<'_>) -> Decision,
    ) -> Result<User, Box<Value>> {
        let ask = |resource: Resource<'_>| {
            let attributes = Attributes::on(user, "impersonate", resource);
            match decide(&attributes) {
                Decision::Allow(_) => Ok(()),
                decision => Err(Box::new(attributes.forbidden(decision.reason()))),
            }
        };
        let plain = |resource, name| Resource { resource, name, ..Resource::default() };
        let named = match service_account_parts(&self.user) {
            Some((namespace, name)) => Resource { namespace, ..plain("serviceaccounts", name) },
            None => plain("users", &self.user),
        };
        ask(named)?;
        for group in &self.groups {
            ask(plain("groups", group))?;
        }
        let authentication =
            |resource, name| Resource { group: AUTHENTICATION, ..plain(resource, name) };
        for (key, values) in &self.extra {
            for value in values {
                ask(Resource { subresource: key, ..authentication("userextras", value) })?;
            }
        }
        if !self.uid.is_empty() {
            ask(authentication("uids", &self.uid))?;
        }
        Ok(self.become_user())
    }

    fn become_user(self) -> User {
        let mut groups = self.groups;
        if let Some((namespace, _)) =
            service_account_parts(&self.user).filter(|_| groups.is_empty())
        {
            groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
        }
        if self.user == ANONYMOUS && !groups.iter().any(|group| group == UNAUTHENTICATED) {
            groups.push(UNAUTHENTICATED.to_owned());
        }
        let user = User { name: self.user, uid: self.uid, groups, extra: self.extra };
        user.authenticated()
    }
}

/// A key as a header's name can hold it: small letters, the rest percent-encoded.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| plain)?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok().filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(headers: &[(&str, &str)]) -> Result<Option<Wanted>, ImpersonationError> {
        Wanted::from_headers(headers.iter().copied())
    }

    fn assume(headers: &[(&str, &str)], allowed: &[&str]) -> Result<User, String> {
        let decide = |attributes: &Attributes<'_>| {
            let super::super::attributes::Target::Resource(it) = attributes.target else {
                panic!()
            };
            assert_eq!(attributes.verb, "impersonate");
            let asked = format!("{}.{} {}/{}", it.qualified(), it.group, it.namespace, it.name);
            let found = allowed.iter().find(|one| **one == asked);
            found.map_or(Decision::NoOpinion(String::new()), |_| Decision::Allow(String::new()))
        };
        let user = wanted(headers).unwrap().unwrap().assume(&User::new("ada", []), &decide);
        user.map_err(|status| status["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn every_part_of_the_identity_is_asked_for() {
        let headers = [
            ("Impersonate-User", "bob"),
            ("Impersonate-Group", "dev"),
            ("Impersonate-Group", "ops"),
            ("Impersonate-Extra-Acme.com%2Fscope", "read"),
            ("Impersonate-Uid", "u1"),
            ("Accept", "x"),
        ];
        let all = [
            "users. /bob",
            "groups. /dev",
            "groups. /ops",
            "userextras/acme.com/scope.authentication.k8s.io /read",
            "uids.authentication.k8s.io /u1",
        ];
        let user = assume(&headers, &all).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("bob", "u1"));
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(user.extra["acme.com/scope"], ["read"]);
        for missing in 0..all.len() {
            let some: Vec<_> = all
                .iter()
                .copied()
                .enumerate()
                .filter(|(index, _)| *index != missing)
                .map(|(_, one)| one)
                .collect();
            assert!(
                assume(&headers, &some).unwrap_err().contains("cannot impersonate resource"),
                "{missing}"
            );
        }
        let refused = assume(&headers, &[]).unwrap_err();
        assert_eq!(
            refused,
            r#"users "bob" is forbidden: User "ada" cannot impersonate resource "users" in API group "" at the cluster scope"#
        );
    }

    #[test]
    fn service_accounts_and_nobody_have_their_own_groups() {
        let headers = [("impersonate-user", "system:serviceaccount:dev:builder")];
        let user = assume(&headers, &["serviceaccounts. dev/builder"]).unwrap();
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:dev", "system:authenticated"]
        );
        let user =
            assume(&[("impersonate-user", ANONYMOUS)], &["users. /system:anonymous"]).unwrap();
        assert_eq!(user.groups, [UNAUTHENTICATED]);
    }

    #[test]
    fn headers_that_make_no_sense_are_refused() {
        assert_eq!(wanted(&[("accept", "x")]), Ok(None));
        for (header, what) in [
            ("impersonate-group", "groups"),
            ("impersonate-uid", "uid"),
            ("impersonate-extra-a", "userExtra"),
        ] {
            assert_eq!(wanted(&[(header, "x")]), Err(ImpersonationError::NoUser { what }));
        }
        let user = ("impersonate-user", "bob");
        assert!(matches!(
            wanted(&[user, ("impersonate-groups", "x")]),
            Err(ImpersonationError::Unknown(_))
        ));
        for key in ["", "%", "%2", "%zz", "%+1", "%ff"] {
            let header = format!("impersonate-extra-{key}");
            assert!(
                matches!(wanted(&[user, (&header, "x")]), Err(ImpersonationError::Key(_))),
                "{key}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_headers_are_an_answer(name in "[Ii]mpersonate-([Ee]xtra-|user)?\\PC{0,20}", value in "\\PC{0,9}") {
            let _ = Wanted::from_headers([(name.as_str(), value.as_str()), ("Impersonate-User", "x")]);
        }
    }
}
