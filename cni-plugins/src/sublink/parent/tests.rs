use netns_tools::{IpvlanMode, Macvlan, OperState};

use super::*;
use crate::sublink::Addresses;

fn link(index: u32, kind: &str, peer: (Option<u32>, Option<i32>)) -> Link {
    Link {
        index,
        name: "up0".into(),
        kind: Some(kind.into()),
        mac: None,
        mtu: 1400,
        up: false,
        oper_state: OperState::Down,
        master: None,
        peer_index: peer.0,
        peer_netns_id: peer.1,
        ..Link::default()
    }
}

fn wanted(kind: Kind, mtu: i64) -> Sublink {
    Sublink {
        kind,
        master: Master::DefaultRoute,
        in_container: false,
        mtu,
        mac: None,
        addresses: Addresses::None,
    }
}

type Case = (Kind, i64, Result<Option<u32>, &'static str>);

#[test]
fn mtu_limits() {
    let macvlan = Kind::Macvlan(Macvlan::default());
    let ipvlan = Kind::Ipvlan(IpvlanMode::L2);
    let parent = link(1, "veth", (None, None));
    let cases: [Case; 15] = [
        (macvlan, 0, Ok(None)),
        (macvlan, 68, Ok(Some(68))),
        (macvlan, 1400, Ok(Some(1400))),
        (macvlan, 67, Err("invalid MTU 67, must be [0, master MTU(1400)]")),
        (macvlan, 1401, Err("invalid MTU 1401, must be [0, master MTU(1400)]")),
        (macvlan, -1, Err("invalid MTU -1, must be [0, master MTU(1400)]")),
        (macvlan, 1 << 32, Err("invalid MTU 4294967296, must be [0, master MTU(1400)]")),
        (Kind::Vlan(5), 1, Ok(Some(1))),
        (Kind::Vlan(5), 1400, Ok(Some(1400))),
        (Kind::Vlan(5), 1401, Err("invalid MTU 1401, must be [0, master MTU(1400)]")),
        (Kind::Vlan(5), -1, Err("invalid MTU -1, must be [0, master MTU(1400)]")),
        (ipvlan, 0, Ok(None)),
        (ipvlan, 9000, Ok(Some(9000))),
        (ipvlan, 65536, Err("invalid MTU 65536, must be 0 or [68, 65535]")),
        (ipvlan, -1, Err("invalid MTU -1, must be 0 or [68, 65535]")),
    ];
    for (kind, given, expected) in cases {
        let found = mtu(&wanted(kind, given), Some(&parent)).map_err(|error| error.msg);
        assert_eq!(found, expected.map_err(str::to_owned), "{kind:?} {given}");
    }
}

#[test]
fn links_that_cannot_carry_another() {
    let lo = Link { loopback: true, ..link(1, "veth", (None, None)) };
    let error = refuse_unfit(Kind::Ipvlan(IpvlanMode::L3), &lo).unwrap_err();
    assert_eq!(
        error.msg,
        "master \"up0\" cannot carry ipvlan interfaces: it is a loopback interface"
    );
    let down = link(1, "veth", (None, None));
    refuse_unfit(Kind::Macvlan(Macvlan::default()), &down).unwrap();
    let error = refuse_unfit(Kind::Vlan(5), &down).unwrap_err();
    assert_eq!(error.msg, "master \"up0\" cannot carry vlan interfaces: it is down");
    refuse_unfit(Kind::Vlan(5), &Link { up: true, ..down }).unwrap();
}

#[test]
fn who_is_on_whom() {
    let veth = link(7, "veth", (Some(8), Some(3)));
    let on = |index, netns| link(2, "macvlan", (Some(index), netns));
    // In the same namespace, and in another.
    assert!(carries(&veth, None, &on(7, None)));
    assert!(carries(&veth, Some(0), &on(7, Some(0))));
    // The other end of a veth pair is not what it is on.
    for (netns, link) in [
        (None, on(7, Some(0))),
        (Some(0), on(7, None)),
        (Some(0), on(7, Some(1))),
        (None, on(8, Some(3))),
    ] {
        assert!(!carries(&veth, netns, &link), "{netns:?} {link:?}");
    }
    // Siblings: on a macvlan of the same namespace whose parent is elsewhere, and on one of the host.
    let sibling = link(9, "macvlan", (Some(7), Some(3)));
    assert!(carries(&sibling, None, &on(7, Some(3))));
    assert!(!carries(&sibling, None, &on(7, None)));
    assert!(!carries(&sibling, None, &on(6, Some(3))));
    let on_host = link(9, "macvlan", (Some(7), None));
    assert!(carries(&on_host, Some(0), &on(7, Some(0))));
    assert!(!carries(&on_host, Some(0), &on(7, Some(1))));
    // A VLAN on a VLAN is on it.
    let vlan = |index, peer| link(index, "vlan", (Some(peer), None));
    assert!(carries(&vlan(4, 1), None, &vlan(5, 4)));
    assert!(!carries(&vlan(4, 1), None, &vlan(5, 1)));
}
