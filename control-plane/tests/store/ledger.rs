//! Writers whose every step can be checked afterwards, however it ended.
//!
//! Step `n` of a writer is one transaction: it writes `n` to `last`, and to the key `n % KEYS`, or deletes that when `n` is divisible by
//! three. So `last` says what all its keys must hold, and the revision of the store is one more than the steps of all together.

use std::sync::Arc;

use heddle_server::store::{Condition, Notice, Operation, Outcome, Range, Revision, Store};
use heddle_server::store::{StoreError, Write};

use crate::events;

pub const WRITERS: usize = 8;
const KEYS: u64 = 5;

/// The last step of each writer that was acknowledged.
pub type Acknowledged = [u64; WRITERS];

fn key(writer: usize, name: impl std::fmt::Display) -> String {
    format!("/w{writer}/{name}")
}

/// What the key `slot` of a writer holds after a step.
fn expected(slot: u64, last: u64) -> Option<u64> {
    let step = (0..KEYS).filter_map(|back| last.checked_sub(back)).find(|n| n % KEYS == slot)?;
    (step > 0 && step % 3 != 0).then_some(step)
}

async fn operation(
    store: &dyn Store,
    key: String,
    value: Option<u64>,
) -> Result<Operation, StoreError> {
    let held = store.get(&key).await?;
    let condition = held.map_or(Condition::Absent, |record| Condition::At(record.modified));
    let write = value.map_or(Write::Delete, |value| Write::Put(value.to_string().into()));
    Ok(Operation { key, condition, write })
}

async fn number(store: &dyn Store, key: &str) -> Result<Option<u64>, StoreError> {
    let record = store.get(key).await?;
    let text = record.map(|record| String::from_utf8(record.value.to_vec()).expect("text"));
    Ok(text.map(|text| text.parse().expect("a number")))
}

/// Goes on where the writer was, until the store fails or `steps` are done. Each step is told when it is acknowledged.
pub async fn write(
    store: Arc<dyn Store>,
    writer: usize,
    steps: u64,
    acknowledged: impl Fn(u64, Revision),
) -> Result<(), StoreError> {
    let store = store.as_ref();
    let mut last = number(store, &key(writer, "last")).await?.unwrap_or(0);
    for _ in 0..steps {
        let n = last + 1;
        let slot = n % KEYS;
        let operations = vec![
            operation(store, key(writer, "last"), Some(n)).await?,
            operation(store, key(writer, slot), expected(slot, n)).await?,
        ];
        match store.commit(operations).await? {
            Outcome::Committed(revision) => acknowledged(n, revision),
            Outcome::Refused(..) => panic!("nobody else writes these keys"),
        }
        last = n;
    }
    Ok(())
}

/// That every acknowledged step is there, and no other but at most one of each writer for each of the `ends` that it met since it was
/// last verified: the one that was on its way then. Returns what is there.
pub async fn verify(
    store: &Arc<dyn Store>,
    acknowledged: &Acknowledged,
    ends: u64,
    seen: Revision,
) -> Acknowledged {
    let mut found = [0; WRITERS];
    let mut keys = 0;
    for writer in 0..WRITERS {
        let (told, store) = (acknowledged[writer], store.as_ref());
        let last = number(store, &key(writer, "last")).await.expect("a read").unwrap_or(0);
        let possible = told..=told + ends;
        assert!(possible.contains(&last), "writer {writer} was told of {told}, {last} is there");
        for slot in 0..KEYS {
            let held = number(store, &key(writer, slot)).await.expect("a read");
            assert_eq!(held, expected(slot, last), "writer {writer}, key {slot} after step {last}");
            keys += usize::from(held.is_some());
        }
        keys += usize::from(last > 0);
        found[writer] = last;
    }
    let page = store.list(Range::default()).await.expect("a list");
    assert_eq!(page.records.len(), keys, "there are other keys");
    let revision = Revision(1 + found.iter().sum::<u64>());
    assert_eq!(page.revision, revision, "one revision for each step");
    assert!(revision >= seen, "the revision went back from {seen:?} to {revision:?}");
    history(store, revision).await;
    found
}

/// That the history is whole from where it begins.
async fn history(store: &Arc<dyn Store>, latest: Revision) {
    let (mut watch, mut last) = match store.watch("/", Revision(1)).await {
        Ok(watch) => (watch, Revision(1)),
        Err(StoreError::Compacted { oldest, .. }) => {
            (store.watch("/", oldest).await.expect("it begins there"), oldest)
        }
        Err(error) => panic!("{error}"),
    };
    while last < latest {
        match events::next(&mut watch).await.expect("it goes on").expect("no error") {
            Notice::Changes(events) => {
                last = Revision(last.0 + 1);
                assert!(events.iter().all(|event| event.revision == last), "{events:?}");
            }
            Notice::Progress(_) => {}
        }
    }
}
