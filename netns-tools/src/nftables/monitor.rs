//! Who changed rules: notifications of nf_tables.
//!
//! After each transaction the kernel tells the group `NFNLGRP_NFTABLES` of its new generation, with the name of the thread that made
//! it (`nf_tables_gen_notify` in `net/netfilter/nf_tables_api.c`). iptables-nft goes the same way; iptables-legacy does not.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::{NetlinkBuffer, NetlinkHeader, Parseable};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::Nftables;
use super::buffer::text_of;
use super::uapi::{NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES, NFT_MSG_NEWGEN, NFTA_GEN_PROC_NAME};
use crate::netlink::retry_interrupted;
use crate::netns::NetNs;

/// More than the kernel puts in one datagram.
const DATAGRAM: usize = 64 * 1024;
/// `sizeof(struct nlmsghdr)` and of `struct nfgenmsg`.
const HEADERS: usize = 16 + 4;

/// A socket that tells that rules were changed, for use with an event loop: it never blocks. It belongs to the namespace that it was
/// opened in. With a listener the kernel writes a message for every object that a transaction changes, so do not listen while you
/// write much yourself.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    listening: bool,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Opens a socket in the calling thread's namespace that does not listen yet. Reading is noticed by `AsFd`.
    pub fn open() -> io::Result<Self> {
        // The first use of nf_tables may load its module, without which there is no such group.
        Nftables::open().and_then(|mut nft| nft.generation()).map_err(io::Error::other)?;
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, listening: false, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Opens a socket in `ns`. The calling thread does not leave its own namespace.
    pub fn open_in(ns: &NetNs) -> io::Result<Self> {
        ns.run(Self::open).map_err(io::Error::other)?
    }

    /// Begins or ends to listen. What was told before is still there to be read.
    pub fn listen(&mut self, wanted: bool) -> io::Result<()> {
        if wanted {
            self.socket.add_membership(NFNLGRP_NFTABLES)?;
        } else {
            self.socket.drop_membership(NFNLGRP_NFTABLES)?;
        }
        self.listening = wanted;
        Ok(())
    }

    /// Whether it listens.
    pub fn is_listening(&self) -> bool {
        self.listening
    }

    /// Reads all that was told. Says whether somebody else changed rules, or may have: when so much happened that messages were lost,
    /// nobody knows. `ours` are the names of threads (of at most 15 bytes) that do not count as somebody else.
    pub fn drain(&mut self, ours: &[&str]) -> io::Result<bool> {
        let mut others = false;
        loop {
            self.buffer.clear();
            let received =
                retry_interrupted(|| self.socket.recv(&mut self.buffer, libc::MSG_TRUNC));
            match received {
                Ok(length) if length > self.buffer.len() => others = true,
                Ok(_) => others |= has_foreign(&self.buffer, ours),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => others = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(others),
                Err(error) => return Err(error),
            }
        }
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

/// Whether a datagram tells of a generation that a thread of another name made. One that cannot be read counts.
fn has_foreign(mut bytes: &[u8], ours: &[&str]) -> bool {
    while !bytes.is_empty() {
        let Some((header, length)) = header(bytes) else { return true };
        if header.message_type == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN {
            let body = bytes.get(HEADERS..length).unwrap_or_default();
            let name = text_of(body, NFTA_GEN_PROC_NAME);
            if !name.is_some_and(|name| ours.contains(&name.as_str())) {
                return true;
            }
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn header(bytes: &[u8]) -> Option<(NetlinkHeader, usize)> {
    let checked = NetlinkBuffer::new_checked(bytes).ok()?;
    let header = NetlinkHeader::parse(&checked).ok()?;
    let length = usize::try_from(header.length).ok()?;
    Some((header, length))
}
