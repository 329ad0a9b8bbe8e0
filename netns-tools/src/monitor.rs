//! Notifications of what changes in a namespace: links, addresses, routes, neighbours, forwarding entries, nexthops, parameters of links
//! (rtnetlink(7), groups `RTNLGRP_*`).

mod filter;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::fdb::{self, FdbEntry};
use crate::mac::MacAddr;
use crate::neighbour;
use crate::netlink::{grow_receive_buffer, retry_interrupted, set_option};
use crate::netns::NetNs;
use crate::nexthop::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP};

/// `RTNLGRP_*` (`linux/rtnetlink.h`).
const LINK: u32 = 1;
const NEIGH: u32 = 3;
const IPV4_IFADDR: u32 = 5;
const IPV4_ROUTE: u32 = 7;
const IPV6_IFADDR: u32 = 9;
const IPV6_ROUTE: u32 = 11;
const IPV4_NETCONF: u32 = 24;
const IPV6_NETCONF: u32 = 25;
const NEXTHOP: u32 = 32;
/// `RTM_*NETCONF` (`linux/rtnetlink.h`).
const RTM_NEWNETCONF: u16 = 80;
const RTM_DELNETCONF: u16 = 81;
/// More than the kernel puts in one datagram of these.
const DATAGRAM: usize = 32 * 1024;
/// Room for what is told while nobody reads, in bytes as the kernel counts them; it doubles the number. Some thousand messages.
const QUEUE: libc::c_int = 1 << 20;
/// `sizeof(struct nlmsghdr)`: where an object's own header begins, with its family.
const FAMILY: usize = 16;
/// `AF_BRIDGE`: the family of forwarding entries.
const AF_BRIDGE: u8 = 7;

/// Kinds of objects: those to listen for, or those that changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set")]
pub struct Kinds {
    /// Links that come, go or change, set up and down included. The IPv4 routes of a link that is set down go **without** a
    /// notification of their own, so whoever watches routes watches links too.
    pub links: bool,
    /// Addresses of both families.
    pub addresses: bool,
    /// Routes of both families, in every table.
    pub routes: bool,
    /// IP addresses that links know Ethernet addresses of. There are many where many pods are: see [`Filter::neighbour_links`].
    pub neighbours: bool,
    /// Forwarding entries of bridges and VXLAN devices. Likewise.
    pub fdb: bool,
    /// Nexthop objects.
    pub nexthops: bool,
    /// Kernel parameters of links, and those for all: forwarding, `rp_filter` and `proxy_arp`, whoever writes them (`NETCONFA_*` in
    /// `linux/netconf.h`). IPv6's `forwarding` is among them, its `accept_ra` and `accept_dad` are not.
    pub parameters: bool,
}

impl Kinds {
    /// None at all.
    pub const NONE: Self = Self {
        links: false,
        addresses: false,
        routes: false,
        neighbours: false,
        fdb: false,
        nexthops: false,
        parameters: false,
    };

    /// Whether there is any.
    pub fn any(self) -> bool {
        self != Self::NONE
    }

    /// What is in either.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            links: self.links || other.links,
            addresses: self.addresses || other.addresses,
            routes: self.routes || other.routes,
            neighbours: self.neighbours || other.neighbours,
            fdb: self.fdb || other.fdb,
            nexthops: self.nexthops || other.nexthops,
            parameters: self.parameters || other.parameters,
        }
    }

    fn groups(self) -> impl Iterator<Item = u32> {
        let wanted = [
            (self.links, LINK),
            (self.addresses, IPV4_IFADDR),
            (self.addresses, IPV6_IFADDR),
            (self.routes, IPV4_ROUTE),
            (self.routes, IPV6_ROUTE),
            (self.neighbours || self.fdb, NEIGH),
            (self.nexthops, NEXTHOP),
            (self.parameters, IPV4_NETCONF),
            (self.parameters, IPV6_NETCONF),
        ];
        wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, group)| group)
    }

    /// What a message is about, by its type and its object's family.
    fn of(message_type: u16, family: u8) -> Self {
        let mut kinds = Self::NONE;
        match message_type {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => kinds.links = true,
            libc::RTM_NEWADDR | libc::RTM_DELADDR => kinds.addresses = true,
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => kinds.routes = true,
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH if family == AF_BRIDGE => kinds.fdb = true,
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => kinds.neighbours = true,
            RTM_NEWNEXTHOP | RTM_DELNEXTHOP => kinds.nexthops = true,
            RTM_NEWNETCONF | RTM_DELNETCONF => kinds.parameters = true,
            _ => {}
        }
        kinds
    }
}

/// What is not told, although its kind is listened for. The kernel leaves it out before it takes room in the socket's queue (a socket
/// filter, `Documentation/networking/filter.rst`), so it costs the listener nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Changes that these sockets ask for ([`crate::Netlink::port_id`]): one's own.
    ///
    /// Tried on kernel 6.18: this holds for routes, addresses, nexthops, and neighbours that are made or changed. It does **not** for
    /// links, for neighbours that are deleted and for forwarding entries of VXLAN devices, whose notifications do not say who asked.
    /// Whoever listens for those hears of its own changes once more: harmless for one that then looks and finds nothing to do, and for
    /// the rest there is [`Monitor::drain_but`].
    pub ignored_ports: Vec<u32>,
    /// Neighbours and forwarding entries of other links than these, by index; with `None` of none.
    pub neighbour_links: Option<Vec<u32>>,
}

