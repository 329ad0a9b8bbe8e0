//! Lists: selected, in pages, at a revision.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::SemaphorePermit;

use super::options::{At, Filter, ListOptions};
use super::status::Status;
use super::token::Token;
use super::{Api, Place, decode};
use crate::registry::Kind;
use crate::store::{Page, Range, Record, Revision, StoreError};

/// How many records are read first, when nobody knows how large they are.
const FIRST: usize = 500;
/// About how many bytes of records are read at a time, and how many records at most: a list is never in memory as a whole.
const PART_BYTES: usize = 2 << 20;
const PART: usize = 4000;
/// How many first parts are read at the same time: hundreds of clients that come back at once and select little need no more memory than
/// a few.
pub const TURNS: usize = 8;
/// How many further parts: large lists wait for each other, and small ones, which have no second part, not for them.
pub const LATER_TURNS: usize = 4;
/// A part with fewer bytes is decoded where it is; a larger one on a thread that nobody else waits for.
const AT_ONCE: usize = 128 * 1024;

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

/// What is known of a list when all of it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The revision: a watch from here misses nothing.
    pub revision: u64,
    /// Where it goes on; `None`: this is the end.
    pub token: Option<String>,
    /// How many more there are, when that is known.
    pub remaining: Option<u64>,
}

/// A list that is read a part at a time, all of it at one revision.
pub struct Parts<'a> {
    api: &'a Api,
    place: &'a Place,
    options: &'a ListOptions,
    cursor: Cursor,
}

/// The objects of a part.
#[derive(Debug)]
pub struct Part<'a> {
    /// In the order of their keys.
    pub objects: Vec<Value>,
    /// How many bytes the records have that were read for it.
    pub bytes: usize,
    /// As long as it is held others wait: for whoever makes something smaller of the objects at once.
    pub turn: SemaphorePermit<'a>,
}

/// How far a list was read.
#[derive(Debug)]
pub struct Cursor {
    prefix: String,
    range: Range,
    /// How many objects were given out.
    given: usize,
    /// How many records come after those that were read, where that is known.
    left: Option<u64>,
    end: Option<End>,
    /// Nothing was read yet.
    first: bool,
}

impl Api {
    /// The objects of a place.
    pub async fn list(&self, place: &Place, options: &ListOptions) -> Result<Listed, Status> {
        let mut parts = self.parts(place, options).await?;
        let mut objects = Vec::new();
        let End { revision, token, remaining } = loop {
            objects.append(&mut parts.next().await?.objects);
            if let Some(end) = parts.end() {
                break end;
            }
        };
        Ok(Listed { objects, revision, token, remaining })
    }

