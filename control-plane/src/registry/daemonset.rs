//! Daemon sets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::amount;
use super::column::{age, columns, containers, labels, map, name, number, selector, text};
use super::defaults::{child, default, default_text};
use super::kind::{Kind, Subresource};
use super::podspec::{
    Whose, default_template, drop_disabled_of, template_mistakes, template_warnings,
};
use super::strategy::Strategy;
use super::template::{Selecting, check_strategy_type, selector_of_template, selector_stays};
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value::GoType;

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

/// What its status counts.
const COUNTED: [&str; 8] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
];

const SELECTING: Selecting =
    Selecting { required: false, everything: Some("daemonset"), broken: None };

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default(spec, "revisionHistoryLimit", 10);
        default_template(spec.get_mut("template"));
        let Some(strategy) = child(spec, "updateStrategy") else { return };
        default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            default(rolling, "maxUnavailable", 1);
            default(rolling, "maxSurge", 0);
        }
    }

    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        drop_disabled_of(object, old, "/spec/template/spec");
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
        selector_of_template(object, SELECTING, &mut findings);
        findings.extend(template_mistakes(object, "/spec/template", Whose::Keeper("DaemonSet")));
        check_strategy(&root.pointer("/spec/updateStrategy"), &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        selector_stays(object, old)
    }

    fn validate_status(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let status = Spot::root(object).field("status");
        for field in COUNTED {
            findings.not_negative(&status.field(field));
        }
        amount::check_collisions(object, old, &mut findings);
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let template = |object: &Value| object.pointer("/spec/template").cloned();
        if old.is_some_and(|old| template(old) == template(object)) {
            return Vec::new();
        }
        template_warnings(object, "/spec/template")
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
    check_strategy_type(strategy, ["RollingUpdate", "OnDelete"], findings);
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
        (false, false) => findings.invalid(
            &more.clone().of(&GoType::IntOrString),
            "may not be set when maxUnavailable is non-zero",
        ),
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
                r#"rollingUpdate.maxSurge: Invalid value: intstr.IntOrString{Type:0, IntVal:1, StrVal:""}: may not be set when maxUnavailable is non-zero"#
            ]
        );
        assert_eq!(
            told(json!(0), json!("0%")),
            ["rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]
        );
    }

    #[test]
    fn mistakes_of_specs_and_of_statuses() {
        let told =
            |errors: Vec<FieldError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut findings = Findings::default();
        let strategy = json!({"type": "Any"});
        check_strategy(&Spot::root(&strategy).clone(), &mut findings);
        assert_eq!(
            told(findings.into_vec()),
            [
                r#"<nil>: Unsupported value: {"type":"Any"}: supported values: "RollingUpdate", "OnDelete""#
            ]
        );
        let status = |status: Value| json!({"status": status});
        let old = status(json!({"collisionCount": 2}));
        for (new, expected) in [
            (json!({"collisionCount": 2, "numberReady": 1}), ""),
            (
                json!({"collisionCount": 2, "numberUnavailable": -1}),
                "status.numberUnavailable: Invalid value: -1",
            ),
            (
                json!({"collisionCount": 1}),
                "status.collisionCount: Invalid value: 1: cannot be decremented",
            ),
        ] {
            let told = told(DaemonSet.validate_status(&status(new), &old));
            assert_eq!(told.len(), usize::from(!expected.is_empty()), "{told:?}");
            assert!(told.iter().all(|one| one.starts_with(expected)), "{told:?}");
        }
    }
}
