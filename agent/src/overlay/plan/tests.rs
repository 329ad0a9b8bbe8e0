mod random;

use proptest::prelude::*;

use super::*;
use crate::overlay::cluster::Event;
use crate::overlay::desired::{Route, Way};
use crate::overlay::node::{Announcement, NodeRecord, derived_mac};

fn underlay(link: u32, address: &str, mtu: u32) -> Underlay {
    let gateway = address.starts_with("192.0.2.").then(|| "192.0.2.254".parse().unwrap());
    let address = address.parse().unwrap();
    Underlay { link, name: format!("eth{link}"), address, mtu, gateway }
}

fn bare(number: u8, cidrs: &[&str]) -> NodeRecord {
    NodeRecord {
        name: format!("n{number}").into(),
        created: Some(number.into()),
        pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        ..NodeRecord::default()
    }
}

fn local(number: u8, settings: Settings, cidrs: &[&str], addresses: &[&str]) -> Local {
    let node = bare(number, cidrs);
    let underlays: Vec<_> = addresses.iter().map(|address| underlay(2, address, 1500)).collect();
    Local::new(settings, &node, derived_mac(&node.name), &underlays).unwrap()
}

/// The record of the node that has this plan.
fn record(local: &Local) -> NodeRecord {
    NodeRecord {
        announced: Some(local.announcement()),
        pod_cidrs: local.pod_cidrs.clone(),
        ..bare(local.name[1..].parse().unwrap(), &[])
    }
}

fn with(backend: Backend) -> Settings {
    Settings { backend, ..Settings::default() }
}

/// The plan of a node that knows one other, which is the younger.
fn between(ours: &Local, theirs: NodeRecord) -> Peer {
    let mut cluster = Cluster::default();
    cluster.apply(Event::All(vec![record(ours), theirs.clone()]));
    let plan = Plan::new(ours.clone(), &cluster, BTreeMap::new());
    assert!(!plan.peers().contains_key(&*ours.name), "nobody is their own peer");
    Peer::clone(&plan.peers()[&*theirs.name])
}

fn shown(peer: &Peer) -> Vec<String> {
    let route = |route: &Route| {
        let way = match &route.way {
            Way::Tunnel { device, gateway, remote, .. } => {
                format!("{device} via {gateway} to {remote}")
            }
            Way::Direct { gateway, link, source } => {
                format!("link {link} via {gateway} from {source}")
            }
        };
        format!(
            "{}: {way}{}",
            route.destination,
            route.mtu.map_or(String::new(), |mtu| format!(" mtu {mtu}"))
        )
    };
    let problems = peer.problems.iter().map(ToString::to_string);
    peer.routes.iter().map(route).chain(problems).collect()
}

const PODS_1: &[&str] = &["10.244.1.0/24", "fd00:1::/64"];
const PODS_2: &[&str] = &["10.244.2.0/24", "fd00:2::/64"];
const ON_1: &[&str] = &["192.0.2.1/24", "2001:db8::1/64"];
const ON_2: &[&str] = &["192.0.2.2/24", "2001:db8::2/64"];

#[test]
fn ways_by_backend() {
    use Backend::{Auto, HostGw, None, Vxlan};
    let tunnel = [
        "10.244.2.0/24: heddle.1 via 10.244.2.0 to 192.0.2.2",
        "fd00:2::/64: heddle.1 via fd00:2:: to 192.0.2.2",
    ];
    let direct = [
        "10.244.2.0/24: link 2 via 192.0.2.2 from 192.0.2.1",
        "fd00:2::/64: link 2 via 2001:db8::2 from 2001:db8::1",
    ];
    let table: [(Backend, Backend, &[&str]); 10] = [
        (Vxlan, Vxlan, &tunnel),
        (Vxlan, Auto, &tunnel),
        (Auto, Vxlan, &tunnel),
        (Auto, Auto, &direct),
        (HostGw, HostGw, &direct),
        (HostGw, Auto, &direct),
        (Auto, HostGw, &direct),
        (Vxlan, HostGw, &["its backend is host-gw, ours is vxlan"]),
        (Auto, None, &["its backend is none, ours is auto"]),
        (None, Vxlan, &[]),
    ];
    for (ours, theirs, expected) in table {
        let ours = local(1, with(ours), PODS_1, ON_1);
        let theirs = local(2, with(theirs), PODS_2, ON_2);
        assert_eq!(shown(&between(&ours, record(&theirs))), expected, "{ours:?} {theirs:?}");
    }
}

