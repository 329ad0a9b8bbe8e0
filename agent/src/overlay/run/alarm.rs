//! The kernel's notifications: somebody changed links, addresses, routes or their entries, forwarding, or packet filters.
//!
//! What this controller writes itself is mostly not told (the kernel says whose socket asked); where it is, one comparison more finds
//! that all is well, and the matter ends there.

use std::io;

use netns_tools::monitor::{Filter, Kinds, Monitor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::pace::Compare;
use crate::proxy::run::Alarm as RuleAlarm;

/// What is listened for. Forwarding entries and neighbours only of the overlay's own devices: pods have many.
const KINDS: Kinds = Kinds {
    links: true,
    addresses: true,
    routes: true,
    neighbours: true,
    fdb: true,
    nexthops: false,
    parameters: true,
};

/// Rings when something changed that may be the overlay's.
#[derive(Debug)]
pub struct Alarm {
    rings: mpsc::Receiver<Compare>,
    links: watch::Sender<Vec<u32>>,
}

impl Alarm {
    /// Listens in the calling thread's network namespace. `own`: the socket whose changes are not told. Needs a tokio runtime.
    pub fn open(own: u32) -> io::Result<Self> {
        let (sender, rings) = mpsc::channel(1);
        let (links, ours) = watch::channel(Vec::new());
        let monitor = Monitor::open(KINDS, &filter(own, &[]))?;
        // SAFETY: the monitor owns its socket and keeps it for as long as it lives, which is as long as the `AsyncFd` that takes it.
        let monitor = unsafe { AsyncFd::register_with_interest(monitor, Interest::READABLE) };
        let monitor = monitor.map_err(|error| error.into_parts().1)?;
        let rules = RuleAlarm::open();
        let ringing = sender.clone();
        tokio::spawn(async move {
            if let Err(error) = listen(monitor, own, ours, &ringing).await {
                tracing::warn!(%error, "changes that others make to links and routes are noticed late");
            }
        });
        match rules {
            Ok(rules) => drop(tokio::spawn(listen_to_rules(rules, sender))),
            // iptables' own rules tell nothing either: all of them are looked at once a minute
            Err(error) => {
                tracing::info!(%error, "changes that others make to packet filters are noticed late");
            }
        }
        Ok(Self { rings, links })
    }

    /// One that rings by hand.
    #[cfg(test)]
    pub(super) fn by_hand() -> (Self, mpsc::Sender<Compare>) {
        let (sender, rings) = mpsc::channel(1);
        (Self { rings, links: watch::channel(Vec::new()).0 }, sender)
    }

    /// Waits until something changed: what is to be looked at. `None`: it cannot be told any more.
    pub(super) async fn rang(&mut self) -> Option<Compare> {
        self.rings.recv().await
    }

    /// Listens to entries of these links, by index.
    pub(super) fn watch_links(&self, links: Vec<u32>) {
        self.links.send_if_modified(|known| {
            let differs = *known != links;
            *known = links;
            differs
        });
    }
}

fn filter(own: u32, links: &[u32]) -> Filter {
    Filter { ignored_ports: vec![own], neighbour_links: Some(links.to_vec()) }
}

async fn listen(
    mut monitor: AsyncFd<Monitor>,
    own: u32,
    mut links: watch::Receiver<Vec<u32>>,
    rings: &mpsc::Sender<Compare>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            changed = links.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let links = links.borrow_and_update().clone();
                monitor.get_mut().set_filter(&filter(own, &links))?;
            }
            ready = monitor.readable_mut() => {
                let mut ready = ready?;
                let changed = ready.get_inner_mut().drain()?;
                ready.clear_ready();
                if changed.any() && rings.send(Compare::Look).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

async fn listen_to_rules(mut rules: RuleAlarm, rings: mpsc::Sender<Compare>) {
    rules.listen(true);
    while rules.rang().await.is_some() {
        if rings.send(Compare::Rules).await.is_err() {
            return;
        }
    }
}
