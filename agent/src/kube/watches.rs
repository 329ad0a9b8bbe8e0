//! The watches of one connection, seen where requests pass: which of them began, and how soon they may begin again.
//!
//! The client library begins a watch that has ended at once, however short it was, and tells nobody: a server, or a proxy before it, that
//! ends each as soon as it has begun would be asked thousands of times in a second. And it tells of a watch only when something happens in
//! it, which in a quiet cluster takes hours.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::{Request, Response};
use tokio::sync::watch;
use tower::{Layer, Service};

use super::follow::{Retry, chance};

/// A watch that ended sooner is begun again after a pause.
const SHORT: Duration = Duration::from_secs(2);
/// So many of these in a row begin again at once: connections are cut now and then.
const AT_ONCE: u32 = 3;
/// Their pauses. Short ones may tell of changes all the same, so they are not made to wait for long.
const PAUSES: Retry = Retry { first: Duration::from_millis(200), most: Duration::from_secs(2) };

/// What is known of the watches of one path.
#[derive(Debug, Default)]
struct Known {
    began: Option<Instant>,
    short: u32,
}

/// All of them, by path. Clones are the same.
#[derive(Clone, Debug)]
pub struct Watches {
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    /// How many began.
    began: watch::Sender<BTreeMap<String, u64>>,
}

impl Default for Watches {
    fn default() -> Self {
        Self { known: Arc::default(), began: watch::Sender::new(BTreeMap::new()) }
    }
}

impl Watches {
    /// Tells when a watch of a path begins.
    pub fn listen(&self, path: &str) -> Begun {
        let told = self.began.subscribe();
        let seen = told.borrow().get(path).copied().unwrap_or_default();
        Begun { path: path.to_owned(), told, seen }
    }

    /// One is to begin: so long it has to wait.
    fn turn(&self, path: &str, now: Instant, chance: f64) -> Duration {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(path.to_owned()).or_default();
        if let Some(began) = known.began.take() {
            let short = now.saturating_duration_since(began) < SHORT;
            known.short = if short { known.short.saturating_add(1) } else { 0 };
        }
        match known.short.saturating_sub(AT_ONCE) {
            0 => Duration::ZERO,
            many => PAUSES.pause(many, chance),
        }
    }

    fn begin(&self, path: &str, now: Instant) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(path.to_owned()).or_default().began = Some(now);
        drop(all);
        self.began.send_modify(|counts| *counts.entry(path.to_owned()).or_default() += 1);
    }
}

/// Tells when a watch begins.
#[derive(Debug)]
pub struct Begun {
    path: String,
    told: watch::Receiver<BTreeMap<String, u64>>,
    seen: u64,
}

impl Begun {
    /// Waits for the next one. It can be dropped at any time.
    pub async fn next(&mut self) {
        let count = |counts: &BTreeMap<String, u64>| counts.get(&self.path).copied();
        let seen = self.seen;
        let now =
            self.told.wait_for(|counts| count(counts).is_some_and(|count| count > seen)).await;
        match now.map(|counts| count(&counts)) {
            Ok(now) => self.seen = now.unwrap_or(seen),
            // no connection, no watches
            Err(_) => std::future::pending().await,
        }
    }
}

impl<S> Layer<S> for Watches {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched { inner, watches: self.clone() }
    }
}

/// Requests on their way.
#[derive(Debug)]
pub struct Watched<S> {
    inner: S,
    watches: Watches,
}

impl<S, B, A> Service<Request<B>> for Watched<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = is_watch(&request).then(|| request.uri().path().to_owned());
        // nothing is sent before it is polled
        let answer = self.inner.call(request);
        let Some(path) = path else { return Box::pin(answer) };
        let watches = self.watches.clone();
        Box::pin(async move {
            let pause = watches.turn(&path, Instant::now(), chance());
            if !pause.is_zero() {
                tracing::debug!(path, ?pause, "watches end as soon as they have begun");
                tokio::time::sleep(pause).await;
            }
            let answer = answer.await?;
            if answer.status().is_success() {
                watches.begin(&path, Instant::now());
            }
            Ok(answer)
        })
    }
}

fn is_watch<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_watches_wait_longer_and_longer_and_long_ones_do_not() {
        let (watches, start) = (Watches::default(), Instant::now());
        let mut now = start;
        let mut after = |lasted: u64| {
            let pause = watches.turn("/nodes", now, 1.0);
            now += pause;
            watches.begin("/nodes", now);
            now += Duration::from_millis(lasted);
            pause.as_millis()
        };
        let pauses: Vec<_> = (0..10).map(|_| after(1)).collect();
        assert_eq!(pauses, [0, 0, 0, 0, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!((after(5000), after(1)), (2000, 0));
        // what could not begin is no watch that ended
        for _ in 0..10 {
            assert_eq!(watches.turn("/services", start, 1.0), Duration::ZERO);
        }
    }

    #[tokio::test]
    async fn who_listens_hears_of_its_own_path() {
        let watches = Watches::default();
        watches.begin("/a", Instant::now());
        let mut begun = watches.listen("/a");
        let within = Duration::from_millis(50);
        assert!(tokio::time::timeout(within, begun.next()).await.is_err(), "that was before");
        watches.begin("/b", Instant::now());
        assert!(tokio::time::timeout(within, begun.next()).await.is_err(), "another path");
        watches.begin("/a", Instant::now());
        tokio::time::timeout(Duration::from_secs(5), begun.next()).await.unwrap();
    }
}
