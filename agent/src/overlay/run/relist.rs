//! When the source is asked to tell all nodes again, as something that it told was lost.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The least time between two such questions: what fails on every list must not have all nodes listed again and again.
pub const PAUSE: Duration = Duration::from_secs(30);

/// The question.
#[derive(Debug)]
pub struct Relist {
    source: mpsc::Sender<()>,
    due: Option<Instant>,
    asked: Option<Instant>,
}

impl Relist {
    /// Nothing was lost yet.
    pub fn new(source: mpsc::Sender<()>) -> Self {
        Self { source, due: None, asked: None }
    }

    /// Something was: the source is to be asked, at once unless that was done a short while ago.
    pub fn lost(&mut self, now: Instant) {
        let at = self.asked.map_or(now, |asked| now.max(asked + PAUSE));
        self.due.get_or_insert(at);
    }

    /// Asks when it is time to. It never ends if nothing was lost, and can be dropped at any time.
    pub async fn ask(&mut self) {
        let Some(due) = self.due else { return std::future::pending().await };
        sleep_until(due).await;
        (self.due, self.asked) = (None, Some(Instant::now()));
        tracing::info!("asking for all nodes again");
        // a question that waits is as good
        self.source.try_send(()).ok();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_source_is_asked_at_once_and_then_at_intervals() {
        let (sender, mut asked) = mpsc::channel(1);
        let mut relist = Relist::new(sender);
        timeout(PAUSE * 2, relist.ask()).await.unwrap_err();
        let start = Instant::now();
        relist.lost(start);
        relist.ask().await;
        assert_eq!((asked.try_recv(), start.elapsed()), (Ok(()), Duration::ZERO));
        // what is lost meanwhile is asked for once
        relist.lost(Instant::now());
        timeout(PAUSE / 2, relist.ask()).await.unwrap_err();
        relist.lost(Instant::now());
        relist.ask().await;
        assert_eq!((asked.try_recv(), start.elapsed()), (Ok(()), PAUSE));
        timeout(PAUSE * 2, relist.ask()).await.unwrap_err();
        // long after the last time
        let now = Instant::now();
        relist.lost(now);
        relist.ask().await;
        assert_eq!((asked.try_recv(), now.elapsed()), (Ok(()), Duration::ZERO));
    }
}