#[test]
fn ways_by_families_of_the_underlay() {
    let v4 = |number: u8| format!("192.0.2.{number}/24");
    let v6 = |number: u8| format!("2001:db8::{number}/64");
    let of = |number, families: &str| -> Vec<String> {
        let v4 = families.contains('4').then(|| v4(number));
        v4.into_iter().chain(families.contains('6').then(|| v6(number))).collect()
    };
    let table: [(bool, &str, &str, &[&str]); 7] = [
        (
            false,
            "4",
            "46",
            &[
                "10.244.2.0/24: heddle.1 via 10.244.2.0 to 192.0.2.2",
                "fd00:2::/64: heddle.1 via fd00:2:: to 192.0.2.2",
            ],
        ),
        (
            false,
            "46",
            "6",
            &[
                "10.244.2.0/24: heddle-v6.1 via 10.244.2.0 to 2001:db8::2",
                "fd00:2::/64: heddle-v6.1 via fd00:2:: to 2001:db8::2",
            ],
        ),
        (
            false,
            "46",
            "46",
            &[
                "10.244.2.0/24: heddle.1 via 10.244.2.0 to 192.0.2.2",
                "fd00:2::/64: heddle.1 via fd00:2:: to 192.0.2.2",
            ],
        ),
        (
            false,
            "4",
            "6",
            &[
                "no address of a common family: for pods of 10.244.2.0/24 it has 2001:db8::2, this node has 192.0.2.1",
                "no address of a common family: for pods of fd00:2::/64 it has 2001:db8::2, this node has 192.0.2.1",
            ],
        ),
        (
            true,
            "46",
            "46",
            &[
                "10.244.2.0/24: heddle.1 via 10.244.2.0 to 192.0.2.2",
                "fd00:2::/64: heddle-v6.1 via fd00:2:: to 2001:db8::2",
            ],
        ),
        (
            true,
            "46",
            "4",
            &[
                "10.244.2.0/24: heddle.1 via 10.244.2.0 to 192.0.2.2",
                "no address of a common family: for pods of fd00:2::/64 it has 192.0.2.2, this node has 192.0.2.1 and 2001:db8::1",
            ],
        ),
        (
            true,
            "6",
            "6",
            &[
                "fd00:2::/64: heddle-v6.1 via fd00:2:: to 2001:db8::2",
                "no address of a common family: for pods of 10.244.2.0/24 it has 2001:db8::2, this node has 2001:db8::1",
            ],
        ),
    ];
    for (flannel, ours, theirs, expected) in table {
        let make = |number, families, pods| {
            let addresses = of(number, families);
            let texts: Vec<_> = addresses.iter().map(String::as_str).collect();
            local(number, Settings { flannel, ..with(Backend::Vxlan) }, pods, &texts)
        };
        let (one, other) = (make(1, ours, PODS_1), make(2, theirs, PODS_2));
        assert_eq!(shown(&between(&one, record(&other))), expected, "{flannel} {ours} {theirs}");
    }
}

/// Something that may be wrong with a node.
type Spoil = fn(&mut NodeRecord);

fn said(record: &mut NodeRecord) -> &mut Announcement {
    record.announced.as_mut().unwrap()
}

