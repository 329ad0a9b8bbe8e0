use netlink_packet_core::Emitable;

use super::*;
use crate::netlink::reply::tests::attribute;
use crate::testing::TestNetns;

/// The bytes that follow the netlink header.
pub fn bytes(message: &LinkMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

/// `struct ifinfomsg` of a new link, and its attributes.
pub fn expected(list: &[Vec<u8>]) -> Vec<u8> {
    [&[0; HEADER_LEN][..], &list.concat()].concat()
}

/// `IFLA_LINKINFO` with the kind, which ends with a zero, and its attributes, which are left out when there are none.
pub fn info(kind: &str, data: &[Vec<u8>]) -> Vec<u8> {
    let mut list = attribute(1, &[kind.as_bytes(), &[0]].concat());
    if !data.is_empty() {
        list.extend(attribute(2, &data.concat()));
    }
    attribute(18, &list)
}

/// Whether the kernel has a kind. If not, the test that asks says so in one visible line.
pub fn proven_here(ns: &TestNetns, kind: &str) -> bool {
    let has = ns.netlink().has_link_kind(kind).unwrap();
    if !has {
        println!("not proven on this kernel: {kind} links, it cannot make them");
    }
    has
}

#[test]
fn a_message_names_the_parent_and_the_place() {
    let ns = TestNetns::new("new");
    let link = NewLink {
        name: "x0",
        ns: Some(ns.ns()),
        mtu: Some(1400),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
    };
    let fd = ns.ns().as_fd().as_raw_fd();
    let want = expected(&[
        attribute(3, b"x0\0"),
        attribute(4, &1400u32.to_ne_bytes()),
        attribute(1, &[2, 0, 0, 0, 0, 1]),
        attribute(5, &7u32.to_ne_bytes()),
        attribute(28, &fd.to_ne_bytes()),
        info("dummy", &[]),
    ]);
    assert_eq!(bytes(&link.message(Some(7), InfoKind::Dummy, None)), want);
}

#[test]
fn a_probe_leaves_nothing() {
    let ns = TestNetns::new("probe");
    let mut net = ns.netlink();
    // What the kernel refuses for its address, and what it makes all the same.
    for (kind, has) in [("veth", true), ("bridge", true), ("macvlan", true), ("nosuchkind", false)]
    {
        assert_eq!(net.has_link_kind(kind).unwrap(), has, "{kind}");
    }
    // What every kernel says of these, `ip` says too.
    for kind in ["ipvlan", "vlan", "dummy", "vrf", "ifb", "wireguard", "ipip"] {
        let has = net.has_link_kind(kind).unwrap();
        let said = ns.output(&["ip", "link", "add", "x0", "type", kind]);
        let unknown = String::from_utf8_lossy(&said.stderr).contains("Unknown device type");
        assert_eq!(has, !unknown, "{kind}: {said:?}");
        let _ = ns.output(&["ip", "link", "del", "x0"]);
    }
    let left = net.links().unwrap().into_iter().filter(|link| link.name.starts_with("probe"));
    assert_eq!(left.map(|link| link.name).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn another_kind_has_no_such_data() {
    let link =
        |kind: &str| expected(&[attribute(3, b"x0\0"), info(kind, &[attribute(1, &[1, 0])])]);
    let data = attribute(1, &[1, 0]);
    let bare = [attribute(1, b"vlan"), attribute(2, &data)].concat();
    let without_zero = expected(&[attribute(18, &bare)]);
    assert_eq!(data_of(&link("vlan"), "vlan").unwrap(), Some(&data[..]));
    assert_eq!(data_of(&without_zero, "vlan").unwrap(), Some(&data[..]));
    assert_eq!(data_of(&link("ipvlan"), "vlan").unwrap(), None);
    assert_eq!(data_of(&expected(&[attribute(3, b"x0\0")]), "vlan").unwrap(), None);
    assert_eq!(data_of(&expected(&[info("dummy", &[])]), "dummy").unwrap(), Some(&[][..]));
    assert!(data_of(&[0; 9], "vlan").is_err());
}
