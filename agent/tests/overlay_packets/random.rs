//! Whatever happens to the cluster: step by step ends where a fresh start ends.

use std::collections::BTreeMap;

use heddle_agent::overlay::cluster::{Cluster, Event};
use heddle_agent::overlay::node::{Announcement, Backend, NodeRecord, Vtep};
use heddle_agent::overlay::plan::Plan;
use netns_tools::MacAddr;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::*;

prop_compose! {
    /// Few values of everything, so that they meet.
    fn any_node()(
        name in 2_u8..7, range in 2_u8..6, wide: bool, v6: bool, host in 2_u8..6, other_network: bool, mac in 1_u8..4,
        backend in prop::sample::select(vec![Backend::None, Backend::Vxlan, Backend::HostGw, Backend::Auto]),
        vni in 1_u32..3, silent in prop::bool::weighted(0.1),
    ) -> NodeRecord {
        let address = underlay(other_network.into(), 50 + host, true);
        let address = address.split('/').next().unwrap().parse().unwrap();
        let cidr = if wide { format!("10.244.{}.0/23", range & 0xfe) } else { format!("10.244.{range}.0/24") };
        let v6 = v6.then(|| format!("fd00:244:{range}::/64").parse().unwrap());
        let announced = Announcement {
            backend,
            vni,
            vteps: vec![Vtep { address, mac: MacAddr([2, 5, 5, 5, 5, mac]) }],
            addresses: vec![address],
            ..Announcement::default()
        };
        NodeRecord {
            name: format!("n{name}").into(),
            created: Some(name.into()),
            pod_cidrs: [cidr.parse().unwrap()].into_iter().chain(v6).collect(),
            announced: Some(announced).filter(|_| !silent),
            ..NodeRecord::default()
        }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => any_node().prop_map(Event::Put),
        2 => (2_u8..7).prop_map(|number| Event::Gone(format!("n{number}"))),
    ]
}

#[test]
fn step_by_step_is_as_a_fresh_start() {
    let router = Router::new();
    let node = Node::new(&router, 1, 0, ONLY_V4, BOTH);
    let events = prop::collection::vec(prop::collection::vec(any_event(), 1..4), 1..12);
    let mut runner =
        TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let node = std::cell::RefCell::new(node);
    let done = runner.run(&events, |batches| {
        let node = &mut *node.borrow_mut();
        let mut cluster = Cluster::default();
        cluster.apply(Event::Put(node.record()));
        node.sync(&cluster);
        for batch in batches {
            let names = batch.into_iter().flat_map(|event| cluster.apply(event)).collect();
            let changes = node.plan.as_mut().unwrap().update(&cluster, &names);
            let report = node.kernel.update(&changes).unwrap();
            prop_assert_eq!(&report.failed, &vec![]);
        }
        let fresh = Plan::new(node.local(), &cluster, BTreeMap::new());
        prop_assert_eq!(fresh.desired(), node.desired());
        let report = node.kernel.sync(&fresh.desired()).unwrap();
        prop_assert!(report.is_empty(), "left to do: {:?}", report);
        Ok(())
    });
    done.unwrap();
}
