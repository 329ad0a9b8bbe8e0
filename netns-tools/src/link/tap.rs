//! Tap devices: Ethernet links whose other end is a file (`Documentation/networking/tuntap.rst`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{parse_u8, parse_u32};

use super::check_name;
use crate::netlink::NetlinkError;
use crate::netlink::reply::attributes;

/// `IFLA_INFO_KIND` of tun and tap devices.
pub const KIND: &str = "tun";

/// Where the kernel gives tap devices away.
pub const DEVICE: &str = "/dev/net/tun";

/// `IFF_TAP`, `IFF_NO_PI`, … (`linux/if_tun.h`).
const TAP: libc::c_int = 0x0002;
const NO_PI: libc::c_int = 0x1000;
const VNET_HDR: libc::c_int = 0x4000;
const MULTI_QUEUE: libc::c_int = 0x0100;
/// `IFF_TUN_EXCL`: fail if there is such a device, rather than attach to it.
const EXCLUSIVE: libc::c_int = 0x8000;
/// `_IOW('T', 202, int)` and its neighbours.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETPERSIST: libc::Ioctl = 0x4004_54cb;
const TUNSETOWNER: libc::Ioctl = 0x4004_54cc;
const TUNSETGROUP: libc::Ioctl = 0x4004_54ce;

/// A tap device that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The name cannot be a link's.
    #[error(transparent)]
    Name(#[from] NetlinkError),
    /// The kernel has no tap devices, or the file that gives them away is missing or forbidden.
    #[error("cannot open {DEVICE} (is the kernel module tun loaded?)")]
    Open {
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error("cannot {step} tap device {name}{}", hint(source))]
    Refused {
        /// Which step.
        step: &'static str,
        /// The device.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl TapError {
    /// Whether there is a link of this name already.
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Refused { source, .. }
            if matches!(source.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)))
    }
}

/// What to do about it, where that is obvious.
fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => ": there is a link of this name",
        Some(libc::EINVAL) => {
            ": the name is taken by another kind of link, or the option is unknown"
        }
        Some(libc::EPERM | libc::EACCES) => " (this needs CAP_NET_ADMIN in that network namespace)",
        _ => "",
    }
}

/// What the kernel says of a tun or tap device (`IFLA_TUN_*` in `linux/if_link.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Details {
    /// The user who may open it.
    pub owner: Option<u32>,
    /// The group that may.
    pub group: Option<u32>,
    /// It carries Ethernet frames: tap rather than tun.
    pub tap: bool,
    /// Several files may be its other end at a time.
    pub multi_queue: bool,
    /// It stays when nobody has it open.
    pub persistent: bool,
}

impl Details {
    /// Reads `IFLA_INFO_DATA`.
    pub(super) fn read(data: &[u8]) -> Self {
        const OWNER: u16 = 1;
        const GROUP: u16 = 2;
        const TYPE: u16 = 3;
        const PERSIST: u16 = 6;
        const MULTI_QUEUE: u16 = 7;
        let mut details = Self::default();
        let is_on = |value| parse_u8(value).is_ok_and(|byte| byte != 0);
        for (kind, value) in attributes(data) {
            match kind {
                OWNER => details.owner = parse_u32(value).ok(),
                GROUP => details.group = parse_u32(value).ok(),
                TYPE => details.tap = parse_u8(value).is_ok_and(|kind| kind == 2),
                PERSIST => details.persistent = is_on(value),
                MULTI_QUEUE => details.multi_queue = is_on(value),
                _ => {}
            }
        }
        details
    }
}

/// A tap device to be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tap<'a> {
    /// Its name.
    pub name: &'a str,
    /// Several files may be its other end at a time, a queue each.
    pub multi_queue: bool,
    /// Frames carry a `struct virtio_net_hdr` unless who opens it says otherwise.
    pub vnet_hdr: bool,
    /// The user who may open it without being root. `None`: any user with `CAP_NET_ADMIN`.
    pub owner: Option<u32>,
    /// The group that may.
    pub group: Option<u32>,
}

