//! One request from its first byte to its answer.

use std::sync::Arc;
use std::time::Instant;

use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request};

use super::answer::{self, Answer, Streamed};
use super::audit::Trail;
use super::metrics::About;
use super::resource::{self, verb};
use super::route::{self, Path, Route};
use super::{Caller, Server, body, discovery, health, index, openapi, snapshot};
use crate::api::options::Query;
use crate::api::status::Status;
use crate::api::warnings::Warnings;
use crate::auth::attributes::{Attributes, Decision, Resource};
use crate::auth::token::discovery as keys;
use crate::meta::field_selector::FieldSelector;

impl Server {
    /// Answers a request; there is an answer for everything that can be asked.
    pub async fn answer<B>(self: Arc<Self>, caller: Caller, request: Request<B>) -> Answer
    where
        B: hyper::body::Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let begun = Instant::now();
        let route = Route::of(parts.uri.path());
        let query = route::query(parts.uri.query());
        let (about, long) = self.about(&parts, &route, &query);
        let mut trail = Trail::begin(self.audit.as_ref(), &caller, &parts, long);
        let answered =
            self.permitted(&caller, &parts, body, &route, &query, long, &mut trail).await;
        let answer = answered.unwrap_or_else(|status| {
            if status.code() >= 500 {
                tracing::warn!(method = %parts.method, path = parts.uri.path(), %status, "a request failed");
            }
            answer::status(&status)
        });
        let code = answer.status().as_u16();
        let counted =
            Counted { server: self.clone(), about, code, begun: (!long).then_some(begun) };
        if answer.extensions().get::<Streamed>().is_some() {
            return trail.finish(answer::holding(answer, counted)).await;
        }
        drop(counted);
        trail.finish(answer).await
    }

    /// What is counted, and whether the answer lasts: a watch, or a snapshot.
    fn about(&self, parts: &Parts, route: &Route, query: &Query) -> (About, bool) {
        let method = &parts.method;
        match route {
            Route::Resource(path) if self.kind(path).is_ok() => match verb(method, path, query) {
                Ok(verb) => (About::resource(verb, path), verb == "watch"),
                Err(_) => (About::other(method), false),
            },
            _ => (About::other(method), snapshot::asked(method, parts.uri.path())),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the request that is read once"
    )]
    async fn permitted<B>(
        &self,
        caller: &Caller,
        parts: &Parts,
        body: B,
        route: &Route,
        query: &Query,
        long: bool,
        trail: &mut Trail,
    ) -> Result<Answer, Status>
    where
        B: hyper::body::Body + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let asker = self.gate.authenticate(caller, &parts.headers).await?;
        let user = &asker.user;
        // a watch takes its slot itself, among the watches, and a snapshot its own
        let held = if long {
            None
        } else {
            let reads = matches!(parts.method, Method::GET | Method::HEAD);
            Some((self.limits.begin(&user.name, false)?, self.metrics.under_way(reads)))
        };
        let Route::Resource(path) = route else {
            let method = parts.method.as_str().to_ascii_lowercase();
            let verb = if method == "head" { "get" } else { &method };
            let attributes = Attributes::at(user, verb, parts.uri.path());
            trail.known(&asker, &attributes, "").await?;
            self.may(&attributes, trail).await?;
            if snapshot::asked(&parts.method, parts.uri.path()) {
                return self.snapshot().await;
            }
            return self.other(parts, route, query).await;
        };
        let verb = verb(&parts.method, path, query)?;
        let named = named(path, query);
        let about = Resource {
            group: &path.group,
            resource: &path.plural,
            subresource: &path.subresource,
            namespace: namespace(path),
            name: &named,
        };
        let node = node(path, query);
        let attributes = Attributes::on(user, verb, about).of_node(&node);
        trail.known(&asker, &attributes, &path.version).await?;
        self.may(&attributes, trail).await?;
        let kind = self.kind(path)?;
        let body = body::read(body).await?;
        trail.sent(&parts.headers, &body);
        let request = resource::Request {
            user,
            path,
            query,
            headers: &parts.headers,
            body,
            warnings: Warnings::default(),
        };
        let answer = self.resource(&kind, verb, request).await?;
        let lasts = answer.extensions().get::<Streamed>().is_some();
        Ok(if lasts { answer::holding(answer, held) } else { answer })
    }

    async fn may(&self, attributes: &Attributes<'_>, trail: &mut Trail) -> Result<(), Status> {
        let decision = self.gate.authorize(attributes).await;
        trail.decided(&decision);
        match decision {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                Err(Status::denied(attributes.forbidden_message(&reason), attributes.details()))
            }
        }
    }

    async fn other(&self, parts: &Parts, route: &Route, query: &Query) -> Result<Answer, Status> {
        let registry = &self.api.registry;
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        if !reads || parts.uri.path() == snapshot::PATH {
            return Err(Status::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ));
        }
        Ok(match (route, parts.uri.path().trim_end_matches('/')) {
            (Route::CoreVersions, _) => self.discovery.root(registry, true, &parts.headers),
            (Route::Groups, _) => self.discovery.root(registry, false, &parts.headers),
            (Route::Group(group), _) => discovery::group(registry, group),
            (Route::Resources(group, version), _) => discovery::resources(registry, group, version),
            (_, "/openapi/v2") => openapi::version_two(&parts.headers),
            (_, path) if path == "/openapi/v3" || path.starts_with("/openapi/v3/") => {
                self.openapi.answer(registry, path, &parts.headers)
            }
            (_, keys::JWKS_PATH) => {
                let keys = self.answers.authenticator.tokens.keys.jwks();
                public(answer::bytes(200, "application/jwk-set+json", keys.to_string()))
            }
            (_, keys::CONFIGURATION_PATH) => {
                let tokens = &self.answers.authenticator.tokens;
                let algorithms = tokens.keys.algorithms();
                let document = keys::configuration(&tokens.issuer, &self.address, &algorithms);
                public(answer::json(200, &document))
            }
            (_, "/version") => answer::json(200, &health::version()),
            (_, "" | "/index.html") => index::answer(registry),
            (_, "/metrics") => answer::bytes(
                200,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.metrics.text(),
            ),
            (_, path) => match health::answer(self, path.trim_start_matches('/'), query).await {
                Some(answer) => answer,
                None => answer::text(404, "404 page not found\n"),
            },
        })
    }
}

