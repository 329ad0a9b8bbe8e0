//! The verbs over registry and store. Objects are JSON; the store holds them without their resourceVersion, which is the revision
//! at which their key was last written.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::auth::User;
use crate::meta::object::Meta;
use crate::registry::{Kind, Registry};
use crate::store::{Operation, Outcome, Record, Store};

pub mod create;
pub mod delete;
pub mod evict;
pub mod hub;
pub mod list;
pub mod namespace;
pub mod options;
pub mod owners;
pub mod patch;
pub mod status;
pub mod subresource;
pub mod token;
pub mod type_meta;
pub mod typed;
pub mod update;
pub mod warnings;
pub mod watch;

use status::Status;
use type_meta::of_place;
use update::Part;

/// How often a write is tried again when others write the same object at the same time.
const TRIES: usize = 64;

/// The server's verbs.
pub struct Api {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Which kinds there are.
    pub registry: Arc<Registry>,
    /// Who is told of changes.
    pub hub: hub::Hub,
    admission: Vec<Arc<dyn Admission>>,
    /// Who may read the first part of a list now.
    turns: Semaphore,
    /// And who a further one.
    later_turns: Semaphore,
}

/// What a request is about.
#[derive(Clone, Debug)]
pub struct Place {
    /// The kind.
    pub kind: Arc<Kind>,
    /// The namespace; empty: the cluster, or all namespaces.
    pub namespace: String,
    /// The name; empty: all objects.
    pub name: String,
}

impl Place {
    /// The key in the store.
    pub fn key(&self) -> String {
        self.kind.key(&self.namespace, &self.name)
    }

    /// There is no such object.
    pub fn not_found(&self) -> Status {
        Status::not_found(&self.kind, &self.name)
    }
}

/// A write as admission sees it: after defaults, before validation.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// What it is about.
    pub place: &'a Place,
    /// What it was before; `None` for a new object.
    pub old: Option<&'a Value>,
    /// What it is to become.
    pub object: &'a mut Value,
    /// Which part of it is written.
    pub part: Part,
    /// Who writes; `None`: the server itself.
    pub user: Option<&'a User>,
    /// Nothing is to be kept.
    pub dry_run: bool,
    /// What has to happen in the same transaction, such as the lease of an address.
    pub operations: Vec<Operation>,
}

/// An object that is about to go, or to be marked as going.
#[derive(Debug)]
pub struct Leaving<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// What it is.
    pub object: &'a Value,
    /// Who deletes it; `None`: the server itself.
    pub user: Option<&'a User>,
    /// It is asked for as an eviction.
    pub evicted: bool,
}

/// Looks at writes before they happen, changes or refuses them: allocation of addresses, quotas, restrictions of nodes.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Looks at one write. It is asked again when the transaction is refused because another one came first.
    async fn admit(&self, api: &Api, write: &mut Admitted<'_>) -> Result<(), Status>;

    /// Looks at one deletion; answers with what has to happen in the transaction in which the object goes.
    async fn part(&self, api: &Api, leaving: &Leaving<'_>) -> Result<Vec<Operation>, Status> {
        let _ = (api, leaving);
        Ok(Vec::new())
    }

    /// What became of a transaction with operations of its own.
    fn settled(&self, operations: &[Operation], outcome: &Outcome) {
        let _ = (operations, outcome);
    }
}

impl Api {
    /// The verbs over a store and kinds.
    pub fn new(store: Arc<dyn Store>, registry: Arc<Registry>) -> Self {
        let hub = hub::Hub::new(store.clone());
        let turns = Semaphore::new(list::TURNS);
        let later_turns = Semaphore::new(list::LATER_TURNS);
        Self { hub, store, registry, admission: Vec::new(), turns, later_turns }
    }

    /// Lets this look at every write, after those that were added before.
    #[must_use]
    pub fn with(mut self, admission: Arc<dyn Admission>) -> Self {
        self.admission.push(admission);
        self
    }

    /// One object.
    pub async fn get(&self, place: &Place) -> Result<Value, Status> {
        let record = self.record(place).await?;
        decode(&place.kind, &record)
    }

    async fn record(&self, place: &Place) -> Result<Record, Status> {
        self.store.get(&place.key()).await?.ok_or_else(|| place.not_found())
    }

    async fn admit(&self, write: &mut Admitted<'_>) -> Result<(), Status> {
        for one in &self.admission {
            one.admit(self, write).await?;
        }
        Ok(())
    }

    async fn part(&self, leaving: &Leaving<'_>) -> Result<Vec<Operation>, Status> {
        let mut operations = Vec::new();
        for one in &self.admission {
            operations.extend(one.part(self, leaving).await?);
        }
        Ok(operations)
    }

    async fn commit(&self, operations: Vec<Operation>) -> Result<Outcome, Status> {
        if operations.len() == 1 {
            return Ok(self.store.commit(operations).await?);
        }
        let outcome = self.store.commit(operations.clone()).await?;
        self.admission.iter().for_each(|one| one.settled(&operations, &outcome));
        Ok(outcome)
    }
}

/// The object of a record as this kind shows it, with its resourceVersion.
pub fn decode(kind: &Kind, record: &Record) -> Result<Value, Status> {
    let mut object: Value = serde_json::from_slice(&record.value).map_err(|error| {
        Status::internal(format!("what is stored at {} is no object: {error}", record.key))
    })?;
    kind.reading().show(&mut object);
    set_resource_version(&mut object, record.modified.0);
    Ok(object)
}

/// Notes the revision of an object in its metadata.
pub fn set_resource_version(object: &mut Value, revision: u64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), json!(revision.to_string()));
    }
}

/// What is stored of an object.
fn encode(kind: &Kind, object: &Value) -> bytes::Bytes {
    let mut stored = object.clone();
    kind.reading().keep(&mut stored);
    if let Some(metadata) = stored.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    // the windows of watchers hold it: without what the text had in reserve
    stored.to_string().into_bytes().into_boxed_slice().into()
}

/// The resourceVersion that an object carries; `None` for none and for 0. Another text than a number is a mistake of the caller.
fn carried_revision(object: &Value) -> Result<Option<u64>, Status> {
    match Meta::of(object).resource_version() {
        "" | "0" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            status::bad_option(
                "metadata.resourceVersion",
                text,
                "must be a number that the server gave",
            )
        }),
    }
}

/// Makes sure that a body is an object of the kind that its path says, and completes what the path knows.
pub fn adopt(place: &Place, object: &mut Value) -> Result<(), Status> {
    of_place(object, place)?;
    let meta = Meta::of(object);
    if place.kind.namespaced && !meta.namespace().is_empty() && meta.namespace() != place.namespace
    {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !place.name.is_empty() && !meta.name().is_empty() && meta.name() != place.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            meta.name(),
            place.name
        )));
    }
    let mut meta = crate::meta::object::MetaMut::of(object);
    meta.set("namespace", if place.kind.namespaced { place.namespace.as_str() } else { "" });
    if !place.name.is_empty() {
        meta.set("name", place.name.as_str());
    }
    Ok(())
}
