//! Notifications of addresses that come and go (rtnetlink(7), groups `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::netlink::retry_interrupted;
use crate::netns::NetNs;

/// `linux/rtnetlink.h`
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
/// More than the kernel puts in one datagram of these.
const DATAGRAM: usize = 32 * 1024;

/// A socket that tells that addresses of links changed, for use with an event loop: it never blocks. It belongs to the namespace that
/// it was opened in.
///
/// It tells that, not what: whoever wants to know lists them ([`crate::Netlink::addresses`]), and so misses nothing when messages are
/// lost. What changes while they are listed is told again.
#[derive(Debug)]
pub struct AddressMonitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl AddressMonitor {
    /// Listens in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        socket.add_membership(RTNLGRP_IPV4_IFADDR)?;
        socket.add_membership(RTNLGRP_IPV6_IFADDR)?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Listens in `ns`. The calling thread does not leave its own namespace.
    pub fn open_in(ns: &NetNs) -> io::Result<Self> {
        ns.run(Self::open).map_err(io::Error::other)?
    }

    /// Reads all that was told. Says whether addresses changed, or may have: when so much happened that messages were lost, nobody
    /// knows.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            self.buffer.clear();
            let received = retry_interrupted(|| self.socket.recv(&mut self.buffer, 0));
            match received {
                Ok(_) => changed = true,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for AddressMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket lives as long as `self`, from which the descriptor is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

impl AsRawFd for AddressMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
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
        monitor.socket.set_rx_buf_sz(0_i32).unwrap();
        for i in 1..60 {
            let net = format!("10.9.0.{i}/32").parse().unwrap();
            ns.netlink().add_address(1, net).unwrap();
        }
        assert!(monitor.drain().unwrap());
        assert!(!monitor.drain().unwrap());
    }
}
