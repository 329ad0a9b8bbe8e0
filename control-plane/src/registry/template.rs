//! What kinds share that keep pods by a template. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use serde_json::Value;

use super::column::name;
use super::podspec::template_warnings;
use crate::meta::field_error::{FieldError, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;
use crate::meta::name::dns_label;
use crate::meta::object::Meta;
use crate::meta::selector::{self, Selector};

/// What a kind says of its selector.
#[derive(Clone, Copy, Debug)]
pub struct Selecting {
    /// That it is absent.
    pub required: bool,
    /// Of whom it may not select everything; `None`: it may.
    pub everything: Option<&'static str>,
    /// That it cannot be read, besides what is wrong with its parts.
    pub broken: Option<&'static str>,
}

/// A label selector must select something, be well formed, and select the template's own labels.
pub fn selector_of_template(object: &Value, selecting: Selecting, findings: &mut Findings) {
    let spec = Spot::root(object).field("spec");
    let asked = spec.field("selector").of(&go_value::LABEL_SELECTOR);
    let labels = spec.pointer("/template/metadata/labels").of(&go_value::LABELS);
    if asked.is_absent() && selecting.required {
        findings.required(&asked, "");
    }
    findings.extend(selector::validate(asked.value, &asked.path));
    let parsed = Selector::from_object(asked.value);
    if parsed.as_ref().is_ok_and(Selector::is_everything)
        && let Some(kind) = selecting.everything
    {
        findings.invalid(&asked, format!("empty selector is invalid for {kind}"));
    }
    match (parsed, selecting.broken) {
        (Ok(selector), _) if !selector.matches_labels(labels.value) => {
            findings.invalid(&labels, "`selector` does not match template `labels`");
        }
        (Err(_), Some(why)) => findings.invalid(&asked, why),
        _ => {}
    }
}

/// Which pods belong to an object is for good.
pub fn selector_stays(object: &Value, old: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let of = |object| Spot::root(object).pointer("/spec/selector").of(&go_value::LABEL_SELECTOR);
    findings.immutable(&of(object), &of(old));
    findings.into_vec()
}

/// How pods are replaced is one of a few ways; of another one all that is said of it is told.
pub fn check_strategy_type(strategy: &Spot<'_>, known: [&str; 2], findings: &mut Findings) {
    if !known.contains(&strategy.field("type").text()) {
        let known = known.map(str::to_owned).to_vec();
        let mistake = Mistake::NotSupported(strategy.value.clone(), known);
        findings.add(FieldError::new(strategy.path.clone(), mistake, ""));
    }
}

/// What there is to tell of the name of a new object after which pods are called.
pub fn name_warning(object: &Value) -> Option<String> {
    label_warning(object, "Pod names and hostnames")
}

/// What there is to tell of a new object whose name should be a label because it is used in these.
pub fn label_warning(object: &Value, used_in: &str) -> Option<String> {
    let why = dns_label(name(object));
    (!why.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            why.join(" ")
        )
    })
}

/// The object is new, or its spec is: what was told of before is not told with every change of a label.
pub fn is_news(object: &Value, old: Option<&Value>) -> bool {
    old.is_none_or(|old| Meta::of(old).generation() != Meta::of(object).generation())
}

/// What there is to tell of a workload: of its name when it is made, of its template when its spec is new.
pub fn workload_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut told: Vec<String> =
        old.is_none().then(|| name_warning(object)).flatten().into_iter().collect();
    if is_news(object, old) {
        told.extend(template_warnings(object, "/spec/template"));
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const STRICT: Selecting = Selecting {
        required: true,
        everything: Some("web"),
        broken: Some("invalid label selector"),
    };

    #[test]
    fn a_selector_must_select_its_template() {
        let deployment = |selector: Value| {
            let object = json!({"spec": {"selector": selector, "template": {"metadata": {"labels": {"app": "web"}}}}});
            let mut findings = Findings::default();
            selector_of_template(&object, STRICT, &mut findings);
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
                r#"spec.template.metadata.labels: Invalid value: map[string]string{"app":"web"}: `selector` does not match template `labels`"#
            ]
        );
        let not_its_own = r#"spec.template.metadata.labels: Invalid value: map[string]string{"app":"web"}: `selector` does not match template `labels`"#;
        assert_eq!(deployment(Value::Null), ["spec.selector: Required value", not_its_own]);
        assert_eq!(
            deployment(json!({})),
            [
                "spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string(nil), MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: empty selector is invalid for web"
            ]
        );
        assert_eq!(
            deployment(json!({"matchExpressions": [{"key": "app", "operator": "Like"}]})),
            [
                r#"spec.selector.matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator"#,
                r#"spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string(nil), MatchExpressions:[]v1.LabelSelectorRequirement{v1.LabelSelectorRequirement{Key:"app", Operator:"Like", Values:[]string(nil)}}}: invalid label selector"#,
            ]
        );
    }

    #[test]
    fn some_kinds_ask_for_less() {
        let lax = Selecting { required: false, everything: None, broken: None };
        for (selector, expected) in [
            (json!({}), 0),
            (json!({"matchLabels": {"a b": "c"}}), 1),
            // nothing selected is not the template, either
            (Value::Null, 1),
        ] {
            let object = json!({"spec": {"selector": selector, "template": {}}});
            let mut findings = Findings::default();
            selector_of_template(&object, lax, &mut findings);
            assert_eq!(findings.len(), expected, "{object}");
        }
    }

    #[test]
    fn a_workload_is_told_of_when_its_spec_is_new() {
        let object = |generation: i64| {
            json!({"metadata": {"name": "a.b", "generation": generation},
                "spec": {"template": {"spec": {"imagePullSecrets": [{}]}}}})
        };
        let name = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]";
        let template = r#"spec.template.spec.imagePullSecrets[0].name: invalid empty name """#;
        assert_eq!(workload_warnings(&object(1), None), [name, template]);
        assert_eq!(workload_warnings(&object(2), Some(&object(1))), [template]);
        assert!(workload_warnings(&object(1), Some(&object(1))).is_empty());
    }
}
