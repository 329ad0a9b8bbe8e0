//! The loop over one kind of objects.

use std::fmt::Debug;
use std::pin::pin;
use std::time::{Duration, Instant};

use kube::Api;
use kube::runtime::watcher;
use netns_tools::cause::one_line;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::client::Connection;
use super::intake::{Intake, Kind};
use super::outage::{Failure, is_refusal, reason};

/// A watch that lasted so long beyond the pause before it was a good one.
const HEALTHY: Duration = Duration::from_secs(10);

/// So many failures in a row are told: a watch that ends early is tried again at once, and that nearly always works.
const TOLD: u32 = 2;

/// Between tries of an API that does not answer.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), most: Duration::from_secs(30) }
    }
}

impl Retry {
    /// The pause after so many failures in a row, from 1: it doubles, and half of it is up to `chance` (0 to 1), so that the nodes
    /// of a cluster do not come back all at once.
    pub fn pause(self, failures: u32, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << (failures - 1).min(20));
        doubled.min(self.most).mul_f64(0.5 + chance / 2.0)
    }
}

/// One kind of objects of one server.
pub struct Follower<K: Kind> {
    /// The server.
    pub connection: Connection,
    /// The kind there.
    pub api: Api<K::Object>,
    /// What of them, in pages of which size, for how long.
    pub config: watcher::Config,
    /// What is known of them.
    pub intake: Intake<K>,
    /// Who is told.
    pub events: mpsc::Sender<K::Event>,
    /// The pauses while it does not answer.
    pub retry: Retry,
}

impl<K> Follower<K>
where
    K: Kind + Send,
    K::Item: Send,
    K::Object: Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Follows the kind until nobody listens any more.
    pub async fn run(mut self) {
        let (api, config) = (self.api.clone(), self.config.clone());
        let start = || watcher::watcher(api.clone(), config.clone());
        let mut told = pin!(start());
        let mut begun = self.connection.watches.listen(self.api.resource_url());
        let mut streak = Streak::default();
        loop {
            let next = tokio::select! {
                next = told.next() => next,
                // in a quiet cluster nothing else may tell for hours that the server is back
                () = begun.next() => {
                    self.answered(&mut streak).await;
                    continue;
                }
            };
            let event = match next {
                None => return,
                Some(Ok(event)) => {
                    // the beginning of a list is no answer yet
                    if !matches!(event, watcher::Event::Init) {
                        self.answered(&mut streak).await;
                    }
                    self.intake.take(event)
                }
                Some(Err(error)) => {
                    let outdated = is_outdated(&error);
                    let pause = self.failed(&mut streak, &error).await;
                    if outdated {
                        told.set(start());
                    }
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.events.closed() => return,
                    }
                    None
                }
            };
            if let Some(event) = event
                && self.events.send(event).await.is_err()
            {
                return;
            }
        }
    }

    /// The server answers.
    async fn answered(&mut self, streak: &mut Streak) {
        streak.failures = 0;
        if self.connection.outages.over(K::NAME, Instant::now())
            && let Some(back) = self.intake.away(None)
        {
            self.events.send(back).await.ok();
        }
    }

    /// It does not; the pause before it is asked again.
    async fn failed(&mut self, streak: &mut Streak, error: &watcher::Error) -> Duration {
        let now = Instant::now();
        let outdated = is_outdated(error);
        let many = streak.count(outdated, now);
        let pause = self.retry.pause(many, chance());
        streak.quiet_until = Some(now + pause + HEALTHY);
        let reason = cause(error).map_or_else(|| one_line(error), reason);
        if outdated {
            tracing::debug!(kind = K::NAME, "the server has forgotten our version; listing anew");
        } else if many < TOLD {
            tracing::debug!(kind = K::NAME, reason, "the API does not answer");
        } else {
            let was_away = self.connection.outages.is_away(K::NAME);
            let refused = cause(error).is_some_and(is_refusal);
            let failure = Failure { who: K::NAME, stays: K::STAYS, reason: &reason, refused };
            self.connection.outages.failed(failure, now);
            if !was_away && let Some(away) = self.intake.away(Some(&reason)) {
                self.events.send(away).await.ok();
            }
        }
        if is_forbidden(error)
            && let Some(event) = self.intake.forbidden()
        {
            self.events.send(event).await.ok();
        }
        pause
    }
}

/// What goes wrong again and again.
#[derive(Debug, Default)]
struct Streak {
    /// Failures since the last answer.
    failures: u32,
    /// Lists that were outdated as soon as they were there: a list of everything is too much to be asked for all the time.
    outdated: u32,
    /// What fails after this does so for the first time: the watch went well, though nothing happened in it.
    quiet_until: Option<Instant>,
}

impl Streak {
    /// One more; how many of its kind in a row.
    fn count(&mut self, outdated: bool, now: Instant) -> u32 {
        if self.quiet_until.is_some_and(|until| now > until) {
            *self = Self::default();
        }
        let count = if outdated { &mut self.outdated } else { &mut self.failures };
        *count = count.saturating_add(1);
        *count
    }
}

/// What the client says, if it is the client that says it.
fn cause(error: &watcher::Error) -> Option<&kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Some(error),
        _ => None,
    }
}

/// Whether the server no longer knows the version that we watch from: 410 Gone as an event, or as the answer, after which the
/// watcher would ask for the same version for ever.
fn is_outdated(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 403,
        _ => false,
    }
}

/// A number from 0 to 1 that differs between hosts and moments; nothing secret hangs on it.
pub fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let drawn = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(drawn >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

impl<K: Kind> std::fmt::Debug for Follower<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("kind", &K::NAME).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_vary_by_half() {
        let retry = Retry { first: Duration::from_millis(200), most: Duration::from_secs(30) };
        let table = [
            (1, 1.0, 200),
            (1, 0.0, 100),
            (2, 1.0, 400),
            (4, 0.5, 1200),
            (9, 1.0, 30_000),
            (4_000_000_000, 0.0, 15_000),
        ];
        for (failures, chance, millis) in table {
            assert_eq!(retry.pause(failures, chance), Duration::from_millis(millis), "{failures}");
        }
    }

    #[test]
    fn lists_that_are_outdated_at_once_are_made_at_growing_intervals() {
        let (retry, mut streak) = (Retry::default(), Streak::default());
        let mut now = Instant::now();
        let mut next = |after: Duration| {
            now += after;
            let pause = retry.pause(streak.count(true, now), 1.0);
            streak.quiet_until = Some(now + pause + HEALTHY);
            // the list in between was an answer
            streak.failures = 0;
            pause
        };
        let mut pause = Duration::ZERO;
        for _ in 0..10 {
            pause = next(pause);
        }
        assert_eq!(pause, retry.most);
        assert_eq!(next(pause + HEALTHY * 2), retry.first, "a good watch was between");
    }

    #[test]
    fn chances_differ() {
        let drawn: std::collections::BTreeSet<_> = (0..50).map(|_| chance().to_bits()).collect();
        assert!(
            drawn.len() > 40
                && drawn.iter().all(|bits| (0.0..=1.0).contains(&f64::from_bits(*bits)))
        );
    }
}
