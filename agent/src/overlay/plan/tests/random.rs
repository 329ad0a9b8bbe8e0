//! Whatever is told of nodes and of sizes, step by step: the plan is that of a fresh start, refusals and all, and the changes lead there.

use std::net::IpAddr;

use netns_tools::MacAddr;

use super::*;
use crate::overlay::node::Vtep;

/// One step of the controller: what happened to nodes, and what is known of sizes.
type Step = (Vec<Event>, Vec<(String, Option<u32>)>);

fn name() -> impl Strategy<Value = String> {
    (2_u8..7).prop_map(|number| format!("n{number}"))
}

/// A few ranges that overlap in every way, those of this node and one that has the nodes' own addresses among them.
fn cidrs() -> impl Strategy<Value = Vec<IpNetwork>> {
    let v4 = prop::sample::select(vec![
        "10.244.2.0/24",
        "10.244.3.0/24",
        "10.244.2.0/23",
        "10.244.3.128/25",
        "10.244.1.0/25",
        "192.0.2.0/29",
    ]);
    let v6 = prop::sample::select(vec!["fd00:2::/64", "fd00:3::/64", "fd00:2::/32"]);
    (prop::option::weighted(0.9, v4), prop::option::of(v6))
        .prop_map(|(v4, v6)| v4.into_iter().chain(v6).map(|cidr| cidr.parse().unwrap()).collect())
}

prop_compose! {
    /// Few values of everything, so that nodes are in each other's way.
    fn announcement()(
        backend in prop::sample::select(vec![Backend::None, Backend::Vxlan, Backend::HostGw, Backend::Auto]),
        vni in 1_u32..3, port in prop::option::of(8472_u16..8474), v4 in prop::option::weighted(0.9, 1_u8..5), v6 in prop::option::of(1_u8..5),
        far: bool, mac in 1_u8..4, wide in prop::option::of(24_u8..26),
    ) -> Announcement {
        let network = if far { 100 } else { 2 };
        let v4 = v4.map(|host| IpAddr::from([192, 0, network, host]));
        let v6 = v6.map(|host| format!("2001:db8::{host}").parse().unwrap());
        let addresses: Vec<_> = v4.into_iter().chain(v6).collect();
        let mac = if mac == 3 { derived_mac("n1") } else { MacAddr([2, 0, 0, 0, 0, mac]) };
        let vteps = addresses.iter().map(|address| Vtep { address: *address, mac }).collect();
        let networks = wide.and_then(|prefix| IpNetwork::new(v4?, prefix).ok()).into_iter().collect();
        Announcement { backend, vni, port, vteps, addresses, networks, probe_port: None }
    }
}

prop_compose! {
    fn node()(
        name in name(), created in prop::option::of(0_i64..4), pod_cidrs in cidrs(), announced in prop::option::weighted(0.9, announcement()),
        wrong in prop::bool::weighted(0.1),
    ) -> NodeRecord {
        let mistakes = if wrong { vec!["wrong".to_owned()] } else { Vec::new() };
        NodeRecord { name: name.into(), created, pod_cidrs, announced, mistakes, ..NodeRecord::default() }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => node().prop_map(Event::Put),
        2 => name().prop_map(Event::Gone),
        1 => prop::collection::vec(node(), 0..5).prop_map(|mut nodes| {
            nodes.sort_by(|one, other| one.name.cmp(&other.name));
            nodes.dedup_by(|one, other| one.name == other.name);
            Event::All(nodes)
        }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = (name(), prop::option::of(prop::sample::select(vec![600, 1280, 1400, 9000])));
    let step = (prop::collection::vec(event(), 0..4), prop::collection::vec(sizes, 0..4));
    prop::collection::vec(step, 1..10)
}

fn ours() -> impl Strategy<Value = Local> {
    let backends = [Backend::None, Backend::Vxlan, Backend::HostGw, Backend::Auto];
    let families = [ON_1, &ON_1[..1], &ON_1[1..]];
    let of = (prop::sample::select(backends.to_vec()), prop::sample::select(families.to_vec()));
    (of, any::<bool>()).prop_map(|((backend, addresses), flannel)| {
        local(1, Settings { backend, flannel, ..Settings::default() }, PODS_1, addresses)
    })
}

/// As the controller takes a step.
fn take(plan: &mut Plan, cluster: &mut Cluster, step: Step) -> Vec<Change> {
    let (events, sizes) = step;
    let mut names: BTreeSet<_> =
        events.into_iter().flat_map(|event| cluster.apply(event)).collect();
    for (name, mtu) in sizes {
        plan.know_mtu(&name, mtu);
        names.insert(name);
    }
    plan.update(cluster, &names)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn step_by_step_is_as_a_fresh_start(ours in ours(), steps in steps()) {
        let mut cluster = Cluster::default();
        cluster.apply(Event::Put(record(&ours)));
        let mut plan = Plan::new(ours.clone(), &cluster, BTreeMap::new());
        let (mut sizes, mut kernel) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            for (name, mtu) in &step.1 {
                match mtu {
                    Some(mtu) => sizes.insert(name.clone(), *mtu),
                    None => sizes.remove(name),
                };
            }
            for change in take(&mut plan, &mut cluster, step) {
                match change {
                    Change::Put(route) => kernel.insert(route.destination, route),
                    Change::Gone(destination) => kernel.remove(&destination),
                };
            }
            let fresh = Plan::new(ours.clone(), &cluster, sizes.clone());
            prop_assert_eq!(plan.peers(), fresh.peers());
            prop_assert_eq!(plan.desired(), fresh.desired());
            prop_assert_eq!(kernel.values().cloned().collect::<Vec<_>>(), fresh.desired().routes);
        }
    }
}
