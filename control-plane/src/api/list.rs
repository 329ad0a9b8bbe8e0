//! Lists: selected, in pages, at a revision.

use serde_json::Value;

use super::options::{At, ListOptions};
use super::status::Status;
use super::token::Token;
use super::{Api, Place, decode};
use crate::store::{Range, Revision, StoreError};

/// How many records are read at a time when a selector drops some of them.
const CHUNK: usize = 500;

/// What a list found.
#[derive(Debug)]
pub struct Listed {
    /// The objects, in the order of their keys.
    pub objects: Vec<Value>,
    /// The revision: a watch from here misses nothing.
    pub revision: u64,
    /// Where it goes on; `None`: this is the end.
    pub token: Option<String>,
    /// How many more there are, when that is known.
    pub remaining: Option<u64>,
}

impl Api {
    /// The objects of a place.
    pub async fn list(&self, place: &Place, options: &ListOptions) -> Result<Listed, Status> {
        let prefix = place.kind.prefix(if place.kind.namespaced { &place.namespace } else { "" });
        let mut range = self.start(&prefix, place, options).await?;
        let mut objects = Vec::new();
        loop {
            let page =
                self.store.list(range.clone()).await.map_err(|error| read_error(error, options))?;
            let last = page.records.last().map(|record| record.key.clone());
            for (index, record) in page.records.iter().enumerate() {
                let object = decode(&place.kind, record)?;
                if !options.filter.matches(&place.kind, &object) {
                    continue;
                }
                objects.push(object);
                let unread = page.remaining + (page.records.len() - index - 1) as u64;
                if objects.len() == options.limit && unread > 0 {
                    let after = record.key[prefix.len()..].to_owned();
                    let token = Token { revision: page.revision.0, after }.write();
                    let remaining = options.filter.is_everything().then_some(unread);
                    return Ok(Listed {
                        objects,
                        revision: page.revision.0,
                        token: Some(token),
                        remaining,
                    });
                }
            }
            if page.remaining == 0 || last.is_none() {
                return Ok(Listed {
                    objects,
                    revision: page.revision.0,
                    token: None,
                    remaining: None,
                });
            }
            range = Range { after: last, at: Some(page.revision), ..range };
        }
    }

    async fn start(
        &self,
        prefix: &str,
        place: &Place,
        options: &ListOptions,
    ) -> Result<Range, Status> {
        // what a selector drops is not held, however many objects there are
        let uncounted = !options.filter.is_everything();
        let limit = if uncounted { CHUNK } else { options.limit };
        let mut range = Range { prefix: prefix.to_owned(), limit, uncounted, ..Range::default() };
        // one object by its name is read by its key: other keys that begin like it are dropped by the filter
        let all = place.kind.namespaced && place.namespace.is_empty();
        if let Some(name) = options.filter.fields.exact("metadata.name").filter(|_| !all) {
            range.prefix.push_str(name);
        }
        if let Some(token) = &options.token {
            range.after = Some(format!("{prefix}{}", token.after));
            range.at = Some(Revision(token.revision));
        }
        match options.at {
            At::Exact(revision) => range.at = Some(Revision(revision)),
            At::NotOlderThan(revision) => {
                let latest = self.store.revision().await?.0;
                if revision > latest {
                    return Err(Status::too_large_resource_version(revision, latest));
                }
            }
            At::Latest | At::Any => {}
        }
        Ok(range)
    }
}

fn read_error(error: StoreError, options: &ListOptions) -> Status {
    match (&error, &options.token) {
        (StoreError::Compacted { .. }, Some(_)) => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
        ),
        (StoreError::Future { .. }, Some(_)) => {
            Status::bad_request("continue key is not valid: its revision has not happened yet")
        }
        _ => error.into(),
    }
}
