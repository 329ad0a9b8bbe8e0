//! Requests for objects: which verb, may the caller, what comes back.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::USER_AGENT;
use hyper::{HeaderMap, Method};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::metrics::About;
use super::negotiate::{self, Encoding, Form};
use super::route::Path;
use super::stream::Stream;
use super::table::{self, Include};
use super::{Server, body, list, review};
use crate::api::Place;
use crate::api::options::{DeleteOptions, ListOptions, Query, WatchOptions, WriteOptions};
use crate::api::status::Status;
use crate::api::update::Part;
use crate::api::warnings::Warnings;
use crate::auth::User;
use crate::registry::{Kind, Subresource};

/// What one request asks for.
pub struct Request<'a> {
    /// Who asks.
    pub user: &'a User,
    /// Where.
    pub path: &'a Path,
    /// The query.
    pub query: &'a Query,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
    /// What the caller is told besides the answer, also when that is a refusal.
    pub warnings: Warnings,
}

/// Kubernetes' verb of a request.
pub fn verb(method: &Method, path: &Path, query: &Query) -> Result<&'static str, Status> {
    let one = !path.name.is_empty();
    match *method {
        Method::GET | Method::HEAD if !one && query.flag("watch")?.unwrap_or_default() => {
            Ok("watch")
        }
        Method::GET | Method::HEAD => Ok(if one { "get" } else { "list" }),
        Method::POST => Ok("create"),
        Method::PUT => Ok("update"),
        Method::PATCH => Ok("patch"),
        Method::DELETE => Ok(if one { "delete" } else { "deletecollection" }),
        _ => Err(Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

/// A value that is sent, and with what.
struct Sent {
    code: u16,
    value: Value,
}

impl From<Value> for Sent {
    fn from(value: Value) -> Self {
        Self { code: 200, value }
    }
}

fn created(value: Value) -> Sent {
    Sent { code: 201, value }
}

impl Server {
    /// The kind that a path names, if it is served there.
    pub fn kind(&self, path: &Path) -> Result<Arc<Kind>, Status> {
        let kind = self
            .api
            .registry
            .at(&path.group, &path.version, &path.plural)
            .ok_or_else(Status::no_such_resource)?;
        let misplaced = !kind.namespaced && !path.namespace.is_empty();
        let part = path.subresource.is_empty() || kind.subresource(&path.subresource).is_some();
        // a namespaced object has no place without its namespace
        let nowhere = kind.namespaced && path.namespace.is_empty() && !path.name.is_empty();
        if misplaced || nowhere || !part { Err(Status::no_such_resource()) } else { Ok(kind) }
    }

    /// Answers a request for objects that the caller may make.
    pub async fn resource(
        &self,
        kind: &Arc<Kind>,
        verb: &str,
        request: Request<'_>,
    ) -> Result<Answer, Status> {
        let warnings = request.warnings.clone();
        let mut answer = match self.objects(kind, verb, request).await {
            Err(status) if status.code() < 500 => answer::status(&status),
            answered => answered?,
        };
        answer::warn(&mut answer, &warnings.take());
        Ok(answer)
    }

    async fn objects(
        &self,
        kind: &Arc<Kind>,
        verb: &str,
        request: Request<'_>,
    ) -> Result<Answer, Status> {
        let (encoding, form) = negotiate::objects(request.headers)?;
        let include = Include::of(request.query)?;
        let place = Place {
            kind: kind.clone(),
            namespace: request.path.namespace.clone(),
            name: request.path.name.clone(),
        };
        let part = kind.subresource(&request.path.subresource);
        let allowed = part.map_or_else(|| kind.allows(verb), |part| part.verbs().contains(&verb));
        if !allowed {
            return Err(Status::method_not_allowed(kind, verb));
        }
        if verb == "watch" {
            return self.watch(&place, &request, form, include).await;
        }
        let sent = match (part, verb) {
            (Some(part), _) => self.part(&place, part, verb, &request).await?,
            (None, "list") => {
                let options = ListOptions::of(kind, request.query)?;
                let packs = answer::takes_gzip(request.headers);
                let look = list::Look { encoding, form, include, packs };
                return self.list(&request.user.name, place, options, look).await;
            }
            (None, _) => self.whole(&place, verb, &request).await?,
        };
        let value = object_in(form, kind, sent.value, include);
        let bytes = encode(encoding, &value)?;
        Ok(answer::bytes(sent.code, negotiate::content_type(encoding), bytes))
    }

    /// Verbs on objects themselves.
    async fn whole(
        &self,
        place: &Place,
        verb: &str,
        request: &Request<'_>,
    ) -> Result<Sent, Status> {
        let api = &self.api;
        match verb {
            "get" => Ok(api.get(place).await?.into()),
            "create" => {
                if place.kind.namespaced && place.namespace.is_empty() {
                    return Err(Status::method_not_allowed(&place.kind, verb));
                }
                let (options, value) = written(&place.kind, request)?;
                if review::is_question(&place.kind) {
                    let answer = self.answers.review(place, &value, request.user).await?;
                    return Ok(created(answer));
                }
                Ok(created(api.create(place, value, &options).await?))
            }
            "update" => {
                let (options, value) = written(&place.kind, request)?;
                let (value, made) = api.update(place, Part::Main, value, &options).await?;
                Ok(Sent { code: if made { 201 } else { 200 }, value })
            }
            "patch" => self.patched(place, Part::Main, request).await,
            "delete" => {
                let options = deletion(request)?;
                Ok(api.delete(place, &options).await?.into_value().into())
            }
            _ => {
                let (list, options) =
                    (ListOptions::of(&place.kind, request.query)?, deletion(request)?);
                let gone = api.delete_all(place, &list, &options).await?;
                Ok(list_value(&place.kind, json!({}), gone).into())
            }
        }
    }

    /// Verbs on parts of objects.
    async fn part(
        &self,
        place: &Place,
        part: Subresource,
        verb: &str,
        request: &Request<'_>,
    ) -> Result<Sent, Status> {
        let api = &self.api;
        let options = options(request)?;
        match (part, verb) {
            (Subresource::Scale, "get") => Ok(api.scale(place).await?.into()),
            (_, "get") => Ok(api.get(place).await?.into()),
            (Subresource::Status | Subresource::Finalize, "update") => {
                let (_, value) = written(&place.kind, request)?;
                let part = if part == Subresource::Status { Part::Status } else { Part::Finalize };
                let (value, _) = api.update(place, part, value, &options).await?;
                Ok(value.into())
            }
            (Subresource::Scale, "patch") => {
                let patch = body::patch(request.headers, &request.body)?;
                Ok(api.patch_scale(place, &patch, &options).await?.into())
            }
            (_, "patch") => self.patched(place, Part::Status, request).await,
            (part, _) => {
                let own =
                    part.kind().map(|(group, version, kind)| Kind::new(group, version, kind, ""));
                let of = own.as_ref().unwrap_or(&*place.kind);
                let (value, told) =
                    body::object(request.headers, &request.body, of, options.validation)?;
                options.warnings.add(told);
                match part {
                    Subresource::Scale => Ok(api.set_scale(place, value, &options).await?.into()),
                    Subresource::Binding => Ok(created(api.bind(place, value, &options).await?)),
                    Subresource::Eviction => Ok(created(api.evict(place, value, &options).await?)),
                    Subresource::Token => {
                        let answer = self.answers.token(api, place, value, request.user).await?;
                        Ok(created(answer))
                    }
                    _ => Err(Status::method_not_allowed(&place.kind, verb)),
                }
            }
        }
    }

    /// Patches of all four types.
    async fn patched(
        &self,
        place: &Place,
        part: Part,
        request: &Request<'_>,
    ) -> Result<Sent, Status> {
        let options = options(request)?;
        if body::is_apply(request.headers) {
            let (config, told) = body::applied(&request.body, &place.kind, options.validation)?;
            options.warnings.add(told);
            let (value, made) = self.api.apply(place, part, config, &options).await?;
            return Ok(Sent { code: if made { 201 } else { 200 }, value });
        }
        let patch = body::patch(request.headers, &request.body)?;
        Ok(self.api.patch(place, part, &patch, &options).await?.into())
    }

    async fn watch(
        &self,
        place: &Place,
        request: &Request<'_>,
        form: Form,
        include: Include,
    ) -> Result<Answer, Status> {
        let slot = self.limits.begin(&request.user.name, true)?;
        let running = self.metrics.watch(&About::resource("watch", request.path));
        let options = WatchOptions::of(&place.kind, request.query)?;
        let watcher = self.api.watch(place, options).await?;
        Ok(Stream::new(
            watcher,
            place.kind.clone(),
            form,
            include,
            self.ending.clone(),
            (slot, running),
        )
        .into_answer())
    }
}

/// How the write is meant; a client that does not name itself is known by the program it says it is.
fn options(request: &Request<'_>) -> Result<WriteOptions, Status> {
    let mut options = WriteOptions::of(request.query)?;
    if options.manager.is_empty() && !body::is_apply(request.headers) {
        let agent = request.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let program = agent.unwrap_or_default().split('/').next().unwrap_or_default();
        options.manager = program.chars().filter(|sign| !sign.is_control()).take(128).collect();
    }
    options.user = Some(Arc::new(request.user.clone()));
    options.warnings = request.warnings.clone();
    Ok(options)
}

fn written(kind: &Kind, request: &Request<'_>) -> Result<(WriteOptions, Value), Status> {
    let options = options(request)?;
    let (value, told) = body::object(request.headers, &request.body, kind, options.validation)?;
    options.warnings.add(told);
    Ok((options, value))
}

fn deletion(request: &Request<'_>) -> Result<DeleteOptions, Status> {
    let body = body::value(request.headers, &request.body, "DeleteOptions")?;
    let options = DeleteOptions::of(request.query, Some(&body))?;
    Ok(DeleteOptions { user: Some(Arc::new(request.user.clone())), ..options })
}

fn list_value(kind: &Kind, metadata: Value, items: Vec<Value>) -> Value {
    json!({"kind": kind.list_kind(), "apiVersion": kind.api_version(), "metadata": metadata, "items": items})
}

/// An object of the kind, or its scale, in a form; other values, such as a `Status`, stay what they are.
fn object_in(form: Form, kind: &Kind, value: Value, include: Include) -> Value {
    if form == Form::Table && value.get("kind") == Some(&json!("Scale")) {
        return table::of_scale(&value, include);
    }
    if form == Form::Object || value.get("kind") != Some(&json!(kind.kind)) {
        return value;
    }
    match form {
        Form::Partial => table::partial(&value),
        _ => table::table(kind, table::revision_of(&value), &[value], include, true),
    }
}

fn encode(encoding: Encoding, value: &Value) -> Result<Vec<u8>, Status> {
    let failed = |error: String| Status::internal(format!("the answer cannot be written: {error}"));
    match encoding {
        Encoding::Json => serde_json::to_vec(value).map_err(|error| failed(error.to_string())),
        Encoding::Yaml => serde_saphyr::to_string(value)
            .map(String::into_bytes)
            .map_err(|error| failed(error.to_string())),
    }
}
