use proptest::prelude::*;

use super::*;
use crate::overlay::node::{Announcement, Backend, Vtep, overlaps};

/// A node that is as old as `created` says, with pod CIDRs.
fn node(name: &str, created: i64, cidrs: &[&str]) -> NodeRecord {
    NodeRecord {
        name: name.into(),
        created: Some(created),
        pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        ..NodeRecord::default()
    }
}

fn at(node: NodeRecord, address: &str, mac: u8) -> NodeRecord {
    let address = address.parse().unwrap();
    let vteps = vec![Vtep { address, mac: MacAddr([2, 0, 0, 0, 0, mac]) }];
    let announced = Announcement {
        backend: Backend::Vxlan,
        vteps,
        addresses: vec![address],
        ..Announcement::default()
    };
    NodeRecord { announced: Some(announced), ..node }
}

fn cluster(nodes: &[NodeRecord]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.apply(Event::Put(node.clone()));
    }
    cluster
}

fn refusals(cluster: &Cluster) -> Vec<String> {
    let mut all: Vec<_> = cluster
        .refusals()
        .map(|refusal| format!("{} {} by {}", refusal.node, refusal.claim, refusal.holder))
        .collect();
    all.sort();
    all
}

fn names(changed: BTreeSet<String>) -> String {
    changed.into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_older_keeps_its_range_whoever_came_first() {
    let (old, young) = (node("old", 1, &["10.1.0.0/24"]), node("young", 2, &["10.1.0.128/25"]));
    for order in [[old.clone(), young.clone()], [young.clone(), old.clone()]] {
        let cluster = cluster(&order);
        let refusal = cluster.refusal("young", Claim::PodCidr(young.pod_cidrs[0])).unwrap();
        assert_eq!(
            refusal.to_string(),
            "pod CIDR 10.1.0.128/25 of node young is refused, because node old, which is older, has pod CIDR 10.1.0.0/24; \
             give young another, or delete the Node object that is not in use any more"
        );
        assert_eq!(cluster.refusal("old", Claim::PodCidr(old.pod_cidrs[0])), None);
    }
}

#[test]
fn of_the_same_age_the_first_by_name_is_older_and_without_an_age_the_youngest() {
    let timeless = NodeRecord { created: None, ..node("a", 0, &["10.1.0.0/24"]) };
    let all = [timeless, node("c", 5, &["10.1.0.0/24"]), node("b", 5, &["10.1.0.0/24"])];
    let expected = ["a pod CIDR 10.1.0.0/24 by b", "c pod CIDR 10.1.0.0/24 by b"];
    assert_eq!(refusals(&cluster(&all)), expected);
}

#[test]
fn addresses_are_claims_too() {
    let all = [
        at(node("a", 1, &["10.1.0.0/24"]), "192.0.2.1", 1),
        at(node("b", 2, &["10.2.0.0/24"]), "192.0.2.1", 2),
        at(node("c", 3, &["10.3.0.0/24"]), "192.0.2.3", 1),
        // covers the nodes themselves
        at(node("d", 4, &["192.0.2.0/25"]), "192.0.2.4", 4),
        at(node("e", 5, &["10.5.0.0/24"]), "10.1.0.7", 5),
    ];
    let expected = [
        "b underlay address 192.0.2.1 by a",
        "c VTEP MAC 02:00:00:00:00:01 by a",
        "d pod CIDR 192.0.2.0/25 by a",
        "e underlay address 10.1.0.7 by a",
    ];
    assert_eq!(refusals(&cluster(&all)), expected);
}

#[test]
fn changes_tell_everybody_concerned() {
    let mut cluster = cluster(&[node("a", 1, &["10.1.0.0/24"]), node("b", 2, &["10.2.0.0/24"])]);
    let put = |cluster: &mut Cluster, node| names(cluster.apply(Event::Put(node)));
    assert_eq!(put(&mut cluster, node("c", 3, &["10.1.0.0/16"])), "c");
    assert_eq!(put(&mut cluster, node("c", 3, &["10.1.0.0/16"])), "", "nothing new");
    assert_eq!(refusals(&cluster), ["c pod CIDR 10.1.0.0/16 by a"]);
    assert_eq!(names(cluster.apply(Event::Gone("a".into()))), "a c");
    assert_eq!(refusals(&cluster), [""; 0]);
    assert_eq!(names(cluster.apply(Event::Gone("a".into()))), "");
    // the older one is back
    assert_eq!(put(&mut cluster, node("a", 1, &["10.1.0.0/24"])), "a c");
    assert_eq!(put(&mut cluster, node("a", 1, &["10.9.0.0/24"])), "a c");
    assert_eq!(refusals(&cluster), [""; 0]);
    let all = vec![node("b", 2, &["10.2.0.0/24"]), node("d", 4, &["10.2.0.0/24"])];
    assert_eq!(names(cluster.apply(Event::All(all))), "a c d");
    assert_eq!(
        (cluster.len(), refusals(&cluster)),
        (2, vec!["d pod CIDR 10.2.0.0/24 by b".to_owned()])
    );
}

/// The message says what the older one has: it must not name what it had.
#[test]
fn who_is_refused_for_something_else_is_told() {
    let mut cluster = cluster(&[node("a", 1, &["10.1.0.0/24"]), node("b", 2, &["10.1.0.0/16"])]);
    let put = cluster.apply(Event::Put(node("a", 1, &["10.1.7.0/24"])));
    assert_eq!(names(put), "a b");
    let refusal = cluster.refusal("b", Claim::PodCidr("10.1.0.0/16".parse().unwrap())).unwrap();
    assert_eq!(refusal.held.to_string(), "pod CIDR 10.1.7.0/24");
}

#[test]
fn who_is_refused_refuses_nobody() {
    // b claims everything; that a has a part of it must not harm c
    let all = [
        node("a", 1, &["10.1.0.0/24"]),
        node("b", 2, &["10.0.0.0/8"]),
        node("c", 3, &["10.3.0.0/24"]),
    ];
    let mut cluster = cluster(&all);
    assert_eq!(refusals(&cluster), ["b pod CIDR 10.0.0.0/8 by a"]);
    assert_eq!(names(cluster.apply(Event::Gone("a".into()))), "a b c");
    assert_eq!(refusals(&cluster), ["c pod CIDR 10.3.0.0/24 by b"]);
}

#[test]
fn a_change_among_ten_thousand_looks_at_few() {
    let record = |number: u32| {
        let cidr = format!("10.{}.{}.0/24", number >> 8, number & 255);
        at(
            node(&format!("n{number}"), number.into(), &[&cidr]),
            &format!("172.16.{}.{}", number >> 8, number & 255),
            1,
        )
    };
    let distinct = |number: u32| {
        let mut record = record(number);
        let [.., a, b] = number.to_be_bytes();
        record.announced.as_mut().unwrap().vteps[0].mac = MacAddr([2, 0, 0, 0, a, b]);
        record
    };
    let mut cluster = Cluster::default();
    let changed = cluster.apply(Event::All((0..10_000).map(distinct).collect()));
    assert_eq!((changed.len(), refusals(&cluster).len()), (10_000, 0));
    let mut moved = distinct(5_000);
    moved.announced.as_mut().unwrap().addresses[0] = "172.31.0.1".parse().unwrap();
    assert_eq!(names(cluster.apply(Event::Put(moved))), "n5000");
    assert_eq!(names(cluster.apply(Event::Gone("n7".into()))), "n7");
}

/// By the definition, from scratch: in the order of age, everybody gets what nobody has.
fn by_definition(nodes: &BTreeMap<Arc<str>, Arc<NodeRecord>>) -> Vec<String> {
    let mut by_age: Vec<_> = nodes.values().collect();
    by_age.sort_by_key(|node| (node.created.unwrap_or(i64::MAX), node.name.clone()));
    let mut held: Vec<(&str, IpNetwork)> = Vec::new();
    let mut refused = Vec::new();
    for node in by_age {
        for cidr in &node.pod_cidrs {
            match held
                .iter()
                .find(|(holder, other)| **holder != *node.name && overlaps(*cidr, *other))
            {
                Some((holder, _)) => {
                    refused.push(format!("{} pod CIDR {cidr} by {holder}", node.name));
                }
                None => held.push((&node.name, *cidr)),
            }
        }
    }
    refused.sort();
    refused
}

prop_compose! {
    fn any_node()(name in 0_u8..6, created in proptest::option::of(0_i64..4), third in 0_u8..4, prefix in 20_u8..=24, v6: bool) -> NodeRecord {
        let v4 = IpNetwork::new(std::net::Ipv4Addr::new(10, 0, third, 0).into(), 24).unwrap();
        let v4 = IpNetwork::new(IpNetwork::new(v4.ip(), prefix).unwrap().network(), prefix).unwrap();
        let v6 = v6.then(|| format!("fd00:{third}::/{}", prefix + 24).parse::<IpNetwork>().unwrap());
        let v6 = v6.map(|net| IpNetwork::new(net.network(), net.prefix()).unwrap());
        let pod_cidrs = [v4].into_iter().chain(v6).collect();
        NodeRecord { created, pod_cidrs, ..node(&format!("n{name}"), 0, &[]) }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any_node().prop_map(Event::Put),
        2 => (0_u8..6).prop_map(|name| Event::Gone(format!("n{name}"))),
        1 => prop::collection::btree_map(0_u8..6, any_node(), 0..5).prop_map(|nodes| {
            Event::All(nodes.into_iter().map(|(number, node)| NodeRecord { name: format!("n{number}").into(), ..node }).collect())
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn step_by_step_is_as_by_definition(events in prop::collection::vec(any_event(), 1..30)) {
        let mut cluster = Cluster::default();
        for event in events {
            let view = |cluster: &Cluster| -> BTreeMap<String, (NodeRecord, Vec<Option<Refusal>>)> {
                let of = |node: &NodeRecord| node.pod_cidrs.iter().map(|cidr| cluster.refusal(&node.name, Claim::PodCidr(*cidr))).collect();
                cluster.nodes().map(|node| (node.name.to_string(), (node.clone(), of(node)))).collect()
            };
            let before = view(&cluster);
            let changed = cluster.apply(event);
            let after = view(&cluster);
            prop_assert_eq!(refusals(&cluster), by_definition(&cluster.nodes));
            // whoever is seen differently is told
            for name in before.keys().chain(after.keys()) {
                let refused = |view: &BTreeMap<_, (NodeRecord, Vec<Option<Refusal>>)>| view.get(name).map(|(node, refusals)| {
                    (node.clone(), refusals.clone())
                });
                prop_assert!(refused(&before) == refused(&after) || changed.contains(name), "{} is not told", name);
            }
        }
        // nothing is left of what is gone
        let all: Vec<_> = cluster.nodes.keys().cloned().collect();
        for name in all {
            cluster.apply(Event::Gone(name.as_ref().to_owned()));
        }
        prop_assert!(cluster.claims.is_empty());
    }
}
