//! Every namespace has a service account `default`, as which pods run that name none.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Controller, Key, NAMESPACES, if_found, place, unless_there};
use crate::api::Api;
use crate::api::options::WriteOptions;
use crate::api::status::Status;
use crate::meta::object::Meta;
use crate::registry::Kind;

const ACCOUNTS: (&str, &str, &str) = ("", "v1", "serviceaccounts");

/// Makes the account of each namespace, also again.
#[derive(Debug)]
pub struct DefaultAccount;

#[async_trait]
impl Controller for DefaultAccount {
    fn name(&self) -> &'static str {
        "service-account"
    }

    fn follows(&self, kind: &Kind) -> bool {
        kind.group.is_empty() && matches!(&*kind.plural, "namespaces" | "serviceaccounts")
    }

    fn concerned(&self, kind: &Kind, before: Option<&Value>, after: Option<&Value>) -> Vec<Key> {
        namespaces_concerned(kind, before, after, "default")
    }

    async fn reconcile(&self, api: &Api, key: &Key) -> Result<Option<Duration>, Status> {
        if is_active(api, key).await? {
            let account = place(api, ACCOUNTS, &key.name, "")?;
            let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
            unless_there(api.create(&account, object, &WriteOptions::default()).await)?;
        }
        Ok(None)
    }
}

/// The namespaces in which something is missing: new ones, and those that an object of this name went from or was changed in.
pub(super) fn namespaces_concerned(
    kind: &Kind,
    before: Option<&Value>,
    after: Option<&Value>,
    name: &str,
) -> Vec<Key> {
    let key = |name: &str| vec![Key::new(NAMESPACES, "", name)];
    match (&*kind.plural, before, after) {
        ("namespaces", _, Some(namespace)) => key(Meta::of(namespace).name()),
        ("namespaces", _, None) => Vec::new(),
        (_, Some(before), _) if Meta::of(before).name() == name => {
            key(Meta::of(before).namespace())
        }
        _ => Vec::new(),
    }
}

/// Whether a namespace is there to stay.
pub(super) async fn is_active(api: &Api, key: &Key) -> Result<bool, Status> {
    let namespace = place(api, NAMESPACES, "", &key.name)?;
    let found = if_found(api.get(&namespace).await)?;
    Ok(found.is_some_and(|object| Meta::of(&object).deletion_timestamp().is_none()))
}
