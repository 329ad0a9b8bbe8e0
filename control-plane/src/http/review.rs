//! Questions that are answered and not kept: who may do what, and who somebody is.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::admission::guard;
use crate::api::status::Status;
use crate::api::{Api, Place};
use crate::auth::User;
use crate::auth::attributes::Attributes;
use crate::auth::authenticate::Authenticator;
use crate::auth::authorizer::Authorizer;
use crate::auth::node::restriction::{Change, Verb};
use crate::auth::review::{self, ReviewError};
use crate::auth::token::Objects;
use crate::auth::token::request::{self, RequestError};
use crate::registry::Kind;

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The kinds of questions. They have no keys: only `create` is known of them.
pub fn kinds() -> [Kind; 6] {
    let question = |group, kind: &'static str| {
        let mut kind =
            Kind::new(group, "v1", kind, format!("{}s", kind.to_lowercase())).cluster_scoped();
        kind.verbs = vec!["create".into()];
        kind
    };
    let mut local = question(AUTHORIZATION, "LocalSubjectAccessReview");
    local.namespaced = true;
    [
        question(AUTHORIZATION, "SelfSubjectAccessReview"),
        question(AUTHORIZATION, "SubjectAccessReview"),
        question(AUTHORIZATION, "SelfSubjectRulesReview"),
        local,
        question(AUTHENTICATION, "SelfSubjectReview"),
        question(AUTHENTICATION, "TokenReview"),
    ]
}

/// Whether a kind is a question.
pub fn is_question(kind: &Kind) -> bool {
    (kind.group == AUTHORIZATION || kind.group == AUTHENTICATION) && kind.verbs.len() == 1
}

/// Answers questions by what the server itself goes by.
pub struct Answers {
    /// Who may do what.
    pub authorizer: Arc<Authorizer>,
    /// Who somebody is.
    pub authenticator: Arc<Authenticator>,
    /// What tokens speak of.
    pub objects: Arc<dyn Objects>,
}

impl Answers {
    /// The answer to a question that `user` asks.
    pub async fn review(
        &self,
        place: &Place,
        question: &Value,
        user: &User,
    ) -> Result<Value, Status> {
        let kind = &place.kind;
        let decide = |attributes: &Attributes<'_>| self.authorizer.decide(attributes);
        let answered = match &*kind.kind {
            "SelfSubjectAccessReview" => review::self_subject_access(question, user, &decide),
            "SubjectAccessReview" => review::subject_access(question, &decide),
            "LocalSubjectAccessReview" => {
                review::local_subject_access(question, &place.namespace, &decide)
            }
            "SelfSubjectRulesReview" => {
                let namespace = question["spec"]["namespace"].as_str().unwrap_or_default();
                let (rules, incomplete) = self.authorizer.rules(user, namespace);
                review::self_subject_rules(question, &rules, incomplete)
            }
            "TokenReview" => return self.whose(kind, question).await,
            _ => Ok(review::self_subject(question, user)),
        };
        answered.map_err(|error| refused(kind, error))
    }

    async fn whose(&self, kind: &Kind, question: &Value) -> Result<Value, Status> {
        let (token, audiences) =
            review::token_question(question).map_err(|error| refused(kind, error))?;
        let found =
            self.authenticator.token(&token, &audiences, &*self.objects, Timestamp::now()).await;
        Ok(review::token(question, &found))
    }

    /// A token for the service account at a place.
    pub async fn token(
        &self,
        api: &Api,
        place: &Place,
        mut wish: Value,
        user: &User,
    ) -> Result<Value, Status> {
        let authority = &self.authenticator.tokens;
        let account = api.get(place).await?;
        request::check_names(&wish, &place.namespace, &place.name).map_err(not_issued)?;
        request::default(&mut wish, authority);
        request::validate(&wish).map_err(not_issued)?;
        let bound = match request::reference(&wish).map_err(not_issued)? {
            Some(reference) => {
                self.object(reference.kind.resource(), &place.namespace, &reference.name).await?
            }
            None => None,
        };
        let change = Change {
            verb: Verb::Create,
            subresource: "token",
            new: &wish,
            old: bound.as_ref(),
            ..guard::change_of(place)
        };
        guard::restrict(api, user, change, place).await?;
        let on = bound.as_ref().and_then(|pod| pod["spec"]["nodeName"].as_str());
        let node = match on {
            Some(name) => self.object("nodes", "", name).await?,
            None => None,
        };
        request::issue(authority, &wish, &account, bound.as_ref(), node.as_ref(), Timestamp::now())
            .map_err(not_issued)
    }

    async fn object(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        let namespace = if resource == "nodes" { "" } else { namespace };
        self.objects.get(resource, namespace, name).await.map_err(Status::unavailable)
    }
}

fn not_issued(error: RequestError) -> Status {
    let message = error.to_string();
    match error {
        // the mistakes are those of the request, not of the account
        RequestError::Invalid(errors) => {
            Status::invalid(&Kind::new(AUTHENTICATION, "v1", "TokenRequest", ""), "", &errors)
        }
        RequestError::BadRequest(why) => Status::bad_request(why),
        RequestError::NotFound { .. } => Status::new(404, "NotFound", message),
        RequestError::Conflict { .. } => Status::new(409, "Conflict", message),
    }
}

fn refused(kind: &Kind, error: ReviewError) -> Status {
    match error {
        ReviewError::Invalid(errors) => Status::invalid(kind, "", &errors),
        ReviewError::BadRequest(why) => Status::bad_request(why),
    }
}