/// What a link knows now, as far as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// An IP address.
    Neighbour {
        /// Of this link, by index.
        link: u32,
        /// The address.
        address: IpAddr,
        /// Leads to this Ethernet address for good; `None`: to none, or to one that was learned.
        mac: Option<MacAddr>,
    },
    /// An Ethernet address of a bridge or VXLAN device.
    Fdb {
        /// The device, by index.
        link: u32,
        /// Frames to this address
        mac: MacAddr,
        /// go to this node; `None`: the entry is gone, or is of another sort.
        remote: Option<IpAddr>,
    },
}

impl Entry {
    /// Reads what follows the netlink header of a message of this type.
    fn read(message_type: u16, bytes: &[u8]) -> Option<Self> {
        let there = match message_type {
            libc::RTM_NEWNEIGH => true,
            libc::RTM_DELNEIGH => false,
            _ => return None,
        };
        if *bytes.first()? == AF_BRIDGE {
            let FdbEntry { link, mac, remote, .. } = fdb::read(bytes).ok()??;
            return Some(Self::Fdb { link, mac, remote: remote.filter(|_| there) });
        }
        let (link, address, known) = neighbour::read(bytes).ok()?;
        let mac = known.mac.filter(|_| there && known.permanent);
        Some(Self::Neighbour { link, address: address?, mac })
    }
}

/// A socket that tells which kinds of objects changed, for use with an event loop: it never blocks. It belongs to the namespace that it
/// was opened in.
///
/// It tells that, not what: whoever wants to know lists them, and so misses nothing when messages are lost. What changes while they are
/// listed is told again.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    kinds: Kinds,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Listens in the calling thread's namespace.
    pub fn open(kinds: Kinds, filter: &Filter) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // With less room more is lost, which is noticed.
        let _ = grow_receive_buffer(&socket, QUEUE);
        let mut monitor = Self { socket, kinds, buffer: Vec::with_capacity(DATAGRAM) };
        // Before anything can come in.
        monitor.set_filter(filter)?;
        for group in kinds.groups() {
            match monitor.socket.add_membership(group) {
                // Kernels before 5.3 have no nexthop objects, so nobody changes them.
                Err(error) if group == NEXTHOP && error.kind() == io::ErrorKind::InvalidInput => {}
                joined => joined?,
            }
        }
        Ok(monitor)
    }

    /// Listens in `ns`. The calling thread does not leave its own namespace.
    pub fn open_in(ns: &NetNs, kinds: Kinds, filter: &Filter) -> io::Result<Self> {
        ns.run(|| Self::open(kinds, filter)).map_err(io::Error::other)?
    }

    /// Changes what is left out from now on, for example because a link was made again and has another index.
    pub fn set_filter(&mut self, filter: &Filter) -> io::Result<()> {
        /// `SO_ATTACH_FILTER` (`asm-generic/socket.h`); it takes the place of an earlier one.
        const SO_ATTACH_FILTER: libc::c_int = 26;
        let program = filter::program(self.kinds, filter);
        let length = u16::try_from(program.len()).map_err(io::Error::other)?;
        // `program` outlives the call, which only reads it.
        let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
        set_option(&self.socket, SO_ATTACH_FILTER, &program)
    }

    /// Reads all that was told, and says what changed, or may have: when so much happened that messages were lost, that is
    /// everything that is listened for.
    pub fn drain(&mut self) -> io::Result<Kinds> {
        self.drain_but(|_| false)
    }

    /// The same, but for neighbours and forwarding entries that `expected` says are as they should be.
    pub fn drain_but(&mut self, mut expected: impl FnMut(&Entry) -> bool) -> io::Result<Kinds> {
        let mut changed = Kinds::NONE;
        loop {
            self.buffer.clear();
            let received = retry_interrupted(|| self.socket.recv(&mut self.buffer, 0));
            match received {
                Ok(_) => changed = changed.with(self.told(&mut expected)),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = self.kinds,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(error) => return Err(error),
            }
        }
    }

    /// What the datagram in the buffer tells of: the kernel puts one object in each.
    fn told(&self, expected: &mut impl FnMut(&Entry) -> bool) -> Kinds {
        match NetlinkBuffer::new_checked(&self.buffer[..]) {
            Ok(message) => {
                let family = self.buffer.get(FAMILY).copied().unwrap_or_default();
                match Entry::read(message.message_type(), message.payload()) {
                    Some(entry) if expected(&entry) => Kinds::NONE,
                    _ => Kinds::of(message.message_type(), family),
                }
            }
            // Cut off, or not what the kernel sends: nobody knows.
            Err(_) => self.kinds,
        }
    }

    /// Makes the queue as small as the kernel lets it be.
    #[cfg(test)]
    pub(crate) fn shrink(&mut self) {
        self.socket.set_rx_buf_sz(0_i32).unwrap();
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket lives as long as `self`, from which the descriptor is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests;
