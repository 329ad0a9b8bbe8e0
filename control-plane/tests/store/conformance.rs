//! What every store must do. No case assumes that the store is at a certain revision.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_server::store::Condition::{Absent, At};
use heddle_server::store::{Notice, Operation, Outcome, Page, Range, Revision, Store, StoreError};
use heddle_server::store::{Watch, Write};

use crate::events::{self, changes, changes_until, told};
use crate::subject::{QUEUE, StoreExt, Subject, check, delete, put};

fn below(prefix: &str) -> Range {
    Range { prefix: prefix.into(), ..Range::default() }
}

fn at(prefix: &str, revision: Revision) -> Range {
    Range { at: Some(revision), ..below(prefix) }
}

fn keys(page: &Page) -> Vec<&str> {
    page.records.iter().map(|record| record.key.as_str()).collect()
}

async fn watch(store: &Arc<dyn Store>, prefix: &str, after: Revision) -> Watch {
    store.watch(prefix, after).await.expect("a watch")
}

pub async fn a_key_is_made_changed_and_deleted(subject: &Subject) {
    let store = &subject.store;
    let start = store.revision().await.expect("a revision");
    assert!(start >= Revision(1), "revision 0 means any to clients");
    assert_eq!(store.get("/a").await.expect("a read"), None);

    let made = store.create("/a", "one").await;
    assert_eq!(made, Revision(start.0 + 1));
    let changed = store.update("/a", made, "two").await;
    assert_eq!(changed, Revision(start.0 + 2));
    let record = store.get("/a").await.expect("a read").expect("a record");
    assert_eq!((record.created, record.modified), (made, changed));
    assert_eq!((record.key.as_str(), record.value.as_ref()), ("/a", b"two".as_ref()));

    assert_eq!(store.delete("/a", changed).await, Revision(start.0 + 3));
    assert_eq!(store.get("/a").await.expect("a read"), None);
    let again = store.create("/a", "three").await;
    let record = store.get("/a").await.expect("a read").expect("a record");
    assert_eq!((record.created, record.modified), (again, again));
    assert_eq!(store.revision().await.expect("a revision"), again);
}

pub async fn conditions_refuse_and_tell_what_is_there(subject: &Subject) {
    let store = &subject.store;
    let made = store.create("/a", "one").await;
    let held = store.get("/a").await.expect("a read");
    assert_eq!(store.refused(vec![put("/a", Absent, "x")]).await, (0, held.clone()));
    let changed = store.update("/a", made, "two").await;
    let held = store.get("/a").await.expect("a read");
    assert_eq!(store.refused(vec![put("/a", At(made), "x")]).await, (0, held.clone()));
    assert_eq!(store.refused(vec![delete("/a", made)]).await, (0, held));
    assert_eq!(store.refused(vec![put("/b", At(made), "x")]).await, (0, None));
    assert_eq!(store.revision().await.expect("a revision"), changed);
    assert_eq!(store.text("/a").await.as_deref(), Some("two"));
}

pub async fn a_transaction_is_all_or_nothing(subject: &Subject) {
    let store = &subject.store;
    let made = store.create("/a", "one").await;
    let several = |condition| {
        vec![put("/b", Absent, "b"), put("/a", condition, "two"), put("/c", Absent, "c")]
    };
    let (index, held) = store.refused(several(Absent)).await;
    assert_eq!((index, held.map(|record| record.modified)), (1, Some(made)));
    assert_eq!(keys(&store.list(below("/")).await.expect("a list")), ["/a"]);

    let revision = store.done(several(At(made))).await;
    let page = store.list(below("/")).await.expect("a list");
    assert_eq!(keys(&page), ["/a", "/b", "/c"]);
    assert!(page.records.iter().all(|record| record.modified == revision));

    let (index, _) = store.refused(vec![check("/b", At(revision)), delete("/a", made)]).await;
    assert_eq!(index, 1);
    // Both do not hold: the first is named.
    let (index, held) = store.refused(vec![check("/x", At(made)), check("/a", Absent)]).await;
    assert_eq!((index, held), (0, None));
}

