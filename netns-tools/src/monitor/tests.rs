//! What is told of, and what is left out.

use std::net::IpAddr;

use super::*;
use crate::link::new::NewLink;
use crate::testing::{TestNetns, leftovers};
use crate::{
    Change, FdbEntry, MacAddr, Netlink, Nexthop, Object, PermanentNeighbour, Route, Veth, Vxlan,
};

const ALL: Kinds = Kinds {
    links: true,
    addresses: true,
    routes: true,
    neighbours: true,
    fdb: true,
    nexthops: true,
    parameters: true,
};

/// A namespace with a VXLAN device and another link, both up.
fn namespace() -> (TestNetns, Netlink, u32) {
    let ns = TestNetns::new("monitor");
    let mut net = ns.netlink();
    net.add_vxlan(&NewLink::new("v1"), &Vxlan::new(1, IpAddr::from([192, 0, 2, 1]))).unwrap();
    net.add_veth(&Veth::new("a", "b")).unwrap();
    for name in ["lo", "a", "b", "v1"] {
        ns.run(|| std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1"))
            .unwrap();
        ns.configure(name, &[]);
    }
    let link = ns.link("v1").index;
    (ns, net, link)
}

fn neighbour(link: u32) -> Object {
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    Object::Neighbour(PermanentNeighbour { link, address: IpAddr::from([10, 9, 0, 9]), mac })
}

fn fdb(link: u32) -> Object {
    Object::Fdb(FdbEntry::new(link, MacAddr([2, 0, 0, 0, 0, 9]), IpAddr::from([192, 0, 2, 9])))
}

fn route(link: u32, dst: &str) -> Object {
    Object::Route(Route { dst: dst.parse().unwrap(), oif: Some(link), ..Route::default() })
}

fn nexthop(link: u32) -> Object {
    let gateway = Some(IpAddr::from([10, 9, 0, 1]));
    Object::Nexthop(Nexthop { id: 7, gateway, oif: Some(link), onlink: true, protocol: 104 })
}

/// Each kind with something that changes it, but links.
fn changes(link: u32) -> [(Kinds, Object); 4] {
    [
        (Kinds { routes: true, ..Kinds::NONE }, route(link, "10.8.0.0/24")),
        (Kinds { neighbours: true, ..Kinds::NONE }, neighbour(link)),
        (Kinds { fdb: true, ..Kinds::NONE }, fdb(link)),
        (Kinds { nexthops: true, ..Kinds::NONE }, nexthop(link)),
    ]
}

fn apply(net: &mut Netlink, change: Change) {
    let outcome = net.apply([change]).unwrap();
    assert_eq!(outcome.made, 1, "{:?}", outcome.refused);
}

/// Links tell late of what was done to them before; waits for quiet.
fn quiet(monitor: &mut Monitor) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut silent = 0;
    while silent < 10 {
        silent = if monitor.drain().unwrap().any() { 0 } else { silent + 1 };
        assert!(std::time::Instant::now() < deadline, "it never gets quiet");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn each_kind_is_told_and_no_other() {
    let (ns, mut net, link) = namespace();
    let mut all = Monitor::open_in(ns.ns(), ALL, &Filter::default()).unwrap();
    quiet(&mut all);
    for (kind, object) in changes(link) {
        let mut one = Monitor::open_in(ns.ns(), kind, &Filter::default()).unwrap();
        let missing = Kinds { routes: true, addresses: true, ..Kinds::NONE };
        let mut other = Monitor::open_in(ns.ns(), missing, &Filter::default()).unwrap();
        for change in [Change::add(object.clone()), Change::delete(object.clone())] {
            apply(&mut net, change);
            assert_eq!(one.drain().unwrap(), kind, "{object}");
            assert_eq!(all.drain().unwrap(), kind, "{object}");
            assert_eq!(other.drain().unwrap().any(), kind.routes, "{object}");
            assert!(!one.drain().unwrap().any(), "told once");
        }
    }
    let mut links =
        Monitor::open_in(ns.ns(), Kinds { links: true, ..Kinds::NONE }, &Filter::default())
            .unwrap();
    net.set_mtu(link, 1300).unwrap();
    assert_eq!(links.drain().unwrap(), Kinds { links: true, ..Kinds::NONE });
    let addresses = Kinds { addresses: true, ..Kinds::NONE };
    let mut addresses_only = Monitor::open_in(ns.ns(), addresses, &Filter::default()).unwrap();
    net.add_address(link, "10.7.0.1/32".parse().unwrap()).unwrap();
    assert_eq!(addresses_only.drain().unwrap(), addresses);
    // Another namespace's are not told.
    let (_other, mut elsewhere, link) = namespace();
    all.drain().unwrap();
    apply(&mut elsewhere, Change::add(neighbour(link)));
    assert!(!all.drain().unwrap().any());
    assert!(leftovers().len() >= 2);
}

#[test]
fn parameters_are_told_when_they_become_others() {
    let (ns, _net, _) = namespace();
    let parameters = Kinds { parameters: true, ..Kinds::NONE };
    let mut monitor = Monitor::open_in(ns.ns(), parameters, &Filter::default()).unwrap();
    quiet(&mut monitor);
    let mut write = |key: &str, value: &str| {
        ns.run(|| crate::sysctl::write(key, value)).unwrap();
        monitor.drain().unwrap()
    };
    for (key, on, off) in [
        ("net/ipv4/ip_forward", "1", "0"),
        ("net/ipv6/conf/all/forwarding", "1", "0"),
        ("net/ipv4/conf/v1/rp_filter", "1", "2"),
    ] {
        // what it was is not known
        write(key, off);
        assert_eq!(write(key, on), parameters, "{key}");
        assert_eq!(write(key, off), parameters, "{key}");
        assert_eq!(write(key, off), Kinds::NONE, "{key} is what it was");
    }
}

#[test]
fn ones_own_changes_are_left_out() {
    let (ns, mut net, link) = namespace();
    let filter = Filter { ignored_ports: vec![net.port_id().unwrap(), 1], neighbour_links: None };
    let mut monitor = Monitor::open_in(ns.ns(), ALL, &filter).unwrap();
    quiet(&mut monitor);
    let mut stranger = ns.netlink();
    for (kind, object) in changes(link) {
        apply(&mut net, Change::add(object.clone()));
        // The kernel does not say who asked for a VXLAN device's entry, or for a neighbour to go.
        assert_eq!(monitor.drain().unwrap().any(), kind.fdb, "add {object}");
        apply(&mut net, Change::delete(object.clone()));
        let told = monitor.drain().unwrap().any();
        assert_eq!(told, kind.fdb || kind.neighbours, "delete {object}");
        apply(&mut stranger, Change::add(object.clone()));
        assert_eq!(monitor.drain().unwrap(), kind, "{object}");
        apply(&mut stranger, Change::delete(object));
        assert_eq!(monitor.drain().unwrap(), kind);
    }
    net.add_address(link, "10.7.0.1/32".parse().unwrap()).unwrap();
    let told = monitor.drain().unwrap();
    assert!(!told.addresses, "{told:?}");
    // Nor of a link.
    net.set_mtu(link, 1300).unwrap();
    assert!(monitor.drain().unwrap().links);
    monitor.set_filter(&Filter::default()).unwrap();
    apply(&mut net, Change::add(neighbour(link)));
    assert!(monitor.drain().unwrap().neighbours);
}

#[test]
fn a_link_that_is_set_down_tells_only_of_itself_and_its_neighbours() {
    let (ns, mut net, link) = namespace();
    for object in [route(link, "10.8.0.0/24"), neighbour(link)] {
        apply(&mut net, Change::add(object));
    }
    let mut monitor = Monitor::open_in(ns.ns(), ALL, &Filter::default()).unwrap();
    quiet(&mut monitor);
    net.set_down(link).unwrap();
    let told = monitor.drain().unwrap();
    assert!(!ns.cmd(&["ip", "route"]).contains("10.8.0.0"), "the route is gone");
    assert!(net.neighbours(link).unwrap().is_empty());
    assert_eq!(told, Kinds { links: true, neighbours: true, ..Kinds::NONE });
}

#[test]
fn neighbours_of_other_links_are_left_out() {
    let (ns, mut net, link) = namespace();
    let other = ns.link("a").index;
    let only =
        |links: &[u32]| Filter { neighbour_links: Some(links.to_vec()), ..Filter::default() };
    let mut monitor = Monitor::open_in(ns.ns(), ALL, &only(&[4711, link])).unwrap();
    quiet(&mut monitor);
    apply(&mut net, Change::add(neighbour(other)));
    assert!(!monitor.drain().unwrap().any());
    apply(&mut net, Change::add(neighbour(link)));
    apply(&mut net, Change::add(fdb(link)));
    let both = Kinds { neighbours: true, fdb: true, ..Kinds::NONE };
    assert_eq!(monitor.drain().unwrap(), both);
    apply(&mut net, Change::add(route(other, "10.6.0.0/24")));
    assert!(monitor.drain().unwrap().routes, "routes are not theirs");
    monitor.set_filter(&only(&[])).unwrap();
    apply(&mut net, Change::delete(neighbour(link)));
    assert!(!monitor.drain().unwrap().any());
    // More than a program holds are not left out, rather than all.
    monitor.set_filter(&only(&(0..5000).collect::<Vec<_>>())).unwrap();
    apply(&mut net, Change::add(neighbour(link)));
    assert!(monitor.drain().unwrap().neighbours);
}

/// What is told of entries until nothing is.
fn entries(monitor: &mut Monitor) -> Vec<Entry> {
    let mut told = Vec::new();
    monitor
        .drain_but(|entry| {
            told.push(*entry);
            true
        })
        .unwrap();
    told
}

#[test]
fn entries_are_told_as_they_are_and_those_that_are_expected_are_not() {
    let (ns, mut net, link) = namespace();
    let kinds = Kinds { neighbours: true, fdb: true, ..Kinds::NONE };
    let mut monitor = Monitor::open_in(ns.ns(), kinds, &Filter::default()).unwrap();
    quiet(&mut monitor);
    let (mac, address) = (MacAddr([2, 0, 0, 0, 0, 9]), IpAddr::from([10, 9, 0, 9]));
    let [one, other] = [[192, 0, 2, 9], [192, 0, 2, 8]].map(|remote| Some(IpAddr::from(remote)));
    let moved = FdbEntry { remote: other, ..FdbEntry::new(link, mac, IpAddr::from([0; 4])) };
    let of = |remote| Entry::Fdb { link, mac, remote };
    for (change, want) in [
        (Change::add(fdb(link)), of(one)),
        (Change::replace(Object::Fdb(moved)), of(other)),
        (Change::delete(Object::Fdb(moved)), of(None)),
        (Change::add(neighbour(link)), Entry::Neighbour { link, address, mac: Some(mac) }),
    ] {
        apply(&mut net, change);
        assert_eq!(entries(&mut monitor), [want]);
    }
    // first it leads nowhere, then it is gone
    apply(&mut net, Change::delete(neighbour(link)));
    let told = entries(&mut monitor);
    assert!(!told.is_empty());
    assert!(told.iter().all(|told| *told == Entry::Neighbour { link, address, mac: None }));
    apply(&mut net, Change::add(fdb(link)));
    assert_eq!(monitor.drain_but(|entry| *entry == of(one)).unwrap(), Kinds::NONE);
    net.set_neighbour(&PermanentNeighbour { link, address, mac }).unwrap();
    let told = monitor.drain_but(|entry| *entry == of(one)).unwrap();
    assert_eq!(told, Kinds { neighbours: true, ..Kinds::NONE });
}

#[test]
fn what_is_lost_counts_as_everything() {
    let (ns, mut net, link) = namespace();
    let kinds = Kinds { routes: true, links: true, ..Kinds::NONE };
    let mut monitor = Monitor::open_in(ns.ns(), kinds, &Filter::default()).unwrap();
    quiet(&mut monitor);
    monitor.shrink();
    let routes = (0..60).map(|i| Change::add(route(link, &format!("10.5.{i}.0/24"))));
    assert_eq!(net.apply(routes).unwrap().made, 60);
    assert_eq!(monitor.drain().unwrap(), kinds);
    assert!(!monitor.drain().unwrap().any());
}

#[test]
fn a_storm_that_is_left_out_costs_no_room() {
    let (ns, mut net, link) = namespace();
    let filter = Filter { ignored_ports: vec![net.port_id().unwrap()], neighbour_links: None };
    let kinds = Kinds { routes: true, ..Kinds::NONE };
    let mut monitor = Monitor::open_in(ns.ns(), kinds, &filter).unwrap();
    quiet(&mut monitor);
    monitor.shrink();
    let routes = (0..2000).map(|i| {
        let dst = format!("10.{}.{}.0/24", i >> 8, i & 255);
        Change::add(route(link, &dst))
    });
    assert_eq!(net.apply(routes).unwrap().made, 2000);
    assert!(!monitor.drain().unwrap().any(), "nothing, and nothing lost");
}
