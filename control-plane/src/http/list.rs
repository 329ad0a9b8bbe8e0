//! Lists as bytes: written a part at a time. A small list is answered as a whole; of a large one a part is made when the one before
//! has been sent, so that it is never in memory as a whole, and a client that reads slowly holds a part of it.

use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::CONTENT_LENGTH;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Server;
use super::answer::{self, Answer, Streamed, WORTH_PACKING};
use super::negotiate::{self, Encoding, Form};
use super::table::{self, Include};
use crate::api::list::{Cursor, End, Part};
use crate::api::options::ListOptions;
use crate::api::status::Status;
use crate::api::{Api, Place};
use crate::registry::Kind;

/// Parts of more bytes are written on a thread that nobody else waits for.
const AT_ONCE: usize = 128 * 1024;
/// A list of which so much is there, and not all, is sent as it is made.
const LARGE: usize = 1 << 20;
/// What it takes of the room for large lists: a part that is being sent, and what the next one is made of.
const SHARE: usize = 4 << 20;
/// Answers below this size take nothing of it.
const SMALL: usize = 256 * 1024;

/// How a list is to look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// As which kind of text.
    pub encoding: Encoding,
    /// In which form.
    pub form: Form,
    /// What of the objects is in a table.
    pub include: Include,
    /// The client takes gzip.
    pub packs: bool,
}

impl Server {
    /// Answers with a list.
    pub async fn list(
        &self,
        user: &str,
        place: Place,
        options: ListOptions,
        look: Look,
    ) -> Result<Answer, Status> {
        let mut sheet = Sheet::begin(place.kind.clone(), look).map_err(cannot_write)?;
        let mut parts = self.api.parts(&place, &options).await?;
        loop {
            sheet = sheet.add(parts.next().await?).await?;
            if let Some(end) = parts.end() {
                sheet.finish(end).map_err(cannot_write)?;
                return self.whole_list(user, sheet).await;
            }
            if sheet.length() >= LARGE {
                break;
            }
        }
        let cursor = parts.pause();
        let share = self.room.take(user, SHARE).await?;
        let first = sheet.take(true).map_err(cannot_write)?;
        let packed = sheet.is_packed();
        let rest = Rest { api: self.api.clone(), place, options, cursor, sheet };
        let mut answer = Response::new(body(first, rest));
        answer::describe(&mut answer, negotiate::content_type(look.encoding), packed);
        answer.extensions_mut().insert(Streamed);
        Ok(answer::holding(answer, share))
    }

    /// A list that is there as a whole.
    async fn whole_list(&self, user: &str, mut sheet: Sheet) -> Result<Answer, Status> {
        let bytes = sheet.take(false).map_err(cannot_write)?;
        let (media, packed) = (negotiate::content_type(sheet.look.encoding), sheet.is_packed());
        let length = bytes.len();
        let mut answer = Response::new(answer::sliced(bytes));
        answer::describe(&mut answer, media, packed);
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
        if length < SMALL {
            return Ok(answer);
        }
        let share = self.room.take(user, length).await?;
        answer.extensions_mut().insert(Streamed);
        Ok(answer::holding(answer, share))
    }
}

/// A list that is being sent.
struct Rest {
    api: Arc<Api>,
    place: Place,
    options: ListOptions,
    cursor: Cursor,
    sheet: Sheet,
}

impl Rest {
    /// What is sent next, and what is left then.
    async fn next(mut self) -> Result<(Bytes, Option<Self>), Status> {
        loop {
            let mut parts = self.api.go_on(&self.place, &self.options, self.cursor);
            let part = parts.next().await?;
            self.sheet = self.sheet.add(part).await?;
            let end = parts.end();
            self.cursor = parts.pause();
            if let Some(end) = end {
                self.sheet.finish(end).map_err(cannot_write)?;
                return Ok((self.sheet.take(false).map_err(cannot_write)?, None));
            }
            if self.sheet.length() > 0 {
                return Ok((self.sheet.take(false).map_err(cannot_write)?, Some(self)));
            }
        }
    }
}

