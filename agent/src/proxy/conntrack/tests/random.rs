//! By chance: whatever happens to services, a flow whose endpoint serves stays, and one whose endpoint does not serve goes.

use std::collections::BTreeSet;

use netns_tools::conntrack::UDP;
use proptest::prelude::*;

use super::world::{TARGET, World, flow, options};
use super::*;
use crate::proxy::model::{Changed, Changes};

const NODE: &str = "172.16.0.1";
/// The endpoints of this node, which is n1.
const HERE: [&str; 2] = ["10.1.0.1:5353", "10.1.0.3:5353"];
const CLIENT: &str = "10.0.0.9:1";

/// One service: external address, node port, policies, and for each of four endpoints whether it is ready, serves to the end,
/// is dead, or is not there. The services want the same external address and node ports, so that these move.
#[derive(Clone, Debug)]
struct Spec {
    number: usize,
    external: bool,
    node_port: Option<u16>,
    local: (bool, bool),
    endpoints: Vec<Option<char>>,
}

fn spec(number: usize) -> impl Strategy<Value = Option<Spec>> {
    let states = prop::option::of(prop::sample::select(vec!['r', 's', 'd']));
    let parts = (
        any::<bool>(),
        prop::option::of(30001..30003u16),
        any::<(bool, bool)>(),
        prop::collection::vec(states, 4),
    );
    prop::option::weighted(
        0.8,
        parts.prop_map(move |(external, node_port, local, endpoints)| Spec {
            number,
            external,
            node_port,
            local,
            endpoints,
        }),
    )
}

fn step() -> impl Strategy<Value = Vec<Option<Spec>>> {
    (spec(1), spec(2), spec(3)).prop_map(|(a, b, c)| vec![a, b, c])
}

impl Spec {
    fn text(&self) -> String {
        let flag = |on: bool, word: &str| if on { format!(" {word}") } else { String::new() };
        let endpoints = self.endpoints.iter().enumerate().filter_map(|(index, state)| {
            Some(format!(" {}@n{}:{}", index + 1, index % 2 + 1, (*state)?))
        });
        format!(
            "udp 10.96.0.{}:53{}{}{}{}{}",
            self.number,
            flag(self.external, "ext=192.0.2.1"),
            self.node_port.map(|port| format!(" np={port}")).unwrap_or_default(),
            flag(self.local.0, "elocal"),
            flag(self.local.1, "ilocal"),
            endpoints.collect::<String>()
        )
    }

    fn cluster_ip(&self) -> String {
        format!("10.96.0.{}:53", self.number)
    }

    /// The endpoints that are in one of these states.
    fn in_state(&self, states: &str) -> BTreeSet<String> {
        let all = self.endpoints.iter().enumerate();
        let wanted = all.filter(|(_, state)| state.is_some_and(|state| states.contains(state)));
        wanted.map(|(index, _)| format!("10.1.0.{}:{TARGET}", index + 1)).collect()
    }
}

/// Every place where clients may send to.
fn places() -> Vec<String> {
    let cluster = (1..=3).map(|number| format!("10.96.0.{number}:53"));
    let others = ["192.0.2.1:53".to_owned(), format!("{NODE}:30001"), format!("{NODE}:30002")];
    cluster.chain(others).collect()
}

/// Whether anything is sent on from a place: a service that is Local and has no other address does not know others' endpoints.
fn leads_somewhere(place: &str, specs: &[Option<Spec>]) -> bool {
    let Some(spec) = owner(place, specs) else { return false };
    let is_its = |place: &String| owner(place, specs).is_some_and(|one| one.number == spec.number);
    let only_local = spec.local.1 && places().iter().filter(|place| is_its(place)).count() == 1;
    let mut serving = spec.in_state("rs").into_iter();
    serving.any(|endpoint| !only_local || HERE.contains(&&*endpoint))
}

/// Who serves a place: the first by name of those that ask for it, since all are of the same age.
fn owner<'a>(place: &str, specs: &'a [Option<Spec>]) -> Option<&'a Spec> {
    specs.iter().flatten().find(|spec| {
        spec.cluster_ip() == place
            || (spec.external && place == "192.0.2.1:53")
            || spec.node_port.is_some_and(|port| place == format!("{NODE}:{port}"))
    })
}

fn line(place: &str, endpoint: &str) -> String {
    format!("{CLIENT} > {place} = {endpoint}")
}

/// What the rules would make: to ready endpoints, or to serving ones; or untranslated if nobody has an endpoint.
fn made_by_rules(specs: &[Option<Spec>]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for place in places() {
        let ready = owner(&place, specs).map(|spec| spec.in_state("r")).unwrap_or_default();
        let terminating = owner(&place, specs).map(|spec| spec.in_state("s")).unwrap_or_default();
        all.extend(ready.iter().map(|endpoint| line(&place, endpoint)));
        if ready.is_empty() {
            all.extend(terminating.iter().map(|endpoint| line(&place, endpoint)));
        }
        if !leads_somewhere(&place, specs) {
            all.insert(line(&place, &place));
        }
    }
    all
}

