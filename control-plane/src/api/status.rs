//! `Status` errors, worded as `k8s.io/apimachinery/pkg/api/errors` words them: clients look at reasons, people search for sentences.

use serde_json::{Map, Value, json};

use crate::meta::field_error::{FieldError, Mistake};
use crate::registry::Kind;
use crate::store::StoreError;

/// An answer that says why a request failed. Small, so that results stay small.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Status(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: u16,
    reason: &'static str,
    message: String,
    details: Map<String, Value>,
    /// Where a list can go on all the same.
    token: Option<String>,
}

impl Status {
    /// A status with this code, reason and sentence, and without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner { code, reason, message, details: Map::new(), token: None }))
    }

    #[must_use]
    fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if value != json!("") {
            self.0.details.insert(name.to_owned(), value);
        }
        self
    }

    /// The details that name a resource and one object of it.
    #[must_use]
    fn about(self, kind: &Kind, name: &str) -> Self {
        self.detail("name", name).detail("group", &*kind.group).detail("kind", &*kind.plural)
    }

    /// There is no object of this name.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", kind.resource()))
            .about(kind, name)
    }

    /// An object of this name exists.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", kind.resource()))
            .about(kind, name)
    }

    /// The object is not in the state that the request expects.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.resource());
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// The object was written since the caller read it.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        const WHY: &str = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, WHY)
    }

    /// Fields of the caller's server-side apply belong to other managers; each cause names a field.
    pub fn apply_conflict(
        message: String,
        causes: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let causes: Vec<Value> = causes
            .into_iter()
            .map(|(field, message)| json!({"reason": "FieldManagerConflict", "message": message, "field": field}))
            .collect();
        Self::new(409, "Conflict", message).detail("causes", causes)
    }

    /// The caller may not do this.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = match name {
            "" => format!("{} is forbidden: {why}", kind.resource()),
            name => format!("{} {name:?} is forbidden: {why}", kind.resource()),
        };
        Self::new(403, "Forbidden", message).about(kind, name)
    }

    /// The object has mistakes; every one is listed.
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        let mut sentences: Vec<String> = Vec::new();
        for sentence in errors.iter().map(ToString::to_string) {
            // the causes keep what is there twice
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
        let all = match sentences.as_slice() {
            [one] => one.clone(),
            more => format!("[{}]", more.join(", ")),
        };
        let causes: Vec<Value> = errors.iter().map(cause).collect();
        Self::new(422, "Invalid", format!("{} {name:?} is invalid: {all}", kind.group_kind()))
            .detail("name", name)
            .detail("group", &*kind.group)
            .detail("kind", &*kind.kind)
            .detail("causes", causes)
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The caller did not say who it is, or was not believed.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The resource does not know this verb.
    pub fn method_not_allowed(kind: &Kind, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", kind.resource());
        Self::new(405, "MethodNotAllowed", message)
            .detail("group", &*kind.group)
            .detail("kind", &*kind.plural)
    }

    /// No resource is served at this path.
    pub fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// The body is of a type that cannot be read here.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// None of the types that the caller takes can be written here.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message =
            format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(406, "NotAcceptable", message)
    }

    /// What the caller refers to is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The state of a list is no longer kept; the rest can be had as it is now.
    pub fn expired_list(message: impl Into<String>, token: String) -> Self {
        let mut status = Self::expired(message);
        status.0.token = Some(token);
        status
    }

    /// The caller has seen a later state than the store has: perhaps the store was restored from a copy.
    pub fn too_large_resource_version(asked: u64, latest: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {latest}");
        let cause =
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Self::new(504, "Timeout", message)
            .detail("causes", vec![cause])
            .detail("retryAfterSeconds", 1)
    }

    /// Come back later.
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).detail("retryAfterSeconds", seconds)
    }

    /// An authorizer refuses; `details` name what was asked for.
    pub fn denied(message: impl Into<String>, details: Value) -> Self {
        let mut status = Self::new(403, "Forbidden", message);
        if let Value::Object(details) = details {
            status.0.details = details;
        }
        status
    }

    /// With what brought it about.
    #[must_use]
    pub fn with_causes(self, causes: Vec<Value>) -> Self {
        self.detail("causes", causes)
    }

    /// It took too long.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.into()))
    }

    /// The body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::entity_too_large(&format!("limit is {limit}"))
    }

    /// The body asks for too much.
    pub fn entity_too_large(why: &str) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    /// The server is not able to answer now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// A mistake of the server's own.
    pub fn internal(why: impl Into<String>) -> Self {
        let why = why.into();
        Self::new(500, "InternalError", format!("Internal error occurred: {why}"))
            .detail("causes", vec![json!({"message": why})])
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// The reason, one word.
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// After how many seconds the caller should try again.
    pub fn retry_after(&self) -> Option<u64> {
        self.0.details.get("retryAfterSeconds")?.as_u64()
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.0.message, "reason": self.0.reason, "code": self.0.code,
        });
        if self.0.reason.is_empty() {
            value.as_object_mut().map(|fields| fields.remove("reason"));
        }
        if let Some(token) = &self.0.token {
            value["metadata"]["continue"] = json!(token);
        }
        // kubectl looks into the details of everything that is not found, whether there are any or not; and Kubernetes has them,
        // perhaps empty, where something of the request was refused
        if !self.0.details.is_empty() || matches!(self.0.code, 403 | 404 | 422) {
            value["details"] = Value::Object(self.0.details.clone());
        }
        value
    }
}

fn cause(error: &FieldError) -> Value {
    json!({
        "reason": error.mistake.reason(), "message": error.body(), "field": error.path.to_string(),
    })
}

/// `Success`, with what it was about: the answer to a deletion that leaves nothing.
pub fn success(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": kind.plural, "uid": uid});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted { asked, oldest } => {
                Self::expired(format!("too old resource version: {} ({})", asked.0, oldest.0))
            }
            StoreError::Future { asked, latest } => {
                Self::too_large_resource_version(asked.0, latest.0)
            }
            StoreError::SlowWatcher { .. } => Self::expired(error.to_string()),
            StoreError::Unavailable { .. } => Self::unavailable(error.to_string()),
            StoreError::InUse { .. } | StoreError::Unusable { .. } => {
                Self::internal(error.to_string())
            }
        }
    }
}

/// A mistake in a value that came with the request itself, not in an object.
pub fn bad_option(field: &str, value: &str, detail: &str) -> Status {
    let error = FieldError::new(
        crate::meta::field_error::FieldPath::root(field),
        Mistake::Invalid(Value::from(value)),
        detail,
    );
    Status::bad_request(error.to_string())
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
