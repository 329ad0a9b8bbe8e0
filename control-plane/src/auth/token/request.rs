//! `serviceaccounts/token`: a token for a service account, bound to what it is to live as long as.
//!
//! Source: `authentication.k8s.io/v1 TokenRequest`, and the Kubernetes documentation "Managing Service Accounts".

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::service_account::{BoundKind, TokenAuthority};
use crate::auth::user::service_account_name;
use crate::meta::field_error::{FieldError, FieldPath, Mistake};

/// Ten minutes.
const SHORTEST: i64 = 600;
/// 2^32 seconds.
const LONGEST: i64 = 1 << 32;
/// What an absent `expirationSeconds` means.
const USUAL: i64 = 3600;

/// A token that cannot be issued.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// 422: fields that cannot be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Invalid(Vec<FieldError>),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 404: what it is to be bound to.
    #[error("{resource} {name:?} not found")]
    NotFound {
        /// The plural.
        resource: &'static str,
        /// The name.
        name: String,
    },
    /// 409: what it is to be bound to has another uid.
    #[error(
        "Operation cannot be fulfilled on {kind} {name:?}: the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
    )]
    Conflict {
        /// The kind.
        kind: &'static str,
        /// The name.
        name: String,
        /// The uid that was asked for.
        uid: String,
    },
}

/// What a request's `boundObjectRef` asks for; the caller reads the object and hands it to [`issue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What it is.
    pub kind: BoundKind,
    /// Its name; in the service account's namespace but for a node.
    pub name: String,
    /// The uid that it must have; empty for any.
    pub uid: String,
}

/// Fills in what a request (a JSON object) does not say: an hour, and the server's own audiences.
pub fn default(request: &mut Value, authority: &TokenAuthority) {
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    let spec = &mut request["spec"];
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = json!(USUAL);
    }
    if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
        spec["audiences"] = json!(authority.audiences);
    }
}

/// Whether the fields of a defaulted request can be.
pub fn validate(request: &Value) -> Result<(), RequestError> {
    let path = FieldPath::root("spec").field("expirationSeconds");
    let given = &request["spec"]["expirationSeconds"];
    let detail = match given.as_i64() {
        None => "must be a whole number of seconds",
        Some(seconds) if seconds < SHORTEST => "may not specify a duration less than 10 minutes",
        Some(seconds) if seconds > LONGEST => "may not specify a duration larger than 2^32 seconds",
        Some(_) => return Ok(()),
    };
    let mistake = Mistake::Invalid(given.clone());
    Err(RequestError::Invalid(vec![FieldError::new(path, mistake, detail)]))
}

/// What the token is to be bound to; `None` when it is to the service account alone.
pub fn reference(request: &Value) -> Result<Option<Reference>, RequestError> {
    let bound = &request["spec"]["boundObjectRef"];
    if bound.is_null() {
        return Ok(None);
    }
    let text = |field: &str| bound[field].as_str().unwrap_or_default().to_owned();
    let kind = match (text("apiVersion").as_str(), text("kind").as_str()) {
        ("v1", "Pod") => BoundKind::Pod,
        ("v1", "Secret") => BoundKind::Secret,
        ("v1", "Node") => BoundKind::Node,
        (version, kind) => {
            let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
            let message =
                format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(RequestError::BadRequest(message));
        }
    };
    Ok(Some(Reference { kind, name: text("name"), uid: text("uid") }))
}

/// The answer to a valid request: the same with `status.token` and `status.expirationTimestamp`. `account`: the service account;
/// `bound`: what [`reference()`] asked for, `None` when it does not exist; `node`: the node that a bound pod runs on, if it exists.
pub fn issue(
    authority: &TokenAuthority,
    request: &Value,
    account: &Value,
    bound: Option<&Value>,
    node: Option<&Value>,
    now: Timestamp,
) -> Result<Value, RequestError> {
    let (name, namespace) = (meta(account, "name"), meta(account, "namespace"));
    let mut private = json!({
        "namespace": namespace,
        "serviceaccount": {"name": name, "uid": meta(account, "uid")},
    });
    if let Some(reference) = reference(request)? {
        let object = check_bound(&reference, bound, &name, &namespace)?;
        private[reference.kind.claim()] = named(object);
        if let Some(on) =
            object["spec"]["nodeName"].as_str().filter(|_| reference.kind == BoundKind::Pod)
        {
            private["node"] = node.map_or_else(|| json!({"name": on}), named);
        }
    }
    let seconds =
        authority.lifetime(request["spec"]["expirationSeconds"].as_i64().unwrap_or(USUAL));
    let (begin, end) = (now.as_second(), now.as_second() + seconds);
    let claims = json!({
        "iss": authority.issuer,
        "sub": service_account_name(&namespace, &name),
        "aud": request["spec"]["audiences"],
        "iat": begin, "nbf": begin, "exp": end,
        "jti": uuid::Uuid::new_v4().to_string(),
        "kubernetes.io": private,
    });
    let mut answer = request.clone();
    let expires = Timestamp::from_second(begin).unwrap_or(now) + SignedDuration::from_secs(seconds);
    answer["spec"]["expirationSeconds"] = json!(seconds);
    answer["status"] =
        json!({"token": authority.keys.sign(&claims), "expirationTimestamp": expires.to_string()});
    if !answer["metadata"].is_object() {
        answer["metadata"] = json!({});
    }
    answer["metadata"]["name"] = json!(name);
    answer["metadata"]["namespace"] = json!(namespace);
    Ok(answer)
}

fn check_bound<'a>(
    reference: &Reference,
    bound: Option<&'a Value>,
    account: &str,
    namespace: &str,
) -> Result<&'a Value, RequestError> {
    let Reference { kind, name, uid } = reference;
    let missing = || RequestError::NotFound { resource: kind.resource(), name: name.clone() };
    let object = bound.ok_or_else(missing)?;
    if *kind == BoundKind::Pod {
        let runs_as = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if runs_as != account || meta(object, "namespace") != namespace {
            let why = format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            );
            return Err(RequestError::BadRequest(why));
        }
    }
    if !uid.is_empty() && *uid != meta(object, "uid") {
        let (kind, name, uid) = (kind.name(), name.clone(), uid.clone());
        return Err(RequestError::Conflict { kind, name, uid });
    }
    Ok(object)
}

/// The refusal for a request whose `metadata` names another service account than the path does.
pub fn check_names(request: &Value, namespace: &str, name: &str) -> Result<(), RequestError> {
    let pairs = [("name", name), ("namespace", namespace)];
    for (field, expected) in pairs {
        let given = meta(request, field);
        if !given.is_empty() && given != expected {
            let why = format!(
                "the {field} of the provided object does not match the {field} sent on the request"
            );
            return Err(RequestError::BadRequest(why));
        }
    }
    Ok(())
}

fn named(object: &Value) -> Value {
    json!({"name": meta(object, "name"), "uid": meta(object, "uid")})
}

fn meta(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}
