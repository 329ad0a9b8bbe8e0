//! What is logged of a request.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Decision, Level, Stage};
use crate::auth::User;
use crate::auth::attributes::{Attributes, Target};

/// A request as it is known from its beginning.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// The same in all stages of a request, and in the header `Audit-Id` of the answer.
    pub id: &'a str,
    /// Path and query.
    pub uri: &'a str,
    /// Who asks, what for; the user is who is impersonated, where somebody is.
    pub attributes: Attributes<'a>,
    /// Who impersonates.
    pub impersonator: Option<&'a User>,
    /// The API version of the resource, such as `v1`.
    pub version: &'a str,
    /// Where it comes from, the client first.
    pub sources: &'a [IpAddr],
    /// The header `User-Agent`.
    pub agent: &'a str,
    /// When it arrived.
    pub received: Timestamp,
    /// What others want to have noted, such as the authorizer's decision and reason.
    pub annotations: &'a BTreeMap<String, String>,
}

/// A stage of a request.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// The request.
    pub exchange: &'a Exchange<'a>,
    /// The stage.
    pub stage: Stage,
    /// When it was reached.
    pub time: Timestamp,
    /// The HTTP status code, when there is one already.
    pub code: Option<u16>,
    /// What was sent.
    pub request: Option<&'a Value>,
    /// What was answered: an object, or a `Status`.
    pub response: Option<&'a Value>,
}

impl Event<'_> {
    /// As `audit.k8s.io/v1 Event`, with as much as was decided.
    pub fn to_json(&self, decision: &Decision) -> Value {
        let Exchange { id, uri, attributes, impersonator, agent, received, .. } = self.exchange;
        let sources: Vec<_> = self.exchange.sources.iter().map(ToString::to_string).collect();
        let mut event = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": format!("{:?}", decision.level),
            "auditID": id,
            "stage": format!("{:?}", self.stage),
            "requestURI": uri,
            "verb": attributes.verb,
            "user": impersonator.unwrap_or(attributes.user).to_json(),
            "sourceIPs": sources,
            "userAgent": agent,
            "requestReceivedTimestamp": micros(*received),
            "stageTimestamp": micros(self.time),
        });
        let mut add = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                event[field] = value;
            }
        };
        add("impersonatedUser", impersonator.map(|_| attributes.user.to_json()));
        add("objectRef", self.object());
        add("responseStatus", self.code.map(|code| self.status(code)));
        let annotations = self.exchange.annotations;
        add("annotations", (!annotations.is_empty()).then(|| json!(annotations)));
        let shown = |body: Option<&Value>, least: Level| {
            let body = body.filter(|_| decision.level >= least)?;
            Some(trimmed(body, decision.omit_managed_fields))
        };
        add("requestObject", shown(self.request, Level::Request));
        add("responseObject", shown(self.response, Level::RequestResponse));
        event
    }

    fn object(&self) -> Option<Value> {
        let Target::Resource(it) = self.exchange.attributes.target else { return None };
        // What is created without a name in its path has one afterwards.
        let metadata = |body: Option<&Value>, field: &str| {
            body.and_then(|body| body["metadata"][field].as_str()).unwrap_or_default().to_owned()
        };
        let made = metadata(self.response.filter(|body| body["kind"] != "Status"), "name");
        let name = [it.name.to_owned(), made, metadata(self.request, "name")];
        let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let pairs = [
            ("resource", it.resource),
            ("namespace", it.namespace),
            ("name", name.as_str()),
            ("apiGroup", it.group),
            ("apiVersion", self.exchange.version),
            ("subresource", it.subresource),
        ];
        let filled = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        Some(
            filled
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        )
    }

    /// How it ended; of a `Status` also its words, never its details, which may hold what was sent.
    fn status(&self, code: u16) -> Value {
        let mut status = json!({"metadata": {}, "code": code});
        if let Some(body) = self.response.filter(|body| body["kind"] == "Status") {
            for field in ["status", "message", "reason"] {
                if body[field].is_string() {
                    status[field] = body[field].clone();
                }
            }
        }
        status
    }
}

fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// A body of any shape (a JSON patch is a list) without managed fields, those of a list's items included.
fn trimmed(body: &Value, omit: bool) -> Value {
    let mut body = body.clone();
    if omit {
        trim(&mut body);
    }
    body
}

fn trim(body: &mut Value) {
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let items = body.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        if let Some(metadata) = item.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::attributes::Resource;
    use crate::auth::audit::Policy;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 1_500);

    fn line(level: &str, impersonator: Option<&User>) -> Value {
        let text = format!(
            "{{apiVersion: audit.k8s.io/v1, kind: Policy, omitManagedFields: true, rules: [{{level: {level}}}]}}"
        );
        let policy = Policy::parse(&text).unwrap();
        let user = User::new("ada", ["dev"]);
        let it = Resource {
            group: "apps",
            resource: "deployments",
            namespace: "dev",
            ..Resource::default()
        };
        let annotations =
            BTreeMap::from([("authorization.k8s.io/decision".to_owned(), "allow".to_owned())]);
        let exchange = Exchange {
            id: "1-2",
            uri: "/apis/apps/v1/namespaces/dev/deployments?x=y",
            attributes: Attributes::on(&user, "create", it),
            impersonator,
            version: "v1",
            sources: &["192.0.2.1".parse().unwrap()],
            agent: "kubectl",
            received: NOW,
            annotations: &annotations,
        };
        let request = json!({"metadata": {"generateName": "web-", "managedFields": []}});
        let response = json!({"kind": "List", "metadata": {"name": "web-1"}, "items": [{"metadata": {"managedFields": [1]}}]});
        let event = Event {
            exchange: &exchange,
            stage: Stage::ResponseComplete,
            time: NOW,
            code: Some(201),
            request: Some(&request),
            response: Some(&response),
        };
        event.to_json(&policy.decide(&exchange.attributes))
    }

    #[test]
    fn a_line_says_who_what_when_and_how_it_ended() {
        assert_eq!(
            line("Metadata", None),
            json!({
                "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "1-2",
                "stage": "ResponseComplete", "requestURI": "/apis/apps/v1/namespaces/dev/deployments?x=y",
                "verb": "create", "user": {"username": "ada", "groups": ["dev"]}, "sourceIPs": ["192.0.2.1"],
                "userAgent": "kubectl",
                "objectRef": {"resource": "deployments", "namespace": "dev", "name": "web-1", "apiGroup": "apps", "apiVersion": "v1"},
                "responseStatus": {"metadata": {}, "code": 201},
                "requestReceivedTimestamp": "2027-01-15T08:00:00.000001Z", "stageTimestamp": "2027-01-15T08:00:00.000001Z",
                "annotations": {"authorization.k8s.io/decision": "allow"},
            })
        );
    }

    #[test]
    fn bodies_of_any_shape_are_trimmed() {
        for body in
            [json!([{"op": "add"}]), json!("x"), json!(null), json!({"items": [1], "metadata": 2})]
        {
            assert_eq!(trimmed(&body, true), body);
        }
    }

    #[test]
    fn bodies_are_there_as_far_as_was_decided() {
        let request = line("Request", None);
        assert_eq!(request["requestObject"], json!({"metadata": {"generateName": "web-"}}));
        assert!(request["responseObject"].is_null());
        let both = line("RequestResponse", None);
        assert_eq!(
            both["responseObject"],
            json!({"kind": "List", "metadata": {"name": "web-1"}, "items": [{"metadata": {}}]})
        );
        let root = User::new("root", []);
        let other = line("Metadata", Some(&root));
        assert_eq!(other["user"]["username"], "root");
        assert_eq!(other["impersonatedUser"]["username"], "ada");
    }
}
