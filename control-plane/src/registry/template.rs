//! What kinds share that keep pods by a template. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use serde_json::Value;

use super::column::text;
use crate::meta::findings::{Findings, Spot};
use crate::meta::selector::{self, Selector};

/// A label selector must select something, be well formed, and select the template's own labels.
pub fn selector_of_template(object: &Value, findings: &mut Findings) {
    let spec = Spot::root(object).field("spec");
    let asked = spec.field("selector");
    if asked.is_absent() {
        findings.required(&asked, "");
        return;
    }
    let wrong = selector::validate(asked.value, &asked.path);
    let parsed = Selector::from_object(asked.value);
    if wrong.is_empty() && parsed.as_ref().is_ok_and(Selector::is_everything) {
        let kind = text(object, "/kind").to_lowercase();
        findings.invalid(&asked, format!("empty selector is invalid for {kind}"));
    } else if wrong.is_empty() {
        let labels = spec.pointer("/template/metadata/labels");
        if !parsed.is_ok_and(|selector| selector.matches_labels(labels.value)) {
            findings.invalid(&labels, "`selector` does not match template `labels`");
        }
    }
    findings.extend(wrong);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_must_select_its_template() {
        let deployment = |selector: Value| {
            let object = json!({"spec": {"selector": selector, "template": {"metadata": {"labels": {"app": "web"}}}}});
            let mut findings = Findings::default();
            selector_of_template(&object, &mut findings);
            findings.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(deployment(json!({"matchLabels": {"app": "web"}})).is_empty());
        assert!(
            deployment(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}))
                .is_empty()
        );
        assert_eq!(
            deployment(json!({"matchLabels": {"app": "db"}})),
            [
                r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#
            ]
        );
        assert_eq!(deployment(Value::Null), ["spec.selector: Required value"]);
        assert_eq!(
            deployment(json!({"matchExpressions": [{"key": "app", "operator": "Like"}]})),
            [
                r#"spec.selector.matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator"#
            ]
        );
    }
}
