use std::collections::BTreeMap;
use std::net::IpAddr;

use netns_tools::{MacAddr, Route as KernelRoute};
use proptest::prelude::*;

use super::fake::Fake;
use super::*;
use crate::overlay::desired::{Route, Way};

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn device(vni: u32) -> Device {
    Device {
        name: format!("heddle.{vni}"),
        vni,
        port: 8472,
        mac: mac(1),
        local: "192.0.2.1".parse().unwrap(),
        underlay: 2,
        mtu: 1450,
        addresses: vec!["10.244.1.0/32".parse().unwrap(), "fd00:1::/128".parse().unwrap()],
    }
}

/// By another device, with the same entries.
fn by_other_device(mut route: Route) -> Route {
    if let Way::Tunnel { device, .. } = &mut route.way {
        *device = "heddle.2".into();
    }
    route
}

/// To the node `node` with pods by their number.
fn tunnel(range: u8, v4: bool, node: u8) -> Route {
    let text = if v4 { format!("10.244.{range}.0/24") } else { format!("fd00:{range}::/64") };
    let destination: ipnetwork::IpNetwork = text.parse().unwrap();
    let way = Way::Tunnel {
        device: "heddle.1".into(),
        gateway: destination.ip(),
        mac: mac(node),
        remote: IpAddr::from([192, 0, 2, node]),
    };
    Route { destination, way, mtu: None }
}

fn direct(range: u8, node: u8) -> Route {
    let way = Way::Direct {
        gateway: IpAddr::from([192, 0, 2, node]),
        link: 2,
        source: "192.0.2.1".parse().unwrap(),
    };
    Route { way, ..tunnel(range, true, node) }
}

fn desired(routes: Vec<Route>) -> Desired {
    Desired { devices: vec![device(1)], routes, ..Desired::default() }
}

fn desired_of_two(routes: Vec<Route>) -> Desired {
    let devices = vec![device(1), Device { addresses: vec![], ..device(2) }];
    Desired { devices, routes, ..Desired::default() }
}

/// Made as desired, and a second time there is nothing to do.
fn synced(desired: &Desired) -> Kernel<Fake> {
    let mut kernel = Kernel::with(Fake::new());
    settle(&mut kernel, desired);
    kernel
}

fn settle(kernel: &mut Kernel<Fake>, desired: &Desired) -> Report {
    let report = kernel.sync(desired).unwrap();
    assert_eq!(report.failed, []);
    let again = kernel.sync(desired).unwrap();
    assert!(again.is_empty(), "{again:?}\n{}", kernel.host.show());
    report
}

/// The changes of a full comparison, one a line.
fn changes(found: &Wanted, wanted: &Wanted) -> String {
    let difference = difference(&found.clone().into(), wanted, &BTreeSet::new());
    let line = |change: &KernelChange| {
        format!("{:?} {} {}\n", change.verb, kind(&change.object), change.object)
    };
    difference.changes.iter().map(line).collect()
}

fn kind(object: &Object) -> &'static str {
    match object {
        Object::Route(_) => "route",
        Object::Neighbour(_) => "neighbour",
        Object::Fdb(_) => "fdb",
        _ => "other",
    }
}

fn wanted(routes: &[Route]) -> Wanted {
    Wanted::of(routes.iter(), &BTreeMap::from([("heddle.1".into(), 3)]))
}

#[test]
fn golden_order_of_changes() {
    let before = [tunnel(2, true, 2), tunnel(2, false, 2), tunnel(3, true, 3), direct(4, 4)];
    let mut moved = tunnel(2, true, 9);
    moved.mtu = Some(1300);
    let after = [moved, tunnel(2, false, 9), direct(3, 3), tunnel(4, true, 4), tunnel(5, true, 5)];
    insta::assert_snapshot!(changes(&Wanted::default(), &wanted(&before)));
    insta::assert_snapshot!(changes(&wanted(&before), &wanted(&after)));
    insta::assert_snapshot!(changes(&wanted(&after), &Wanted::default()));
    assert_eq!(changes(&wanted(&after), &wanted(&after)), "");
}