/// The pieces of a list. One that cannot be made breaks the connection off: the client is not to take half of a list for all of it.
fn body(first: Bytes, rest: Rest) -> answer::Body {
    let frames = stream::unfold((Some(first), Some(rest)), |(first, rest)| async {
        if let Some(first) = first {
            return Some((Ok(Frame::data(first)), (None, rest)));
        }
        Some(match rest?.next().await {
            Ok((bytes, rest)) => (Ok(Frame::data(bytes)), (None, rest)),
            Err(status) => {
                tracing::warn!(%status, "a list is broken off");
                (Err(io::Error::other(status)), (None, None))
            }
        })
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The metadata of a list.
pub fn metadata(end: End) -> Value {
    let mut metadata = json!({"resourceVersion": end.revision.to_string()});
    if let Some(token) = end.token {
        metadata["continue"] = json!(token);
    }
    if let Some(remaining) = end.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    metadata
}

fn cannot_write(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("the answer cannot be written: {error}"))
}

/// A list that is being written. What is known only at its end, its metadata, stands there.
struct Sheet {
    kind: Arc<Kind>,
    look: Look,
    written: usize,
    sink: Sink,
}

impl Sheet {
    fn begin(kind: Arc<Kind>, look: Look) -> io::Result<Self> {
        let sink = Sink { packs: look.packs, plain: Vec::new(), packed: None };
        let mut sheet = Self { kind, look, written: 0, sink };
        let (version, kind) = match look.form {
            Form::Object => (sheet.kind.api_version(), sheet.kind.list_kind()),
            Form::Partial => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
            Form::Table => ("meta.k8s.io/v1".to_owned(), "Table".to_owned()),
        };
        match look.encoding {
            Encoding::Json => {
                write!(sheet.sink, r#"{{"apiVersion":{},"kind":{}"#, json!(version), json!(kind))?;
            }
            Encoding::Yaml => sheet.yaml(&json!({"apiVersion": version, "kind": kind}))?,
        }
        if look.form == Form::Table {
            let heading = table::heading(&sheet.kind);
            match look.encoding {
                Encoding::Json => write!(sheet.sink, r#","columnDefinitions":{heading}"#)?,
                Encoding::Yaml => sheet.yaml(&json!({"columnDefinitions": heading}))?,
            }
        }
        if look.encoding == Encoding::Json {
            write!(sheet.sink, r#","{}":["#, sheet.items())?;
        }
        Ok(sheet)
    }

    fn items(&self) -> &'static str {
        if self.look.form == Form::Table { "rows" } else { "items" }
    }

    fn yaml(&mut self, value: &Value) -> io::Result<()> {
        let text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
        self.sink.write_all(text.as_bytes())?;
        if text.ends_with('\n') { Ok(()) } else { self.sink.write_all(b"\n") }
    }

    /// Writes a part. Others may have their turn when that is done.
    async fn add(mut self, part: Part<'_>) -> Result<Self, Status> {
        let Part { objects, bytes, turn: _turn } = part;
        if bytes <= AT_ONCE {
            return self.write(objects).map(|()| self).map_err(cannot_write);
        }
        let writing = tokio::task::spawn_blocking(move || self.write(objects).map(|()| self));
        writing.await.map_err(cannot_write)?.map_err(cannot_write)
    }

    fn write(&mut self, objects: Vec<Value>) -> io::Result<()> {
        let now = Timestamp::now();
        for object in objects {
            let item = match self.look.form {
                Form::Object => object,
                Form::Partial => table::into_partial(object),
                Form::Table => table::into_row(&self.kind, object, self.look.include, now),
            };
            let first = self.written == 0;
            self.written += 1;
            match (self.look.encoding, first) {
                (Encoding::Json, false) => self.sink.write_all(b",")?,
                (Encoding::Yaml, true) => writeln!(self.sink, "{}:", self.items())?,
                (Encoding::Json, true) | (Encoding::Yaml, false) => {}
            }
            match self.look.encoding {
                Encoding::Json => serde_json::to_writer(&mut self.sink, &item)?,
                // a list may stand as far to the left as the field that holds it
                Encoding::Yaml => self.yaml(&json!([item]))?,
            }
        }
        Ok(())
    }

    fn finish(&mut self, end: End) -> io::Result<()> {
        let metadata = metadata(end);
        match self.look.encoding {
            Encoding::Json => write!(self.sink, r#"],"metadata":{metadata}}}"#)?,
            Encoding::Yaml => {
                if self.written == 0 {
                    writeln!(self.sink, "{}: []", self.items())?;
                }
                self.yaml(&json!({"metadata": metadata}))?;
            }
        }
        self.sink.finish()
    }

    /// How many bytes wait to be taken.
    fn length(&self) -> usize {
        self.sink.plain.len() + self.sink.packed.as_ref().map_or(0, |packed| packed.get_ref().len())
    }

    fn is_packed(&self) -> bool {
        self.sink.packed.is_some()
    }

    /// What was written so far; `more`: it is the beginning of a large list.
    fn take(&mut self, more: bool) -> io::Result<Bytes> {
        if more && self.sink.packs {
            self.sink.pack()?;
        }
        Ok(match &mut self.sink.packed {
            Some(packed) => std::mem::take(packed.get_mut()).into(),
            None => std::mem::take(&mut self.sink.plain).into(),
        })
    }
}

/// Takes bytes as they are, until there are so many that packing is worth it.
struct Sink {
    packs: bool,
    plain: Vec<u8>,
    packed: Option<GzEncoder<Vec<u8>>>,
}

impl Sink {
    fn pack(&mut self) -> io::Result<()> {
        if self.packed.is_none() {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&std::mem::take(&mut self.plain))?;
            self.packed = Some(packed);
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        match &mut self.packed {
            Some(packed) => packed.try_finish(),
            None => Ok(()),
        }
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(packed) = &mut self.packed {
            packed.write_all(bytes)?;
            return Ok(bytes.len());
        }
        self.plain.extend_from_slice(bytes);
        if self.packs && self.plain.len() >= WORTH_PACKING {
            self.pack()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
