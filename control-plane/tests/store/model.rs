//! Random operations on a store and on the simplest model of one: a copy of everything for every revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_server::store::{Condition, Event, Operation, Outcome, Page, Range, Record, Revision};
use heddle_server::store::{Store, StoreError, Write};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::events::changes_until;
use crate::subject::Subject;

const KEYS: [&str; 6] = ["a", "a/", "a/b", "a/c", "ab", "b/a"];
const PREFIXES: [&str; 6] = ["", "a", "a/", "a/b", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Part>),
    Get(usize),
    List { prefix: usize, after: Option<usize>, limit: usize, back: Option<u64> },
    Watch { prefix: usize, back: u64 },
    Compact { back: u64 },
}

#[derive(Clone, Debug)]
struct Part {
    key: usize,
    condition: Claim,
    write: Change,
}

#[derive(Clone, Copy, Debug)]
enum Claim {
    Right,
    Absent,
    Old,
}

#[derive(Clone, Debug)]
enum Change {
    Put(u8),
    Delete,
    Check,
}

fn part() -> impl Strategy<Value = Part> {
    let claim =
        prop_oneof![8 => Just(Claim::Right), 1 => Just(Claim::Absent), 1 => Just(Claim::Old)];
    let change = prop_oneof![
        6 => any::<u8>().prop_map(Change::Put),
        3 => Just(Change::Delete),
        1 => Just(Change::Check),
    ];
    (0..KEYS.len(), claim, change).prop_map(|(key, condition, write)| Part {
        key,
        condition,
        write,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let after = proptest::option::of(0..KEYS.len());
    let back = proptest::option::of(0..12_u64);
    let list = (0..PREFIXES.len(), after, 0..4_usize, back);
    prop_oneof![
        8 => proptest::collection::vec(part(), 1..4).prop_map(Step::Commit),
        2 => (0..KEYS.len()).prop_map(Step::Get),
        5 => list.prop_map(|(prefix, after, limit, back)| Step::List { prefix, after, limit, back }),
        2 => (0..PREFIXES.len(), 0..12_u64).prop_map(|(prefix, back)| Step::Watch { prefix, back }),
        1 => (0..20_u64).prop_map(|back| Step::Compact { back }),
    ]
}

/// Everything at every revision since `base`.
struct Model {
    place: String,
    base: u64,
    compacted: u64,
    states: Vec<BTreeMap<String, Record>>,
}

impl Model {
    fn latest(&self) -> u64 {
        self.base + self.states.len() as u64 - 1
    }

    fn now(&self) -> &BTreeMap<String, Record> {
        self.states.last().expect("the first is there")
    }

    fn key(&self, key: usize) -> String {
        format!("{}{}", self.place, KEYS[key])
    }

    fn prefix(&self, prefix: usize) -> String {
        format!("{}{}", self.place, PREFIXES[prefix])
    }

    fn operations(&self, parts: &[Part]) -> Vec<Operation> {
        let mut operations = BTreeMap::new();
        for part in parts {
            let key = self.key(part.key);
            let held = self.now().get(&key).map(|record| record.modified);
            let condition = match part.condition {
                Claim::Right => held.map_or(Condition::Absent, Condition::At),
                Claim::Absent => Condition::Absent,
                Claim::Old => Condition::At(Revision(self.base)),
            };
            let write = match part.write {
                Change::Put(byte) => Write::Put(vec![byte; usize::from(byte)].into()),
                Change::Delete => Write::Delete,
                Change::Check => Write::Check,
            };
            operations.insert(key.clone(), Operation { key, condition, write });
        }
        operations.into_values().collect()
    }

    fn commit(&mut self, operations: &[Operation]) -> Outcome {
        for (index, operation) in operations.iter().enumerate() {
            let held = self.now().get(&operation.key);
            let holds = match operation.condition {
                Condition::Absent => held.is_none(),
                Condition::At(revision) => held.is_some_and(|record| record.modified == revision),
            };
            if !holds {
                return Outcome::Refused(index, held.cloned());
            }
        }
        let (mut next, modified) = (self.now().clone(), Revision(self.latest() + 1));
        for Operation { key, write, .. } in operations {
            match write {
                Write::Put(value) => {
                    let created = next.get(key).map_or(modified, |record| record.created);
                    let value = value.clone();
                    let record = Record { key: key.clone(), value, created, modified };
                    next.insert(key.clone(), record);
                }
                Write::Delete => drop(next.remove(key)),
                Write::Check => {}
            }
        }
        if next != *self.now() {
            self.states.push(next);
        }
        Outcome::Committed(Revision(self.latest()))
    }

    fn page(&self, range: &Range) -> Page {
        let at = range.at.map_or(self.latest(), |at| at.0);
        let after = |key: &str| range.after.as_deref().is_none_or(|after| key > after);
        let mut records: Vec<_> = self.states[usize::try_from(at - self.base).expect("small")]
            .values()
            .filter(|record| record.key.starts_with(&range.prefix) && after(&record.key))
            .cloned()
            .collect();
        let all = records.len();
        records.truncate(if range.limit == 0 { all } else { range.limit });
        let remaining = (all - records.len()) as u64;
        Page { records, revision: Revision(at), remaining }
    }

    fn events(&self, prefix: &str, after: u64) -> Vec<Event> {
        let mut events = Vec::new();
        let from = usize::try_from(after - self.base).expect("small");
        for (pair, revision) in self.states[from..].windows(2).zip(after + 1..) {
            let (old, new) = (&pair[0], &pair[1]);
            let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for key in keys.into_iter().filter(|key| key.starts_with(prefix)) {
                let (before, after) = (old.get(key), new.get(key));
                if before != after {
                    let value = |record: Option<&Record>| record.map(|record| record.value.clone());
                    let (before, after) = (value(before), value(after));
                    events.push(Event {
                        key: key.clone(),
                        revision: Revision(revision),
                        before,
                        after,
                    });
                }
            }
        }
        events
    }
}

/// Compares a store with the model in so many runs of random steps.
pub async fn compare(subject: &Subject, cases: u32) {
    let mut runner = TestRunner::default();
    let steps = proptest::collection::vec(step(), 1..80);
    for case in 0..cases {
        let steps = steps.new_tree(&mut runner).expect("steps").current();
        let base = subject.store.revision().await.expect("a revision").0;
        let place = format!("/run/{case}/");
        let states = vec![BTreeMap::new()];
        let mut model = Model { place, base, compacted: base, states };
        for (number, step) in steps.iter().enumerate() {
            let told = format!("case {case}, step {number} of {steps:#?}");
            take(&subject.store, &mut model, step, &told).await;
        }
    }
}

async fn take(store: &Arc<dyn Store>, model: &mut Model, step: &Step, told: &str) {
    match step {
        Step::Commit(parts) => {
            let operations = model.operations(parts);
            let outcome = store.commit(operations.clone()).await.expect(told);
            assert_eq!(outcome, model.commit(&operations), "{told}");
        }
        Step::Get(key) => {
            let key = model.key(*key);
            let record = store.get(&key).await.expect(told);
            assert_eq!(record.as_ref(), model.now().get(&key), "{told}");
        }
        Step::List { prefix, after, limit, back } => {
            let at = back.map(|back| Revision(model.latest().saturating_sub(back).max(model.base)));
            let after = after.map(|after| model.key(after));
            let range = Range {
                prefix: model.prefix(*prefix),
                after,
                limit: *limit,
                at,
                ..Range::default()
            };
            list(store, model, range, told).await;
        }
        Step::Watch { prefix, back } => {
            let after = model.latest().saturating_sub(*back).max(model.base);
            watch(store, model, &model.prefix(*prefix), after, told).await;
        }
        Step::Compact { back } => {
            let before = model.latest().saturating_sub(*back).max(model.base);
            store.compact(Revision(before)).await.expect(told);
            model.compacted = model.compacted.max(before);
        }
    }
}

async fn list(store: &Arc<dyn Store>, model: &Model, range: Range, told: &str) {
    let page = store.list(range.clone()).await;
    match range.at {
        Some(asked) if asked.0 < model.compacted => {
            let oldest = Revision(model.compacted);
            assert!(
                matches!(&page, Err(StoreError::Compacted { asked: a, oldest: o }) if (*a, *o) == (asked, oldest)),
                "{page:?}: {told}"
            );
        }
        _ => assert_eq!(page.expect(told), model.page(&range), "{told}"),
    }
}

async fn watch(store: &Arc<dyn Store>, model: &Model, prefix: &str, after: u64, told: &str) {
    let watch = store.watch(prefix, Revision(after)).await;
    if after < model.compacted {
        let error = match watch {
            Err(error) => error,
            Ok(mut watch) => crate::events::end(&mut watch).await,
        };
        assert!(matches!(error, StoreError::Compacted { .. }), "{error}: {told}");
        return;
    }
    let expected = model.events(prefix, after);
    let Some(last) = expected.last() else { return };
    let mut events = changes_until(&mut watch.expect(told), last.revision).await;
    // Within a revision no order is promised.
    events.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
    assert_eq!(events, expected, "{told}");
}
