use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::range::{RangeConf, range_sets};
use crate::store::memory::MemoryStore;
use crate::store::{collect_garbage, leases_of, release};

fn sets(confs: &[&[(&str, &str, &str)]]) -> Vec<RangeSet> {
    let range = |(subnet, start, end): &(&str, &str, &str)| RangeConf {
        subnet: (*subnet).into(),
        range_start: (*start).into(),
        range_end: (*end).into(),
        gateway: String::new(),
    };
    let confs: Vec<Vec<_>> = confs.iter().map(|set| set.iter().map(range).collect()).collect();
    range_sets(&confs).unwrap()
}

fn small() -> Vec<RangeSet> {
    sets(&[&[("10.1.0.0/29", "", "")]])
}

fn owner(id: &str) -> Owner {
    Owner::new(id, "eth0")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn get(
    store: &mut dyn Store,
    sets: &[RangeSet],
    id: &str,
    wishes: &[&str],
) -> Result<String, String> {
    let wishes: Vec<_> = wishes.iter().map(|text| ip(text)).collect();
    match allocate(store, sets, &owner(id), &wishes) {
        Ok(got) => {
            let got: Vec<_> =
                got.iter().map(|a| format!("{} via {}", a.address, a.gateway)).collect();
            Ok(got.join(", "))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn addresses_go_round_and_freed_ones_come_back_last() {
    let (sets, mut store) = (small(), MemoryStore::default());
    assert_eq!(get(&mut store, &sets, "a", &[]).unwrap(), "10.1.0.2/29 via 10.1.0.1");
    assert_eq!(get(&mut store, &sets, "b", &[]).unwrap(), "10.1.0.3/29 via 10.1.0.1");
    release(&mut store, &owner("a")).unwrap();
    for (id, last) in [("c", 4), ("d", 5), ("e", 6), ("f", 2)] {
        let expected = format!("10.1.0.{last}/29 via 10.1.0.1");
        assert_eq!(get(&mut store, &sets, id, &[]).unwrap(), expected);
    }
    assert_eq!(
        get(&mut store, &sets, "g", &[]).unwrap_err(),
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.0.1-10.1.0.6"
    );
}

#[test]
fn a_second_allocation_for_the_same_interface_is_refused() {
    let (sets, mut store) = (small(), MemoryStore::default());
    get(&mut store, &sets, "a", &[]).unwrap();
    let refused = "failed to allocate for range 0: 10.1.0.2 has been allocated to a, duplicate allocation is not allowed";
    assert_eq!(get(&mut store, &sets, "a", &[]).unwrap_err(), refused);
    assert_eq!(get(&mut store, &sets, "a", &["10.1.0.5"]).unwrap_err(), refused);
    assert!(allocate(&mut store, &sets, &Owner::new("a", "eth1"), &[]).is_ok());
    assert_eq!(store.leases().unwrap().len(), 2);
}

#[test]
fn requested_addresses() {
    let sets = sets(&[&[("10.1.0.0/29", "", "")], &[("fd00::/64", "", "")]]);
    let mut store = MemoryStore::default();
    get(&mut store, &sets, "other", &["10.1.0.4"]).unwrap();
    let cases: [(&[&str], Result<&str, &str>); 9] = [
        (&["10.1.0.6"], Ok("10.1.0.6/29 via 10.1.0.1, fd00::3/64 via fd00::1")),
        (&["fd00::9", "10.1.0.3"], Ok("10.1.0.3/29 via 10.1.0.1, fd00::9/64 via fd00::1")),
        (&["::ffff:10.1.0.3"], Ok("10.1.0.3/29 via 10.1.0.1, fd00::3/64 via fd00::1")),
        (
            &["10.1.0.1"],
            Err("failed to allocate for range 0: requested ip 10.1.0.1 is subnet's gateway"),
        ),
        (
            &["10.1.0.4"],
            Err(
                "failed to allocate for range 0: requested IP address 10.1.0.4 is not available in range set 10.1.0.1-10.1.0.6",
            ),
        ),
        (
            &["fd00::2"],
            Err(
                "failed to allocate for range 1: requested IP address fd00::2 is not available in range set fd00::1-fd00::ffff:ffff:ffff:ffff",
            ),
        ),
        (&["10.9.9.9"], Err("failed to allocate all requested IPs: 10.9.9.9")),
        (&["10.1.0.5", "10.1.0.6"], Err("failed to allocate all requested IPs: 10.1.0.6")),
        (&["10.1.0.7", "fd01::1"], Err("failed to allocate all requested IPs: 10.1.0.7 fd01::1")),
    ];
    for (wishes, expected) in cases {
        let mut store = store.clone();
        let before = store.clone();
        let got = get(&mut store, &sets, "a", wishes);
        assert_eq!(got.as_deref().map_err(String::as_str), expected, "{wishes:?}");
        if got.is_err() {
            assert_eq!(store, before, "{wishes:?} left something");
        }
    }
}

#[test]
fn a_failed_set_gives_back_those_before() {
    let sets = sets(&[&[("10.1.0.0/29", "", "")], &[("10.2.0.0/30", "", "")]]);
    let mut store = MemoryStore::default();
    get(&mut store, &sets, "a", &[]).unwrap();
    assert_eq!(
        get(&mut store, &sets, "b", &[]).unwrap_err(),
        "failed to allocate for range 1: no IP addresses available in range set: 10.2.0.1-10.2.0.2"
    );
    assert!(leases_of(&store, &owner("b")).unwrap().is_empty());
    assert_eq!(store.leases().unwrap().len(), 2);
}

#[test]
fn exhaustion_is_seen_without_taking_anything() {
    let sets = sets(&[&[("10.1.0.0/29", "", "")], &[("10.2.0.0/30", "", "")]]);
    let mut store = MemoryStore::default();
    assert!(exhausted_set(&sets, &store.leases().unwrap()).is_none());
    // What lies outside of the sets, and the gateway, do not count.
    for address in ["10.2.0.1", "10.3.0.1"] {
        store.reserve(ip(address), &owner("x"), 0).unwrap();
    }
    assert!(exhausted_set(&sets, &store.leases().unwrap()).is_none());
    store.reserve(ip("10.2.0.2"), &owner("x"), 1).unwrap();
    assert_eq!(exhausted_set(&sets, &store.leases().unwrap()).unwrap().0, 1);
    let none = super::tests::sets(&[&[("10.1.0.0/29", "10.1.0.1", "10.1.0.1")]]);
    assert!(
        exhausted_set(&none, &[]).is_some(),
        "a range of the gateway alone has nothing to give"
    );
}

#[test]
fn garbage_is_what_no_valid_attachment_owns() {
    let (sets, mut store) = (small(), MemoryStore::default());
    for id in ["a", "b", "c"] {
        get(&mut store, &sets, id, &[]).unwrap();
    }
    let freed = collect_garbage(&mut store, &[owner("b"), Owner::new("c", "eth9")]).unwrap();
    assert_eq!(freed, [ip("10.1.0.2"), ip("10.1.0.4")]);
    assert_eq!(store.leases().unwrap().len(), 1);
    assert_eq!(collect_garbage(&mut store, &[]).unwrap(), [ip("10.1.0.3")]);
}

/// What an allocation should do, said as simply as possible: every address with the time of its last release.
#[derive(Default)]
struct Model {
    holder: std::collections::BTreeMap<IpAddr, u8>,
    released: std::collections::BTreeMap<IpAddr, usize>,
    last: Option<IpAddr>,
}

impl Model {
    /// Of the free addresses the one whose release is longest ago, never being before ever; among those never released the
    /// next one after the last that was handed out.
    fn next(&self, set: &RangeSet) -> Option<IpAddr> {
        let all: Vec<IpAddr> = set.candidates(None).map(|(ip, _)| ip).collect();
        let turn = all.iter().position(|ip| Some(*ip) > self.last).unwrap_or(0);
        let free = (0..all.len()).map(|n| all[(turn + n) % all.len()]);
        let free = free.filter(|ip| !self.holder.contains_key(ip));
        // The first of several equal ones.
        free.min_by_key(|ip| self.released.get(ip).copied())
    }
}

proptest! {
    /// Any history of ADDs and DELs gives exactly the addresses that the model gives.
    #[test]
    fn any_history_is_the_model_s(ops in prop::collection::vec((0u8..3, 0u8..12), 0..200)) {
        let sets = sets(&[&[("10.1.0.0/28", "10.1.0.3", "10.1.0.10")]]);
        let (mut store, mut model) = (MemoryStore::default(), Model::default());
        for (time, (what, id)) in ops.into_iter().enumerate() {
            let held = model.holder.iter().find(|(_, holder)| **holder == id).map(|(ip, _)| *ip);
            if what == 0 {
                let freed = release(&mut store, &owner(&id.to_string())).unwrap();
                prop_assert_eq!(freed, Vec::from_iter(held));
                if let Some(ip) = held {
                    model.holder.remove(&ip);
                    model.released.insert(ip, time);
                }
                continue;
            }
            match (allocate(&mut store, &sets, &owner(&id.to_string()), &[]), held, model.next(&sets[0])) {
                (Err(AllocateError::Duplicate { address, .. }), Some(held), _) => prop_assert_eq!(address, held),
                (Err(AllocateError::Exhausted { .. }), None, None) => {}
                (Ok(got), None, Some(expected)) => {
                    prop_assert_eq!(got[0].address.ip(), expected);
                    model.holder.insert(expected, id);
                    model.last = Some(expected);
                }
                (got, held, expected) => prop_assert!(false, "{got:?}, held {held:?}, expected {expected:?}"),
            }
        }
    }

    /// Any history of ADDs and DELs: no address twice, the gateway never, and a full store means that
    /// every address was handed out.
    #[test]
    fn any_history_keeps_addresses_apart(ops in prop::collection::vec((any::<bool>(), 0u8..14), 0..80)) {
        let sets = sets(&[
            &[("10.1.0.0/28", "10.1.0.4", ""), ("10.2.0.0/29", "", "10.2.0.3")],
            &[("fd00::/124", "", "fd00::c")],
        ]);
        let capacity = sets.iter().map(RangeSet::capacity).min().unwrap();
        let mut store = MemoryStore::default();
        let mut live = BTreeSet::new();
        for (add, id) in ops {
            let owner = owner(&id.to_string());
            if !add {
                release(&mut store, &owner).unwrap();
                live.remove(&id);
                continue;
            }
            match allocate(&mut store, &sets, &owner, &[]) {
                Ok(got) => {
                    prop_assert!(live.insert(id), "the same interface got addresses twice");
                    prop_assert!(got.iter().all(|a| a.address.ip() != a.gateway));
                }
                Err(AllocateError::Duplicate { .. }) => prop_assert!(live.contains(&id)),
                Err(AllocateError::Exhausted { .. }) => prop_assert_eq!(live.len() as u128, capacity),
                Err(other) => prop_assert!(false, "{}", other),
            }
            let leases = store.leases().unwrap();
            prop_assert_eq!(leases.len(), live.len() * 2);
            let distinct: BTreeSet<_> = leases.iter().map(|l| l.address).collect();
            prop_assert_eq!(distinct.len(), leases.len());
        }
    }

    /// Every address of the sets can be had, wherever the round robin stands.
    #[test]
    fn every_address_is_reachable(last in 0u8..16) {
        let sets = sets(&[&[("10.1.0.0/28", "", "")]]);
        let mut store = MemoryStore::default();
        let warm = IpAddr::from([10, 1, 0, last]);
        store.reserve(warm, &owner("warm"), 0).unwrap();
        store.release(warm).unwrap();
        for n in 0..sets[0].capacity() {
            allocate(&mut store, &sets, &owner(&n.to_string()), &[]).unwrap();
        }
        let full = allocate(&mut store, &sets, &owner("late"), &[]);
        let exhausted = matches!(full, Err(AllocateError::Exhausted { .. }));
        prop_assert!(exhausted);
    }
}
