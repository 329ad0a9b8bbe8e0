//! Watches as they are sent: one JSON value a line, made once for all watchers that want the same form.

use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::answer::Answer;
use super::end_of;
use super::limits::Slot;
use super::metrics::Raised;
use super::negotiate::Form;
use super::table::{self, Include};
use crate::api::hub::Side;
use crate::api::watch::{Told, Watcher, bookmark};
use crate::registry::Kind;

/// How one client sees a watch.
pub struct Stream {
    watcher: Watcher,
    kind: Arc<Kind>,
    form: Form,
    include: Include,
    headed: bool,
    ending: watch::Receiver<bool>,
    _held: (Slot, Raised),
}

impl Stream {
    /// A watch in a form. What counts the watch is held as long as it runs.
    pub fn new(
        watcher: Watcher,
        kind: Arc<Kind>,
        form: Form,
        include: Include,
        ending: watch::Receiver<bool>,
        held: (Slot, Raised),
    ) -> Self {
        Self { watcher, kind, form, include, headed: false, ending, _held: held }
    }

    /// The answer, whose body lasts as long as the watch. A client that does not read holds up nobody but itself.
    pub fn into_answer(self) -> Answer {
        let frames = stream::unfold(self, |mut stream| async move {
            let line = stream.line().await?;
            Some((Ok::<_, io::Error>(Frame::data(line)), stream))
        });
        let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        answer
    }

    async fn line(&mut self) -> Option<Bytes> {
        loop {
            let told = tokio::select! {
                biased;
                () = end_of(&mut self.ending) => return None,
                told = self.watcher.next() => told?,
            };
            if let Some(line) = self.render(told) {
                return Some(line);
            }
        }
    }

    fn render(&mut self, told: Told) -> Option<Bytes> {
        match told {
            Told::Initial(object) => {
                Some(line("ADDED", self.shaped(&object).to_string().as_bytes()))
            }
            Told::Added(seen) => self.change("ADDED", seen.side()?),
            Told::Modified(seen) => self.change("MODIFIED", seen.side()?),
            Told::Deleted(seen) => self.change("DELETED", seen.side()?),
            Told::Bookmark(revision, end) => {
                let object = bookmark(&self.kind, revision, end);
                Some(line("BOOKMARK", self.shaped(&object).to_string().as_bytes()))
            }
            Told::Error(status) => Some(line("ERROR", status.to_value().to_string().as_bytes())),
        }
    }

    fn change(&mut self, what: &str, side: &Side) -> Option<Bytes> {
        let object = side.object()?;
        let slot = match (self.form, self.include) {
            (Form::Object, _) => 0,
            (Form::Table, Include::Metadata) if self.headed => 1,
            (Form::Partial, _) => 2,
            (Form::Table, _) => {
                return Some(line(what, self.shaped(&object).to_string().as_bytes()));
            }
        };
        let bytes = side.form(slot, || self.shaped(&object).to_string().into());
        Some(line(what, &bytes))
    }

    /// The object in the form of this watch; a table has its columns once.
    fn shaped(&mut self, object: &Value) -> Value {
        match self.form {
            Form::Object => object.clone(),
            Form::Partial => table::partial(object),
            Form::Table => {
                let heading = !std::mem::replace(&mut self.headed, true);
                let metadata = table::revision_of(object);
                table::table(
                    &self.kind,
                    metadata,
                    std::slice::from_ref(object),
                    self.include,
                    heading,
                )
            }
        }
    }
}

fn line(what: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + what.len() + 24);
    line.put_slice(b"{\"type\":");
    line.put_slice(json!(what).to_string().as_bytes());
    line.put_slice(b",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}
