//! The one who writes: a thread that takes what was asked for meanwhile, makes it durable with one wait for the disk, and answers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::batch::{Batch, Changes};
use super::retention::{Ages, Retention};
use super::table::{Meta, Tables};
use crate::store::{Operation, Outcome, Revision, StoreError};

/// A batch is closed at so many transactions or bytes.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 8 << 20;
/// The longest wait for those who took part in the batch before.
const PATIENCE: Duration = Duration::from_micros(300);

pub type Answer<T> = oneshot::Sender<Result<T, StoreError>>;
/// What a caller asks for.
pub enum Request {
    /// A transaction.
    Commit {
        /// What it asks for.
        operations: Vec<Operation>,
        /// Who waits.
        answer: Answer<Outcome>,
        /// Its place in the queue, free when it is answered.
        _place: OwnedSemaphorePermit,
    },
    /// To forget what came before a revision.
    Compact(Revision, Answer<()>),
}

/// What the writer works with.
pub struct Writer {
    pub database: Arc<Database>,
    pub requests: Receiver<Request>,
    pub teller: SyncSender<Changes>,
    pub retention: Retention,
}

impl Writer {
    /// Writes until nobody can ask any more.
    pub fn run(self) {
        let mut rhythm = Rhythm::default();
        let mut house = House::default();
        loop {
            let wait = if house.is_dusty() { Duration::ZERO } else { self.retention.interval() };
            match self.requests.recv_timeout(wait) {
                Ok(first) => {
                    let batch = self.gather(first, &rhythm);
                    rhythm.size = batch.len();
                    let started = Instant::now();
                    house.meta = self.carry_out(batch).or(house.meta);
                    rhythm.took = started.elapsed();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.keep(&mut house);
        }
    }

    /// What waits already, and what those of the batch before ask for next: they were answered a moment ago, and whoever comes just
    /// too late waits for the disk twice.
    fn gather(&self, first: Request, rhythm: &Rhythm) -> Vec<Request> {
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        let deadline = Instant::now() + PATIENCE.min(rhythm.took / 4);
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let next = self.requests.try_recv().ok().or_else(|| {
                let left = deadline.saturating_duration_since(Instant::now());
                let expected = batch.len() < rhythm.size && !left.is_zero();
                expected.then(|| self.requests.recv_timeout(left).ok()).flatten()
            });
            let Some(next) = next else { break };
            bytes += next.bytes();
            batch.push(next);
        }
        batch
    }

    fn carry_out(&self, batch: Vec<Request>) -> Option<Meta> {
        let mut answers = Vec::with_capacity(batch.len());
        let done = self.transact(|tables| {
            for request in &batch {
                answers.push(request.carry_out(tables)?);
            }
            Ok(())
        });
        match done {
            Ok((meta, changes)) => {
                for (request, answer) in batch.into_iter().zip(answers) {
                    request.answer(answer);
                }
                self.tell(changes);
                Some(meta)
            }
            Err(error) => {
                tracing::error!(%error, "the store could not write");
                for request in batch {
                    request.fail(&error);
                }
                None
            }
        }
    }

    /// One transaction of redb; durable when it returns.
    fn transact(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), StoreError>,
    ) -> Result<(Meta, Changes), StoreError> {
        let transaction = self.database.begin_write()?;
        let mut batch = Batch::open(Tables::open(&transaction)?)?;
        work(&mut batch)?;
        let (meta, dirty, changes) = batch.finish()?;
        if dirty {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok((meta, changes))
    }

    fn tell(&self, changes: Changes) {
        if !changes.is_empty() {
            // The teller ends only after the writer.
            let _ = self.teller.send(changes);
        }
    }

    /// Between batches: forgets what is old, a part at a time.
    fn keep(&self, house: &mut House) {
        let Some(meta) = house.meta.take().or_else(|| self.housework(|_| Ok(()))) else { return };
        let now = Instant::now();
        if house.looked.is_none_or(|looked| now.duration_since(looked) >= self.retention.interval())
        {
            house.looked = Some(now);
            house.ages.note(now, meta.revision);
        }
        let due = house.ages.due(&self.retention, now, meta.revision, meta.compacted);
        house.meta = if due.is_some() || meta.swept < meta.compacted {
            self.housework(|batch| {
                due.map_or(Ok(()), |due| batch.compact(Revision(due)))?;
                batch.sweep()
            })
        } else {
            Some(meta)
        };
    }

    fn housework(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), StoreError>,
    ) -> Option<Meta> {
        let done = self.transact(work);
        let report =
            |error: &StoreError| tracing::warn!(%error, "the store could not forget old history");
        done.inspect_err(report).ok().map(|(meta, _)| meta)
    }
}

/// How the batches went lately.
#[derive(Debug, Default)]
struct Rhythm {
    size: usize,
    took: Duration,
}

/// What is known of the history.
#[derive(Default)]
struct House {
    ages: Ages,
    looked: Option<Instant>,
    meta: Option<Meta>,
}

impl House {
    fn is_dusty(&self) -> bool {
        self.meta.is_some_and(|meta| meta.swept < meta.compacted)
    }
}

/// What a request led to, before anybody may know.
enum Judged {
    Commit(Outcome),
    Compact(Result<(), StoreError>),
}

impl Request {
    fn bytes(&self) -> usize {
        let size = |operation: &Operation| match &operation.write {
            crate::store::Write::Put(value) => operation.key.len() + value.len(),
            _ => operation.key.len(),
        };
        match self {
            Self::Commit { operations, .. } => operations.iter().map(size).sum(),
            Self::Compact(..) => 0,
        }
    }

    fn carry_out(&self, batch: &mut Batch<'_>) -> Result<Judged, StoreError> {
        Ok(match self {
            Self::Commit { operations, .. } => Judged::Commit(batch.commit(operations)?),
            Self::Compact(before, _) => Judged::Compact(batch.compact(*before)),
        })
    }

    // Who asked may have gone away: then nobody is answered.
    fn answer(self, judged: Judged) {
        match (self, judged) {
            (Self::Commit { answer, .. }, Judged::Commit(outcome)) => {
                let _ = answer.send(Ok(outcome));
            }
            (Self::Compact(_, answer), Judged::Compact(done)) => {
                let _ = answer.send(done);
            }
            _ => unreachable!("a request is judged as what it is"),
        }
    }

    fn fail(self, error: &StoreError) {
        let error = StoreError::Unavailable { reason: error.to_string() };
        match self {
            Self::Commit { answer, .. } => drop(answer.send(Err(error))),
            Self::Compact(_, answer) => drop(answer.send(Err(error))),
        }
    }
}
