//! Services get cluster addresses and node ports, in the transaction in which they are written.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::allocate::{ADDRESSES, AllocateError, Dice, Ledger, PORTS, Ranges, plan, repair};
use crate::api::options::ListOptions;
use crate::api::status::Status;
use crate::api::{Admission, Admitted, Api, Leaving, Place};
use crate::controllers::place;
use crate::meta::object::Meta;
use crate::store::{Notice, Operation, Outcome, Range, Revision, Store, StoreError};

/// Gives out what a cluster's Services need.
pub struct Addresses {
    ranges: Ranges,
    ledger: Mutex<Ledger>,
    dice: Mutex<Dice>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_service(place: &Place) -> bool {
    place.kind.group.is_empty() && place.kind.plural == "services"
}

impl Addresses {
    /// From ranges that were checked. Nothing is known to be taken until [`Addresses::read`] has been called.
    pub fn new(ranges: Ranges) -> Self {
        let dice = Dice::new(rand::random());
        Self { ranges, ledger: Mutex::default(), dice: Mutex::new(dice) }
    }

    /// Reads what is taken; answers with the revision from which on [`Addresses::follow`] is to be told.
    pub async fn read(&self, store: &dyn Store) -> Result<Revision, StoreError> {
        let mut since: Option<Revision> = None;
        for prefix in [ADDRESSES, PORTS] {
            let page = store.list(Range { prefix: prefix.to_owned(), ..Range::default() }).await?;
            let mut ledger = lock(&self.ledger);
            page.records.iter().for_each(|record| ledger.observe(&record.key, Some(record)));
            since = Some(since.map_or(page.revision, |first| first.min(page.revision)));
        }
        Ok(since.unwrap_or_default())
    }

    /// Sets right what a crash of an older program, or a hand, left behind: addresses of Services that nobody noted, and notes of
    /// Services that are gone.
    pub async fn repair(&self, api: &Api) -> Result<(), Status> {
        let services = api
            .list(&place(api, ("", "v1", "services"), "", "")?, &ListOptions::default())
            .await?
            .objects;
        let repair = repair::plan(&self.ranges, &lock(&self.ledger), &services, Timestamp::now());
        for trouble in repair.troubles {
            tracing::warn!(
                service = trouble.service,
                reason = trouble.reason,
                "{}",
                trouble.message
            );
        }
        for operation in repair.operations {
            let operations = vec![operation];
            let outcome = api.store.commit(operations.clone()).await?;
            self.settled(&operations, &outcome);
        }
        Ok(())
    }

    /// Learns what other servers of the same store give out, for ever.
    pub async fn follow(&self, store: &dyn Store, mut since: Revision) {
        loop {
            tokio::select! {
                () = self.follow_prefix(store, ADDRESSES, since) => {}
                () = self.follow_prefix(store, PORTS, since) => {}
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            match self.read(store).await {
                Ok(revision) => since = revision,
                Err(error) => {
                    tracing::warn!(%error, "what is given out cannot be read, tried again");
                }
            }
        }
    }

    async fn follow_prefix(&self, store: &dyn Store, prefix: &str, since: Revision) {
        let Ok(mut changes) = store.watch(prefix, since).await else { return };
        while let Some(Ok(notice)) = changes.recv().await {
            if let Notice::Changes(events) = notice {
                let mut ledger = lock(&self.ledger);
                for event in events {
                    ledger.changed(&event.key, event.after.as_deref(), event.revision);
                }
            }
        }
    }

    fn plan(&self, service: &Value, old: Option<&Value>) -> Result<plan::Plan, AllocateError> {
        let (ledger, mut dice) = (lock(&self.ledger), lock(&self.dice));
        match old {
            None => plan::create(&self.ranges, &ledger, service, &mut dice, Timestamp::now()),
            Some(old) => {
                plan::update(&self.ranges, &ledger, service, old, &mut dice, Timestamp::now())
            }
        }
    }
}

#[async_trait]
impl Admission for Addresses {
    async fn admit(&self, _: &Api, write: &mut Admitted<'_>) -> Result<(), Status> {
        if !is_service(write.place) {
            return Ok(());
        }
        match self.plan(write.object, write.old) {
            Ok(plan) => {
                *write.object = plan.service;
                write.operations.extend(plan.operations);
                Ok(())
            }
            Err(AllocateError::Invalid(errors)) => {
                Err(Status::invalid(&write.place.kind, Meta::of(write.object).name(), &errors))
            }
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    async fn part(&self, _: &Api, leaving: &Leaving<'_>) -> Result<Vec<Operation>, Status> {
        let ours = is_service(leaving.place);
        Ok(if ours { plan::delete(&lock(&self.ledger), leaving.object) } else { Vec::new() })
    }

    fn settled(&self, operations: &[Operation], outcome: &Outcome) {
        let mut ledger = lock(&self.ledger);
        match outcome {
            Outcome::Committed(revision) => ledger.committed(operations, *revision),
            Outcome::Refused(index, record) => {
                let key = operations
                    .get(*index)
                    .map(|operation| operation.key.as_str())
                    .unwrap_or_default();
                if key.starts_with(ADDRESSES) || key.starts_with(PORTS) {
                    ledger.observe(key, record.as_ref());
                }
            }
        }
    }
}
