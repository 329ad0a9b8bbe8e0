//! One watch: a line of JSON per event.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::resource::Resource;
use crate::selector::Selector;
use crate::server::Shared;
use crate::store::{Gone, Stored, Told};

/// How often an idle watch tells its version.
const BOOKMARKS: Duration = Duration::from_secs(1);

/// A piece of the answer, or the end of the connection in the middle of it.
pub type Piece = Result<Bytes, std::io::Error>;

/// A watch that a client asked for.
pub struct Watch {
    pub shared: Arc<Shared>,
    pub resource: Resource,
    pub selector: Selector,
    pub place: u64,
    pub bookmarks: bool,
    pub limit: Duration,
}

impl Watch {
    /// Tells until the time is up, the client is gone, or connections are cut.
    pub async fn run(mut self, pieces: mpsc::Sender<Piece>) {
        let mut changed = self.shared.changed.subscribe();
        let mut cut = self.shared.cut.subscribe();
        let end = Instant::now() + self.limit;
        loop {
            changed.borrow_and_update();
            // one that was asked for before the server went away may begin after
            if self.shared.faults().away {
                pieces.send(Err(std::io::ErrorKind::ConnectionReset.into())).await.ok();
                return;
            }
            let lines = match self.news() {
                Ok(lines) => lines,
                Err(Gone) => gone_event(),
            };
            if !lines.is_empty() && pieces.send(Ok(lines.into())).await.is_err() {
                return;
            }
            tokio::select! {
                // what changes after a cut is not to be told
                biased;
                _ = cut.changed() => {
                    pieces.send(Err(std::io::ErrorKind::ConnectionReset.into())).await.ok();
                    return;
                }
                _ = changed.changed() => {}
                () = tokio::time::sleep(BOOKMARKS), if self.bookmarks => {
                    let version = self.shared.store().version();
                    if pieces.send(Ok(self.bookmark(version).into())).await.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(end) => return,
                () = pieces.closed() => return,
            }
        }
    }

    fn news(&mut self) -> Result<String, Gone> {
        let (told, next) = self.shared.store().since(self.resource, self.place)?;
        self.place = next;
        Ok(told.iter().filter_map(|told| self.line(told)).collect())
    }

    /// For a client an object that no longer matches is gone, and one that begins to match is new.
    fn line(&self, told: &Told) -> Option<String> {
        let (version, before, after) = match told {
            Told::Raw(line) => return Some(format!("{line}\n")),
            Told::Changed { version, before, after } => (*version, before, after),
        };
        let matching = |object: &Option<Arc<Stored>>| {
            object.as_ref().filter(|object| self.selector.matches(object)).cloned()
        };
        match (matching(before), matching(after)) {
            (None, None) => None,
            (None, Some(after)) => Some(self.event("ADDED", &after.text)),
            (Some(_), Some(after)) => Some(self.event("MODIFIED", &after.text)),
            (Some(before), None) => {
                let (old, new) = (before.version, version);
                let (old, new) = (
                    format!("\"resourceVersion\":\"{old}\""),
                    format!("\"resourceVersion\":\"{new}\""),
                );
                Some(self.event("DELETED", &before.text.replacen(&old, &new, 1)))
            }
        }
    }

    fn event(&self, kind: &str, text: &str) -> String {
        let typed = with_type(self.resource, text);
        format!("{{\"type\":\"{kind}\",\"object\":{typed}}}\n")
    }

    fn bookmark(&self, version: u64) -> String {
        let text = json!({"metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null}});
        self.event("BOOKMARK", &text.to_string())
    }
}

/// An object with its `kind` and `apiVersion`.
pub fn with_type(resource: Resource, text: &str) -> String {
    let (kind, version) = (resource.kind(), resource.api_version());
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",{}", &text[1..])
}

/// What a watch tells of a version that is too old.
pub fn gone_event() -> String {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
        "message": "too old resource version", "code": 410
    });
    format!("{}\n", json!({"type": "ERROR", "object": status}))
}
