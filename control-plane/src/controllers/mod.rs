//! Controllers: each looks at what there is and brings it nearer to what there should be.
//!
//! All are level-triggered: a change only says which key to look at, and looking twice does no harm. They use the same verbs as
//! any client, within the process. Where several servers share a store, the one that holds a Lease runs them ([`leader`]).

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::api::status::Status;
use crate::api::{Api, Place};
use crate::meta::object::Meta;
use crate::registry::Kind;

pub mod account;
pub mod customresources;
pub mod event;
pub mod follow;
pub mod garbage;
pub mod kubernetes;
pub mod leader;
pub mod namespace;
pub mod queue;
pub mod root_ca;
pub mod rules;
pub mod run;

pub use run::{Controllers, spawn};

/// An object by its place, which need not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Group, version and plural of its kind.
    pub resource: (String, String, String),
    /// Its namespace; empty for the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of an object of a kind.
    pub fn of(kind: &Kind, object: &Value) -> Self {
        let meta = Meta::of(object);
        Self::new((&kind.group, &kind.version, &kind.plural), meta.namespace(), meta.name())
    }

    /// A key by its parts.
    pub fn new(resource: (&str, &str, &str), namespace: &str, name: &str) -> Self {
        let (group, version, plural) = resource;
        Self {
            resource: (group.to_owned(), version.to_owned(), plural.to_owned()),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Where the object is; `None` when its kind is not served (any more).
    pub fn place(&self, api: &Api) -> Option<Place> {
        let (group, version, plural) = &self.resource;
        let kind = api.registry.at(group, version, plural)?;
        Some(Place { kind, namespace: self.namespace.clone(), name: self.name.clone() })
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.as_str() {
            "" => write!(out, "{}/{}", self.resource.2, self.name),
            namespace => write!(out, "{}/{namespace}/{}", self.resource.2, self.name),
        }
    }
}

/// The place of an object of a kind that is built in.
pub fn place(
    api: &Api,
    resource: (&str, &str, &str),
    namespace: &str,
    name: &str,
) -> Result<Place, Status> {
    Key::new(resource, namespace, name).place(api).ok_or_else(Status::no_such_resource)
}

/// What a lookup found; `None` when there is no such object.
pub fn if_found<T>(found: Result<T, Status>) -> Result<Option<T>, Status> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.code() == 404 => Ok(None),
        Err(status) => Err(status),
    }
}

/// What a making made; `None` when it was there already.
pub fn unless_there<T>(made: Result<T, Status>) -> Result<Option<T>, Status> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(status) if status.reason() == "AlreadyExists" => Ok(None),
        Err(status) => Err(status),
    }
}

/// Core kinds that several controllers look at.
pub const NAMESPACES: (&str, &str, &str) = ("", "v1", "namespaces");

/// One controller.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// Its name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// Whether it looks at the objects of a kind.
    fn follows(&self, kind: &Kind) -> bool;

    /// Which keys a change of an object concerns: what it was and what it is. Both are there when it was changed.
    fn concerned(&self, kind: &Kind, before: Option<&Value>, after: Option<&Value>) -> Vec<Key>;

    /// Brings what a key stands for nearer to what it should be. A duration: look again then. An error: look again soon.
    async fn reconcile(&self, api: &Api, key: &Key) -> Result<Option<Duration>, Status>;
}

#[cfg(test)]
mod tests;
