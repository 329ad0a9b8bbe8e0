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

use super::intake::{Intake, Kind};

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
        let begin = || watcher::watcher(self.api.clone(), self.config.clone());
        let mut told = pin!(begin());
        let mut outage = Outage::default();
        while let Some(next) = told.next().await {
            let event = match next {
                Ok(event) => {
                    // the beginning of a list is no answer yet
                    if !matches!(event, watcher::Event::Init)
                        && outage.over(K::NAME)
                        && let Some(back) = self.intake.away(None)
                    {
                        self.events.send(back).await.ok();
                    }
                    self.intake.take(event)
                }
                Err(error) => {
                    let pause = if is_outdated(&error) {
                        tracing::debug!(
                            kind = K::NAME,
                            "the server has forgotten our version; listing anew"
                        );
                        told.set(begin());
                        self.retry.pause(1, chance())
                    } else {
                        let failures = outage.failed::<K>(&error);
                        let away =
                            (failures == TOLD).then(|| self.intake.away(Some(&one_line(&error))));
                        if let Some(away) = away.flatten() {
                            self.events.send(away).await.ok();
                        }
                        self.retry.pause(failures, chance())
                    };
                    outage.quiet_until = Some(Instant::now() + pause + HEALTHY);
                    if is_forbidden(&error)
                        && let Some(event) = self.intake.forbidden()
                    {
                        self.events.send(event).await.ok();
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
}

/// Failures since the last answer.
#[derive(Debug, Default)]
struct Outage {
    failures: u32,
    since: Option<Instant>,
    /// A failure after this is one of another outage: the watch went well, though nothing happened in it.
    quiet_until: Option<Instant>,
}

impl Outage {
    /// Counts a failure, and tells of it once, and again now and then.
    fn failed<K: Kind>(&mut self, error: &watcher::Error) -> u32 {
        let kind = K::NAME;
        if self.quiet_until.is_some_and(|until| Instant::now() > until) {
            *self = Self::default();
        }
        self.failures = self.failures.saturating_add(1);
        let away = self.since.get_or_insert_with(Instant::now).elapsed().as_secs();
        let reason = one_line(error);
        match self.failures {
            1 => tracing::debug!(kind, reason, "the API does not answer"),
            TOLD => {
                let stays = K::STAYS;
                tracing::warn!(kind, reason, "the API does not answer; what stays: {stays}");
            }
            more if more % 10 == 0 => {
                tracing::warn!(kind, reason, away_s = away, "the API still does not answer");
            }
            _ => tracing::debug!(kind, reason, away_s = away, "the API still does not answer"),
        }
        self.failures
    }

    /// It answers; whether it was told that it did not.
    fn over(&mut self, kind: &str) -> bool {
        let told = self.failures >= TOLD;
        if told {
            let away = self.since.map(|since| since.elapsed().as_secs());
            tracing::info!(kind, away_s = away, "the API answers again");
        }
        *self = Self::default();
        told
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
    fn chances_differ() {
        let drawn: std::collections::BTreeSet<_> = (0..50).map(|_| chance().to_bits()).collect();
        assert!(
            drawn.len() > 40
                && drawn.iter().all(|bits| (0.0..=1.0).contains(&f64::from_bits(*bits)))
        );
    }
}