#[test]
fn made_from_nothing_and_removed() {
    let mut kernel = synced(&desired(vec![tunnel(2, true, 2), tunnel(2, false, 2), direct(3, 3)]));
    let host = &kernel.host;
    assert_eq!((host.routes.len(), host.neighbours.len(), host.fdb.len()), (3, 2, 1));
    let report = settle(&mut kernel, &Desired::default());
    assert_eq!((report.devices, report.removed), (vec!["heddle.1 removed".to_owned()], 3));
    let host = &kernel.host;
    assert_eq!(
        (host.routes.len(), host.neighbours.len(), host.fdb.len(), host.links.len()),
        (0, 0, 0, 1)
    );
}

#[test]
fn devices_are_changed_in_place_where_the_kernel_can() {
    let routes = || vec![tunnel(2, true, 2)];
    let mut kernel = synced(&desired(routes()));
    let index = kernel.host.index("heddle.1");
    let changed =
        Device { mac: mac(9), mtu: 1400, local: "192.0.2.9".parse().unwrap(), ..device(1) };
    kernel.host.asked = 0;
    let report =
        settle(&mut kernel, &Desired { devices: vec![changed.clone()], ..desired(routes()) });
    assert_eq!(
        report.devices,
        [
            "heddle.1 set sending from 192.0.2.9",
            "heddle.1 set MAC 02:00:00:00:00:09",
            "heddle.1 set MTU 1400"
        ]
    );
    // the neighbour went with the MAC, and the forwarding entry remembers the old address until it is written again
    assert_eq!((kernel.host.asked, kernel.host.index("heddle.1")), (2, index));
    let anew = Device { port: 4789, ..changed };
    let report = settle(&mut kernel, &Desired { devices: vec![anew], ..desired(routes()) });
    assert_eq!(report.devices, ["heddle.1 made anew: it had UDP port 8472"]);
    assert_ne!(kernel.host.index("heddle.1"), index);
}

#[test]
fn a_device_that_is_set_down_and_one_that_is_deleted() {
    let desired = desired(vec![tunnel(2, true, 2), tunnel(2, false, 2)]);
    let mut kernel = synced(&desired);
    let index = kernel.host.index("heddle.1");
    kernel.host.set_down(index);
    let report = settle(&mut kernel, &desired);
    assert_eq!((report.devices, report.put), (vec!["heddle.1 set up".to_owned()], 5));
    kernel.host.delete_link(index).unwrap();
    // a change meanwhile: told, and mended by the next comparison
    let report = kernel.update(&[Change::Put(tunnel(3, true, 3))]).unwrap();
    assert_eq!(report.failed.len(), 3, "{report:?}");
    assert_eq!(settle(&mut kernel, &desired).devices, ["heddle.1 made"]);
}

fn foreign(metric: Option<u32>) -> KernelRoute {
    KernelRoute {
        dst: "10.244.2.0/24".parse().unwrap(),
        oif: Some(2),
        priority: metric,
        table: Some(254),
        protocol: Some(4),
        ..KernelRoute::default()
    }
}

#[test]
fn foreign_routes_stay() {
    let desired = desired(vec![tunnel(2, true, 2), tunnel(3, true, 3)]);
    let mut kernel = synced(&Desired::default());
    let place = entries::usual_metric(foreign(None).dst);
    let table = [
        (vec![foreign(None)], "packets take one of", 3),
        (vec![foreign(None), foreign(Some(place))], "there is one of", 3),
        (vec![foreign(Some(place))], "there is one of", 2),
    ];
    for (others, told, count) in table {
        settle(&mut kernel, &Desired::default());
        kernel.host.routes = others.clone();
        for _ in 0..2 {
            let report = kernel.sync(&desired).unwrap();
            let failed: Vec<_> = report.failed.iter().map(ToString::to_string).collect();
            assert_eq!(failed.len(), 1, "{failed:?}");
            let start = format!("route 10.244.2.0/24: {told} an administrator");
            assert!(failed[0].starts_with(&start), "{failed:?}");
            assert!(others.iter().all(|other| kernel.host.routes.contains(other)));
            assert_eq!(kernel.host.routes.len(), count);
        }
    }
    // what was not made is not removed: it is not ours
    let gone = Change::Gone("10.244.2.0/24".parse().unwrap());
    assert_eq!((kernel.update(&[gone]).unwrap().removed, kernel.host.routes.len()), (0, 2));
    // one that loses against ours is nobody's concern
    kernel.host.routes = vec![foreign(Some(50))];
    settle(&mut kernel, &desired);
    assert_eq!(kernel.host.routes.len(), 3);
    settle(&mut kernel, &Desired::default());
    assert_eq!(kernel.host.routes, [foreign(Some(50))]);
}

