//! A blocking netlink socket for links, addresses, routes and namespace ids (rtnetlink(7)).
//!
//! The requests themselves are in [`crate::link`], [`crate::address`], [`crate::route`] and so on; many at once are in [`batch`].

pub mod batch;
mod error;
pub(crate) mod exchange;
pub(crate) mod netfilter;
pub(crate) mod raw;
pub(crate) mod reply;

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use netlink_packet_core::{NetlinkSerializable, parse_i32};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use self::error::{Action, NetlinkError};
use self::exchange::{Exchange, Wire};
use self::reply::{Malformed, attributes};
use crate::netns::NetNs;

/// Results of netlink requests.
pub type Result<T> = std::result::Result<T, NetlinkError>;

/// The kernel answers at once. Should it ever lose an answer without saying so, an agent must not hang for ever.
const PATIENCE: libc::timeval = libc::timeval { tv_sec: 30, tv_usec: 0 };

/// `NETNSA_NSID` (`linux/net_namespace.h`).
const NETNSA_NSID: u16 = 1;

/// One netlink socket. It belongs to the namespace that it was opened in and can be used from any thread and any
/// namespace; it also keeps its namespace alive.
pub struct Netlink {
    exchange: Exchange<KernelSocket>,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").finish_non_exhaustive()
    }
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let wire = KernelSocket::open(NETLINK_ROUTE).map_err(|source| NetlinkError::Socket {
            action: Action { operation: "use netlink".into(), object: String::new() },
            step: "open a socket",
            source,
        })?;
        Ok(Self { exchange: Exchange::new(wire) })
    }

    /// Opens a socket in `ns`. The calling thread does not leave its own namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        ns.visit(Self::open)?
    }

    /// The number that the kernel gave this socket. Notifications of what it changes carry it ([`crate::monitor::Filter`]).
    pub fn port_id(&mut self) -> io::Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.exchange.wire().0.get_address(&mut address)?;
        Ok(address.port_number())
    }

    /// The socket's descriptor, for requests of other kinds than netlink's: they too are about the namespace that it belongs to.
    pub(crate) fn descriptor(&mut self) -> RawFd {
        self.exchange.wire().0.as_raw_fd()
    }

    /// The number by which this socket's namespace knows `other`, as in [`crate::Link::peer_netns_id`]. `None`: it has not
    /// met it; a number is given when a link first leads there.
    pub fn netns_id(&mut self, other: &NetNs) -> Result<Option<i32>> {
        let mut message = NsidMessage::default();
        // A descriptor is never negative.
        message.attributes.push(NsidAttribute::Fd(other.as_fd().as_raw_fd().cast_unsigned()));
        let found = self.exchange.one(RouteNetlinkMessage::GetNsId(message), |bytes| {
            let body = body(bytes, 4)?;
            let id = attributes(body).find(|(kind, _)| *kind == NETNSA_NSID);
            Ok(id.and_then(|(_, value)| parse_i32(value).ok()).filter(|id| *id >= 0))
        });
        found.map_err(|e| {
            let object = other.path().display().to_string();
            NetlinkError::new(
                Action { operation: "find the id of network namespace".into(), object },
                e,
            )
        })
    }

    /// Sends a change; `flags` are `NLM_F_CREATE` and the like.
    pub(crate) fn change(
        &mut self,
        operation: &str,
        object: impl Display,
        message: impl NetlinkSerializable,
        flags: u16,
    ) -> Result<()> {
        self.exchange.change(message, flags).map_err(|failure| {
            NetlinkError::new(
                Action { operation: operation.into(), object: object.to_string() },
                failure,
            )
        })
    }

    /// Asks for one object; `None` when it is not there.
    pub(crate) fn one<T>(
        &mut self,
        operation: &str,
        object: impl Display,
        message: impl NetlinkSerializable,
        read: impl Fn(&[u8]) -> std::result::Result<T, Malformed>,
    ) -> Result<Option<T>> {
        match self.exchange.one(message, read) {
            Ok(found) => Ok(Some(found)),
            Err(failure) => {
                let action = Action { operation: operation.into(), object: object.to_string() };
                let error = NetlinkError::new(action, failure);
                if error.is_not_found() { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Asks for a list.
    pub(crate) fn list<T>(
        &mut self,
        operation: &str,
        message: impl NetlinkSerializable,
        read: impl Fn(&[u8]) -> std::result::Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>> {
        self.exchange.list(message, read).map_err(|failure| {
            NetlinkError::new(
                Action { operation: operation.into(), object: String::new() },
                failure,
            )
        })
    }
}

/// What follows an object's fixed header of `len` bytes: its attributes.
pub(crate) fn body(bytes: &[u8], len: usize) -> std::result::Result<&[u8], Malformed> {
    bytes.get(len..).ok_or_else(|| Malformed(format!("{} bytes instead of {len}", bytes.len())))
}

/// The kernel's end of [`Wire`].
pub(crate) struct KernelSocket(Socket);

impl KernelSocket {
    /// Opens a socket of one of the netlink protocols.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        // Connected to the kernel (port 0): messages from other processes are then refused.
        socket.connect(&SocketAddr::new(0, 0))?;
        // Reasons as text, and without a copy of the request. Kernels before 4.12 have neither; they are a comfort.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        // Lists can then be asked for in part, such as the addresses of one link. Kernels before 4.20 send all of it.
        let _ = socket.set_netlink_get_strict_chk(true);
        set_receive_timeout(&socket, PATIENCE)?;
        Ok(Self(socket))
    }
}

/// Sets `SO_RCVTIMEO` (socket(7)): a receive that waits longer fails with `EAGAIN`.
fn set_receive_timeout(socket: &Socket, timeout: libc::timeval) -> io::Result<()> {
    set_option(socket, libc::SO_RCVTIMEO, &timeout)
}

/// Makes room for a message of `len` bytes. The kernel takes the number twice for its own needs (socket(7)).
fn grow_send_buffer(socket: &Socket, len: usize) -> io::Result<()> {
    let len = libc::c_int::try_from(len).map_err(io::Error::other)?;
    // Beyond `net.core.wmem_max`, which needs CAP_NET_ADMIN; up to there, everybody may.
    set_option(socket, libc::SO_SNDBUFFORCE, &len)
        .or_else(|_| set_option(socket, libc::SO_SNDBUF, &len))
}

/// Makes room for answers of `len` bytes in all; nothing is set aside for them. The kernel takes the number twice, as above.
pub(crate) fn grow_receive_buffer(socket: &Socket, len: libc::c_int) -> io::Result<()> {
    set_option(socket, libc::SO_RCVBUFFORCE, &len)
        .or_else(|_| set_option(socket, libc::SO_RCVBUF, &len))
}

/// `setsockopt(SOL_SOCKET)` with a value of the type that the option has.
pub(crate) fn set_option<T>(socket: &Socket, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of_val(value).try_into().map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel reads `length` bytes of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Wire for KernelSocket {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let send = || retry_interrupted(|| self.0.send(message, 0)).map(drop);
        match send() {
            // A batch of many changes is one message.
            Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => {
                grow_send_buffer(&self.0, message.len())?;
                send()
            }
            outcome => outcome,
        }
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, wait: bool) -> io::Result<usize> {
        let flags = libc::MSG_TRUNC | if wait { 0 } else { libc::MSG_DONTWAIT };
        retry_interrupted(|| self.0.recv(buffer, flags))
    }
}

/// A signal that arrives meanwhile is no reason to fail.
pub(crate) fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
