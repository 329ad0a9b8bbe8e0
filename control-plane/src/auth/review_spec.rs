//! What is wrong with a question about who may do what, in the words of `k8s.io/kubernetes/pkg/apis/authorization/validation`.

use serde_json::{Value, json};

use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value::NON_RESOURCE;
use crate::meta::selector::requirement_mistakes;

/// What is asked: of a resource or of a path.
pub fn question(spec: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    check_question(spec, &mut findings);
    check_selectors(spec, &mut findings);
    findings.into_vec()
}

/// What is asked about somebody.
pub fn subject_question(spec: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    check_question(spec, &mut findings);
    let of = Spot::at(spec, FieldPath::root("spec"));
    let (user, groups) = (of.field("user"), of.field("groups"));
    if user.is_empty() && groups.is_empty() {
        let nobody = json!("");
        let nobody = Spot::at(&nobody, user.path);
        findings.invalid(&nobody, "at least one of user or group must be specified");
    }
    check_selectors(spec, &mut findings);
    findings.into_vec()
}

/// A question is not kept, so that it has no metadata; one in a namespace says which.
pub fn metadata(review: &Value, namespace: Option<&str>) -> Option<FieldError> {
    let mut rest = review["metadata"].as_object().cloned().unwrap_or_default();
    let empty = [json!(null), json!(""), json!({}), json!([])];
    rest.retain(|field, value| {
        let own = field == "namespace" && namespace.is_some();
        !own && field != "managedFields" && !empty.contains(value)
    });
    let why =
        if namespace.is_some() { "must be empty except for namespace" } else { "must be empty" };
    let at = FieldPath::root("metadata");
    (!rest.is_empty()).then(|| FieldError::invalid(at, &review["metadata"], why))
}

/// What a question in a namespace is about.
pub fn local(spec: &Value, namespace: &str) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let of = Spot::at(spec, FieldPath::root("spec"));
    let resource = of.field("resourceAttributes");
    let path = of.field("nonResourceAttributes").of(&NON_RESOURCE);
    let asked = resource.field("namespace");
    if resource.is_there() && asked.text() != namespace {
        let shown = json!(asked.text());
        findings.invalid(&Spot::at(&shown, asked.path), "must match metadata.namespace");
    }
    if path.is_there() {
        findings.invalid(&path, "disallowed on this kind of request");
    }
    findings.into_vec()
}

fn check_question(spec: &Value, findings: &mut Findings) {
    let of = Spot::at(spec, FieldPath::root("spec"));
    let resource = of.field("resourceAttributes");
    let path = of.field("nonResourceAttributes").of(&NON_RESOURCE);
    match (resource.is_there(), path.is_there()) {
        (true, true) => {
            findings.invalid(&path, "cannot be specified in combination with resourceAttributes");
        }
        (false, false) => findings.invalid(
            &resource,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
}

/// Which objects of a resource are meant. Operators that nobody knows are let pass: they narrow nothing.
fn check_selectors(spec: &Value, findings: &mut Findings) {
    let resource = Spot::at(spec, FieldPath::root("spec")).field("resourceAttributes");
    for (field, labels) in [("fieldSelector", false), ("labelSelector", true)] {
        let selector = resource.field(field);
        if selector.is_absent() {
            continue;
        }
        let (raw, requirements) = (selector.field("rawSelector"), selector.field("requirements"));
        match (raw.is_empty(), requirements.is_empty()) {
            (false, false) => {
                findings.invalid(&raw, "may not specified at the same time as requirements");
            }
            (true, true) => {
                let path = &selector.path;
                let why =
                    format!("when {path} is specified, requirements or rawSelector is required");
                findings.required(&requirements, why);
            }
            _ => {}
        }
        for one in requirements.items() {
            let operator = one.field("operator").path;
            let found = requirement_mistakes(one.value, &one.path);
            let keys = one.field("key").path;
            findings.extend(
                found.into_iter().filter(|it| it.path != operator && (labels || it.path != keys)),
            );
            if !labels && one.field("key").is_empty() {
                findings.required(&one.field("key"), "must be specified");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mistakes: impl IntoIterator<Item = FieldError>) -> Vec<String> {
        mistakes.into_iter().map(|one| one.to_string()).collect()
    }

    #[test]
    fn selectors_say_which_objects_are_meant() {
        let ask = |field: &str, selector: Value| {
            told(question(&json!({"resourceAttributes": {"resource": "pods", field: selector}})))
        };
        let one = |operator: &str, values: Value| json!({"requirements": [{"key": "a", "operator": operator, "values": values}]});
        for (field, selector, expected) in [
            ("fieldSelector", json!({"rawSelector": "a=b"}), ""),
            ("labelSelector", one("In", json!(["b"])), ""),
            ("labelSelector", one("Like", json!([])), ""),
            (
                "labelSelector",
                one("In", json!([])),
                "requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            ),
            (
                "fieldSelector",
                one("Exists", json!(["b"])),
                "requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            (
                "fieldSelector",
                json!({}),
                "requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
            ),
            (
                "fieldSelector",
                json!({"requirements": [{"operator": "Exists"}]}),
                "requirements[0].key: Required value: must be specified",
            ),
            (
                "labelSelector",
                json!({"rawSelector": "a", "requirements": [{"key": "a", "operator": "Exists"}]}),
                "rawSelector: Invalid value: \"a\": may not specified at the same time as requirements",
            ),
        ] {
            let found = ask(field, selector);
            let expected: Vec<String> = [expected]
                .iter()
                .filter(|one| !one.is_empty())
                .map(|one| format!("spec.resourceAttributes.{field}.{one}"))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_question_has_no_metadata() {
        let of = |metadata: Value| json!({"metadata": metadata});
        let empty = of(json!({"creationTimestamp": null, "managedFields": [{}]}));
        assert_eq!(metadata(&empty, None), None);
        assert_eq!(metadata(&of(json!({"namespace": "dev"})), Some("dev")), None);
        assert_eq!(
            told(metadata(&of(json!({"name": "a"})), Some("dev"))),
            [r#"metadata: Invalid value: {"name":"a"}: must be empty except for namespace"#]
        );
        assert_eq!(
            told(metadata(&of(json!({"namespace": "dev"})), None)),
            [r#"metadata: Invalid value: {"namespace":"dev"}: must be empty"#]
        );
        assert_eq!(
            told(local(&json!({"nonResourceAttributes": {"path": "/"}}), "dev")),
            [
                r#"spec.nonResourceAttributes: Invalid value: authorization.NonResourceAttributes{Path:"/", Verb:""}: disallowed on this kind of request"#
            ]
        );
    }
}