#[test]
fn why_there_is_no_way() {
    let ours = local(1, with(Backend::Vxlan), PODS_1, ON_1);
    let theirs = || record(&local(2, with(Backend::Vxlan), &["10.244.2.0/24"], &["192.0.2.2/24"]));
    let changed = |change: fn(&mut NodeRecord)| {
        let mut theirs = theirs();
        change(&mut theirs);
        shown(&between(&ours, theirs))
    };
    let table: [(Spoil, &str); 15] = [
        (
            |record| record.announced = None,
            "announces nothing yet; does heddle-agent run there, with the overlay?",
        ),
        (
            |record| {
                (record.announced, record.mistakes) = (None, vec!["annotation x: wrong".into()]);
            },
            "annotation x: wrong",
        ),
        (
            |record| record.pod_cidrs.clear(),
            "has no pod CIDR; the cluster's controller manager gives one \
            (--allocate-node-cidrs), or the Node's spec.podCIDRs",
        ),
        (|record| said(record).vni = 2, "VNI 2, ours is 1"),
        (|record| said(record).port = Some(4789), "VXLAN port 4789, ours is 8472"),
        (
            |record| said(record).vteps.clear(),
            "no address of a common family: for pods of 10.244.2.0/24 it has 192.0.2.2, \
            this node has 192.0.2.1 and 2001:db8::1",
        ),
        (
            |record| record.pod_cidrs = vec!["10.244.0.0/16".parse().unwrap()],
            "its pod CIDR 10.244.0.0/16 overlaps 10.244.1.0/24 of this node",
        ),
        (
            |record| record.pod_cidrs = vec!["192.0.2.0/25".parse().unwrap()],
            "pod CIDR 192.0.2.0/25 of node n2 is refused, because node n1, \
            which is older, has underlay address 192.0.2.1; give n2 another, or delete the Node object that is not in use any more",
        ),
        (
            |record| record.pod_cidrs = vec!["192.0.2.2/31".parse().unwrap()],
            "its pod CIDR 192.0.2.2/31 contains 192.0.2.2, by which \
            nodes speak to each other",
        ),
        (
            |record| record.pod_cidrs = vec!["192.0.2.128/25".parse().unwrap()],
            "its pod CIDR 192.0.2.128/25 contains 192.0.2.254, the gateway of this node's default route",
        ),
        (
            |record| {
                said(record).vteps.clear();
                record.pod_cidrs = vec!["192.0.2.2/31".parse().unwrap()];
            },
            "its pod CIDR 192.0.2.2/31 contains 192.0.2.2, by which \
            nodes speak to each other",
        ),
        (
            |record| said(record).vteps[0].address = "192.0.2.1".parse().unwrap(),
            "its address 192.0.2.1 is this node's",
        ),
        (
            |record| said(record).vteps[0].mac = derived_mac("n1"),
            "its VTEP MAC 02:67:6b:8b:b8:4c is this node's; was its machine cloned \
            with its state directory?",
        ),
        (|record| said(record).backend = Backend::HostGw, "its backend is host-gw, ours is vxlan"),
        // flannel does not tell its port
        (|record| said(record).port = None, "10.244.2.0/24: heddle.1 via 10.244.2.0 to 192.0.2.2"),
    ];
    for (change, expected) in table {
        assert_eq!(changed(change), [expected]);
    }
}

/// A node that has only IPv4 pods may have too narrow a link for those of others.
#[test]
fn a_tunnel_that_is_too_narrow_for_ipv6() {
    let narrow = [underlay(2, "192.0.2.1/24", 1300)];
    let (pods, mac) = (bare(1, &PODS_1[..1]), derived_mac("n1"));
    let ours = Local::new(with(Backend::Vxlan), &pods, mac, &narrow).unwrap();
    let theirs = local(2, with(Backend::Vxlan), PODS_2, ON_2);
    assert_eq!(
        shown(&between(&ours, record(&theirs))),
        [
            "10.244.2.0/24: heddle.1 via 10.244.2.0 to 192.0.2.2",
            "pods' IPv6 needs 1280 bytes, and the tunnel over heddle.1 has room for 1250; give this node's link to it an MTU \
             of at least 1330",
        ]
    );
}

