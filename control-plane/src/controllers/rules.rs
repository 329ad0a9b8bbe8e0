//! The roles and bindings that every cluster has, and cluster roles that are made of others.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{Controller, Key, if_found, place, unless_there};
use crate::api::options::{DeleteOptions, ListOptions, WriteOptions};
use crate::api::status::Status;
use crate::api::update::Part;
use crate::api::{Api, Place};
use crate::auth::rbac::defaults::{self, Wanted};
use crate::auth::rbac::{GROUP, Kind as Rules, aggregation};
use crate::meta::object::Meta;
use crate::registry::Kind;

const CLUSTER_ROLES: (&str, &str, &str) = (GROUP, "v1", "clusterroles");

/// Makes and completes the roles and bindings that every cluster has.
pub async fn make_defaults(api: &Api) -> Result<(), Status> {
    for (kind, wanted) in defaults::objects() {
        let meta = Meta::of(&wanted);
        let one = place(api, (GROUP, "v1", plural(kind)), meta.namespace(), meta.name())?;
        let existing = if_found(api.get(&one).await)?;
        match defaults::reconcile(kind, &wanted, existing.as_ref()) {
            None => {}
            Some(Wanted::Create(_, object)) => make(api, &one, object).await?,
            Some(Wanted::Update(_, object)) => put(api, &one, &object).await?,
            Some(Wanted::Recreate(_, object)) => {
                if_found(api.delete(&one, &DeleteOptions::default()).await)?;
                make(api, &one, object).await?;
            }
        }
    }
    Ok(())
}

fn plural(kind: Rules) -> &'static str {
    match kind {
        Rules::Role => "roles",
        Rules::ClusterRole => "clusterroles",
        Rules::RoleBinding => "rolebindings",
        Rules::ClusterRoleBinding => "clusterrolebindings",
    }
}

async fn make(api: &Api, one: &Place, object: Value) -> Result<(), Status> {
    let all = Place { name: String::new(), ..one.clone() };
    // another server that starts at the same time makes the same
    unless_there(api.create(&all, object, &WriteOptions::default()).await).map(|_| ())
}

async fn put(api: &Api, one: &Place, object: &Value) -> Result<(), Status> {
    match api.modify(one, Part::Main, None, &WriteOptions::default(), |_| Ok(object.clone())).await
    {
        Err(status) if status.reason() != "Conflict" && status.code() != 404 => Err(status),
        _ => Ok(()),
    }
}

/// Gathers the rules of cluster roles that are made of others.
#[derive(Debug)]
pub struct Aggregation;

#[async_trait]
impl Controller for Aggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation"
    }

    fn follows(&self, kind: &Kind) -> bool {
        kind.group == GROUP && kind.plural == "clusterroles"
    }

    fn concerned(&self, _: &Kind, _: Option<&Value>, _: Option<&Value>) -> Vec<Key> {
        // any role may be part of any other: they are looked at together
        vec![Key::new(CLUSTER_ROLES, "", "")]
    }

    async fn reconcile(&self, api: &Api, _: &Key) -> Result<Option<Duration>, Status> {
        let all = place(api, CLUSTER_ROLES, "", "")?;
        let roles = api.list(&all, &ListOptions::default()).await?.objects;
        for role in aggregation::due(&roles) {
            let one = Place { name: Meta::of(&role).name().to_owned(), ..all.clone() };
            put(api, &one, &role).await?;
        }
        Ok(None)
    }
}
