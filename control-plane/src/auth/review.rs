//! Questions about who may do what, and who somebody is, as objects: `authorization.k8s.io/v1` and `authentication.k8s.io/v1`.
//!
//! Each function takes the object that was posted (a JSON object of any content) and answers with the same object and its `status`. Nothing is stored.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::User;
use super::attributes::{Attributes, Decision, Resource};
use super::authenticate::Unauthenticated;
use super::rbac::Rule;
use super::review_spec;
use super::token::service_account::Verified;
use crate::meta::field_error::FieldError;

/// A review that cannot be answered.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ReviewError {
    /// 422.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Invalid(Vec<FieldError>),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
}

/// The server's authorizer.
pub type Decide<'a> = &'a dyn Fn(&Attributes<'_>) -> Decision;

/// `SelfSubjectAccessReview`: may I?
pub fn self_subject_access(
    review: &Value,
    user: &User,
    decide: Decide<'_>,
) -> Result<Value, ReviewError> {
    let mut mistakes = review_spec::question(&review["spec"]);
    mistakes.extend(review_spec::metadata(review, None));
    finish(mistakes)?;
    Ok(answered(review, access_status(&review["spec"], user, decide)))
}

/// `SubjectAccessReview`: may somebody?
pub fn subject_access(review: &Value, decide: Decide<'_>) -> Result<Value, ReviewError> {
    let spec = &review["spec"];
    let mut mistakes = review_spec::subject_question(spec);
    mistakes.extend(review_spec::metadata(review, None));
    finish(mistakes)?;
    Ok(answered(review, access_status(spec, &subject(spec), decide)))
}

/// `LocalSubjectAccessReview`: may somebody, in the namespace of the path?
pub fn local_subject_access(
    review: &Value,
    namespace: &str,
    decide: Decide<'_>,
) -> Result<Value, ReviewError> {
    let spec = &review["spec"];
    let mut mistakes = review_spec::subject_question(spec);
    mistakes.extend(review_spec::metadata(review, Some(namespace)));
    mistakes.extend(review_spec::local(spec, namespace));
    finish(mistakes)?;
    Ok(answered(review, access_status(spec, &subject(spec), decide)))
}

/// `SelfSubjectRulesReview`: what may I in a namespace? `rules`, `incomplete`: from [`super::authorizer::Authorizer::rules`].
pub fn self_subject_rules(
    review: &Value,
    rules: &[Rule],
    incomplete: bool,
) -> Result<Value, ReviewError> {
    if text(&review["spec"]["namespace"]).is_empty() {
        return Err(ReviewError::BadRequest("no namespace on request".to_owned()));
    }
    let listed = |paths: bool| -> Vec<Value> {
        let chosen = rules.iter().filter(|rule| paths != rule.paths.is_empty());
        chosen.map(Rule::to_json).collect()
    };
    let mut status = json!({
        "resourceRules": listed(false),
        "nonResourceRules": listed(true),
        "incomplete": incomplete,
    });
    if incomplete {
        status["evaluationError"] = json!("node authorizer does not support user rule resolution");
    }
    Ok(answered(review, status))
}

/// `SelfSubjectReview`: who am I?
pub fn self_subject(review: &Value, user: &User) -> Value {
    answered(review, json!({"userInfo": user.to_json()}))
}

/// The token and the audiences that a `TokenReview` asks about.
pub fn token_question(review: &Value) -> Result<(String, Vec<String>), ReviewError> {
    let token = text(&review["spec"]["token"]);
    if token.is_empty() {
        let why = "token is required for TokenReview in authentication";
        return Err(ReviewError::BadRequest(why.to_owned()));
    }
    Ok((token.to_owned(), texts(&review["spec"]["audiences"])))
}

/// `TokenReview`: whose token is this? `found`: from [`super::authenticate::Authenticator::token`].
pub fn token(review: &Value, found: &Result<Verified, Unauthenticated>) -> Value {
    let status = match found {
        Ok(Verified { user, audiences }) => {
            json!({"authenticated": true, "user": user.to_json(), "audiences": audiences})
        }
        Err(Unauthenticated::Unknown) => json!({"user": {}}),
        Err(error) => json!({"user": {}, "error": error.to_string()}),
    };
    let mut answer = answered(review, status);
    // The token is a secret, and answers are logged.
    if let Some(spec) = answer.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("token");
    }
    answer
}

fn access_status(spec: &Value, user: &User, decide: Decide<'_>) -> Value {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let decision = if resource.is_object() {
        let it = Resource {
            group: text(&resource["group"]),
            resource: text(&resource["resource"]),
            subresource: text(&resource["subresource"]),
            namespace: text(&resource["namespace"]),
            name: text(&resource["name"]),
        };
        decide(&Attributes::on(user, text(&resource["verb"]), it))
    } else {
        decide(&Attributes::at(user, text(&path["verb"]), text(&path["path"])))
    };
    let mut status = json!({"allowed": decision.is_allowed()});
    if let Decision::Deny(_) = decision {
        status["denied"] = json!(true);
    }
    if !decision.reason().is_empty() {
        status["reason"] = json!(decision.reason());
    }
    status
}

fn finish(mistakes: Vec<FieldError>) -> Result<(), ReviewError> {
    if mistakes.is_empty() { Ok(()) } else { Err(ReviewError::Invalid(mistakes)) }
}

