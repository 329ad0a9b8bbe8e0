//! Forwarding entries of VXLAN devices: to which node the frames for an Ethernet address go (rtnetlink(7), family `AF_BRIDGE`;
//! `drivers/net/vxlan/vxlan_core.c`).

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, parse_ip, parse_u16, parse_u16_be, parse_u32,
};

use crate::mac::MacAddr;
use crate::neighbour::{NDA_DST, NDA_LLADDR, NUD_PERMANENT, header};
use crate::netlink::raw::{RawMessage, append, append_ip, append_number};
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, Result, body};

/// `sizeof(struct ndmsg)`.
const HEADER_LEN: usize = 12;
/// `NDA_PORT`, `NDA_VNI`, `NDA_IFINDEX` (`linux/neighbour.h`).
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_IFINDEX: u16 = 8;
/// `NTF_SELF`: of the device itself, not of the bridge that it may be a port of.
const NTF_SELF: u8 = 2;
/// `AF_BRIDGE`.
const AF_BRIDGE: u8 = 7;

/// A forwarding entry. For the all-zero address and for groups a device may have several, which differ by where they lead; for other
/// addresses one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// The VXLAN device, by index.
    pub link: u32,
    /// Frames to this address; all zeros: to any that has no entry of its own.
    pub mac: MacAddr,
    /// go to this node on the underlay. To be deleted with `None`: to whatever node.
    pub remote: Option<IpAddr>,
    /// At this UDP port; `None`: the device's own.
    pub port: Option<u16>,
    /// With this network identifier; `None`: the device's own.
    pub vni: Option<u32>,
    /// By this link of the underlay, by index; `None`: the device's own, or as the routes say.
    pub via: Option<u32>,
    /// Somebody set it; it never grows old. Entries are always made so.
    pub permanent: bool,
}

impl FdbEntry {
    /// A permanent entry with the device's own port and identifier.
    pub fn new(link: u32, mac: MacAddr, remote: IpAddr) -> Self {
        Self { link, mac, remote: Some(remote), port: None, vni: None, via: None, permanent: true }
    }

    /// Appends `struct ndmsg` and the attributes, for entries to be made and to be deleted.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.extend(header(AF_BRIDGE, self.link, NUD_PERMANENT, NTF_SELF));
        append(to, NDA_LLADDR, &self.mac.0);
        if let Some(remote) = self.remote {
            append_ip(to, NDA_DST, remote);
        }
        if let Some(port) = self.port {
            append(to, NDA_PORT, &port.to_be_bytes());
        }
        append_number(to, NDA_VNI, self.vni);
        append_number(to, NDA_IFINDEX, self.via);
    }
}

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mac)?;
        if let Some(remote) = self.remote {
            write!(f, " to {remote}")?;
        }
        write!(f, " on link {}", self.link)
    }
}

/// Reads what follows the netlink header; `None`: an entry of another sort.
pub(crate) fn read(bytes: &[u8]) -> std::result::Result<Option<FdbEntry>, Malformed> {
    let list = body(bytes, HEADER_LEN)?;
    if bytes[0] != AF_BRIDGE || bytes[10] & NTF_SELF == 0 {
        return Ok(None);
    }
    let state = parse_u16(&bytes[8..10]).unwrap_or_default();
    let (mut mac, mut entry) = (None, FdbEntry::new(0, MacAddr([0; 6]), IpAddr::from([0; 4])));
    entry.remote = None;
    entry.link = parse_u32(&bytes[4..8]).unwrap_or_default();
    entry.permanent = state & NUD_PERMANENT != 0;
    for (kind, value) in attributes(list) {
        match kind {
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok().map(MacAddr),
            NDA_DST => entry.remote = parse_ip(value).ok(),
            NDA_PORT => entry.port = parse_u16_be(value).ok(),
            NDA_VNI => entry.vni = parse_u32(value).ok(),
            NDA_IFINDEX => entry.via = parse_u32(value).ok(),
            _ => {}
        }
    }
    Ok(mac.map(|mac| FdbEntry { mac, ..entry }))
}

impl Netlink {
    /// The forwarding entries of the VXLAN device with this index; of links of another kind, those that they have themselves.
    pub fn fdb(&mut self, link: u32) -> Result<Vec<FdbEntry>> {
        // Kernels from 4.20 on then tell those of this link only.
        let message = RawMessage::new(libc::RTM_GETNEIGH, header(AF_BRIDGE, link, 0, 0));
        self.list("list forwarding entries", message, |bytes| {
            Ok(read(bytes)?.filter(|entry| entry.link == link))
        })
    }