/// Whether a flow may stay.
fn is_valid(text: &str, specs: &[Option<Spec>]) -> bool {
    let (place, endpoint) = text.split_once(" > ").unwrap().1.split_once(" = ").unwrap();
    let Some(spec) = owner(place, specs) else { return place == endpoint };
    if place == endpoint {
        !leads_somewhere(place, specs)
    } else {
        spec.in_state("rs").contains(endpoint)
    }
}

/// Flows that no rule of ours could have made.
fn foreign() -> BTreeSet<String> {
    let mut all: BTreeSet<_> = places().iter().map(|place| line(place, "10.1.0.77:80")).collect();
    all.extend(["172.16.0.2:30001", "8.8.8.8:53"].map(|place| line(place, place)));
    all.extend([line("172.16.0.2:30002", "10.1.0.1:5353")]);
    all
}

fn set(world: &mut World, specs: &[Option<Spec>]) -> Changes {
    let texts: Vec<_> = specs.iter().flatten().map(Spec::text).collect();
    world.set(&texts.join(";"));
    world.model.take_changes()
}

fn tracked(all: &BTreeSet<String>) -> FakeFlows {
    fake(all.iter().map(|text| flow(UDP, text)).collect())
}

/// The flows as they were written.
fn texts(fake: &FakeFlows) -> BTreeSet<String> {
    let text = |flow: &Flow| {
        let (original, reply) = (flow.original, flow.reply);
        format!("{} > {} = {}", original.source, original.destination, reply.source)
    };
    fake.flows.iter().map(text).collect()
}

fn forget_in(world: &World, changed: &Changed, fake: &mut FakeFlows) -> Report {
    let ports = world.model.ports(Family::V4);
    forget_stale(Family::V4, changed, ports, &options(), fake).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn exactly_what_does_not_serve_is_forgotten(steps in prop::collection::vec(step(), 1..6)) {
        let mut world = World::of("");
        let mut all = made_by_rules(&[]);
        for specs in &steps {
            all.extend(foreign());
            let changes = set(&mut world, specs);
            let mut fake = tracked(&all);
            forget_in(&world, &changes.v4, &mut fake);
            let found = texts(&fake);
            let (foreign, ours): (BTreeSet<_>, BTreeSet<_>) =
                all.iter().cloned().partition(|text| foreign().contains(text));
            let kept: BTreeSet<_> = ours.iter().filter(|text| is_valid(text, specs)).cloned().collect();
            let expected: BTreeSet<_> = kept.union(&foreign).cloned().collect();
            prop_assert_eq!(&found, &expected, "{:?}", specs);
            // what is left is what one who knows nothing of before would leave too
            let mut fake = tracked(&kept);
            let ports = world.model.ports(Family::V4);
            let again = reconcile(Family::V4, ports, &options(), &mut fake).unwrap();
            prop_assert_eq!(again.deleted, 0);
            all = found;
            all.extend(made_by_rules(specs));
        }
    }

    /// Several changes that one sync takes in are judged by what was in force before the first of them.
    #[test]
    fn merged_changes_are_one(first in step(), steps in prop::collection::vec(step(), 1..4)) {
        let mut world = World::of("");
        set(&mut world, &first);
        let all = made_by_rules(&first);
        let mut changes = Changes::default();
        for specs in &steps {
            changes.merge(set(&mut world, specs));
        }
        let mut fake = tracked(&all);
        forget_in(&world, &changes.v4, &mut fake);
        let last = steps.last().unwrap();
        let kept: BTreeSet<_> = all.iter().filter(|text| is_valid(text, last)).cloned().collect();
        prop_assert_eq!(texts(&fake), kept);
    }

    /// Without knowing what was before: nothing that serves is forgotten, nothing foreign at a node port, and nothing stale stays
    /// at the addresses of a service.
    #[test]
    fn one_who_knows_nothing_of_before_is_careful(before in step(), after in step()) {
        let mut world = World::of("");
        set(&mut world, &after);
        let all = made_by_rules(&before);
        let at_node = |text: &&String| text.contains(&format!("> {NODE}:"));
        let foreign: BTreeSet<_> = foreign().iter().filter(at_node).cloned().collect();
        let mut fake = tracked(&all.union(&foreign).cloned().collect());
        reconcile(Family::V4, world.model.ports(Family::V4), &options(), &mut fake).unwrap();
        let found = texts(&fake);
        prop_assert!(found.is_superset(&foreign));
        for text in &all {
            let place = text.split_once(" > ").unwrap().1.split_once(" = ").unwrap().0;
            if is_valid(text, &after) {
                prop_assert!(found.contains(text), "{} was forgotten", text);
            } else if leads_somewhere(place, &after) {
                prop_assert!(!found.contains(text), "{} is left", text);
            }
        }
    }
}
