//! Notifications of addresses that come and go: [`Monitor`] of nothing else.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::monitor::{Filter, Kinds, Monitor};
use crate::netns::NetNs;

/// A socket that tells that addresses of links changed, for use with an event loop: it never blocks. It belongs to the namespace that
/// it was opened in.
#[derive(Debug)]
pub struct AddressMonitor(Monitor);

impl AddressMonitor {
    /// Listens in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let kinds = Kinds { addresses: true, ..Kinds::NONE };
        Monitor::open(kinds, &Filter::default()).map(Self)
    }

    /// Listens in `ns`. The calling thread does not leave its own namespace.
    pub fn open_in(ns: &NetNs) -> io::Result<Self> {
        ns.run(Self::open).map_err(io::Error::other)?
    }

    /// Reads all that was told. Says whether addresses changed, or may have: when so much happened that messages were lost, nobody
    /// knows.
    pub fn drain(&mut self) -> io::Result<bool> {
        self.0.drain().map(Kinds::any)
    }
}

impl AsFd for AddressMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for AddressMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestNetns;

    #[test]
    fn tells_of_addresses_of_both_families_in_its_namespace_only() {
        let (ns, other) = (TestNetns::new("addrmon"), TestNetns::new("addrmon"));
        let mut monitor = AddressMonitor::open_in(ns.ns()).unwrap();
        assert!(!monitor.drain().unwrap());
        other.cmd(&["ip", "address", "add", "10.9.0.1/24", "dev", "lo"]);
        assert!(!monitor.drain().unwrap());
        for command in ["add", "del"] {
            for address in ["10.9.0.1/24", "fd00::1/64"] {
                ns.cmd(&["ip", "address", command, address, "dev", "lo"]);
                assert!(monitor.drain().unwrap(), "{command} {address}");
                assert!(!monitor.drain().unwrap(), "{command} {address} is told once");
            }
        }
    }

    #[test]
    fn lost_messages_count_as_changes() {
        let ns = TestNetns::new("addrmon");
        let mut monitor = AddressMonitor::open_in(ns.ns()).unwrap();
        monitor.0.shrink();
        for i in 1..60 {
            let net = format!("10.9.0.{i}/32").parse().unwrap();
            ns.netlink().add_address(1, net).unwrap();
        }
        assert!(monitor.drain().unwrap());
        assert!(!monitor.drain().unwrap());
    }
}
