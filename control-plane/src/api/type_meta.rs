//! What a body says of its own type and place, beside what its path says.

use serde_json::{Value, json};

use super::Place;
use super::status::Status;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::object::Meta;
use crate::registry::Kind;
use crate::schema::definitions::Definitions;

/// What kube-apiserver calls the set of its kinds.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";

/// A body is an object that says nothing of its type, or the right one, which it has afterwards.
pub fn of_kind(object: &mut Value, api_version: &str, kind: &str) -> Result<(), Status> {
    if !object.is_object() {
        return Err(Status::bad_request(format!("the body must be a {kind} object")));
    }
    let said =
        |field: &str| object.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (said_version, said_kind) =
        (said("apiVersion").unwrap_or(api_version), said("kind").unwrap_or(kind));
    if said_kind != kind {
        return Err(Status::bad_request(of_other_kind(
            (said_version, said_kind),
            api_version,
            kind,
        )));
    }
    if said_version != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({said_version}) does not match the expected API version ({api_version})"
        )));
    }
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    Ok(())
}

/// Why an object cannot be one of another kind: Kubernetes tries to convert it if there is such a kind.
fn of_other_kind((version, kind): (&str, &str), api_version: &str, expected: &str) -> String {
    let (group, short) = version.rsplit_once('/').unwrap_or(("", version));
    let why = if Definitions::kubernetes().kind(group, short, kind).is_some() {
        let package = package(api_version);
        format!("converting ({short}.{kind}) to ({package}.{expected}): unknown conversion")
    } else {
        format!("no kind {kind:?} is registered for version {version:?} in scheme {SCHEME:?}")
    };
    format!("{kind} in version {short:?} cannot be handled as a {expected}: {why}")
}

/// The package of Go in which kube-apiserver has the kinds of a group.
fn package(api_version: &str) -> &str {
    match api_version.split_once('/').map_or("", |(group, _)| group) {
        // events have one type, whichever group shows them
        "" | "events.k8s.io" => "core",
        group => group.split('.').next().unwrap_or(group),
    }
}

/// The same of an object at a place.
pub fn of_place(object: &mut Value, place: &Place) -> Result<(), Status> {
    if place.kind.custom.is_some() {
        of_custom_kind(object, &place.kind)
    } else {
        of_kind(object, &place.kind.api_version(), &place.kind.kind)
    }
}

/// The type of an object of a custom kind is a field like any other.
fn of_custom_kind(object: &mut Value, kind: &Kind) -> Result<(), Status> {
    let said = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let other = said("kind");
    if object.is_object() && !other.is_empty() && *other != *kind.kind {
        let at = FieldPath::root("kind");
        let error = FieldError::invalid(at, &json!(other), format!("must be {}", kind.kind));
        return Err(Status::invalid(kind, Meta::of(object).name(), &[error]));
    }
    of_kind(object, &kind.api_version(), &kind.kind)
}

/// The name and the namespace of an object that replaces the one at a place.
pub fn check_name(place: &Place, object: &Value) -> Result<(), Status> {
    let meta = Meta::of(object);
    let (name, namespace) = (meta.name(), meta.namespace());
    let refused = if name.is_empty() {
        format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            place.name
        )
    } else if name != place.name {
        format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            place.name
        )
    } else if place.kind.namespaced && !namespace.is_empty() && namespace != place.namespace {
        format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            place.namespace
        )
    } else {
        return Ok(());
    };
    Err(Status::bad_request(refused))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_body_of_another_type_is_told_as_in_kubernetes() {
        for (said_version, said_kind, version, expected) in [
            ("", "", "v1", ""),
            ("v1", "ConfigMap", "v1", ""),
            (
                "apps/v1",
                "Deployment",
                "v1",
                r#"Deployment in version "v1" cannot be handled as a ConfigMap: converting (v1.Deployment) to (core.ConfigMap): unknown conversion"#,
            ),
            (
                "",
                "Pod",
                "v1",
                r#"Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion"#,
            ),
            (
                "example.org/v2",
                "Loom",
                "v1",
                r#"Loom in version "v2" cannot be handled as a ConfigMap: no kind "Loom" is registered for version "example.org/v2" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
            ),
            (
                "v2",
                "ConfigMap",
                "v1",
                "the API version in the data (v2) does not match the expected API version (v1)",
            ),
            (
                "v1",
                "Pod",
                "rbac.authorization.k8s.io/v1",
                r#"Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (rbac.ConfigMap): unknown conversion"#,
            ),
        ] {
            let mut object = json!({"apiVersion": said_version, "kind": said_kind});
            match of_kind(&mut object, version, "ConfigMap") {
                Ok(()) => assert_eq!(
                    (expected, object),
                    ("", json!({"apiVersion": version, "kind": "ConfigMap"}))
                ),
                Err(status) => assert_eq!((status.code(), status.message()), (400, expected)),
            }
        }
        let status = of_kind(&mut json!([]), "v1", "Scale").unwrap_err();
        assert_eq!(status.message(), "the body must be a Scale object");
    }

    #[test]
    fn what_replaces_an_object_is_called_like_it() {
        let kind = Arc::new(Kind::new("", "v1", "ConfigMap", "configmaps"));
        let place = Place { kind, namespace: "d".to_owned(), name: "m".to_owned() };
        for (name, namespace, expected) in [
            ("m", "", ""),
            ("m", "d", ""),
            (
                "",
                "d",
                "the name of the object (m based on URL) was undeterminable: name must be provided",
            ),
            ("n", "d", "the name of the object (n) does not match the name on the URL (m)"),
            (
                "m",
                "e",
                "the namespace of the object (e) does not match the namespace on the request (d)",
            ),
        ] {
            let object = json!({"metadata": {"name": name, "namespace": namespace}});
            let told = check_name(&place, &object).err();
            assert_eq!(told.as_ref().map_or("", Status::message), expected);
        }
    }
}
