//! What can be said in a request's query, and in the body of a deletion.

use std::sync::Arc;

use serde_json::Value;

use super::status::{Status, bad_option};
use super::token::Token;
use super::warnings::Warnings;
use crate::auth::User;
use crate::meta::field_selector::FieldSelector;
use crate::meta::selector::Selector;
use crate::registry::Kind;
use crate::registry::column::text;
use crate::schema::decode::FieldValidation;

/// The query of a request, decoded; the first of several values of a name counts.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Names and values.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The value of a name; empty for none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The name is there, with a value or without.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// A number; `None` when it is absent.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        match self.get(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| bad_option(name, text, "must be a whole number, not negative")),
        }
    }

    /// `true` or `false`; `None` when it is absent.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Status> {
        match self.get(name) {
            "" => Ok(None),
            "true" | "1" | "True" | "TRUE" | "t" | "T" => Ok(Some(true)),
            "false" | "0" | "False" | "FALSE" | "f" | "F" => Ok(Some(false)),
            text => Err(bad_option(name, text, "must be true or false")),
        }
    }
}

/// How a write is meant.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Nothing is kept.
    pub dry_run: bool,
    /// Who owns the fields that are written.
    pub manager: String,
    /// What is done about unknown fields.
    pub validation: FieldValidation,
    /// Server-side apply takes fields from other managers.
    pub force: bool,
    /// The owners of fields are settled already, by server-side apply.
    pub applied: bool,
    /// Who writes; `None`: the server itself.
    pub user: Option<Arc<User>>,
    /// Where what the caller should hear is noted.
    pub warnings: Warnings,
}

impl WriteOptions {
    /// Reads `dryRun`, `fieldManager`, `fieldValidation` and `force`.
    pub fn of(query: &Query) -> Result<Self, Status> {
        let dry_run = match query.get("dryRun") {
            "" => false,
            "All" => true,
            other => return Err(bad_option("dryRun", other, "supported values: \"All\"")),
        };
        let said = query.get("fieldValidation");
        let validation = FieldValidation::parse(said).ok_or_else(|| {
            bad_option(
                "fieldValidation",
                said,
                "supported values: \"Ignore\", \"Strict\", \"Warn\"",
            )
        })?;
        let manager = query.get("fieldManager");
        if manager.chars().count() > 128 || manager.chars().any(char::is_control) {
            return Err(bad_option(
                "fieldManager",
                manager,
                "may not be more than 128 printable characters",
            ));
        }
        let force = query.flag("force")?.unwrap_or_default();
        Ok(Self {
            dry_run,
            manager: manager.to_owned(),
            validation,
            force,
            applied: false,
            user: None,
            warnings: Warnings::default(),
        })
    }
}

/// From which state a list is read, or a watch starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The latest, with everything that was acknowledged.
    #[default]
    Latest,
    /// Any; the latest is one.
    Any,
    /// This one or a later one.
    NotOlderThan(u64),
    /// This one.
    Exact(u64),
}

/// What a list or a watch selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// By labels.
    pub labels: Selector,
    /// By fields.
    pub fields: FieldSelector,
}

impl Default for Filter {
    fn default() -> Self {
        Self { labels: Selector::everything(), fields: FieldSelector::default() }
    }
}

impl Filter {
    /// Reads `labelSelector` and `fieldSelector`.
    pub fn of(kind: &Kind, query: &Query) -> Result<Self, Status> {
        let text = query.get("labelSelector");
        let labels = text.parse().map_err(|error| {
            Status::bad_request(format!("unable to parse label selector {text:?}: {error}"))
        })?;
        let fields: FieldSelector = query
            .get("fieldSelector")
            .parse()
            .map_err(|error| Status::bad_request(format!("{error}")))?;
        let own: Vec<&str> = kind.selectable.iter().map(|field| &*field.name).collect();
        fields.check(&own).map_err(|error| Status::bad_request(error.to_string()))?;
        Ok(Self { labels, fields })
    }

    /// Every object passes.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.terms.is_empty()
    }

    /// An object passes.
    pub fn matches(&self, kind: &Kind, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels").unwrap_or(&Value::Null);
        self.labels.matches_labels(labels)
            && self.fields.matches(|field| kind.field(object, field).unwrap_or_default().into())
    }
}

