//! Any sequence of events, applied step by step, ends where a fresh start with the final state does.

use netns_tools::testing::TestNetns;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;

/// A service of a random kind, and its endpoints.
#[derive(Clone, Debug)]
enum Step {
    Service { number: u8, kind: u8 },
    NoService { number: u8 },
    Endpoints { number: u8, hosts: Vec<u8> },
    NoEndpoints { number: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..6u8;
    prop_oneof![
        4 => (number.clone(), 0..12u8).prop_map(|(number, kind)| Step::Service { number, kind }),
        1 => number.clone().prop_map(|number| Step::NoService { number }),
        5 => (number.clone(), proptest::collection::vec(0..8u8, 0..5))
            .prop_map(|(number, hosts)| Step::Endpoints { number, hosts }),
        1 => number.prop_map(|number| Step::NoEndpoints { number }),
    ]
}

fn spec(number: u8, kind: u8) -> Value {
    let mut spec = json!({"clusterIP": format!("10.96.0.{}", number + 1), "ports": [{"port": 80}]});
    let policy = |local: bool| if local { "Local" } else { "Cluster" };
    spec["internalTrafficPolicy"] = policy(kind % 5 == 4).into();
    if kind % 3 == 1 {
        spec["sessionAffinity"] = "ClientIP".into();
        let seconds = 60 * (1 + u32::from(kind % 2));
        spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] = seconds.into();
    }
    if kind >= 4 {
        spec["type"] = "LoadBalancer".into();
        spec["externalTrafficPolicy"] = policy(kind % 2 == 1).into();
        // two services may want the same
        spec["externalIPs"] = json!([format!("192.0.2.{}", number % 4)]);
        spec["ports"][0]["nodePort"] = (30000 + u32::from(number % 5)).into();
    }
    spec
}

fn event(step: &Step) -> Event {
    let name = |number: &u8| format!("s{number}");
    match step {
        Step::Service { number, kind } => {
            Event::Service(service(&name(number), spec(*number, *kind)))
        }
        Step::NoService { number } => Event::NoService(ServiceName::new("default", &name(number))),
        Step::Endpoints { number, hosts } => {
            let hosts: Vec<_> = hosts
                .iter()
                .map(|host| format!("10.1.{}.{host}@n{}", host % 2, host % 2 + 1))
                .collect();
            let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
            Event::Slice(slice(&name(number), &hosts))
        }
        Step::NoEndpoints { number } => Event::NoSlice {
            name: format!("default/{}-1", name(number)).as_str().into(),
            service: None,
        },
    }
}

/// Nothing is deleted and added again as it was, and nothing of ports that did not change.
fn is_minimal(
    before: &Objects,
    transaction: &Transaction,
) -> std::result::Result<(), TestCaseError> {
    for change in &transaction.changes {
        if let Change::AddElement { set, key, data } = change {
            let known = before.sets.get(set).and_then(|elements| elements.get(key));
            prop_assert_ne!(known, Some(data), "{:?}", change);
        }
        if let Change::AddChain { name, .. } = change {
            prop_assert!(!before.chains.contains_key(name), "{:?}", change);
        }
        if let Change::FlushChain(name) = change {
            let rules = transaction.changes.iter().filter_map(|change| match change {
                Change::AddRule { chain, rule } if chain == name => Some(rule),
                _ => None,
            });
            prop_assert!(!rules.eq(before.chains[name].rules.iter()), "{:?}", change);
        }
        if let Change::AddClients { name, .. } = change {
            prop_assert!(!before.clients.contains_key(name), "{:?}", change);
            prop_assert!(!transaction.changes.contains(&Change::DeleteSet(name.clone())));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn step_by_step_is_the_same_as_at_once(steps in proptest::collection::vec(step(), 1..40)) {
        let family = Family::V4;
        let mut model = Model::new(Node::named("n1"));
        let (mut state, fresh) = State::begin(family, model.ports(family), &options());
        let mut kernel = FakeKernel::default();
        kernel.commit(&fresh).unwrap();
        for step in &steps {
            model.apply(event(step));
            let changes = model.take_changes();
            let change = state.follow(model.ports(family), changes.of(family));
            is_minimal(&kernel.objects, &change)?;
            kernel.commit(&change).map_err(TestCaseError::fail)?;
            let problems = lint(family, &kernel.objects);
            prop_assert!(problems.is_empty(), "{problems:?}");
        }
        let at_once = objects(family, model.ports(family), &options());
        prop_assert_eq!(&kernel.objects, &at_once);
        let elements: usize = state.counts().values().sum();
        prop_assert_eq!((state.count().0, elements), at_once.count());
    }
}

#[test]
fn the_same_in_the_kernel() {
    let ns = TestNetns::new("pnft");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let family = Family::V4;
    let mut backend = NftablesBackend::open_in(family, ns.ns()).unwrap();
    let mut model = Model::new(Node::named("n1"));
    backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
    for round in 0..300 {
        let step = step().new_tree(&mut runner).unwrap().current();
        model.apply(event(&step));
        let changes = model.take_changes();
        let report =
            backend.sync(model.ports(family), &options(), Scope::Changed(changes.of(family)));
        assert!(!report.unwrap().full);
        assert!(backend.is_intact().unwrap());
        if round % 10 == 9 {
            let found = backend.compare(model.ports(family), &options(), &|_| true).unwrap();
            assert_eq!(found.desired, found.actual);
            backend.committed.as_mut().unwrap().generation = 0;
            assert!(backend.is_intact().unwrap(), "the long way, after {step:?}");
        }
    }
    let report = backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
    assert_eq!((report.full, report.changes), (true, 0));
}