impl Tap<'_> {
    /// Makes the device in the calling thread's namespace; it is down, and stays when this process ends. All of it is made, or
    /// nothing, also when the process is killed meanwhile: until the last step the device lives by the open file.
    pub fn create(&self) -> Result<(), TapError> {
        check_name(self.name)?;
        let device = OpenOptions::new().read(true).write(true).open(DEVICE);
        let device = device.map_err(|source| TapError::Open { source })?;
        self.step("make", request_interface(&device, self.name, self.flags()))?;
        if let Some(owner) = self.owner {
            self.step("set the owner of", request(&device, TUNSETOWNER, owner))?;
        }
        if let Some(group) = self.group {
            self.step("set the group of", request(&device, TUNSETGROUP, group))?;
        }
        self.step("keep", request(&device, TUNSETPERSIST, 1))
    }

    fn flags(&self) -> libc::c_int {
        let when = |on, flag| if on { flag } else { 0 };
        TAP | NO_PI
            | EXCLUSIVE
            | when(self.multi_queue, MULTI_QUEUE)
            | when(self.vnet_hdr, VNET_HDR)
    }

    fn step(&self, step: &'static str, done: io::Result<()>) -> Result<(), TapError> {
        done.map_err(|source| TapError::Refused { step, name: self.name.into(), source })
    }
}

/// Opens the other end of the tap device `name` in the calling thread's namespace, for tests that are its program.
pub(crate) fn attach(name: &str, multi_queue: bool) -> Result<File, TapError> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    let device = device.map_err(|source| TapError::Open { source })?;
    let tap = Tap { name, multi_queue, ..Tap::default() };
    tap.step("open", request_interface(&device, name, tap.flags() & !EXCLUSIVE))?;
    Ok(device)
}

/// `TUNSETIFF`.
fn request_interface(device: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: all zeros is a valid `struct ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The name was checked: it is shorter than the array, so a zero byte stays at its end.
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // The constants above are those of an unsigned 16-bit field.
    let flags = u16::try_from(flags).map_err(io::Error::other)?;
    request.ifr_ifru.ifru_flags = flags.cast_signed();
    // SAFETY: the descriptor is open, and the kernel reads and writes one `struct ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A request whose argument is a number.
fn request(device: &File, number: libc::Ioctl, argument: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the argument is passed by value.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), number, libc::c_ulong::from(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::TestNetns;

    fn details(ns: &TestNetns, name: &str) -> Value {
        ns.json(&["ip", "-j", "-d", "link", "show", name])[0]["linkinfo"].clone()
    }

    /// `ip tuntap` is the yardstick: each device is made by both and must look alike.
    #[test]
    fn like_those_of_ip_tuntap() {
        let plain = Tap { name: "tap0", ..Tap::default() };
        for (tap, words) in [
            (plain, ""),
            (Tap { multi_queue: true, ..plain }, "multi_queue"),
            (Tap { owner: Some(1000), ..plain }, "user 1000"),
            (Tap { owner: Some(0), group: Some(0), ..plain }, "user 0 group 0"),
            (
                Tap { group: Some(2000), vnet_hdr: true, multi_queue: true, ..plain },
                "group 2000 vnet_hdr multi_queue",
            ),
        ] {
            let (ours, theirs) = (TestNetns::new("tap"), TestNetns::new("tap"));
            ours.run(|| tap.create()).unwrap();
            let line = format!("ip tuntap add mode tap name tap0 {words}");
            theirs.cmd(&line.split_whitespace().collect::<Vec<_>>());
            assert_eq!(details(&ours, "tap0"), details(&theirs, "tap0"), "{words:?}");
            assert_eq!(details(&ours, "tap0")["info_kind"], "tun");
            let made = ours.link("tap0");
            let details = Details {
                owner: tap.owner,
                group: tap.group,
                tap: true,
                multi_queue: tap.multi_queue,
                persistent: true,
            };
            assert_eq!((made.up, made.tun), (false, Some(details)));
        }
    }

    #[test]
    fn a_name_that_is_taken_is_refused() {
        let ns = TestNetns::new("tap");
        let tap = Tap { name: "tap0", ..Tap::default() };
        ns.run(|| tap.create()).unwrap();
        // Without "exclusive" the second one would be attached to the first one's device.
        assert!(ns.run(|| tap.create()).unwrap_err().is_exists());
        let lo = Tap { name: "lo", ..tap };
        assert!(ns.run(|| lo.create()).is_err());
        let wrong = Tap { name: "tap%d", ..tap };
        assert!(matches!(ns.run(|| wrong.create()), Err(TapError::Name(_))));
        assert_eq!(ns.netlink().links().unwrap().len(), 2);
    }
}
