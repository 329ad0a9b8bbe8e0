use super::*;
use crate::meta::field_error::FieldPath;

#[test]
fn sentences_and_details_are_those_of_kubernetes() {
    let pods = Kind::new("", "v1", "Pod", "pods");
    let deployments = Kind::new("apps", "v1", "Deployment", "deployments");
    let missing = Status::not_found(&pods, "x");
    assert_eq!(
        missing.to_value(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "pods \"x\" not found", "reason": "NotFound",
            "details": {"name": "x", "kind": "pods"}, "code": 404,
        })
    );
    assert_eq!(
        Status::modified(&deployments, "web").message(),
        "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply your changes to the latest version and try again"
    );
    assert_eq!(Status::too_many_requests("slow down", 3).retry_after(), Some(3));
}

/// A status, its code, its reason, its sentence and its details; null for none.
type Row = (Status, u16, &'static str, &'static str, Value);

fn each_is_as_told<const MANY: usize>(rows: [Row; MANY]) {
    for (status, code, reason, sentence, details) in rows {
        let mut expected = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": sentence, "reason": reason, "code": code,
        });
        if !details.is_null() {
            expected["details"] = details;
        }
        assert_eq!(status.to_value(), expected);
    }
}

#[test]
fn what_cannot_be_had_is_told_as_in_kubernetes() {
    let pods = Kind::new("", "v1", "Pod", "pods");
    let roles = Kind::new("rbac.authorization.k8s.io", "v1", "Role", "roles");
    each_is_as_told([
        (
            Status::already_exists(&roles, "x"),
            409,
            "AlreadyExists",
            "roles.rbac.authorization.k8s.io \"x\" already exists",
            json!({"name": "x", "group": "rbac.authorization.k8s.io", "kind": "roles"}),
        ),
        (
            Status::conflict(&pods, "x", "it moved"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on pods \"x\": it moved",
            json!({"name": "x", "kind": "pods"}),
        ),
        (
            Status::forbidden(&pods, "", "no"),
            403,
            "Forbidden",
            "pods is forbidden: no",
            json!({"kind": "pods"}),
        ),
        (
            Status::denied("forbidden: User \"x\" cannot get path \"/\"", json!({})),
            403,
            "Forbidden",
            "forbidden: User \"x\" cannot get path \"/\"",
            json!({}),
        ),
        (Status::unauthorized(), 401, "Unauthorized", "Unauthorized", Value::Null),
        (
            Status::method_not_allowed(&pods, "create"),
            405,
            "MethodNotAllowed",
            "create is not supported on resources of kind \"pods\"",
            json!({"kind": "pods"}),
        ),
        (
            Status::no_such_resource(),
            404,
            "NotFound",
            "the server could not find the requested resource",
            json!({}),
        ),
    ]);
}

#[test]
fn what_cannot_be_done_is_told_as_in_kubernetes() {
    each_is_as_told([
        (
            Status::unsupported_media_type(&["application/json", "application/yaml"]),
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
            Value::Null,
        ),
        (
            Status::not_acceptable(&["application/json"]),
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
            Value::Null,
        ),
        (Status::expired("too old"), 410, "Expired", "too old", Value::Null),
        (
            Status::too_large_resource_version(9, 7),
            504,
            "Timeout",
            "Timeout: Too large resource version: 9, current: 7",
            json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            }),
        ),
        (
            Status::too_many_requests("slow down", 3),
            429,
            "TooManyRequests",
            "slow down",
            json!({"retryAfterSeconds": 3}),
        ),
        (Status::timeout("slow"), 504, "Timeout", "Timeout: slow", Value::Null),
        (
            Status::too_large(3_145_728),
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3145728",
            Value::Null,
        ),
        (Status::unavailable("later"), 503, "ServiceUnavailable", "later", Value::Null),
        (
            Status::internal("oh"),
            500,
            "InternalError",
            "Internal error occurred: oh",
            json!({"causes": [{"message": "oh"}]}),
        ),
    ]);
}

#[test]
fn every_mistake_of_an_object_is_a_cause() {
    let deployments = Kind::new("apps", "v1", "Deployment", "deployments");
    let errors = [
        FieldError::new(FieldPath::root("metadata").field("name"), Mistake::Required, ""),
        FieldError::new(FieldPath::root("spec"), Mistake::Invalid(json!(1)), "no"),
        FieldError::new(FieldPath::root("spec"), Mistake::Invalid(json!(1)), "no"),
    ];
    let invalid = Status::invalid(&deployments, "web", &errors);
    assert_eq!(
        invalid.message(),
        "Deployment.apps \"web\" is invalid: [metadata.name: Required value, spec: Invalid value: 1: no]"
    );
    let value = invalid.to_value();
    assert_eq!(value["details"]["causes"][0]["reason"], "FieldValueRequired");
    assert_eq!(value["details"]["kind"], "Deployment");
    assert_eq!(value["details"]["causes"].as_array().map(Vec::len), Some(3));
    let twice = Status::invalid(&deployments, "web", &errors[1..]);
    assert_eq!(twice.message(), "Deployment.apps \"web\" is invalid: spec: Invalid value: 1: no");
}