/// Of three, two have one Ethernet address, or one address: the younger cannot be reached, and not the older by mistake.
#[test]
fn what_another_peer_has_is_refused() {
    let ours = local(1, with(Backend::Auto), &PODS_1[..1], &ON_1[..1]);
    let older = record(&local(2, with(Backend::Auto), &PODS_2[..1], &ON_2[..1]));
    let younger = |backend, at, mac| {
        let mut record = record(&local(3, with(backend), &["10.244.3.0/24"], &[at]));
        said(&mut record).vteps.iter_mut().for_each(|vtep| vtep.mac = mac);
        record
    };
    let (own, taken) = (derived_mac("n3"), derived_mac("n2"));
    let address = "underlay address 192.0.2.2 of node n3".to_owned();
    let table = [
        (younger(Backend::Vxlan, "192.0.2.3/24", taken), format!("VTEP MAC {taken} of node n3")),
        (younger(Backend::Vxlan, "192.0.2.2/24", own), address.clone()),
        (younger(Backend::HostGw, "192.0.2.2/24", own), address),
    ];
    for (younger, told) in table {
        let mut cluster = Cluster::default();
        cluster.apply(Event::All(vec![record(&ours), older.clone(), younger]));
        let plan = Plan::new(ours.clone(), &cluster, BTreeMap::new());
        let shown = shown(&plan.peers()["n3"]);
        let expected = format!("{told} is refused, because node n2, which is older");
        assert!(shown.len() == 1 && shown[0].starts_with(&expected), "{shown:?}");
        assert_eq!(plan.desired().routes.len(), 1);
    }
}

#[test]
fn host_gw_needs_one_network_as_both_see_it() {
    let table = [
        ("192.0.2.1/24", "192.0.2.2/24", "10.244.2.0/24: link 2 via 192.0.2.2 from 192.0.2.1"),
        (
            "192.0.2.1/24",
            "198.51.100.2/24",
            "198.51.100.2 is not on the same network as this node's 192.0.2.1/24, which host-gw needs; \
            auto or vxlan does not",
        ),
        // the other end would not send directly
        (
            "192.0.2.1/24",
            "192.0.2.130/25",
            "192.0.2.130 is not on the same network as this node's 192.0.2.1/24, which host-gw needs; \
            auto or vxlan does not",
        ),
        (
            "192.0.2.1/32",
            "192.0.2.2/32",
            "192.0.2.2 is not on the same network as this node's 192.0.2.1/32, which host-gw needs; \
            auto or vxlan does not",
        ),
    ];
    for (one, other, expected) in table {
        let ours = local(1, with(Backend::HostGw), &["10.244.1.0/24"], &[one]);
        let theirs = local(2, with(Backend::HostGw), &["10.244.2.0/24"], &[other]);
        assert_eq!(shown(&between(&ours, record(&theirs))), [expected]);
        // where it does not do, auto tunnels
        let ours = local(1, with(Backend::Auto), &["10.244.1.0/24"], &[one]);
        let theirs = local(2, with(Backend::Auto), &["10.244.2.0/24"], &[other]);
        let found = shown(&between(&ours, record(&theirs)));
        let address = other.split('/').next().unwrap();
        let tunnel = format!("10.244.2.0/24: heddle.1 via 10.244.2.0 to {address}");
        assert_eq!(found, [if expected.contains("link 2") { expected } else { &tunnel }]);
    }
}

