//! All objects of a running server as one file, for whoever may have all of them.
//!
//! etcd answers its `Snapshot` (of the maintenance service) in the same way: one read transaction of the file that it keeps, sent in
//! pieces, with a checksum at the end. Here it is a `POST` to a path that belongs to no resource: who may is up to RBAC, and of the
//! default roles only `cluster-admin` may. It is no `GET`, because a role that may read every such path should not get all secrets
//! along with them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response};
use tokio::sync::mpsc;

use super::Server;
use super::answer::Answer;
use super::metrics::About;
use crate::api::status::Status;
use crate::store::snapshot::Pieces;
use crate::store::{Store, StoreError};

/// Where it is asked for.
pub const PATH: &str = "/heddle/v1/snapshot";
/// What it is sent as.
pub const MEDIA_TYPE: &str = "application/vnd.heddle.snapshot";
/// How long a client may take for a piece. What it reads stays in the file as long as it reads.
const PATIENCE: Duration = Duration::from_mins(1);

/// A piece, and whether it is the last one.
type Piece = Result<(Bytes, bool), StoreError>;

impl Server {
    /// Answers with all objects as they are now. One snapshot is taken at a time.
    pub async fn snapshot(&self) -> Result<Answer, Status> {
        let Ok(turn) = self.snapshots.clone().try_acquire_owned() else {
            let why = "another snapshot is being taken, please try again when it is done";
            return Err(Status::too_many_requests(why, 10));
        };
        let held = (turn, self.metrics.watch(&About::other(&Method::POST)));
        let (sender, mut receiver) = mpsc::channel(1);
        let store = self.api.store.clone();
        tokio::spawn(async move {
            send(&*store, &sender).await;
            drop(held);
        });
        // what fails at once is told in words
        let first = receiver.recv().await;
        let first = first.ok_or_else(|| Status::internal("the store cannot be read"))??;
        let mut answer = Response::new(body(first, receiver));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }
}

/// Reads a store to its end, or until nobody takes what is read.
async fn send(store: &dyn Store, sender: &mpsc::Sender<Piece>) {
    let read = async {
        let mut pieces = Pieces::of(store).await?;
        while let Some(bytes) = pieces.next().await? {
            let sending = sender.send(Ok((bytes, pieces.ended())));
            match tokio::time::timeout(PATIENCE, sending).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => {
                    tracing::warn!("a snapshot is broken off: its client reads too slowly");
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    if let Err(error) = read.await {
        tracing::error!(%error, "a snapshot is broken off");
        // nobody may be there to be told
        let _ = sender.try_send(Err(error));
    }
}

/// The pieces as they come. Without the last one the body ends with an error, and with it the connection.
fn body(first: (Bytes, bool), receiver: mpsc::Receiver<Piece>) -> super::answer::Body {
    let frames = stream::unfold(Some((Some(first), receiver)), |state| async {
        let (waiting, mut receiver) = state?;
        let next = match waiting {
            Some(first) => Ok(first),
            None => match receiver.recv().await {
                Some(Ok(piece)) => Ok(piece),
                Some(Err(error)) => Err(io::Error::other(error)),
                None => Err(io::Error::other("the snapshot was broken off")),
            },
        };
        Some(match next {
            Ok((bytes, last)) => (Ok(Frame::data(bytes)), (!last).then_some((None, receiver))),
            Err(error) => (Err(error), None),
        })
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Whether a request asks for one.
pub fn asked(method: &Method, path: &str) -> bool {
    *method == Method::POST && path == PATH
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{Condition, Operation, Write};

    async fn filled() -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::default());
        for index in 0..4 {
            let key = format!("/registry/configmaps/default/{index}");
            let write = Write::Put(vec![b'x'; 1 << 20].into());
            let operation = Operation { key, condition: Condition::Absent, write };
            store.commit(vec![operation]).await.expect("written");
        }
        store
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_holds_nothing_for_ever() {
        let store = filled().await;
        let (sender, mut receiver) = mpsc::channel(1);
        let begun = tokio::time::Instant::now();
        send(&*store, &sender).await;
        assert_eq!(begun.elapsed(), PATIENCE);
        drop(sender);
        let first = receiver.recv().await.expect("a piece").expect("no error");
        assert!(!first.1, "it is not the last one");
        let sent = body(first, receiver).collect().await;
        assert!(sent.is_err(), "and what there is of it does not pass for the whole");
    }
}