/// The user that a review describes.
fn subject(spec: &Value) -> User {
    let extra = spec["extra"].as_object().into_iter().flatten();
    let extra: BTreeMap<_, _> =
        extra.map(|(key, values)| (key.to_lowercase(), texts(values))).collect();
    User {
        name: text(&spec["user"]).to_owned(),
        uid: text(&spec["uid"]).to_owned(),
        groups: texts(&spec["groups"]),
        extra,
    }
}

fn answered(review: &Value, status: Value) -> Value {
    let mut answer = review.clone();
    answer["status"] = status;
    answer
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allows ada to get pods in `dev` and the path `/metrics`, denies eve everything.
    fn decide(attributes: &Attributes<'_>) -> Decision {
        let pods = Resource { resource: "pods", namespace: "dev", ..Resource::default() };
        let user = attributes.user;
        let known = user.name == "ada" || user.is_in("ops");
        if user.name == "eve" {
            return Decision::Deny("not eve".to_owned());
        }
        let asked = [Attributes::on(user, "get", pods), Attributes::at(user, "get", "/metrics")];
        if known && asked.contains(attributes) {
            return Decision::Allow("because".to_owned());
        }
        Decision::NoOpinion(String::new())
    }

    fn pods(namespace: &str) -> Value {
        json!({"verb": "get", "resource": "pods", "namespace": namespace, "version": "v1"})
    }

    #[test]
    fn may_i_and_may_somebody() {
        let ada = User::new("ada", []);
        let ask = |spec: Value| {
            let answer = self_subject_access(
                &json!({"kind": "SelfSubjectAccessReview", "spec": spec}),
                &ada,
                &decide,
            )
            .unwrap();
            assert_eq!(answer["kind"], "SelfSubjectAccessReview");
            answer["status"].clone()
        };
        assert_eq!(
            ask(json!({"resourceAttributes": pods("dev")})),
            json!({"allowed": true, "reason": "because"})
        );
        assert_eq!(ask(json!({"resourceAttributes": pods("prod")})), json!({"allowed": false}));
        let path = json!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}});
        assert_eq!(ask(path)["allowed"], true);
        let other = |spec: Value| {
            subject_access(&json!({"spec": spec}), &decide).map(|answer| answer["status"].clone())
        };
        let group = json!({"groups": ["ops"], "resourceAttributes": pods("dev")});
        assert_eq!(other(group).unwrap()["allowed"], true);
        let eve = json!({"user": "eve", "resourceAttributes": pods("dev")});
        assert_eq!(
            other(eve).unwrap(),
            json!({"allowed": false, "denied": true, "reason": "not eve"})
        );
    }

    #[test]
    fn questions_that_are_none_are_refused_as_upstream() {
        let refuse =
            |spec: Value| subject_access(&json!({"spec": spec}), &decide).unwrap_err().to_string();
        assert_eq!(
            refuse(json!({"user": "x"})),
            r#"spec.resourceAttributes: Invalid value: "null": exactly one of nonResourceAttributes or resourceAttributes must be specified"#
        );
        assert_eq!(
            refuse(json!({"resourceAttributes": pods("dev")})),
            r#"spec.user: Invalid value: "": at least one of user or group must be specified"#
        );
        let both = json!({"user": "x", "resourceAttributes": {}, "nonResourceAttributes": {}});
        assert_eq!(
            refuse(both),
            r#"spec.nonResourceAttributes: Invalid value: authorization.NonResourceAttributes{Path:"", Verb:""}: cannot be specified in combination with resourceAttributes"#
        );
        let local = |spec: Value| local_subject_access(&json!({"spec": spec}), "dev", &decide);
        let fine = local(json!({"user": "ada", "resourceAttributes": pods("dev")})).unwrap();
        assert_eq!(fine["status"]["allowed"], true);
        let refused =
            local(json!({"user": "ada", "resourceAttributes": pods("prod")})).unwrap_err();
        assert_eq!(
            refused.to_string(),
            r#"spec.resourceAttributes.namespace: Invalid value: "prod": must match metadata.namespace"#
        );
    }

    #[test]
    fn my_rules_and_who_i_am() {
        let rules = Rule::everything();
        let review = json!({"spec": {"namespace": "dev"}});
        let answer = self_subject_rules(&review, &rules, false).unwrap();
        assert_eq!(
            answer["status"],
            json!({
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": false,
            })
        );
        assert!(self_subject_rules(&json!({"spec": {}}), &rules, false).is_err());
        assert_eq!(self_subject_rules(&review, &[], true).unwrap()["status"]["incomplete"], true);
        let me = self_subject(&json!({"kind": "SelfSubjectReview"}), &User::new("ada", ["dev"]));
        assert_eq!(me["status"]["userInfo"], json!({"username": "ada", "groups": ["dev"]}));
    }

    #[test]
    fn whose_token_and_the_token_is_not_said_again() {
        let review = json!({"spec": {"token": "secret", "audiences": ["a"]}});
        assert_eq!(token_question(&review).unwrap(), ("secret".to_owned(), vec!["a".to_owned()]));
        assert!(token_question(&json!({"spec": {}})).is_err());
        let verified = Verified { user: User::new("ada", []), audiences: vec!["a".to_owned()] };
        let good = token(&review, &Ok(verified));
        assert_eq!(
            good["status"],
            json!({"authenticated": true, "user": {"username": "ada"}, "audiences": ["a"]})
        );
        assert_eq!(good["spec"], json!({"audiences": ["a"]}));
        let error = super::super::token::service_account::TokenError::Expired(5);
        let bad = token(&review, &Err(error.into()));
        assert_eq!(bad["status"]["error"], "service account token has expired (at 5)");
        assert!(bad["status"]["authenticated"].is_null());
    }
}