#[test]
fn mtus() {
    let of = |settings: Settings, underlays: &[(&str, u32)], pods: &[&str]| {
        let underlays: Vec<_> =
            underlays.iter().map(|(address, mtu)| underlay(2, address, *mtu)).collect();
        let local = Local::new(settings, &bare(1, pods), derived_mac("n1"), &underlays);
        local.map(|local| {
            (local.pod_mtu(), local.devices().iter().map(|device| device.mtu).collect::<Vec<_>>())
        })
    };
    let vxlan = || with(Backend::Vxlan);
    let (v4, v6) = (("192.0.2.1/24", 1500), ("2001:db8::1/64", 1500));
    assert_eq!(of(vxlan(), &[v4], PODS_1), Ok((1450, vec![1450])));
    assert_eq!(of(vxlan(), &[v6], PODS_1), Ok((1430, vec![1430])));
    assert_eq!(of(vxlan(), &[v6, v4], PODS_1), Ok((1450, vec![1450, 1430])));
    assert_eq!(
        of(Settings { flannel: true, ..vxlan() }, &[v4, v6], PODS_1),
        Ok((1430, vec![1450, 1430]))
    );
    assert_eq!(
        of(Settings { flannel: true, ..vxlan() }, &[v4, v6], &PODS_1[..1]),
        Ok((1450, vec![1450]))
    );
    assert_eq!(
        of(Settings { mtu: 1400, ..vxlan() }, &[v4, v6], PODS_1),
        Ok((1400, vec![1400, 1400]))
    );
    assert_eq!(of(with(Backend::HostGw), &[v4], PODS_1), Ok((1500, vec![])));
    assert_eq!(of(with(Backend::None), &[], PODS_1), Ok((0, vec![])));
    let message = |settings, underlays: &[(&str, u32)], pods| {
        of(settings, underlays, pods).unwrap_err().to_string()
    };
    assert_eq!(
        message(Settings { mtu: 1460, ..vxlan() }, &[v4], PODS_1),
        "overlay.mtu: pods' packets of 1460 bytes do not fit link eth2, whose MTU is 1500: with 50 bytes for the tunnel at most 1450 do; \
         give a smaller overlay.mtu, or the link a larger one"
    );
    assert_eq!(
        message(Settings { mtu: 1250, ..vxlan() }, &[v4], PODS_1),
        "overlay.mtu: packets of 1250 bytes are too small for IPv6, which needs 1280; give a larger overlay.mtu, or link eth2 a larger one"
    );
    assert!(message(vxlan(), &[("192.0.2.1/24", 100)], PODS_1).contains("too small for IPv4"));
    let narrow = ("192.0.2.1/24", 1300);
    assert_eq!(of(vxlan(), &[narrow], &PODS_1[..1]), Ok((1250, vec![1250])));
    // IPv6 of pods needs 1280, also where it goes no further
    assert_eq!(of(vxlan(), &[narrow], PODS_1), Ok((1280, vec![1250])));
    assert_eq!(
        message(vxlan(), &[], PODS_1),
        "this node has no address to speak to other nodes with; give a link one, or name another link in overlay.interface"
    );
}

#[test]
fn a_link_that_is_too_narrow_for_ipv6_leaves_ipv4_its_ways() {
    let on = |mtu, cidrs: &[&str]| {
        let node = bare(1, cidrs);
        let links = [underlay(2, "192.0.2.1/24", mtu)];
        Local::new(with(Backend::Vxlan), &node, derived_mac(&node.name), &links).unwrap()
    };
    let narrow = on(1300, PODS_1);
    let theirs = local(2, with(Backend::Vxlan), PODS_2, ON_2);
    assert_eq!(
        shown(&between(&narrow, record(&theirs))),
        [
            "10.244.2.0/24: heddle.1 via 10.244.2.0 to 192.0.2.2",
            "pods' IPv6 needs 1280 bytes, and the tunnel over heddle.1 has room for 1250; give this node's link to it an MTU of at least 1330"
        ]
    );
    let device = narrow.devices().remove(0);
    assert_eq!((device.mtu, device.addresses), (1250, vec!["10.244.1.0/32".parse().unwrap()]));
    let [problem] = &narrow.problems()[..] else { panic!("{:?}", narrow.problems()) };
    for words in ["link eth2", "MTU is 1300", "room for 1250", "IPv4 has", "at least 1330"] {
        assert!(problem.contains(words), "{words}: {problem}");
    }
    for (mtu, cidrs) in [(1330, PODS_1), (1300, &PODS_1[..1])] {
        assert_eq!(on(mtu, cidrs).problems(), [""; 0], "{mtu}");
    }
}

