//! Someone who asks for something.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The group of everybody who showed who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user that nobody in particular is.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything, whatever the rules say.
pub const MASTERS: &str = "system:masters";
/// The group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The group of all kubelets.
pub const NODES: &str = "system:nodes";

/// A user as `authentication.k8s.io/v1 UserInfo` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name, such as `ada` or `system:serviceaccount:default:builder`.
    pub name: String,
    /// Tells apart two users of the same name at different times; empty when there is none.
    pub uid: String,
    /// The groups in order.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user with some groups.
    pub fn new<'a>(name: &str, groups: impl IntoIterator<Item = &'a str>) -> Self {
        let groups = groups.into_iter().map(ToOwned::to_owned).collect();
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    /// Who nobody in particular is.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, [UNAUTHENTICATED])
    }

    /// A service account's user.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = [SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
        Self {
            name: service_account_name(namespace, name),
            uid: uid.to_owned(),
            groups: groups.into(),
            extra: BTreeMap::new(),
        }
    }

    /// With the group of everybody who showed who they are, once, at the end.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) && !self.is_in(UNAUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// Whether a group is among the user's.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The node that this kubelet's user stands for; `None` for everybody else.
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.is_in(NODES))
    }

    /// As `UserInfo` in JSON.
    pub fn to_json(&self) -> Value {
        let mut info = json!({"username": self.name});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// The user name of a service account.
pub fn service_account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The namespace and the name in a service account's user name.
pub fn service_account_parts(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_accounts_have_names_and_groups_of_their_own() {
        let user = User::service_account("dev", "builder", "u1").authenticated();
        assert_eq!(user.name, "system:serviceaccount:dev:builder");
        let groups = ["system:serviceaccounts", "system:serviceaccounts:dev", AUTHENTICATED];
        assert_eq!(user.groups, groups);
        assert_eq!(service_account_parts(&user.name), Some(("dev", "builder")));
        for other in ["ada", "system:serviceaccount:dev", "system:serviceaccount:a:b:c"] {
            assert_eq!(service_account_parts(other), None, "{other}");
        }
        assert_eq!(user.clone().authenticated(), user);
        assert_eq!(User::anonymous().authenticated(), User::anonymous());
    }

    #[test]
    fn a_node_is_who_has_both_name_and_group() {
        assert_eq!(User::new("system:node:n1", [NODES]).node(), Some("n1"));
        assert_eq!(User::new("system:node:n1", ["dev"]).node(), None);
        assert_eq!(User::new("ada", [NODES]).node(), None);
    }
}
