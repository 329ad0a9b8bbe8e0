//! What routers say of this host's packets that were too large for them. It is a hint where to look: anybody can say it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netns_tools::too_large::Listener;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// So many are read at once; what is more while they are looked at is lost, as by a wire.
const AT_ONCE: usize = 64;
/// Between two looks: while packets are too large, each is answered.
const PAUSE: Duration = Duration::from_millis(100);

/// Of packets from and to these addresses: what would fit, in bytes.
pub type Said = BTreeMap<(IpAddr, IpAddr), u32>;

/// Listens in the calling thread's network namespace. Needs a tokio runtime.
pub fn open(is_ipv4: bool) -> io::Result<AsyncFd<Listener>> {
    let listener = Listener::open(is_ipv4)?;
    // SAFETY: the listener owns its socket and keeps it for as long as it lives, which is as long as the `AsyncFd` that takes it.
    let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
    listener.map_err(|error| error.into_parts().1)
}

/// Tells of it until nobody wants to know, or the socket fails.
pub async fn hear(listener: AsyncFd<Listener>, told: mpsc::Sender<Said>) {
    loop {
        let said = match next(&listener).await {
            Ok(said) => said,
            Err(error) => {
                tracing::info!(%error, "what routers say of too large packets is not heard any more");
                return;
            }
        };
        if !said.is_empty() && told.send(said).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn next(listener: &AsyncFd<Listener>) -> io::Result<Said> {
    let mut ready = listener.readable().await?;
    let mut said = Said::new();
    for _ in 0..AT_ONCE {
        let Some(one) = ready.get_inner().next()? else {
            ready.clear_ready();
            break;
        };
        let least = said.entry((one.from, one.to)).or_insert(one.mtu);
        *least = one.mtu.min(*least);
    }
    Ok(said)
}