/// What a list asks for.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Which objects.
    pub filter: Filter,
    /// At most so many; 0 is no limit.
    pub limit: usize,
    /// Where an earlier list ended.
    pub token: Option<Token>,
    /// From which state.
    pub at: At,
}

impl ListOptions {
    /// Reads the options of a list.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>
    pub fn of(kind: &Kind, query: &Query) -> Result<Self, Status> {
        let filter = Filter::of(kind, query)?;
        let limit =
            usize::try_from(query.number("limit")?.unwrap_or_default()).unwrap_or(usize::MAX);
        let token = match query.get("continue") {
            "" => None,
            text => Some(Token::read(text)?),
        };
        let at = state(query, limit > 0)?;
        if token.is_some() && !matches!(at, At::Latest | At::Any) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        Ok(Self { filter, limit, token, at })
    }
}

fn state(query: &Query, limited: bool) -> Result<At, Status> {
    let revision = query.number("resourceVersion")?;
    match (query.get("resourceVersionMatch"), revision) {
        ("", None) => Ok(At::Latest),
        ("" | "NotOlderThan", Some(0)) => Ok(At::Any),
        ("", Some(revision)) if limited => Ok(At::Exact(revision)),
        ("" | "NotOlderThan", Some(revision)) => Ok(At::NotOlderThan(revision)),
        ("Exact", Some(0)) => Err(Status::bad_request(
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
        )),
        ("Exact", Some(revision)) => Ok(At::Exact(revision)),
        ("Exact" | "NotOlderThan", None) => Err(Status::bad_request(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        )),
        (other, _) => Err(bad_option(
            "resourceVersionMatch",
            other,
            "supported values: \"Exact\", \"NotOlderThan\"",
        )),
    }
}

/// What a watch asks for.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Which objects.
    pub filter: Filter,
    /// After which state; `None`: after the latest.
    pub after: Option<u64>,
    /// First the state itself, as added objects.
    pub initial: bool,
    /// A bookmark marks the end of the state.
    pub mark_end: bool,
    /// Bookmarks tell now and then how far the watch has come.
    pub bookmarks: bool,
    /// It ends after so many seconds.
    pub seconds: Option<u64>,
}

