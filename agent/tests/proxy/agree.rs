//! One table of flows through both modes' rules: each must do what the oracle says.

use heddle_agent::proxy::model::{FAMILIES, Protocol};
use heddle_agent::proxy::options::RuleOptions;
use heddle_agent::proxy::tracer::{Arrival, Hooks, Interface, Memory, Packet, Verdict, trace};
use netns_tools::iptables::Family;

use crate::flows::{Flow, flows};
use crate::modes::{MODES, rules};
use crate::oracle::{Mode, Oracle};
use crate::world::{
    Example, NODE, Options, WELCOME, World, balancer_ip, examples, kinds, variants,
};

/// As many mistakes as a reader looks at.
const SHOWN: usize = 20;

/// The mistakes of one mode in one family.
fn mistakes(world: &World, mode: Mode, family: Family, flows: &[Flow]) -> Vec<String> {
    let (ports, options) = (world.model.ports(family), world.options.of(family));
    let rules = rules(mode, family, ports, &options);
    let oracle = Oracle { ports, options: &options, host: &world.host, mode };
    let differs = |flow: &Flow| {
        let found = verdict(rules.as_ref(), world, flow);
        let expected = oracle.expect(&flow.packet);
        let told = format!(
            "{mode:?}: {}:\n  is {found}\n  not {expected}\n  {:?}",
            flow.name, flow.packet
        );
        (found != expected).then_some(told)
    };
    flows.iter().filter_map(differs).collect()
}

fn verdict(rules: &dyn Hooks, world: &World, flow: &Flow) -> Verdict {
    let paths = trace(rules, &world.host, &flow.packet, &Memory::default());
    paths.unwrap_or_else(|error| panic!("{}: {error}", flow.name)).into_iter().collect()
}

#[track_caller]
fn agree(options: Options) {
    let name = options.name;
    let world = World::new(examples(), options);
    let (mut all, mut tried) = (Vec::new(), 0);
    for family in FAMILIES {
        let flows = flows(&world.examples, family);
        tried += flows.len();
        for mode in MODES {
            all.extend(mistakes(&world, mode, family, &flows));
        }
    }
    assert!(tried > 5000, "{tried} flows are not all");
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(all.is_empty(), "{name}: {} of {tried} flows go wrong:\n{shown}", all.len());
}

/// A test for each set of options, so that they run side by side.
macro_rules! agree {
    ($($name:ident = $number:expr;)+) => { $(
        #[test]
        fn $name() {
            agree(variants().swap_remove($number));
        }
    )+ };
}

agree! {
    pods_by_cluster_range = 0;
    pods_by_node_range_and_listed_addresses = 1;
    pods_by_bridge_and_not_at_localhost = 2;
    pods_by_prefix_and_all_masqueraded = 3;
    pods_unknown_all_masqueraded_and_listed_addresses = 4;
    pods_unknown = 5;
}

/// Where a load balancer's address is this node's own, a program of this node speaks to it from that address. It may if this node
/// may, and only then.
#[test]
fn a_node_in_the_source_ranges_may_use_a_balancers_address_that_is_its_own() {
    let kind = kinds().into_iter().find(|kind| kind.ranges && !kind.external_local).unwrap();
    let mut world = World::new(vec![Example::new(1, kind, "p1:r o1:r")], variants().swap_remove(0));
    for family in FAMILIES {
        let address = balancer_ip(family, 1);
        world
            .host
            .interfaces
            .push(Interface { name: "vip".into(), addresses: vec![address.into()] });
        let packet = Packet {
            arrival: Arrival::Here,
            source: address,
            destination: address,
            protocol: Protocol::Tcp,
            port: 80,
        };
        for (node, is_served) in [(WELCOME, true), (NODE, false)] {
            let ports = world.model.ports(family);
            let options =
                RuleOptions { node_ips: vec![node.ip(family)], ..world.options.of(family) };
            for mode in MODES {
                let rules = rules(mode, family, ports, &options);
                let paths = trace(rules.as_ref(), &world.host, &packet, &Memory::default());
                let found: Verdict = paths.unwrap().into_iter().collect();
                let oracle = Oracle { ports, options: &options, host: &world.host, mode };
                assert_eq!(found, oracle.expect(&packet), "{mode:?} {family:?} {node:?}");
                assert_eq!(found.endpoints().len(), if is_served { 2 } else { 0 });
            }
        }
    }
}
