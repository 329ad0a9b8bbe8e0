//! The kernel's notifications: somebody changed links, addresses, routes or their entries, forwarding, or packet filters.
//!
//! What this controller writes itself does not ring: the kernel says whose socket asked, and where it does not, the notification is known
//! by what it says. Where neither helps, one comparison more finds that all is well, and the matter ends there.

use std::io;

use netns_tools::monitor::{Filter, Kinds, Monitor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::host::Own;
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
    /// Listens in the calling thread's network namespace. `own`: what does not ring. Needs a tokio runtime.
    pub fn open(own: Own) -> io::Result<Self> {
        let (sender, rings) = mpsc::channel(1);
        let (links, ours) = watch::channel(Vec::new());
        let monitor = Monitor::open(KINDS, &filter(own.port, &[]))?;
        // SAFETY: the monitor owns its socket and keeps it for as long as it lives, which is as long as the `AsyncFd` that takes it.
        let monitor = unsafe { AsyncFd::register_with_interest(monitor, Interest::READABLE) };
        let monitor = monitor.map_err(|error| error.into_parts().1)?;
        let rules = RuleAlarm::open();
        let ringing = sender.clone();
        tokio::spawn(async move {
            if let Err(error) = listen(monitor, &own, ours, &ringing).await {
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
    own: &Own,
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
                monitor.get_mut().set_filter(&filter(own.port, &links))?;
                // what changed before at them was not heard
                if rings.send(Compare::Look).await.is_err() {
                    return Ok(());
                }
            }
            ready = monitor.readable_mut() => {
                let mut ready = ready?;
                let changed = ready.get_inner_mut().drain_but(|entry| own.echoes.take(entry))?;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netns_tools::MacAddr;
    use netns_tools::testing::TestNetns;
    use tokio::time::timeout;

    use super::*;
    use crate::overlay::desired::{Change, Desired, Device, Route, Way};
    use crate::overlay::run::host::{Host as _, KernelHost};

    /// Within this a notification that rings has rung.
    const SILENCE: Duration = Duration::from_millis(300);

    fn route(mac: u8) -> Route {
        let way = Way::Tunnel {
            device: "heddle.1".into(),
            gateway: [10, 244, 2, 0].into(),
            mac: MacAddr([2, 0, 0, 0, 0, mac]),
            remote: [192, 0, 2, 2].into(),
        };
        Route { destination: "10.244.2.0/24".parse().unwrap(), way, mtu: None }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ones_own_changes_do_not_ring_and_others_do() {
        let ns = TestNetns::new("alarm");
        ns.cmd(&["ip", "address", "add", "192.0.2.1/24", "dev", "lo"]);
        ns.configure("lo", &[]);
        let mut kernel = ns.run(KernelHost::open).unwrap();
        let runtime = tokio::runtime::Handle::current();
        let open = || {
            let _entered = runtime.enter();
            Alarm::open(kernel.own())
        };
        let mut alarm = ns.run(open).unwrap();
        let device = Device {
            name: "heddle.1".into(),
            vni: 1,
            port: 8472,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            local: [192, 0, 2, 1].into(),
            underlay: ns.link("lo").index,
            mtu: 1450,
            addresses: vec!["10.244.1.0/32".parse().unwrap()],
        };
        let desired =
            Desired { devices: vec![device], routes: vec![route(2)], ..Desired::default() };
        assert_eq!(kernel.sync(&desired).unwrap().failed, []);
        alarm.watch_links(vec![ns.link("heddle.1").index]);
        let mut rang = async || timeout(SILENCE, alarm.rang()).await.is_ok();
        while rang().await {}
        for mac in 3..6 {
            assert_eq!(kernel.update(&[Change::Put(route(mac))]).unwrap().put, 2);
        }
        assert!(!rang().await);
        assert_eq!(kernel.update(&[Change::Gone(route(5).destination)]).unwrap().removed, 3);
        assert!(!rang().await);
        kernel.update(&[Change::Put(route(6))]).unwrap();
        for command in [
            "bridge fdb del 02:00:00:00:00:06 dev heddle.1 dst 192.0.2.2 self",
            "ip neighbour del 10.244.2.0 dev heddle.1",
            "ip route del 10.244.2.0/24",
        ] {
            ns.cmd(&command.split(' ').collect::<Vec<_>>());
            assert!(rang().await, "{command}");
            while rang().await {}
        }
    }

    #[test]
    fn what_changed_at_links_before_they_are_listened_to_is_looked_at() {
        let ns = TestNetns::new("alarm");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        ns.run(|| {
            runtime.block_on(async {
                let mut alarm = Alarm::open(Own::default()).unwrap();
                alarm.watch_links(vec![1]);
                let looked = async { while alarm.rang().await != Some(Compare::Look) {} };
                timeout(Duration::from_secs(20), looked).await.unwrap();
                // the same ones are no news
                alarm.watch_links(vec![1]);
                let more = timeout(Duration::from_millis(200), alarm.rang()).await;
                assert_ne!(more, Ok(Some(Compare::Look)));
            });
        });
    }
}