    /// Makes a forwarding entry. `EEXIST` when its Ethernet address has one, wherever it leads.
    pub fn add_fdb(&mut self, entry: &FdbEntry) -> Result<()> {
        self.new_fdb("add forwarding entry", entry, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes a forwarding entry, or lets the one of its Ethernet address lead to another node.
    pub fn replace_fdb(&mut self, entry: &FdbEntry) -> Result<()> {
        self.new_fdb("replace forwarding entry", entry, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Deletes a forwarding entry; without `remote`, all of its Ethernet address. If that has entries, but none to this `remote`, the
    /// kernel deletes nothing and says that all went well.
    pub fn delete_fdb(&mut self, entry: &FdbEntry) -> Result<()> {
        let message = RawMessage::written(libc::RTM_DELNEIGH, |to| entry.write(to));
        self.change("delete forwarding entry", entry, message, 0)
    }

    fn new_fdb(&mut self, operation: &str, entry: &FdbEntry, flags: u16) -> Result<()> {
        let message = RawMessage::written(libc::RTM_NEWNEIGH, |to| entry.write(to));
        self.change(operation, entry, message, flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::new::NewLink;
    use crate::link::vxlan::Vxlan;
    use crate::netlink::reply::tests::attribute;
    use crate::testing::TestNetns;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    #[test]
    fn messages() {
        let entry = FdbEntry {
            port: Some(4789),
            vni: Some(7),
            via: Some(3),
            ..FdbEntry::new(5, MAC, "192.0.2.9".parse().unwrap())
        };
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        let want = [
            vec![7, 0, 0, 0],
            5_u32.to_ne_bytes().to_vec(),
            0x80_u16.to_ne_bytes().to_vec(),
            vec![2, 0],
            attribute(2, &MAC.0),
            attribute(1, &[192, 0, 2, 9]),
            attribute(6, &[0x12, 0xb5]),
            attribute(7, &7_u32.to_ne_bytes()),
            attribute(8, &3_u32.to_ne_bytes()),
        ];
        assert_eq!(bytes, want.concat());
        assert_eq!(read(&bytes).unwrap(), Some(entry));
        assert_eq!(entry.to_string(), "02:00:00:00:00:09 to 192.0.2.9 on link 5");
        assert!(read(&bytes[..11]).is_err());
        // Of a bridge, and an ordinary neighbour.
        for (at, value) in [(10, 0), (0, 2)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert_eq!(read(&other).unwrap(), None);
        }
    }

    #[test]
    fn added_replaced_listed_and_deleted() {
        for (local, one, other) in [
            ("192.0.2.1", "192.0.2.9", "192.0.2.10"),
            ("2001:db8::1", "2001:db8::9", "2001:db8::10"),
        ] {
            let ns = TestNetns::new("fdb");
            let mut net = ns.netlink();
            for (name, vni) in [("v1", 1), ("v2", 2)] {
                let vxlan = Vxlan { vni, ..Vxlan::new(1, local.parse().unwrap()) };
                net.add_vxlan(&NewLink::new(name), &vxlan).unwrap();
            }
            let (v1, v2) = (ns.link("v1").index, ns.link("v2").index);
            let entry = FdbEntry::new(v1, MAC, one.parse().unwrap());
            net.add_fdb(&entry).unwrap();
            net.add_fdb(&FdbEntry { link: v2, ..entry }).unwrap();
            assert_eq!(net.fdb(v1).unwrap(), [entry]);
            let again = net.add_fdb(&entry).unwrap_err();
            assert!(
                again.is_exists() && again.to_string().ends_with("there is one already"),
                "{again}"
            );

            let moved = FdbEntry { remote: other.parse().ok(), ..entry };
            net.replace_fdb(&moved).unwrap();
            assert_eq!(net.fdb(v1).unwrap(), [moved]);
            let shown = ns.json(&["bridge", "-j", "fdb", "show", "dev", "v1"]);
            assert_eq!(
                (&shown[0]["dst"], &shown[0]["state"]),
                (&other.into(), &"permanent".into())
            );
            // That it led elsewhere meanwhile is no error, and it stays.
            net.delete_fdb(&entry).unwrap();
            assert_eq!(net.fdb(v1).unwrap(), [moved]);
            net.delete_fdb(&FdbEntry { remote: None, ..entry }).unwrap();
            assert_eq!(net.fdb(v1).unwrap(), []);
            assert_eq!(net.fdb(v2).unwrap().len(), 1);
            let gone = net.delete_fdb(&entry).unwrap_err();
            assert!(gone.is_not_found(), "{gone}");
        }
    }

    #[test]
    fn links_that_have_none() {
        let ns = TestNetns::new("fdb");
        let mut net = ns.netlink();
        assert_eq!(net.fdb(1).unwrap(), []);
        let missing =
            net.add_fdb(&FdbEntry::new(4711, MAC, "192.0.2.9".parse().unwrap())).unwrap_err();
        assert!(missing.is_not_found(), "{missing}");
    }
}