#[test]
fn devices_and_what_is_announced() {
    let local = local(1, Settings { vni: 7, ..with(Backend::Auto) }, PODS_1, ON_1);
    let devices = local.devices();
    assert_eq!(
        devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(),
        ["heddle.7", "heddle-v6.7"]
    );
    let addresses: Vec<_> = devices[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.244.1.0/32", "fd00:1::/128"]);
    let announced = serde_json::to_string(&local.announcement()).unwrap();
    insta::assert_snapshot!(announced, @r#"{"backend":"auto","vni":7,"port":8472,"vteps":[{"address":"192.0.2.1","mac":"02:67:6b:8b:b8:4c"},{"address":"2001:db8::1","mac":"02:67:6b:8b:b8:4c"}],"addresses":["192.0.2.1","2001:db8::1"],"networks":["192.0.2.0/24","2001:db8::/64"],"probePort":8473}"#);
}

#[test]
fn the_other_node_that_has_our_range_is_told_by_the_cluster() {
    let ours = local(2, with(Backend::Vxlan), PODS_2, ON_2);
    let older = record(&local(1, with(Backend::Vxlan), PODS_2, ON_1));
    // packets to pods here never leave, whoever is in the right
    let told = shown(&between(&ours, older));
    assert_eq!(told.len(), 2);
    assert!(told[0].ends_with("overlaps 10.244.2.0/24 of this node"), "{told:?}");
}

#[test]
fn without_one_device_all_that_can_goes_by_the_other() {
    let both = local(1, with(Backend::Vxlan), PODS_1, ON_1);
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (v4, v6) = (names(&["heddle.1"]), names(&["heddle-v6.1"]));
    let ours = both.clone().without(&v4);
    let theirs = local(2, with(Backend::Vxlan), PODS_2, ON_2);
    let by_v6 = [
        "10.244.2.0/24: heddle-v6.1 via 10.244.2.0 to 2001:db8::2",
        "fd00:2::/64: heddle-v6.1 via fd00:2:: to 2001:db8::2",
    ];
    assert_eq!(shown(&between(&ours, record(&theirs))), by_v6);
    // and the other end, which has both, does the same
    let back = shown(&between(&theirs, record(&ours)));
    assert!(back.iter().all(|way| way.ends_with("to 2001:db8::1")), "{back:?}");
    let devices: Vec<_> = ours.devices().into_iter().map(|device| device.name).collect();
    assert_eq!((devices, ours.pod_mtu()), (names(&["heddle.1", "heddle-v6.1"]), 1450));
    let only_v4 = local(2, with(Backend::Vxlan), &PODS_2[..1], &ON_2[..1]);
    assert_eq!(
        shown(&between(&ours, record(&only_v4))),
        ["can be reached by heddle.1 only, which is not there; the problems of this node say why"]
    );
    // over IPv4 nothing is different; flannel has a family for each
    assert_eq!(shown(&between(&both.clone().without(&v6), record(&theirs))).len(), 2);
    let flannel = Settings { flannel: true, ..with(Backend::Vxlan) };
    let ours = local(1, flannel.clone(), PODS_1, ON_1).without(&v4);
    let theirs = local(2, flannel, PODS_2, ON_2);
    let [way, problem] = &shown(&between(&ours, record(&theirs)))[..] else { panic!("two") };
    assert!(way.starts_with("fd00:2::/64: heddle-v6.1") && problem.contains("heddle.1 only"));
    // without any there is nothing else to plan with
    assert_eq!(both.clone().without(&[v4, v6].concat()), both);
}

#[test]
fn known_sizes_of_paths() {
    let ours = local(1, with(Backend::Vxlan), &PODS_1[..1], ON_1);
    let theirs = local(2, with(Backend::Vxlan), &PODS_2[..1], ON_2);
    let mut cluster = Cluster::default();
    cluster.apply(Event::All(vec![record(&ours), record(&theirs)]));
    let mut plan = Plan::new(ours, &cluster, BTreeMap::from([("n2".into(), 1450)]));
    assert_eq!(plan.desired().routes[0].mtu, None, "no less than the device's");
    let mut know = |peer: &str, mtu| {
        plan.know_mtu(peer, mtu);
        plan.update(&cluster, &BTreeSet::from([peer.to_owned()]))
    };
    let changes = know("n2", Some(1400));
    assert!(matches!(&changes[..], [Change::Put(Route { mtu: Some(1400), .. })]), "{changes:?}");
    assert_eq!(know("n2", Some(1400)), []);
    assert_eq!(know("n2", None).len(), 1);
    assert_eq!(know("nobody", Some(1)), []);
}

/// IP itself takes no less: a route of less would be refused, or not be used.
#[test]
fn a_route_has_at_least_what_ip_needs() {
    let ours = local(1, with(Backend::Vxlan), PODS_1, ON_1);
    let theirs = record(&local(2, with(Backend::Vxlan), PODS_2, ON_2));
    let mut cluster = Cluster::default();
    cluster.apply(Event::All(vec![record(&ours), theirs]));
    for (known, expected) in [(1300, [1300, 1300]), (1000, [1000, 1280]), (20, [68, 1280])] {
        let plan = Plan::new(ours.clone(), &cluster, BTreeMap::from([("n2".into(), known)]));
        let mtus: Vec<_> = plan.desired().routes.iter().map(|route| route.mtu).collect();
        assert_eq!(mtus, expected.map(Some));
    }
}

#[test]
fn a_range_that_moves_from_node_to_node_is_one_change() {
    let ours = local(1, with(Backend::Vxlan), &PODS_1[..1], ON_1);
    let (two, three) = (
        record(&local(2, with(Backend::Vxlan), &PODS_2[..1], ON_2)),
        record(&local(3, with(Backend::Vxlan), &PODS_2[..1], &["192.0.2.3/24"])),
    );
    let mut cluster = Cluster::default();
    cluster.apply(Event::All(vec![record(&ours), two, three]));
    let mut plan = Plan::new(ours, &cluster, BTreeMap::new());
    assert!(shown(&plan.peers()["n3"])[0].contains("is refused, because node n2, which is older"));
    let names = cluster.apply(Event::Gone("n2".into()));
    let changes = plan.update(&cluster, &names);
    assert_eq!(changes.len(), 1);
    assert!(
        matches!(&changes[0], Change::Put(Route { way: Way::Tunnel { remote, .. }, .. }) if remote.to_string() == "192.0.2.3")
    );
    assert_eq!(plan.peers().keys().map(|name| &**name).collect::<Vec<_>>(), ["n3"]);
}

/// The new holder of a range is told of before the old one: what is known of sizes must not take the way from it.
#[test]
fn sizes_of_nodes_whose_range_moves() {
    let ours = local(1, with(Backend::Vxlan), &PODS_1[..1], ON_1);
    let (two, three) = (
        record(&local(2, with(Backend::Vxlan), &PODS_2[..1], ON_2)),
        record(&local(3, with(Backend::Vxlan), &PODS_2[..1], &["192.0.2.3/24"])),
    );
    let mut cluster = Cluster::default();
    cluster.apply(Event::All(vec![record(&ours), two, three]));
    let mut plan = Plan::new(ours, &cluster, BTreeMap::from([("n2".into(), 1300)]));
    let mut names = cluster.apply(Event::Gone("n2".into()));
    plan.know_mtu("n3", Some(1400));
    plan.know_mtu("n2", None);
    names.extend(["n2", "n3"].map(String::from));
    let changes = plan.update(&cluster, &names);
    assert!(
        matches!(&changes[..], [Change::Put(Route { way: Way::Tunnel { remote, .. }, mtu: Some(1400), .. })] if remote.to_string() == "192.0.2.3"),
        "{changes:?}"
    );
}

fn any_local(number: u8) -> impl Strategy<Value = Local> {
    let backends = [Backend::Vxlan, Backend::HostGw, Backend::Auto];
    (prop::sample::select(backends.to_vec()), 22_u8..=32, 0_u8..8, 1_u8..4, 1_u32..3).prop_map(
        move |(backend, prefix, last, families, vni)| {
            let host = last * 2 + number;
            let v4 = (families & 1 != 0).then(|| format!("192.0.2.{}/{prefix}", host * 8));
            let v6 = (families & 2 != 0).then(|| format!("2001:db8::{host}/{}", prefix + 96));
            let addresses: Vec<_> = v4.into_iter().chain(v6).collect();
            let texts: Vec<_> = addresses.iter().map(String::as_str).collect();
            let pods = if number == 1 { PODS_1 } else { PODS_2 };
            local(number, Settings { backend, vni, ..Settings::default() }, pods, &texts)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    /// Where only one of two sends directly, the other's filter of reverse paths drops.
    #[test]
    fn both_ends_choose_the_same_way(one in any_local(1), other in any_local(2)) {
        let kinds = |peer: &Peer| -> Vec<(bool, Option<bool>)> {
            let mut kinds: Vec<_> = peer.routes.iter().map(|route| (route.destination.is_ipv4(), match &route.way {
                Way::Direct { .. } => None,
                Way::Tunnel { remote, .. } => Some(remote.is_ipv4()),
            })).collect();
            kinds.sort();
            kinds
        };
        let (there, back) = (between(&one, record(&other)), between(&other, record(&one)));
        prop_assert_eq!(kinds(&there), kinds(&back), "{:?} {:?}", shown(&there), shown(&back));
    }
}
