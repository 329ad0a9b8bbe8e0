//! Packet sockets (packet(7)): datagrams to and from one link, below IP, for protocols such as DHCP that speak before the link
//! has an address, and that must hear what is not for any address of it.
//!
//! The Ethernet header is the kernel's affair; the payload begins with the IP header.

mod filter;

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::mac::MacAddr;
use crate::netns::{NetNs, NetnsError};

/// `PACKET_AUXDATA` (`linux/if_packet.h`).
const PACKET_AUXDATA: libc::c_int = 8;
/// `TP_STATUS_CSUMNOTREADY`: the sender left the checksum to hardware that a virtual link does not have.
const CHECKSUM_NOT_READY: u32 = 1 << 3;
/// `SO_ATTACH_FILTER` (`asm-generic/socket.h`).
const SO_ATTACH_FILTER: libc::c_int = 26;
/// `ETH_P_IP` in network byte order, as packet(7) wants it.
const ETH_P_IP: u16 = 0x0800_u16.to_be();

/// The address of all stations on a link.
pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

/// What can go wrong. `Display` names the operation; the cause is the `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The namespace cannot be entered.
    #[error("cannot use a packet socket")]
    Netns(#[from] NetnsError),
    /// A system call failed.
    #[error("cannot {operation} a packet socket on link {index}")]
    System {
        /// What was being done.
        operation: &'static str,
        /// The link's index.
        index: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// From the IP header on.
    pub payload: Vec<u8>,
    /// The Ethernet address that it came from.
    pub from: MacAddr,
    /// Whether the checksums in it mean something. Between virtual links of one host, senders leave that of UDP out.
    pub checksum_is_complete: bool,
}

/// A socket for IPv4 datagrams on one link. It works from any thread and any namespace, and keeps the namespace alive.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: u32,
}

impl PacketSocket {
    /// Opens a socket on the link `index` of `ns` that receives UDP datagrams for `port` and nothing else.
    pub fn open_in(ns: &NetNs, index: u32, port: u16) -> Result<Self, PacketError> {
        ns.visit(|| Self::open(index, port))?
    }

    fn open(index: u32, port: u16) -> Result<Self, PacketError> {
        let failed = |operation| move |source| PacketError::System { operation, index, source };
        // Without a protocol it receives nothing, so that nothing comes in before the filter is there.
        let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes no pointers.
        let fd =
            check(unsafe { libc::socket(libc::AF_PACKET, flags, 0) }).map_err(failed("open"))?;
        // SAFETY: the descriptor is new, and nobody else's.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, index };
        socket.attach(port).map_err(failed("filter"))?;
        // Kernels without it say nothing about checksums; then they have to be right.
        let _ = socket.set_option(libc::SOL_PACKET, PACKET_AUXDATA, &1_i32);
        socket.bind().map_err(failed("bind"))?;
        Ok(socket)
    }

    fn attach(&self, port: u16) -> io::Result<()> {
        let program = filter::udp_to(port);
        let length = u16::try_from(program.len()).map_err(io::Error::other)?;
        let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
        // `program` outlives the call, which only reads it.
        self.set_option(libc::SOL_SOCKET, SO_ATTACH_FILTER, &program)
    }

    fn set_option<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        let length = socket_length(size_of_val(value));
        // SAFETY: the descriptor is open, and the kernel reads `length` bytes of `value`, which outlives the call.
        let done = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                length,
            )
        };
        check(done).map(drop)
    }

    fn bind(&self) -> io::Result<()> {
        let address = self.address(MacAddr([0; 6]));
        // SAFETY: the kernel reads an address of the length given, which outlives the call.
        let done = unsafe {
            let length = socket_length(size_of_val(&address));
            libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length)
        };
        check(done).map(drop)
    }

    fn address(&self, mac: MacAddr) -> libc::sockaddr_ll {
        // SAFETY: all zero bytes are a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET.unsigned_abs().try_into().unwrap_or_default();
        address.sll_protocol = ETH_P_IP;
        address.sll_ifindex = self.index.cast_signed();
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&mac.0);
        address
    }

    /// Sends a datagram that begins with its IP header.
    pub fn send(&self, to: MacAddr, payload: &[u8]) -> Result<(), PacketError> {
        let address = self.address(to);
        // SAFETY: the kernel reads the payload and the address, both of the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                payload.as_ptr().cast(),
                payload.len(),
                0,
                (&raw const address).cast(),
                socket_length(size_of_val(&address)),
            )
        };
        if sent < 0 { Err(self.failed("send by")) } else { Ok(()) }
    }

    /// The next datagram, or `None` if there is none yet: poll(2) says when.
    pub fn receive(&self) -> Result<Option<Datagram>, PacketError> {
        let mut payload = vec![0_u8; 65_536];
        let mut from = self.address(MacAddr([0; 6]));
        // More than one `struct tpacket_auxdata`, aligned for the header before it.
        let mut control = [0_u64; 16];
        let mut part =
            libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
        // SAFETY: all zero bytes are a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = socket_length(size_of_val(&from));
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: every buffer that `message` points to is alive, writable and of the length given.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            let again =
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if again { Ok(None) } else { Err(self.failed("receive from")) };
        };
        payload.truncate(length);
        let mut mac = [0; 6];
        mac.copy_from_slice(&from.sll_addr[..6]);
        // SAFETY: the kernel has filled in the control messages that `message` describes.
        let status = unsafe { auxiliary_status(&message) };
        let checksum_is_complete = status & CHECKSUM_NOT_READY == 0;
        Ok(Some(Datagram { payload, from: MacAddr(mac), checksum_is_complete }))
    }

    fn failed(&self, operation: &'static str) -> PacketError {
        let source = io::Error::last_os_error();
        PacketError::System { operation, index: self.index, source }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `tp_status` of the auxiliary data; 0 if there is none.
///
/// # Safety
/// `message` must be as recvmsg(2) left it, with its buffers alive.
unsafe fn auxiliary_status(message: &libc::msghdr) -> u32 {
    // SAFETY: the caller vouches for the message; the macros stay inside its control buffer.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = next.as_ref() {
            let room = libc::CMSG_LEN(u32::try_from(size_of::<u32>()).unwrap_or_default());
            let fits = header.cmsg_len >= room as usize;
            if header.cmsg_level == libc::SOL_PACKET && header.cmsg_type == PACKET_AUXDATA && fits {
                return libc::CMSG_DATA(header).cast::<u32>().read_unaligned();
            }
            next = libc::CMSG_NXTHDR(message, header);
        }
        0
    }
}

fn socket_length(length: usize) -> libc::socklen_t {
    length.try_into().unwrap_or(libc::socklen_t::MAX)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests;
