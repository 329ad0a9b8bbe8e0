//! Who may do what, as the objects in the store say.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tokio::sync::watch;

use crate::api::status::Status;
use crate::api::{Api, Place};
use crate::auth::User;
use crate::auth::attributes::{Attributes, Decision};
use crate::auth::authenticate::{Authenticator, bearer};
use crate::auth::authorizer::Authorizer;
use crate::auth::certificate::user_of;
use crate::auth::impersonate::Wanted;
use crate::auth::token::Objects;
use crate::controllers::follow::{Told, follow};
use crate::controllers::{if_found, place};
use crate::http::{Asker, Caller, Gate};
use crate::meta::object::Meta;

/// Objects as tokens speak of them, out of the store itself: a token is refused as soon as what it is bound to is gone.
pub struct Lookups(pub Arc<Api>);

#[async_trait]
impl Objects for Lookups {
    async fn get(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, String> {
        let found = match place(&self.0, ("", "v1", resource), namespace, name) {
            Ok(place) => if_found(self.0.get(&place).await),
            Err(status) => Err(status),
        };
        found.map_err(|status| status.message().to_owned())
    }
}

/// The gate of a server.
pub struct Access {
    /// Who somebody is.
    pub authenticator: Arc<Authenticator>,
    /// What they may do.
    pub authorizer: Arc<Authorizer>,
    /// The objects that tokens speak of.
    pub lookups: Arc<Lookups>,
}

#[async_trait]
impl Gate for Access {
    async fn authenticate(&self, caller: &Caller, headers: &HeaderMap) -> Result<Asker, Status> {
        let now = Timestamp::now();
        let chain: Option<&[CertificateDer<'_>]> =
            caller.certificates.as_ref().map(|chain| chain.as_slice());
        let text = |name| {
            headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok())
        };
        let token = bearer(text(AUTHORIZATION), text(SEC_WEBSOCKET_PROTOCOL));
        let found = self
            .authenticator
            .authenticate(user_of(chain, now), token.as_deref(), &*self.lookups, now)
            .await;
        let user = found.map_err(|error| {
            tracing::info!(%error, "a request is from nobody that is known");
            Status::unauthorized()
        })?;
        self.impersonated(user, headers)
    }

    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.authorizer.decide(attributes)
    }
}

impl Access {
    /// Who the request is from when it asks in somebody else's name.
    fn impersonated(&self, user: User, headers: &HeaderMap) -> Result<Asker, Status> {
        let texts =
            headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let wanted =
            Wanted::from_headers(texts).map_err(|error| Status::bad_request(error.to_string()))?;
        let Some(wanted) = wanted else { return Ok(user.into()) };
        let decide = |attributes: &Attributes<'_>| self.authorizer.decide(attributes);
        let assumed = wanted.assume(&user, &decide).map_err(|status| {
            let message = status["message"].as_str().unwrap_or("impersonation is forbidden");
            Status::denied(message, status["details"].clone())
        })?;
        Ok(Asker { user: assumed, behind: Some(user) })
    }
}

/// Keeps the authorizer as the store is, for ever. `ready` counts the kinds that have been read once.
pub async fn keep_view(api: Arc<Api>, authorizer: Arc<Authorizer>, ready: watch::Sender<usize>) {
    let kinds = api
        .registry
        .all()
        .into_iter()
        .filter(|kind| Authorizer::watches(&kind.group, &kind.plural));
    let ready = Arc::new(ready);
    let mut tasks = tokio::task::JoinSet::new();
    for kind in kinds {
        let place = Place { kind, namespace: String::new(), name: String::new() };
        let mut view = View {
            authorizer: authorizer.clone(),
            known: BTreeMap::new(),
            round: 0,
            ready: Some(ready.clone()),
        };
        let api = api.clone();
        tasks.spawn(async move {
            let plural = place.kind.plural.to_string();
            follow(&api, &place, |told| view.hear(&plural, told)).await;
        });
    }
    drop(ready);
    while tasks.join_next().await.is_some() {}
}

/// How many kinds [`keep_view`] reads.
pub fn kinds_in_view(api: &Api) -> usize {
    api.registry.all().iter().filter(|kind| Authorizer::watches(&kind.group, &kind.plural)).count()
}

/// What the authorizer was told of a kind: objects that went while nobody looked are found by the round in which they were last seen.
struct View {
    authorizer: Arc<Authorizer>,
    known: BTreeMap<(String, String), u64>,
    round: u64,
    ready: Option<Arc<watch::Sender<usize>>>,
}

impl View {
    fn hear(&mut self, plural: &str, told: Told<'_>) {
        match told {
            Told::Begin => self.round += 1,
            Told::Is(object) | Told::Changed(_, Some(object)) => {
                let meta = Meta::of(object);
                self.known
                    .insert((meta.namespace().to_owned(), meta.name().to_owned()), self.round);
                self.authorizer.put(plural, object);
            }
            Told::Changed(before, None) => {
                let meta = before.map(Meta::of);
                if let Some(meta) = meta {
                    self.known.remove(&(meta.namespace().to_owned(), meta.name().to_owned()));
                    self.authorizer.remove(plural, meta.namespace(), meta.name());
                }
            }
            Told::Complete => {
                let (round, authorizer) = (self.round, &self.authorizer);
                self.known.retain(|(namespace, name), seen| {
                    if *seen != round {
                        authorizer.remove(plural, namespace, name);
                    }
                    *seen == round
                });
                if let Some(ready) = self.ready.take() {
                    ready.send_modify(|count| *count += 1);
                }
            }
        }
    }
}
