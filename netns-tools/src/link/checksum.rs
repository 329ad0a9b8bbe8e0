//! Checksum offload: whether a link's driver completes the checksums of what it sends, or the kernel does before (`ethtool -k`,
//! `Documentation/networking/checksum-offloads.rst`).
//!
//! By ioctl rather than netlink: that exists since kernel 2.4 and in every build, needs no table of feature names, and covers whatever
//! of `tx-checksum-ip-generic`, `-ipv4`, `-ipv6` and `-sctp` the driver has, as `ethtool -K LINK tx off` does.

use std::io;

use super::Link;
use crate::netlink::{Action, Netlink, NetlinkError, Result};

/// `SIOCETHTOOL` (`linux/sockios.h`).
const SIOCETHTOOL: u32 = 0x8946;
/// `ETHTOOL_GTXCSUM`, `ETHTOOL_STXCSUM` (`linux/ethtool.h`).
const GET: u32 = 0x16;
const SET: u32 = 0x17;

/// `struct ethtool_value` (`linux/ethtool.h`).
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Netlink {
    /// Whether the link with this index leaves checksums of what it sends to its driver; `None`: there is no such link, or its driver
    /// knows no such setting.
    pub fn tx_checksum_offload(&mut self, index: u32) -> Result<Option<bool>> {
        let Some(link) = self.link_by_index(index)? else { return Ok(None) };
        match self.ethtool(&link, GET, 0) {
            Ok(value) => Ok(Some(value != 0)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::ENODEV) => Ok(None),
                _ => Err(refused("look up the checksum offload of", &link, &error)),
            },
        }
    }

    /// Sets whether a link leaves checksums of what it sends to its driver. Off is the remedy where a driver of the underlay gets those
    /// inside tunnels wrong; it also turns off segmentation offload, which relies on it. Setting what is set is no error.
    pub fn set_tx_checksum_offload(&mut self, index: u32, on: bool) -> Result<()> {
        let operation = if on {
            "switch on the checksum offload of"
        } else {
            "switch off the checksum offload of"
        };
        let Some(link) = self.link_by_index(index)? else {
            let object = format!("link {index}");
            let action = Action { operation: operation.into(), object };
            return Err(NetlinkError::Refused { action, errno: libc::ENODEV, text: None });
        };
        let set = self.ethtool(&link, SET, on.into()).and_then(|_| self.ethtool(&link, GET, 0));
        match set {
            Ok(value) if (value != 0) == on => Ok(()),
            // The kernel may take the wish and not fulfil it.
            Ok(_) => {
                let error = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
                Err(refused(operation, &link, &error))
            }
            Err(error) => Err(refused(operation, &link, &error)),
        }
    }

    fn ethtool(&mut self, link: &Link, command: u32, data: u32) -> io::Result<u32> {
        let mut value = Value { command, data };
        // SAFETY: all zero bytes are a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays zero: the kernel's own names are shorter.
        for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(link.name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        let fd = self.descriptor();
        // SAFETY: the descriptor is open; the kernel reads `request`, and reads and writes the `Value` that it points to. Both outlive the
        // call.
        let done = unsafe { libc::ioctl(fd, SIOCETHTOOL.into(), &raw mut request) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
    }
}

fn refused(operation: &str, link: &Link, error: &io::Error) -> NetlinkError {
    let object = format!("link {} ({})", link.name, link.index);
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let text = (errno == libc::EOPNOTSUPP).then(|| "its driver does not let it be set".into());
    NetlinkError::Refused { action: Action { operation: operation.into(), object }, errno, text }
}

#[cfg(test)]
mod tests {
    use super::super::new::NewLink;
    use super::super::vxlan::Vxlan;
    use crate::Veth;
    use crate::testing::TestNetns;

    #[test]
    fn switched_off_and_on_again() {
        let ns = TestNetns::new("csum");
        let mut net = ns.netlink();
        net.add_veth(&Veth::new("a", "b")).unwrap();
        net.add_vxlan(&NewLink::new("v"), &Vxlan::new(1, [192, 0, 2, 1].into())).unwrap();
        for name in ["a", "v"] {
            let index = ns.link(name).index;
            let shown = |word: &str| {
                let text = ns.cmd(&["ethtool", "-k", name]);
                assert!(text.contains(&format!("tx-checksumming: {word}")), "{name}: {text}");
            };
            assert_eq!(net.tx_checksum_offload(index).unwrap(), Some(true));
            for (on, word) in [(false, "off"), (false, "off"), (true, "on"), (true, "on")] {
                net.set_tx_checksum_offload(index, on).unwrap();
                assert_eq!(net.tx_checksum_offload(index).unwrap(), Some(on));
                shown(word);
            }
        }
    }

    #[test]
    fn what_cannot_be_set() {
        let ns = TestNetns::new("csum");
        let mut net = ns.netlink();
        assert_eq!(net.tx_checksum_offload(4711).unwrap(), None);
        let gone = net.set_tx_checksum_offload(4711, false).unwrap_err();
        assert!(gone.is_not_found(), "{gone}");
        let fixed = net.set_tx_checksum_offload(1, false).unwrap_err();
        assert_eq!(fixed.errno(), Some(libc::EOPNOTSUPP));
        let text = fixed.to_string();
        assert!(
            text.starts_with("cannot switch off the checksum offload of link lo (1): "),
            "{text}"
        );
        assert!(text.contains("its driver does not let it be set"), "{text}");
    }
}