    /// The same, a part at a time.
    pub async fn parts<'a>(
        &'a self,
        place: &'a Place,
        options: &'a ListOptions,
    ) -> Result<Parts<'a>, Status> {
        let prefix = place.kind.prefix(if place.kind.namespaced { &place.namespace } else { "" });
        let range = self.start(&prefix, place, options).await?;
        // counted once: what comes after a later page follows from what came after the one before
        let left = options.token.as_ref().and_then(|token| token.left);
        let cursor = Cursor { prefix, range, given: 0, left, end: None, first: true };
        Ok(Parts { api: self, place, options, cursor })
    }

    /// Goes on with a list. Place and options are those that it was begun with.
    pub fn go_on<'a>(
        &'a self,
        place: &'a Place,
        options: &'a ListOptions,
        cursor: Cursor,
    ) -> Parts<'a> {
        Parts { api: self, place, options, cursor }
    }

    async fn start(
        &self,
        prefix: &str,
        place: &Place,
        options: &ListOptions,
    ) -> Result<Range, Status> {
        let everything = options.filter.is_everything();
        let goes_on = options.token.as_ref().is_some_and(|token| token.revision.is_some());
        let counted = everything && options.limit > 0 && !goes_on;
        let limit = most(options, 0).min(FIRST);
        let prefix_of_range = prefix.to_owned();
        let mut range = Range {
            prefix: prefix_of_range,
            limit,
            bytes: PART_BYTES,
            uncounted: !counted,
            ..Range::default()
        };
        // one object by its name is read by its key: other keys that begin like it are dropped by the filter
        let all = place.kind.namespaced && place.namespace.is_empty();
        if let Some(name) = options.filter.fields.exact("metadata.name").filter(|_| !all) {
            range.prefix.push_str(name);
        }
        if let Some(token) = &options.token {
            range.after = Some(format!("{prefix}{}", token.after));
            range.at = token.revision.map(Revision);
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

impl<'a> Parts<'a> {
    /// The objects of the next part; what a selector drops is not held. There is a part for every call until there is an [`Parts::end`].
    pub async fn next(&mut self) -> Result<Part<'a>, Status> {
        let turns = if self.cursor.first { &self.api.turns } else { &self.api.later_turns };
        self.cursor.first = false;
        let gone = |_| Status::internal("no list is read any more");
        let turn = turns.acquire().await.map_err(gone)?;
        let page = self.api.store.list(self.cursor.range.clone()).await;
        let page = page.map_err(|error| read_error(error, self.options))?;
        let bytes = page.records.iter().map(|record| record.value.len()).sum();
        let cursor = &mut self.cursor;
        let read = page.records.len() as u64;
        cursor.left = match cursor.left {
            Some(left) => Some(left.saturating_sub(read)),
            None => (!cursor.range.uncounted).then_some(page.remaining),
        };
        let room = match self.options.limit {
            0 => usize::MAX,
            limit => limit - cursor.given,
        };
        let selection = Selection {
            kind: self.place.kind.clone(),
            filter: self.options.filter.clone(),
            room,
            records: page.records,
        };
        let Selected { objects, records, full } = selection.run(bytes).await?;
        cursor.given += objects.len();
        // the limit is reached; is there more?
        if let Some(at) = full {
            let unread = (records.len() - at - 1) as u64;
            if unread + page.remaining > 0 {
                let end = cursor.goes_on_after(self.options, &records[at], unread, page.revision);
                cursor.end = Some(end);
                return Ok(Part { objects, bytes, turn });
            }
        }
        cursor.read_on(self.options, Page { records, ..page }, bytes);
        Ok(Part { objects, bytes, turn })
    }

    /// What is known when all was read; `None` before that.
    pub fn end(&self) -> Option<End> {
        self.cursor.end.clone()
    }

    /// To go on with later.
    pub fn pause(self) -> Cursor {
        self.cursor
    }
}

/// Records of which some are wanted.
struct Selection {
    kind: Arc<Kind>,
    filter: Filter,
    /// How many.
    room: usize,
    records: Vec<Record>,
}

struct Selected {
    objects: Vec<Value>,
    records: Vec<Record>,
    /// At which record there was no more room.
    full: Option<usize>,
}

impl Selection {
    async fn run(self, bytes: usize) -> Result<Selected, Status> {
        if bytes <= AT_ONCE {
            return self.select();
        }
        let selecting = tokio::task::spawn_blocking(move || self.select()).await;
        selecting.map_err(|error| Status::internal(format!("a list ended early: {error}")))?
    }

    fn select(self) -> Result<Selected, Status> {
        let Self { kind, filter, room, records } = self;
        let (mut objects, mut full) = (Vec::new(), None);
        for (index, record) in records.iter().enumerate() {
            let object = decode(&kind, record)?;
            if !filter.matches(&kind, &object) {
                continue;
            }
            objects.push(object);
            if objects.len() == room {
                full = Some(index);
                break;
            }
        }
        Ok(Selected { objects, records, full })
    }
}

impl Cursor {
    /// The limit is reached, and there is more.
    fn goes_on_after(
        &self,
        options: &ListOptions,
        record: &Record,
        unread: u64,
        revision: Revision,
    ) -> End {
        let everything = options.filter.is_everything();
        let left = self.left.filter(|_| everything).map(|left| left + unread);
        let after = record.key[self.prefix.len()..].to_owned();
        let token = Token { revision: Some(revision.0), after, left };
        End { revision: revision.0, token: Some(token.write()), remaining: left }
    }

    fn read_on(&mut self, options: &ListOptions, page: Page, bytes: usize) {
        let revision = page.revision;
        let Some(last) = page.records.last().filter(|_| page.remaining > 0) else {
            self.end = Some(End { revision: revision.0, token: None, remaining: None });
            return;
        };
        let each = (bytes / page.records.len()).max(1);
        self.range = Range {
            prefix: std::mem::take(&mut self.range.prefix),
            after: Some(last.key.clone()),
            at: Some(revision),
            limit: most(options, self.given).min((PART_BYTES / each).clamp(1, PART)),
            bytes: PART_BYTES,
            uncounted: true,
        };
    }
}

/// How many records more are worth reading: where every object is wanted, what the limit leaves.
fn most(options: &ListOptions, given: usize) -> usize {
    let limited = options.limit > 0 && options.filter.is_everything();
    if limited { (options.limit - given).max(1) } else { PART }
}

const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

fn read_error(error: StoreError, options: &ListOptions) -> Status {
    match (&error, &options.token) {
        (StoreError::Compacted { .. }, Some(token)) => {
            let rest = Token { revision: None, left: None, ..token.clone() };
            Status::expired_list(INCONSISTENT, rest.write())
        }
        (StoreError::Compacted { .. }, None) => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        (StoreError::Future { .. }, Some(_)) => Status::bad_request(
            "invalid continue token: continue key is not valid: its revision has not happened yet",
        ),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::api::options::{DeleteOptions, Query, WriteOptions};
    use crate::meta::object::Meta;
    use crate::registry::{Registry, configmap, namespace};
    use crate::store::memory::MemoryStore;

    /// More than two first parts of configmaps; every third has a label.
    const ALL: usize = 1200;

    struct Many {
        api: Api,
        place: Place,
    }

    impl Many {
        async fn new() -> Self {
            let registry = Registry::default();
            registry.add(namespace::kind());
            registry.add(configmap::kind());
            let api = Api::new(Arc::new(MemoryStore::default()), Arc::new(registry));
            let place = |plural, namespace: &str| {
                let kind = api.registry.at("", "v1", plural).expect("a kind");
                Place { kind, namespace: namespace.to_owned(), name: String::new() }
            };
            let (spaces, place) = (place("namespaces", ""), place("configmaps", "d"));
            let many = Self { api, place };
            many.make(&spaces, json!({"metadata": {"name": "d"}})).await;
            for index in 0..ALL {
                let labels = json!({"third": (index % 3 == 0).to_string()});
                let metadata = json!({"name": format!("c{index:04}"), "labels": labels});
                many.make(&many.place, json!({"metadata": metadata})).await;
            }
            many
        }

        async fn make(&self, place: &Place, object: Value) {
            let made = self.api.create(place, object, &WriteOptions::default()).await;
            made.expect("it is made");
        }

        async fn list(&self, query: &[(&str, &str)]) -> Listed {
            let query = query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
            let query = Query::new(query.collect());
            let options = ListOptions::of(&self.place.kind, &query).expect("options");
            self.api.list(&self.place, &options).await.expect("a list")
        }
    }

    fn names(objects: &[Value]) -> Vec<&str> {
        objects.iter().map(|object| Meta::of(object).name()).collect()
    }

    #[tokio::test]
    async fn a_list_without_a_limit_is_read_in_parts_of_one_state() {
        let many = Many::new().await;
        let options = ListOptions::default();
        let mut parts = many.api.parts(&many.place, &options).await.expect("parts");
        let mut objects = parts.next().await.expect("a part").objects;
        assert_eq!((objects.len(), parts.end()), (FIRST, None));
        // what comes and goes meanwhile is not seen
        let gone = Place { name: "c1100".to_owned(), ..many.place.clone() };
        many.api.delete(&gone, &DeleteOptions::default()).await.expect("deleted");
        many.make(&many.place, json!({"metadata": {"name": "c1199a"}})).await;
        let end = loop {
            objects.extend(parts.next().await.expect("a part").objects);
            if let Some(end) = parts.end() {
                break end;
            }
        };
        let expected: Vec<_> = (0..ALL).map(|index| format!("c{index:04}")).collect();
        assert_eq!(names(&objects), expected);
        assert_eq!((end.token, end.remaining), (None, None));
        let now = many.list(&[]).await;
        assert_eq!((now.objects.len(), now.revision), (ALL, end.revision + 2));
    }

    #[tokio::test]
    async fn each_page_knows_how_many_come_after_it() {
        let many = Many::new().await;
        let (mut token, mut seen) = (String::new(), Vec::new());
        for (count, left) in [(550, Some(650)), (550, Some(100)), (100, None)] {
            let page = many.list(&[("limit", "550"), ("continue", &token)]).await;
            assert_eq!((page.objects.len(), page.remaining), (count, left));
            seen.extend(page.objects);
            token = page.token.unwrap_or_default();
        }
        assert_eq!((token, seen.len()), (String::new(), ALL));
        let all = many.list(&[("limit", "1200")]).await;
        assert_eq!((all.objects.len(), all.token, all.remaining), (ALL, None, None));
    }

    #[tokio::test]
    async fn a_selection_has_full_pages_and_is_not_counted() {
        let many = Many::new().await;
        let (mut token, mut seen) = (String::new(), Vec::new());
        for (count, last) in [(300, false), (100, true)] {
            let query = [("limit", "300"), ("continue", &*token), ("labelSelector", "third=true")];
            let page = many.list(&query).await;
            assert_eq!((page.objects.len(), page.remaining), (count, None));
            assert_eq!(page.token.is_none(), last);
            seen.extend(page.objects);
            token = page.token.unwrap_or_default();
        }
        let expected: Vec<_> = (0..ALL).step_by(3).map(|index| format!("c{index:04}")).collect();
        assert_eq!(names(&seen), expected);
    }

    /// Whoever makes up a token is told what follows from it, and gets nothing else than before.
    #[tokio::test]
    async fn a_made_up_count_changes_only_what_is_told() {
        let many = Many::new().await;
        let revision = many.list(&[("limit", "1")]).await.revision;
        for (left, told) in [(None, None), (Some(0), Some(0)), (Some(u64::MAX), Some(u64::MAX - 1))]
        {
            let token = Token { revision: Some(revision), after: "c0000".to_owned(), left }.write();
            let page = many.list(&[("limit", "1"), ("continue", &token)]).await;
            assert_eq!((names(&page.objects), page.remaining), (vec!["c0001"], told));
        }
    }
}
