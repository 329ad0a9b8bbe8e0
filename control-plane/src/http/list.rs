//! Lists as bytes: written a part at a time, so that a large one is in memory once, as it is sent, and packed a fraction of that.

use std::io::{self, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{self, Answer, WORTH_PACKING};
use super::negotiate::Form;
use super::table::{self, Include};
use crate::api::list::{End, Parts};
use crate::api::status::Status;
use crate::registry::Kind;

/// Parts with more objects are written on a thread that nobody else waits for.
const FEW: usize = 50;

/// Answers with a list as JSON.
pub async fn json(
    asked: &HeaderMap,
    kind: &Arc<Kind>,
    (form, include): (Form, Include),
    mut parts: Parts<'_>,
) -> Result<Answer, Status> {
    let mut sheet = Sheet {
        kind: kind.clone(),
        form,
        include,
        written: 0,
        sink: Sink { packs: answer::takes_gzip(asked), plain: Vec::new(), packed: None },
    };
    sheet.begin().map_err(cannot_write)?;
    let end = loop {
        let objects = parts.next().await?;
        sheet = sheet.add(objects).await?;
        if let Some(end) = parts.end() {
            break end;
        }
    };
    sheet.finish(end).map_err(cannot_write)
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
    form: Form,
    include: Include,
    written: usize,
    sink: Sink,
}

impl Sheet {
    fn begin(&mut self) -> io::Result<()> {
        let (version, kind) = match self.form {
            Form::Object => (self.kind.api_version(), self.kind.list_kind()),
            Form::Partial => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
            Form::Table => ("meta.k8s.io/v1".to_owned(), "Table".to_owned()),
        };
        write!(self.sink, r#"{{"apiVersion":{},"kind":{}"#, json!(version), json!(kind))?;
        if self.form == Form::Table {
            write!(self.sink, r#","columnDefinitions":{}"#, table::heading(&self.kind))?;
        }
        let items = if self.form == Form::Table { "rows" } else { "items" };
        write!(self.sink, r#","{items}":["#)
    }

    async fn add(mut self, objects: Vec<Value>) -> Result<Self, Status> {
        if objects.len() <= FEW {
            return self.write(objects).map(|()| self).map_err(cannot_write);
        }
        let writing = tokio::task::spawn_blocking(move || self.write(objects).map(|()| self));
        writing.await.map_err(cannot_write)?.map_err(cannot_write)
    }

    fn write(&mut self, objects: Vec<Value>) -> io::Result<()> {
        let now = Timestamp::now();
        for object in objects {
            if self.written > 0 {
                self.sink.write_all(b",")?;
            }
            self.written += 1;
            let item = match self.form {
                Form::Object => object,
                Form::Partial => table::into_partial(object),
                Form::Table => table::into_row(&self.kind, object, self.include, now),
            };
            serde_json::to_writer(&mut self.sink, &item)?;
        }
        Ok(())
    }

    fn finish(mut self, end: End) -> io::Result<Answer> {
        write!(self.sink, r#"],"metadata":{}}}"#, metadata(end))?;
        self.sink.into_answer()
    }
}

/// Takes bytes as they are, until there are so many that packing is worth it.
struct Sink {
    packs: bool,
    plain: Vec<u8>,
    packed: Option<GzEncoder<Vec<u8>>>,
}

impl Sink {
    fn into_answer(self) -> io::Result<Answer> {
        let Some(packed) = self.packed else {
            return Ok(answer::bytes(200, "application/json", self.plain));
        };
        Ok(answer::gzip(200, "application/json", packed.finish()?))
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
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&std::mem::take(&mut self.plain))?;
            self.packed = Some(packed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