#[test]
fn a_change_needs_a_comparison_before() {
    let error = Kernel::with(Fake::new()).update(&[]).unwrap_err();
    assert_eq!(error.to_string(), "a change of the overlay needs a full comparison before it");
}

/// The kernel takes no IPv6 gateway on a link that it knows by another link.
#[test]
fn a_gateway_that_somebody_elses_wider_route_covers() {
    let mut kernel = synced(&desired(vec![]));
    let wide = KernelRoute { dst: "fd00::/8".parse().unwrap(), ..foreign(Some(1024)) };
    kernel.host.routes.push(wide.clone());
    let report = kernel.update(&[Change::Put(tunnel(2, false, 2))]).unwrap();
    assert_eq!(report.failed, []);
    assert_eq!(kernel.host.routes.len(), 2, "no stone is left\n{}", kernel.host.show());
    settle(&mut kernel, &desired(vec![tunnel(2, false, 2), tunnel(3, false, 3)]));
    settle(&mut kernel, &Desired::default());
    assert_eq!(kernel.host.routes, [wide]);
}

/// After a restart, or after somebody else made it: our own route is there although it was not known.
#[test]
fn our_own_route_that_was_not_known_is_replaced() {
    let mut kernel = synced(&desired(vec![]));
    let index = kernel.host.index("heddle.1");
    let stray = KernelRoute {
        protocol: Some(PROTOCOL),
        gateway: "192.0.2.9".parse().ok(),
        priority: Some(3),
        ..foreign(None)
    };
    kernel.host.routes.push(stray);
    let report = kernel.update(&[Change::Put(tunnel(2, true, 2))]).unwrap();
    assert_eq!(report.failed, []);
    assert_eq!(kernel.host.routes.len(), 1);
    assert_eq!(kernel.host.routes[0].oif, Some(index));
    assert!(kernel.sync(&desired(vec![tunnel(2, true, 2)])).unwrap().is_empty());
}

fn partial(routes: Vec<Route>) -> Desired {
    Desired { partial: true, ..desired(routes) }
}

#[test]
fn while_nodes_may_be_missing_what_is_nobodys_stays() {
    let all = [tunnel(2, true, 2), tunnel(2, false, 2), tunnel(3, true, 3), tunnel(4, true, 4)];
    let before = synced(&desired(all.to_vec()));
    // the next process, which knows less
    let mut kernel = Kernel::with(before.host.clone());
    let report = settle(&mut kernel, &partial(vec![tunnel(2, true, 2)]));
    assert!(report.is_empty(), "{report:?}");
    assert_eq!(kernel.host.show(), before.host.show());
    // what is known is put right: another node for a known range, another address for a known node
    let mut moved = tunnel(2, true, 2);
    if let Way::Tunnel { remote, .. } = &mut moved.way {
        *remote = "192.0.2.22".parse().unwrap();
    }
    let report = settle(&mut kernel, &partial(vec![moved.clone(), tunnel(3, true, 9)]));
    assert_eq!(
        (report.put, report.removed),
        (3, 0),
        "two entries and a neighbour\n{}",
        kernel.host.show()
    );
    assert_eq!(kernel.host.routes.len(), 4);
    // one that came by itself takes the place of what stayed
    let report = kernel.update(&[Change::Put(direct(4, 4))]).unwrap();
    assert_eq!((report.failed, kernel.host.routes.len()), (vec![], 4));
    // all are known
    let report = settle(&mut kernel, &desired(vec![moved, direct(4, 4)]));
    assert_eq!(
        report.removed,
        8,
        "two routes, three neighbours and three entries\n{}",
        kernel.host.show()
    );
    assert_eq!(kernel.host.routes.len(), 2);
}

