//! What a watch tells, taken in with patience.

use std::time::Duration;

use heddle_server::store::{Event, Notice, Revision, StoreError, Watch};

/// Far more than any store takes, on any machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The next word of a watch; `None` at its end.
pub async fn next(watch: &mut Watch) -> Option<Result<Notice, StoreError>> {
    tokio::time::timeout(PATIENCE, watch.recv()).await.expect("the watch tells something in time")
}

/// The next changes; progress is passed over.
pub async fn changes(watch: &mut Watch) -> Vec<Event> {
    loop {
        match next(watch).await.expect("the watch goes on").expect("no error") {
            Notice::Changes(events) => return events,
            Notice::Progress(_) => {}
        }
    }
}

/// The changes up to and including a revision that concerns the watch.
pub async fn changes_until(watch: &mut Watch, last: Revision) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    while all.last().is_none_or(|event| event.revision < last) {
        all.extend(changes(watch).await);
    }
    all
}

/// The error with which a watch ends; what it tells before is passed over.
pub async fn end(watch: &mut Watch) -> StoreError {
    loop {
        match next(watch).await.expect("a watch ends with a word") {
            Ok(_) => {}
            Err(error) => {
                assert!(next(watch).await.is_none(), "something came after the last word");
                return error;
            }
        }
    }
}

/// `key: before > after` of each event.
pub fn told(events: &[Event]) -> Vec<String> {
    let text = |value: &Option<bytes::Bytes>| {
        value.as_ref().map_or("-".into(), |v| String::from_utf8_lossy(v).into_owned())
    };
    events.iter().map(|e| format!("{}: {} > {}", e.key, text(&e.before), text(&e.after))).collect()
}
