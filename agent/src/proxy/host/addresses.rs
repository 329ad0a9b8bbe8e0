//! The addresses of this host, kept up to date: node ports answer at those that the configuration selects.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netns_tools::address::AddressMonitor;
use netns_tools::cause::one_line;
use netns_tools::netlink::{Netlink, NetlinkError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// A link that comes up gets several addresses, and a pod that starts brings a link: one list answers them all.
const PAUSE: Duration = Duration::from_millis(20);
/// After a list that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Addresses that could not be watched.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The kernel's notifications cannot be had.
    #[error("changes of this host's addresses cannot be watched")]
    Watch(#[source] io::Error),
    /// They cannot be listed.
    #[error("this host's addresses cannot be listed")]
    List(#[source] NetlinkError),
}

/// All addresses of all links, in order, each once. Those of `lo` are among them, as in kube-proxy: `nodePortAddresses` may select
/// them. One that another host was found to have is not.
pub fn addresses(netlink: &mut Netlink) -> Result<Vec<IpAddr>, AddressError> {
    let listed = netlink.addresses(None).map_err(AddressError::List)?;
    let usable = listed.iter().filter(|address| !address.is_duplicate());
    let mut all: Vec<_> = usable.map(|address| address.net.ip()).collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Watches the addresses of the calling thread's network namespace. The receiver has them from the start, and learns of a change only
/// if they are others than before. Needs a tokio runtime; ends when every receiver is gone.
pub fn watch_addresses() -> Result<watch::Receiver<Vec<IpAddr>>, AddressError> {
    // listening comes first, so that nothing falls in between
    let monitor = AddressMonitor::open().and_then(register).map_err(AddressError::Watch)?;
    let mut netlink = Netlink::open().map_err(AddressError::List)?;
    let (sender, receiver) = watch::channel(addresses(&mut netlink)?);
    tokio::spawn(async move {
        tokio::select! {
            outcome = follow(monitor, netlink, &sender) => if let Err(error) = outcome {
                tracing::warn!(%error, "changes of this host's addresses are not noticed any more");
            },
            () = sender.closed() => {}
        }
    });
    Ok(receiver)
}

fn register(monitor: AddressMonitor) -> io::Result<AsyncFd<AddressMonitor>> {
    // SAFETY: the monitor owns its socket and keeps it for as long as it lives, which is as long as the `AsyncFd` that takes it.
    unsafe { Ok(AsyncFd::register_with_interest(monitor, Interest::READABLE)?) }
}

async fn follow(
    mut monitor: AsyncFd<AddressMonitor>,
    mut netlink: Netlink,
    sender: &watch::Sender<Vec<IpAddr>>,
) -> io::Result<()> {
    loop {
        monitor.readable_mut().await?.retain_ready();
        tokio::time::sleep(PAUSE).await;
        let mut ready = monitor.readable_mut().await?;
        let changed = ready.get_inner_mut().drain()?;
        ready.clear_ready();
        if changed {
            list(&mut netlink, sender).await;
        }
    }
}

/// Lists them until that succeeds.
async fn list(netlink: &mut Netlink, sender: &watch::Sender<Vec<IpAddr>>) {
    loop {
        match addresses(netlink) {
            Ok(now) => {
                sender.send_if_modified(|known| {
                    let differs = *known != now;
                    *known = now;
                    differs
                });
                return;
            }
            Err(error) => tracing::warn!(error = one_line(&error), "trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