#[test]
fn what_overlaps_a_known_range_is_in_its_way_whoever_may_be_missing() {
    let mut kernel = synced(&desired(vec![]));
    let link = Some(kernel.host.index("heddle.1"));
    let ours = |dst: &str| KernelRoute {
        dst: dst.parse().unwrap(),
        oif: link,
        protocol: Some(PROTOCOL),
        priority: Some(7),
        ..foreign(None)
    };
    for narrow in ["10.244.2.0/25", "10.244.2.128/25", "10.244.0.0/22", "fd00:2::/128"] {
        kernel.host.routes.push(ours(narrow));
    }
    for other in ["10.244.1.0/24", "10.244.4.0/24", "fd00:3::/64"] {
        kernel.host.routes.push(ours(other));
    }
    let routes = vec![tunnel(2, true, 2), tunnel(2, false, 2), tunnel(9, true, 9)];
    settle(&mut kernel, &partial(routes));
    let mut left: Vec<_> = kernel.host.routes.iter().map(|route| route.dst.to_string()).collect();
    left.sort();
    let want = [
        "10.244.1.0/24",
        "10.244.2.0/24",
        "10.244.4.0/24",
        "10.244.9.0/24",
        "fd00:2::/64",
        "fd00:3::/64",
    ];
    assert_eq!(left, want);
}

#[derive(Clone, Debug)]
struct Step(Vec<Part>);

/// A range, whether it is IPv4's, and for a route: the node, a choice of ways, and an MTU.
type Part = (u8, bool, Option<(u8, bool, Option<u32>)>);

/// Few of everything, so that entries are shared: a range, its family, and the node that has it, tunnelled or not.
fn step() -> impl Strategy<Value = Step> {
    let route = (2_u8..5, any::<bool>(), prop::option::of(Just(1300_u32)));
    prop::collection::vec((2_u8..7, any::<bool>(), prop::option::of(route)), 1..5).prop_map(Step)
}

fn change(part: &Part) -> Change {
    let (range, v4, route) = *part;
    match route {
        None => Change::Gone(tunnel(range, v4, 0).destination),
        Some((node, true, mtu)) if v4 => Change::Put(Route { mtu, ..direct(range, node) }),
        // IPv6 by one device or the other
        Some((node, true, mtu)) => {
            Change::Put(Route { mtu, ..by_other_device(tunnel(range, v4, node)) })
        }
        Some((node, false, mtu)) => Change::Put(Route { mtu, ..tunnel(range, v4, node) }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// The fake panics when a packet would be lost on the way.
    #[test]
    fn step_by_step_is_as_at_once(steps in prop::collection::vec(step(), 1..20)) {
        let mut kernel = synced(&desired_of_two(vec![]));
        let mut all = BTreeMap::new();
        for step in steps {
            let changes: Vec<_> = step.0.iter().map(change).collect();
            for change in &changes {
                match change {
                    Change::Put(route) => drop(all.insert(route.destination, route.clone())),
                    Change::Gone(destination) => drop(all.remove(destination)),
                }
            }
            let report = kernel.update(&changes).unwrap();
            prop_assert_eq!(report.failed, vec![]);
            let mut fresh = Kernel::with(kernel.host.clone());
            let report = fresh.sync(&desired_of_two(all.values().cloned().collect())).unwrap();
            prop_assert!(report.is_empty(), "{:?}\n{}", report, kernel.host.show());
        }
    }

    /// From whatever is there to whatever is desired, in one comparison.
    #[test]
    fn one_comparison_is_enough(before in step(), after in step(), down: bool) {
        let of = |step: &Step| {
            let routes: BTreeMap<_, _> = step.0.iter().filter_map(|part| match change(part) {
                Change::Put(route) => Some((route.destination, route)),
                Change::Gone(_) => None,
            }).collect();
            desired_of_two(routes.into_values().collect())
        };
        let mut kernel = synced(&of(&before));
        if down {
            let index = kernel.host.index("heddle.1");
            kernel.host.set_down(index);
        }
        settle(&mut kernel, &of(&after));
        let fresh = synced(&of(&after));
        prop_assert_eq!(kernel.host.show(), fresh.host.show());
    }
}