pub async fn a_transaction_that_changes_nothing_has_no_revision(subject: &Subject) {
    let store = &subject.store;
    let made = store.create("/a", "one").await;
    assert_eq!(store.done(vec![check("/a", At(made)), check("/b", Absent)]).await, made);
    let nothing = Operation { key: "/b".into(), condition: Absent, write: Write::Delete };
    assert_eq!(store.done(vec![nothing]).await, made);
    assert_eq!(store.revision().await.expect("a revision"), made);
    let next = store.done(vec![check("/a", At(made)), put("/b", Absent, "b")]).await;
    assert_eq!(next, Revision(made.0 + 1));
}

pub async fn a_prefix_ends_where_it_ends(subject: &Subject) {
    let store = &subject.store;
    for key in ["/pods", "/pods/", "/pods/a/x", "/pods/a/y", "/pods/ab/z", "/podsx", "/q", "0"] {
        store.create(key, "").await;
    }
    let lists: [(&str, &[&str]); 6] = [
        ("/pods/", &["/pods/", "/pods/a/x", "/pods/a/y", "/pods/ab/z"]),
        ("/pods/a/", &["/pods/a/x", "/pods/a/y"]),
        ("/pods/a", &["/pods/a/x", "/pods/a/y", "/pods/ab/z"]),
        ("/podsx", &["/podsx"]),
        ("/r", &[]),
        ("", &["/pods", "/pods/", "/pods/a/x", "/pods/a/y", "/pods/ab/z", "/podsx", "/q", "0"]),
    ];
    for (prefix, expected) in lists {
        let page = store.list(below(prefix)).await.expect("a list");
        assert_eq!(keys(&page), expected, "below {prefix:?}");
        assert_eq!(page.remaining, 0);
    }
    let last = char::MAX.to_string();
    store.create(&format!("{last}a"), "").await;
    assert_eq!(store.list(below(&last)).await.expect("a list").records.len(), 1);
}

pub async fn a_list_goes_on_where_it_stopped(subject: &Subject) {
    let store = &subject.store;
    for number in 0..25 {
        store.create(&format!("/k/{number:02}"), &number.to_string()).await;
    }
    store.create("/l", "").await;
    let mut range = Range { limit: 10, ..below("/k/") };
    let mut seen = Vec::new();
    for remaining in [15, 5, 0] {
        let page = store.list(range.clone()).await.expect("a page");
        assert_eq!(page.remaining, remaining);
        range.after = page.records.last().map(|record| record.key.clone());
        range.at = Some(page.revision);
        seen.extend(page.records.into_iter().map(|record| record.key));
    }
    let all: Vec<_> = (0..25).map(|number| format!("/k/{number:02}")).collect();
    assert_eq!(seen, all);
    // whether there is more is known without a count, now and at an old revision
    for at in [None, range.at] {
        for (limit, more) in [(24, true), (25, false)] {
            let uncounted = Range { limit, at, uncounted: true, ..below("/k/") };
            assert_eq!(store.list(uncounted).await.expect("a page").remaining > 0, more);
        }
        store.create(&format!("/l/{}", at.is_some()), "").await;
    }
    let end = store.list(range).await.expect("a page");
    assert_eq!((end.records.len(), end.remaining), (0, 0));
    // A key that is gone, or lies before the prefix, is a place to go on from all the same.
    for (after, expected) in [("/k/03x", 21), ("/a", 25), ("/k/24", 0), ("/z", 0)] {
        let range = Range { after: Some(after.into()), ..below("/k/") };
        assert_eq!(store.list(range).await.expect("a page").records.len(), expected, "{after}");
    }
}

