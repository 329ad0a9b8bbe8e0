//! Daemon sets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::amount;
use super::column::{age, columns, containers, labels, map, name, number, selector, text};
use super::defaults::{child, default};
use super::kind::{Kind, Subresource};
use super::podspec::{Whose, default_template, template_mistakes};
use super::strategy::Strategy;
use super::template::selector_of_template;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};

/// `apps/v1 DaemonSet`.
pub fn kind() -> Kind {
    Kind::new("apps", "v1", "DaemonSet", "daemonsets")
        .short(&["ds"])
        .in_all()
        .with(&[Subresource::Status])
        .with_generation()
        .columns(columns(
            "Name #Desired #Current #Ready #Up-to-date #Available Node_Selector Age +Containers +Images +Selector",
        ))
        .behaves(DaemonSet)
}

struct DaemonSet;

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default(spec, "revisionHistoryLimit", 10);
        default_template(spec.get_mut("template"));
        let Some(strategy) = child(spec, "updateStrategy") else { return };
        default(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            default(rolling, "maxUnavailable", 1);
            default(rolling, "maxSurge", 0);
        }
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        let zero = [
            "currentNumberScheduled",
            "desiredNumberScheduled",
            "numberMisscheduled",
            "numberReady",
        ];
        Some(
            zero.into_iter()
                .map(|field| (field.to_owned(), json!(0)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        )
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        for field in ["/spec/minReadySeconds", "/spec/revisionHistoryLimit"] {
            findings.not_negative(&root.pointer(field));
        }
        selector_of_template(object, &mut findings);
        findings.extend(template_mistakes(object, "/spec/template", Whose::Keeper("DaemonSet")));
        check_strategy(&root.pointer("/spec/updateStrategy"), &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        findings.immutable(&root.pointer("/spec/selector"), &before.pointer("/spec/selector"));
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(&object["spec"]["template"]);
        let counts = [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
        ];
        let mut row = vec![json!(name(object))];
        row.extend(counts.map(|field| json!(number(object, &format!("/status/{field}")))));
        row.extend([
            json!(labels(map(object, "/spec/template/spec/nodeSelector"))),
            json!(age(object, now)),
            names,
            images,
            json!(selector(object.pointer("/spec/selector"))),
        ]);
        row
    }
}

fn check_strategy(strategy: &Spot<'_>, findings: &mut Findings) {
    let kind = strategy.field("type");
    findings.one_of_if_set(&kind, &["OnDelete", "RollingUpdate"]);
    if kind.text() != "RollingUpdate" {
        return;
    }
    let [less, more] =
        ["maxUnavailable", "maxSurge"].map(|field| strategy.field("rollingUpdate").field(field));
    for amount in [&less, &more] {
        amount::check(amount, findings);
        amount::at_most_all(amount, findings);
    }
    match (amount::is_nothing(&less), amount::is_nothing(&more)) {
        (false, false) => findings.invalid(&more, "may not be set when maxUnavailable is non-zero"),
        (true, true) => findings.required(&less, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_replaced_in_one_of_two_ways() {
        let told = |less: Value, more: Value| {
            let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": less, "maxSurge": more}});
            let mut findings = Findings::default();
            check_strategy(&Spot::root(&strategy), &mut findings);
            findings.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(told(json!(1), json!(0)).is_empty() && told(json!(0), json!("10%")).is_empty());
        assert_eq!(
            told(json!(1), json!(1)),
            [
                "rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"
            ]
        );
        assert_eq!(
            told(json!(0), json!("0%")),
            ["rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]
        );
    }
}