/// A request that is counted when this is dropped: when it is answered, or a large list has been sent.
struct Counted {
    server: Arc<Server>,
    about: About,
    code: u16,
    /// For those whose time is measured.
    begun: Option<Instant>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let took = self.begun.map(|begun| begun.elapsed());
        self.server.metrics.answered(&self.about, self.code, took);
    }
}

/// The namespace that a request is about; a namespace is in itself, as authorizers see it.
fn namespace(path: &Path) -> &str {
    if path.plural == "namespaces" && path.group.is_empty() { &path.name } else { &path.namespace }
}

/// What tells of keys may be kept for a while: they change only when the server starts anew.
fn public(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    answer
}

/// The node whose pods a list or watch of pods is about, which is all that a kubelet may see of them; empty for none.
fn node(path: &Path, query: &Query) -> String {
    let pods = path.group.is_empty() && path.plural == "pods";
    let selector: Result<FieldSelector, _> = query.get("fieldSelector").parse();
    match selector {
        Ok(selector) if pods => selector.exact("spec.nodeName").unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// The name that a request is about; a list by `metadata.name` is about one object.
fn named(path: &Path, query: &Query) -> String {
    let selector: Result<FieldSelector, _> = query.get("fieldSelector").parse();
    match selector {
        Ok(selector) if path.name.is_empty() => {
            selector.exact("metadata.name").unwrap_or_default().to_owned()
        }
        _ => path.name.clone(),
    }
}
