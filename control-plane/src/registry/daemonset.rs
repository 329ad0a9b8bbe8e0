//! Daemon sets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{Errors, immutable, not_negative, one_of, path, selector_of_template};
use super::column::{age, columns, containers, labels, map, name, number, selector, text};
use super::defaults::{child, default};
use super::kind::{Kind, Subresource};
use super::podspec::{Whose, default_template, template_mistakes};
use super::strategy::Strategy;

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

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        for field in ["/spec/minReadySeconds", "/spec/revisionHistoryLimit"] {
            not_negative(object, field, &mut errors);
        }
        selector_of_template(object, &mut errors);
        errors.extend(template_mistakes(object, "/spec/template", Whose::Keeper("DaemonSet")));
        let at = path("/spec/updateStrategy/type");
        one_of(
            object,
            "/spec/updateStrategy/type",
            &at,
            &["OnDelete", "RollingUpdate"],
            &mut errors,
        );
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        immutable(object, old, "/spec/selector", &mut errors);
        errors
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
