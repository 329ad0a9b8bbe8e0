//! Running controllers: a task for each kind that one follows, and one that looks at keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::follow::{Told, follow};
use super::queue::Queue;
use super::{Controller, Key};
use crate::api::{Api, Place};
use crate::registry::Kind;

/// How often the set of kinds is looked at: custom resources come and go.
const KINDS_EVERY: Duration = Duration::from_millis(500);
/// How long one key may take; after it the next one has its turn.
const LONGEST: Duration = Duration::from_mins(1);

/// Running controllers. Dropping them ends them.
#[derive(Debug)]
pub struct Controllers(Vec<JoinHandle<()>>);

impl Drop for Controllers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Starts controllers.
pub fn spawn(api: &Arc<Api>, controllers: Vec<Arc<dyn Controller>>) -> Controllers {
    let run = |controller| tokio::spawn(run_one(api.clone(), controller));
    Controllers(controllers.into_iter().map(run).collect())
}

/// Keys that wait, and who is told of a new one.
#[derive(Default)]
struct Work {
    queue: Mutex<Queue>,
    more: Notify,
}

impl Work {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, keys: Vec<Key>) {
        if !keys.is_empty() {
            let now = Instant::now();
            let mut queue = self.queue();
            for key in keys {
                queue.add(key, now);
            }
            drop(queue);
            self.more.notify_one();
        }
    }

    /// The next key whose time has come; waits for it.
    async fn next(&self) -> Key {
        loop {
            let taken = self.queue().take(Instant::now());
            match taken {
                Ok(key) => return key,
                Err(None) => self.more.notified().await,
                Err(Some(at)) => tokio::select! {
                    () = self.more.notified() => {}
                    () = tokio::time::sleep_until(at.into()) => {}
                },
            }
        }
    }
}

async fn run_one(api: Arc<Api>, controller: Arc<dyn Controller>) {
    let work = Arc::new(Work::default());
    tokio::join!(follow_kinds(&api, &controller, &work), look_at_keys(&api, &*controller, &work));
}

/// Keeps a follower for each kind that the controller follows, as kinds come and go.
async fn follow_kinds(api: &Arc<Api>, controller: &Arc<dyn Controller>, work: &Arc<Work>) {
    let mut followers: HashMap<String, (Arc<Kind>, tokio::task::AbortHandle)> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut seen = None;
    loop {
        let generation = api.registry.generation();
        if seen != Some(generation) {
            seen = Some(generation);
            let kinds: HashMap<String, Arc<Kind>> = api
                .registry
                .all()
                .into_iter()
                .filter(|kind| kind.allows("watch") && controller.follows(kind))
                .map(|kind| (kind.prefix(""), kind))
                .collect();
            followers.retain(|prefix, (kind, task)| {
                let stays = kinds.get(prefix).is_some_and(|same| Arc::ptr_eq(same, kind));
                if !stays {
                    task.abort();
                }
                stays
            });
            for (prefix, kind) in kinds {
                followers.entry(prefix).or_insert_with(|| {
                    let follower =
                        follow_kind(api.clone(), controller.clone(), work.clone(), kind.clone());
                    (kind, tasks.spawn(follower))
                });
            }
        }
        tokio::time::sleep(KINDS_EVERY).await;
        while tasks.try_join_next().is_some() {}
    }
}

async fn follow_kind(
    api: Arc<Api>,
    controller: Arc<dyn Controller>,
    work: Arc<Work>,
    kind: Arc<Kind>,
) {
    let place = Place { kind: kind.clone(), namespace: String::new(), name: String::new() };
    let tell = |told: Told<'_>| match told {
        Told::Is(object) => work.add(controller.concerned(&kind, None, Some(object))),
        Told::Changed(before, after) => work.add(controller.concerned(&kind, before, after)),
        Told::Begin | Told::Complete => {}
    };
    follow(&api, &place, tell).await;
}

async fn look_at_keys(api: &Api, controller: &dyn Controller, work: &Work) {
    loop {
        let key = work.next().await;
        let outcome = tokio::time::timeout(LONGEST, controller.reconcile(api, &key)).await;
        let now = Instant::now();
        let mut queue = work.queue();
        match outcome {
            Ok(Ok(again)) => {
                queue.succeeded(&key);
                if let Some(pause) = again {
                    queue.add(key, now + pause);
                }
            }
            Ok(Err(status)) => {
                let (named, why) = (key.to_string(), status.message().to_owned());
                let pause = queue.failed(key, now);
                tracing::debug!(
                    controller = controller.name(),
                    key = named,
                    why,
                    ?pause,
                    "looked at again later"
                );
            }
            Err(_) => {
                tracing::warn!(controller = controller.name(), %key, "took more than {LONGEST:?}, looked at again later");
                queue.failed(key, now);
            }
        }
    }
}
