//! Notifications of nf_tables: somebody changed rules. They tell of iptables too where it is iptables-nft.

use std::io;
use std::sync::Arc;

use netns_tools::netns::NetNs;
use netns_tools::nftables::Monitor;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};

use super::worker::THREAD_NAME;

/// Rings when somebody changed rules.
///
/// While much is written the socket leaves the group: with a listener the kernel writes a message for each rule of a transaction,
/// which costs more than the transaction. When it is back it rings once, so that nothing is missed in between.
#[derive(Debug)]
pub struct Alarm {
    rang: Arc<Notify>,
    listen: watch::Sender<bool>,
    alive: watch::Receiver<()>,
}

impl Alarm {
    /// Listens in the calling thread's network namespace. Needs a tokio runtime.
    pub fn open() -> io::Result<Self> {
        Self::with(Monitor::open()?)
    }

    /// Listens in `ns`.
    pub fn open_in(ns: &NetNs) -> io::Result<Self> {
        Self::with(Monitor::open_in(ns)?)
    }

    fn with(monitor: Monitor) -> io::Result<Self> {
        // SAFETY: the monitor's socket stays open, and stays the same, as long as the monitor lives.
        let monitor = unsafe { AsyncFd::register_with_interest(monitor, Interest::READABLE) };
        let monitor = monitor.map_err(|error| error.into_parts().1)?;
        let (alarm, rang, listen, alive) = Self::unconnected();
        tokio::spawn(async move {
            let _alive = alive;
            if let Err(error) = watch_rules(monitor, &rang, listen).await {
                tracing::warn!(%error, "changes that others make to rules are noticed late");
            }
        });
        Ok(alarm)
    }

    pub(super) fn unconnected() -> (Self, Arc<Notify>, watch::Receiver<bool>, watch::Sender<()>) {
        let rang = Arc::new(Notify::new());
        let ((listen, is_listening), (alive, is_alive)) =
            (watch::channel(false), watch::channel(()));
        let alarm = Self { rang: rang.clone(), listen, alive: is_alive };
        (alarm, rang, is_listening, alive)
    }

    /// Waits until somebody changed rules, while it listens. `None`: it cannot be told any more.
    pub(crate) async fn rang(&mut self) -> Option<()> {
        tokio::select! {
            () = self.rang.notified() => Some(()),
            _ = self.alive.changed() => None,
        }
    }

    /// Whether it listens; it does not at first.
    pub(crate) fn listen(&self, wanted: bool) {
        self.listen.send_if_modified(|listening| std::mem::replace(listening, wanted) != wanted);
    }
}

async fn watch_rules(
    mut monitor: AsyncFd<Monitor>,
    rang: &Notify,
    mut listen: watch::Receiver<bool>,
) -> io::Result<()> {
    loop {
        let wanted = *listen.borrow_and_update();
        let monitor_now = monitor.get_mut();
        if wanted != monitor_now.is_listening() {
            monitor_now.listen(wanted)?;
            if wanted {
                rang.notify_one();
            }
        }
        tokio::select! {
            changed = listen.changed() => if changed.is_err() { return Ok(()) },
            ready = monitor.readable_mut() => {
                let mut ready = ready?;
                if ready.get_inner_mut().drain(&[THREAD_NAME])? {
                    rang.notify_one();
                }
                ready.clear_ready();
            }
        }
    }
}