pub async fn a_page_stays_what_it_was(subject: &Subject) {
    let store = &subject.store;
    for number in 0..6 {
        store.create(&format!("/k/{number}"), "old").await;
    }
    let before = store.list(below("/k/")).await.expect("a list");
    let pinned = before.revision;
    store.update("/k/1", before.records[1].modified, "new").await;
    store.delete("/k/4", before.records[4].modified).await;
    let again = store.create("/k/9", "new").await;
    store.delete("/k/9", again).await;
    store.create("/k/35", "new").await;
    assert_eq!(store.list(at("/k/", pinned)).await.expect("a list"), before);
    let page = Range { limit: 2, after: Some("/k/2".into()), ..at("/k/", pinned) };
    let page = store.list(page).await.expect("a page");
    assert_eq!(page.records, before.records[3..5]);
    assert_eq!((page.remaining, page.revision), (1, pinned));
    let now = store.list(below("/k/")).await.expect("a list");
    assert_eq!(keys(&now), ["/k/0", "/k/1", "/k/2", "/k/3", "/k/35", "/k/5"]);
}

pub async fn a_page_ends_where_it_is_long_enough(subject: &Subject) {
    let store = &subject.store;
    for number in 0..6 {
        store.create(&format!("/k/{number}"), &"x".repeat(100)).await;
    }
    for (bytes, uncounted) in [(1, true), (100, false), (250, true), (1000, false)] {
        let mut range = Range { bytes, uncounted, ..below("/k/") };
        let mut seen = Vec::new();
        loop {
            let page = store.list(range.clone()).await.expect("a page");
            assert!(!page.records.is_empty(), "one is there in any case");
            seen.extend(keys(&page).into_iter().map(ToOwned::to_owned));
            assert_eq!(page.remaining > 0, seen.len() < 6, "whether there is more is told");
            if page.remaining == 0 {
                break;
            }
            assert!(uncounted || page.remaining == 6 - seen.len() as u64);
            range.after = seen.last().cloned();
            range.at = Some(page.revision);
        }
        assert_eq!(seen, ["/k/0", "/k/1", "/k/2", "/k/3", "/k/4", "/k/5"], "{bytes}");
    }
}

pub async fn what_is_held_stays_as_it_is(subject: &Subject) {
    let store = &subject.store;
    let made = store.create("/k/a", "old").await;
    store.create("/k/b", "old").await;
    let before = store.list(below("/k/")).await.expect("a list");
    let Some(still) = store.still().await.expect("the store is there") else { return };
    let changed = store.update("/k/a", made, "new").await;
    let last = store.delete("/k/a", changed).await;
    store.compact(last).await.expect("a compaction");
    assert_eq!(still.list(below("/k/")).await.expect("a list"), before);
    let pinned = Range { limit: 1, ..at("/k/", before.revision) };
    assert_eq!(still.list(pinned).await.expect("a page").records, before.records[..1]);
}

pub async fn deleted_keys_are_there_at_old_revisions(subject: &Subject) {
    let store = &subject.store;
    let first = store.create("/a", "one").await;
    let second = store.update("/a", first, "two").await;
    let gone = store.delete("/a", second).await;
    let again = store.create("/a", "three").await;
    for (revision, value, created) in [
        (first, Some("one"), first),
        (second, Some("two"), first),
        (gone, None, first),
        (again, Some("three"), again),
    ] {
        let page = store.list(at("/a", revision)).await.expect("a list");
        assert_eq!(page.revision, revision);
        let held = page.records.first().map(|record| record.value.as_ref());
        assert_eq!(held, value.map(str::as_bytes), "at {revision:?}");
        assert!(page.records.iter().all(|record| record.created == created));
    }
}

pub async fn revisions_that_are_not_there_are_refused(subject: &Subject) {
    let store = &subject.store;
    let latest = store.create("/a", "one").await;
    let asked = Revision(latest.0 + 1);
    let error = store.list(at("/", asked)).await.expect_err("it has not happened");
    assert!(
        matches!(&error, StoreError::Future { asked: a, latest: l } if (*a, *l) == (asked, latest)),
        "{error}"
    );
    let error = store.compact(asked).await.expect_err("it has not happened");
    assert!(matches!(error, StoreError::Future { .. }), "{error}");
    store.list(at("/", latest)).await.expect("the latest is there");
}