impl WatchOptions {
    /// Reads the options of a watch.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-watch>
    pub fn of(kind: &Kind, query: &Query) -> Result<Self, Status> {
        let revision = query.number("resourceVersion")?;
        let asked = query.flag("sendInitialEvents")?;
        let bookmarks = query.flag("allowWatchBookmarks")?.unwrap_or_default();
        match (asked, query.get("resourceVersionMatch")) {
            (None, "") | (Some(_), "NotOlderThan") => {}
            (None, _) => {
                return Err(Status::bad_request(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            (Some(_), _) => {
                return Err(Status::bad_request(
                    "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
        }
        let initial = asked.unwrap_or(revision.unwrap_or_default() == 0);
        Ok(Self {
            filter: Filter::of(kind, query)?,
            after: revision.filter(|revision| *revision > 0),
            initial,
            mark_end: asked == Some(true) && bookmarks,
            bookmarks,
            seconds: query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0),
        })
    }
}

/// What becomes of the objects that belong to a deleted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They live on.
    Orphan,
    /// They go afterwards.
    Background,
    /// They go first.
    Foreground,
}

/// How a deletion is meant.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Nothing is kept.
    pub dry_run: bool,
    /// How long the object may take to end, in seconds.
    pub grace: Option<u64>,
    /// What becomes of what belongs to it.
    pub propagation: Option<Propagation>,
    /// It must have this uid.
    pub uid: Option<String>,
    /// It must be at this revision.
    pub revision: Option<String>,
    /// Who deletes; `None`: the server itself.
    pub user: Option<Arc<User>>,
    /// It is asked for as an eviction.
    pub evicts: bool,
}

impl DeleteOptions {
    /// Reads the query and the body, a `DeleteOptions` or nothing; what the body says counts first.
    pub fn of(query: &Query, body: Option<&Value>) -> Result<Self, Status> {
        let none = Value::Null;
        let body = body.unwrap_or(&none);
        if !(body.is_null() || body.is_object()) {
            return Err(Status::bad_request("the body must be a DeleteOptions object"));
        }
        let grace = match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) => query.number("gracePeriodSeconds")?,
            Some(value) => Some(value.as_u64().ok_or_else(|| {
                bad_option(
                    "gracePeriodSeconds",
                    &value.to_string(),
                    "must be a whole number, not negative",
                )
            })?),
        };
        let dry_run = match body.get("dryRun") {
            None | Some(Value::Null) => WriteOptions::of(query)?.dry_run,
            Some(Value::Array(list)) => match list.as_slice() {
                [] => false,
                [one] if one == "All" => true,
                _ => {
                    return Err(bad_option(
                        "dryRun",
                        &body["dryRun"].to_string(),
                        "supported values: \"All\"",
                    ));
                }
            },
            Some(other) => return Err(bad_option("dryRun", &other.to_string(), "must be a list")),
        };
        let condition = |field: &str| {
            let found = text(body, &format!("/preconditions/{field}"));
            (!found.is_empty()).then(|| found.to_owned())
        };
        Ok(Self {
            dry_run,
            grace,
            propagation: propagation(query, body)?,
            uid: condition("uid"),
            revision: condition("resourceVersion"),
            user: None,
            evicts: false,
        })
    }
}

fn propagation(query: &Query, body: &Value) -> Result<Option<Propagation>, Status> {
    let said = match text(body, "/propagationPolicy") {
        "" => query.get("propagationPolicy"),
        said => said,
    };
    match (said, body.get("orphanDependents").and_then(Value::as_bool)) {
        ("", None) => Ok(None),
        ("", Some(true)) | ("Orphan", None) => Ok(Some(Propagation::Orphan)),
        ("", Some(false)) | ("Background", None) => Ok(Some(Propagation::Background)),
        ("Foreground", None) => Ok(Some(Propagation::Foreground)),
        (_, Some(_)) => {
            Err(Status::bad_request("orphanDependents and propagationPolicy cannot be both set"))
        }
        (other, None) => Err(bad_option(
            "propagationPolicy",
            other,
            "supported values: \"Background\", \"Foreground\", \"Orphan\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(text: &str) -> Query {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Query::new(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn states_follow_the_table_of_kubernetes() {
        let at = |text: &str, limited| state(&query(text), limited);
        assert_eq!(at("", false).unwrap(), At::Latest);
        assert_eq!(at("resourceVersion=0", false).unwrap(), At::Any);
        assert_eq!(at("resourceVersion=7", false).unwrap(), At::NotOlderThan(7));
        assert_eq!(at("resourceVersion=7", true).unwrap(), At::Exact(7));
        assert_eq!(
            at("resourceVersion=7&resourceVersionMatch=Exact", false).unwrap(),
            At::Exact(7)
        );
        for bad in [
            "resourceVersion=x",
            "resourceVersion=-1",
            "resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersion=1&resourceVersionMatch=Near",
        ] {
            assert_eq!(at(bad, false).unwrap_err().code(), 400, "{bad}");
        }
    }

    #[test]
    fn a_watch_knows_when_it_begins_with_the_state() {
        let kind = Kind::new("", "v1", "Pod", "pods");
        let of = |text: &str| WatchOptions::of(&kind, &query(text));
        assert!(of("").unwrap().initial);
        assert!(!of("resourceVersion=5").unwrap().initial);
        let list =
            of("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
                .unwrap();
        assert!(list.initial && list.mark_end);
        assert_eq!(of("sendInitialEvents=true").unwrap_err().code(), 400);
        assert_eq!(of("resourceVersionMatch=NotOlderThan").unwrap_err().code(), 400);
    }

    #[test]
    fn deletions_are_read_from_body_and_query() {
        let body = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "preconditions": {"uid": "u"}});
        let options = DeleteOptions::of(&query("gracePeriodSeconds=9"), Some(&body)).unwrap();
        assert_eq!(
            (options.grace, options.propagation, options.uid),
            (Some(0), Some(Propagation::Foreground), Some("u".to_owned()))
        );
        for bad in [
            json!({"gracePeriodSeconds": -1}),
            json!({"propagationPolicy": "No"}),
            json!([]),
            json!({"dryRun": ["Some"]}),
        ] {
            assert_eq!(
                DeleteOptions::of(&Query::default(), Some(&bad)).unwrap_err().code(),
                400,
                "{bad}"
            );
        }
    }
}
