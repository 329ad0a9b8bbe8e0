//! The socket itself, in the real kernel.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::Veth;
use crate::testing::TestNetns;

#[test]
fn a_socket_belongs_to_the_namespace_it_was_opened_in() {
    let (one, other) = (TestNetns::new("nl"), TestNetns::new("nl"));
    let mut netlink = one.netlink();
    // Used from outside, and from a thread that is in another namespace.
    netlink.add_veth(&Veth::new("a", "b")).unwrap();
    let seen = other.run(move || netlink.links().unwrap().len());
    assert_eq!(seen, 3);
    assert_eq!(other.netlink().links().unwrap().len(), 1);
    // Opened by a thread that is there already.
    let here = other.run(|| Netlink::open_in(&NetNs::current().unwrap()).unwrap().links().unwrap());
    assert_eq!(here.len(), 1);
}

#[test]
fn namespaces_are_numbered_when_a_link_leads_there() {
    let (one, other) = (TestNetns::new("nsid"), TestNetns::new("nsid"));
    let mut netlink = one.netlink();
    assert_eq!(netlink.netns_id(other.ns()).unwrap(), None);
    netlink.add_veth(&Veth { peer_ns: Some(other.ns()), ..Veth::new("a", "b") }).unwrap();
    let id = netlink.link("a").unwrap().unwrap().peer_netns_id;
    assert!(id.is_some());
    assert_eq!(netlink.netns_id(other.ns()).unwrap(), id);
}

#[test]
fn a_list_of_five_hundred_links() {
    let ns = TestNetns::new("many");
    let mut netlink = ns.netlink();
    for i in 0..250 {
        netlink.add_veth(&Veth::new(&format!("left{i}"), &format!("right{i}"))).unwrap();
    }
    let links = netlink.links().unwrap();
    assert_eq!(links.len(), 501);
    assert!(links.is_sorted_by_key(|link| link.index));
    let listed = ns.json(&["ip", "-j", "link"]);
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|l| l["ifname"].as_str()).collect();
    assert_eq!(links.iter().map(|link| Some(&*link.name)).collect::<Vec<_>>(), names);
}

#[test]
fn a_list_while_links_come_and_go() {
    let ns = TestNetns::new("churn");
    ns.netlink().add_veth(&Veth::new("stays", "too")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (mut reader, mut writer) = (ns.netlink(), ns.netlink());
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                writer.add_veth(&Veth::new("comes", "goes")).unwrap();
                let index = writer.link("comes").unwrap().unwrap().index;
                writer.delete_link(index).unwrap();
            }
        });
        for _ in 0..50 {
            let links = reader.links();
            if let Ok(links) = &links {
                assert!(["lo", "stays", "too"].iter().all(|n| links.iter().any(|l| l.name == *n)));
            } else {
                // Allowed: it may change each time. Nothing else is.
                stop.store(true, Ordering::Relaxed);
                assert!(matches!(links, Err(NetlinkError::Unsettled { .. })), "{links:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_namespace_that_cannot_be_entered_is_told() {
    let error = NetNs::open("/proc/0/ns/net").map_err(NetlinkError::from).unwrap_err();
    assert_eq!(error.to_string(), "cannot open a netlink socket in another network namespace");
    assert_eq!(error.errno(), None);
}