pub async fn compaction_forgets_the_past_only(subject: &Subject) {
    let store = &subject.store;
    let first = store.create("/a", "one").await;
    let gone = store.create("/gone", "x").await;
    let second = store.update("/a", first, "two").await;
    store.delete("/gone", gone).await;
    let third = store.update("/a", second, "three").await;
    let fourth = store.update("/a", third, "four").await;

    store.compact(third).await.expect("a compaction");
    store.compact(second).await.expect("what is forgotten already is no error");
    store.compact(third).await.expect("what is forgotten already is no error");

    let error = store.list(at("/", second)).await.expect_err("it was forgotten");
    assert!(
        matches!(&error, StoreError::Compacted { asked, oldest } if (*asked, *oldest) == (second, third)),
        "{error}"
    );
    let page = store.list(at("/", third)).await.expect("it is kept");
    assert_eq!(keys(&page), ["/a"]);
    assert_eq!(page.records[0].value.as_ref(), b"three");
    let record = store.get("/a").await.expect("a read").expect("a record");
    assert_eq!((record.created, record.modified), (first, fourth));
    let mut watch = watch(store, "/", third).await;
    assert_eq!(told(&changes(&mut watch).await), ["/a: three > four"]);
    // Nothing is lost of what is current, however much is forgotten.
    store.compact(fourth).await.expect("a compaction");
    assert_eq!(store.text("/a").await.as_deref(), Some("four"));
    store.create("/gone", "again").await;
    assert_eq!(told(&changes(&mut watch).await), ["/gone: - > again"]);
}

pub async fn a_watch_replays_and_goes_on(subject: &Subject) {
    let store = &subject.store;
    let start = store.revision().await.expect("a revision");
    let one = store.create("/a", "1").await;
    let two = store.update("/a", one, "2").await;
    let gone = store.delete("/a", two).await;
    let mut all = watch(store, "/", start).await;
    let mut some = watch(store, "/", two).await;
    let mut none = watch(store, "/", gone).await;
    store.create("/a", "3").await;
    let expected = ["/a: - > 1", "/a: 1 > 2", "/a: 2 > -", "/a: - > 3"];
    for (watch, expected) in
        [(&mut all, &expected[..]), (&mut some, &expected[2..]), (&mut none, &expected[3..])]
    {
        for expected in expected {
            assert_eq!(told(&changes(watch).await), [*expected]);
        }
    }
}

pub async fn a_watch_sees_only_its_prefix(subject: &Subject) {
    let store = &subject.store;
    let start = store.revision().await.expect("a revision");
    let mut before = watch(store, "/pods/", start).await;
    for key in ["/podsx", "/pods/a", "/nodes/a", "/pods", "/pods/b"] {
        store.create(key, "v").await;
    }
    let mut after = watch(store, "/pods/", start).await;
    for watch in [&mut before, &mut after] {
        assert_eq!(told(&changes(watch).await), ["/pods/a: - > v"]);
        assert_eq!(told(&changes(watch).await), ["/pods/b: - > v"]);
    }
}

pub async fn a_transaction_is_one_notice(subject: &Subject) {
    let store = &subject.store;
    let made = store.create("/k/b", "1").await;
    let mut live = watch(store, "/k/", made).await;
    let several =
        vec![put("/k/c", Absent, "1"), put("/k/b", At(made), "2"), put("/l/a", Absent, "1")];
    let revision = store.done(several).await;
    let mut replayed = watch(store, "/k/", made).await;
    for watch in [&mut live, &mut replayed] {
        let events = changes(watch).await;
        assert!(events.iter().all(|event| event.revision == revision));
        let told: BTreeSet<_> = told(&events).into_iter().collect();
        assert_eq!(told, BTreeSet::from(["/k/b: 1 > 2".into(), "/k/c: - > 1".into()]));
        assert_eq!(events.len(), 2);
    }
}

