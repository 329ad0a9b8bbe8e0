//! What the kernel tells of a legacy table without its rules (`linux/netfilter_ipv4/ip_tables.h`, `…_ipv6/ip6_tables.h`).

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::Family;

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;

/// `struct ipt_getinfo` and `struct ip6t_getinfo`, which are alike.
#[repr(C)]
#[derive(Default)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    entries: u32,
    size: u32,
}

/// How many entries a table of the calling thread's namespace has, and their size in bytes. Takes no lock that a program can
/// hold: a commit that goes on is seen as it was before it, or after.
pub(super) fn entries(family: Family, table: &str) -> io::Result<(u32, u32)> {
    let (domain, level) = match family {
        Family::V4 => (libc::AF_INET, libc::IPPROTO_IP),
        Family::V6 => (libc::AF_INET6, libc::IPPROTO_IPV6),
    };
    let mut info = Info::default();
    // the kernel wants a zero behind the name
    if table.len() >= info.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    info.name[..table.len()].copy_from_slice(table.as_bytes());
    let socket = socket(domain)?;
    let mut length = libc::socklen_t::try_from(size_of::<Info>()).map_err(io::Error::other)?;
    let to = (&raw mut info).cast::<c_void>();
    // SAFETY: `to` points to `length` bytes of `info`, which the kernel reads and fills, and which holds plain numbers only.
    let done =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, to, &raw mut length) };
    if done == 0 { Ok((info.entries, info.size)) } else { Err(io::Error::last_os_error()) }
}

fn socket(domain: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
