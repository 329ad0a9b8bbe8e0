//! Rules as a graph: nothing leads nowhere, nothing is there for nothing.

use heddle_agent::proxy::iptables;
use heddle_agent::proxy::model::FAMILIES;
use heddle_agent::proxy::nftables;
use heddle_agent::proxy::tracer::lint;
use heddle_agent::proxy::tracer::nftables::NftRuleset;

use crate::modes::ABILITIES;
use crate::world::{World, examples, variants};

/// Chains that all services share: they are there also while no service needs them.
const SHARED: [&str; 5] = [
    "filter KUBE-EXTERNAL-SERVICES",
    "filter KUBE-NODEPORTS",
    "filter KUBE-PROXY-FIREWALL",
    "filter KUBE-SERVICES",
    "nat KUBE-NODEPORTS",
];

/// Nothing jumps to a canary; and what marks packets is there before the first service.
fn is_entry(chain: &str) -> bool {
    chain.ends_with("-CANARY") || chain == "KUBE-MARK-MASQ"
}

/// The sets of a table are always the same, though not every world needs all. But those of clients are there for an endpoint.
fn is_spare(mistake: &str) -> bool {
    let set = mistake.strip_prefix("nothing leads to @");
    set.is_some_and(|set| !set.starts_with("affinity-"))
}

#[test]
fn iptables_rules_lead_somewhere() {
    for options in variants() {
        for examples in [examples(), Vec::new()] {
            let world = World::new(examples, options.clone());
            for family in FAMILIES {
                let rules = iptables::ruleset(
                    family,
                    world.model.ports(family),
                    &options.of(family),
                    ABILITIES,
                );
                let graph = lint::of_iptables(&rules, &is_entry);
                let mistakes = graph.mistakes(&|chain| SHARED.contains(&chain));
                assert!(mistakes.is_empty(), "{}: {mistakes:#?}", options.name);
            }
        }
    }
}

/// Sets may be empty; what leads to a chain by way of a map is in the map.
#[test]
fn nftables_rules_lead_somewhere() {
    for options in variants() {
        for examples in [examples(), Vec::new()] {
            let world = World::new(examples, options.clone());
            for family in FAMILIES {
                let objects =
                    nftables::objects(family, world.model.ports(family), &options.of(family));
                let graph = NftRuleset::of(family, &objects).graph();
                let mut mistakes = graph.mistakes(&|_| false);
                mistakes.retain(|mistake| !is_spare(mistake));
                assert!(mistakes.is_empty(), "{}: {mistakes:#?}", options.name);
            }
        }
    }
}