pub async fn a_watch_from_the_past_or_future_is_refused(subject: &Subject) {
    let store = &subject.store;
    let first = store.create("/a", "1").await;
    let second = store.update("/a", first, "2").await;
    let third = store.delete("/a", second).await;
    let fourth = store.create("/b", "1").await;
    let error = store.watch("/", Revision(fourth.0 + 1)).await.expect_err("it has not happened");
    assert!(matches!(error, StoreError::Future { .. }), "{error}");
    store.compact(third).await.expect("a compaction");
    // The deletion at `third` may be forgotten, so a watch that must tell of it cannot begin.
    for after in [first, second] {
        let error = match store.watch("/", after).await {
            Err(error) => error,
            Ok(mut watch) => events::end(&mut watch).await,
        };
        assert!(
            matches!(&error, StoreError::Compacted { asked, oldest } if (*asked, *oldest) == (after, third)),
            "{error}"
        );
    }
    assert_eq!(told(&changes(&mut watch(store, "/", third).await).await), ["/b: - > 1"]);
}

const WRITERS: usize = 8;
const WRITES: usize = 40;

pub async fn a_watch_misses_nothing_while_many_write(subject: &Subject) {
    let store = &subject.store;
    let start = store.revision().await.expect("a revision");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                for write in 0..WRITES {
                    revisions.push(store.create(&format!("/k/{writer}/{write}"), "v").await);
                }
                revisions
            })
        })
        .collect();
    // Watches that begin at the start and in the middle of it all, each of which catches up while it goes on.
    let last = Revision(start.0 + (WRITERS * WRITES) as u64);
    let mut watching = Vec::new();
    for _ in 0..6 {
        let store = Arc::clone(store);
        watching.push(tokio::spawn(async move { all_changes(&store, start, last).await }));
        let now = store_moves(subject).await;
        assert!(now >= start);
    }
    let mut written = BTreeSet::new();
    for writer in writers {
        let revisions = writer.await.expect("a writer");
        assert!(revisions.is_sorted());
        written.extend(revisions);
    }
    assert_eq!(written.len(), WRITERS * WRITES, "each transaction has its own revision");
    assert_eq!(written.last(), Some(&last), "revisions have no gaps");
    for watching in watching {
        let seen = watching.await.expect("a watcher");
        assert!(seen.iter().copied().eq(written.iter().copied()), "each change once, in order");
    }
}

/// The revisions that a client sees that watches anew from where it was whenever it is cut.
async fn all_changes(store: &Arc<dyn Store>, start: Revision, last: Revision) -> Vec<Revision> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|seen| *seen < last) {
        let mut watch = watch(store, "/k/", seen.last().copied().unwrap_or(start)).await;
        while seen.last().is_none_or(|seen| *seen < last) {
            match events::next(&mut watch).await.expect("it goes on") {
                Ok(Notice::Changes(events)) => {
                    seen.extend(events.iter().map(|event| event.revision));
                }
                Ok(Notice::Progress(_)) => {}
                Err(StoreError::SlowWatcher { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    seen
}

/// Lets some writes happen.
async fn store_moves(subject: &Subject) -> Revision {
    let before = subject.store.revision().await.expect("a revision");
    for _ in 0..10 {
        let now = subject.store.revision().await.expect("a revision");
        if now.0 >= before.0 + 20 {
            break;
        }
        tokio::task::yield_now().await;
    }
    subject.store.revision().await.expect("a revision")
}

pub async fn a_slow_watcher_is_cut(subject: &Subject) {
    let store = &subject.store;
    let start = store.revision().await.expect("a revision");
    let mut slow = watch(store, "/k/", start).await;
    let mut quick = watch(store, "/k/", start).await;
    // A first change, so that the watch is known to be live.
    let mut last = store.create("/k/a", "0").await;
    assert_eq!(changes(&mut slow).await.len(), 1);
    assert_eq!(changes(&mut quick).await.len(), 1);
    for number in 1..=2 * QUEUE {
        last = store.update("/k/a", last, &number.to_string()).await;
        assert_eq!(changes(&mut quick).await.len(), 1, "others are not held up");
    }
    let error = events::end(&mut slow).await;
    assert!(matches!(error, StoreError::SlowWatcher { pending } if pending == QUEUE), "{error}");
    // It may come again.
    let mut again = watch(store, "/k/", start).await;
    assert_eq!(changes_until(&mut again, last).await.len(), 2 * QUEUE + 1);
}

pub async fn a_dropped_watch_ends(subject: &Subject) {
    let store = &subject.store;
    let start = store.revision().await.expect("a revision");
    for _ in 0..50 {
        drop(watch(store, "/", start).await);
    }
    let made = store.create("/a", "1").await;
    let mut watch = watch(store, "/", start).await;
    assert_eq!(changes_until(&mut watch, made).await.len(), 1);
}

pub async fn any_bytes_are_a_value(subject: &Subject) {
    let store = &subject.store;
    let all: Vec<u8> = (0..=u8::MAX).collect();
    for (key, value) in [("/empty", Vec::new()), ("/all", all), ("/long", vec![0xfe; 900_000])] {
        let write = Write::Put(value.clone().into());
        let operation = Operation { key: key.into(), condition: Absent, write };
        let revision = store.done(vec![operation]).await;
        let record = store.get(key).await.expect("a read").expect("an empty value is a value");
        assert_eq!(record.value, value);
        let mut watch = watch(store, key, Revision(revision.0 - 1)).await;
        assert_eq!(changes(&mut watch).await[0].after.as_deref(), Some(value.as_slice()));
    }
    assert_eq!(store.list(below("/")).await.expect("a list").records.len(), 3);
}

const RACERS: usize = 32;

pub async fn one_of_many_wins_a_race(subject: &Subject) {
    let store = &subject.store;
    let racers: Vec<_> = (0..RACERS)
        .map(|racer| {
            let store = Arc::clone(store);
            let racing =
                async move { store.commit(vec![put("/a", Absent, &racer.to_string())]).await };
            tokio::spawn(racing)
        })
        .collect();
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for (racer, racing) in racers.into_iter().enumerate() {
        match racing.await.expect("a racer").expect("the store answers") {
            Outcome::Committed(revision) => won.push((racer, revision)),
            Outcome::Refused(0, Some(held)) => lost.push(held),
            refused @ Outcome::Refused(..) => panic!("{refused:?}"),
        }
    }
    assert_eq!((won.len(), lost.len()), (1, RACERS - 1));
    let (winner, revision) = won[0];
    assert!(lost.iter().all(|held| held.modified == revision));
    assert_eq!(store.text("/a").await, Some(winner.to_string()));
}

/// What one writer did: from which revision with which value to which.
struct Step {
    from: Revision,
    to: Revision,
    read: u64,
}

pub async fn counting_up_together_loses_nothing(subject: &Subject) {
    const STEPS: usize = 8;
    let store = &subject.store;
    let made = store.create("/counter", "0").await;
    let racers: Vec<_> = (0..RACERS)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut steps = Vec::new();
                while steps.len() < STEPS {
                    steps.extend(count_up(&store).await);
                }
                steps
            })
        })
        .collect();
    let mut history = Vec::new();
    for racer in racers {
        let steps = racer.await.expect("a racer");
        let in_order = steps.windows(2).all(|pair: &[Step]| pair[0].to <= pair[1].from);
        assert!(in_order, "a writer did not see its own write");
        history.extend(steps);
    }
    // Linearizable: put in the order of their revisions, each step begins exactly where the one before ended, and read what it wrote.
    history.sort_by_key(|step| step.to);
    let mut last = (made, 0);
    for step in &history {
        assert_eq!((step.from, step.read), last, "a step on something that was no longer there");
        assert_eq!(step.to, Revision(step.from.0 + 1));
        last = (step.to, step.read + 1);
    }
    assert_eq!(history.len(), RACERS * STEPS);
    assert_eq!(store.text("/counter").await, Some((RACERS * STEPS).to_string()));
}

async fn count_up(store: &Arc<dyn Store>) -> Option<Step> {
    let held = store.get("/counter").await.expect("a read").expect("the counter");
    let read: u64 = std::str::from_utf8(&held.value).expect("text").parse().expect("a number");
    let next = put("/counter", At(held.modified), &(read + 1).to_string());
    match store.commit(vec![next]).await.expect("an answer") {
        Outcome::Committed(to) => Some(Step { from: held.modified, to, read }),
        Outcome::Refused(_, now) => {
            assert!(
                now.expect("it is never deleted").modified > held.modified,
                "refused for nothing"
            );
            None
        }
    }
}
