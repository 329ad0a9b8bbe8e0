//! Deployments.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::amount;
use super::column::{age, columns, containers, name, number, selector, text};
use super::defaults::{child, default, default_text};
use super::kind::{Kind, Subresource};
use super::podspec::{Whose, default_template, drop_disabled_of, template_mistakes};
use super::strategy::Strategy;
use super::template::{
    Selecting, check_strategy_type, selector_of_template, selector_stays, workload_warnings,
};
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value::GoType;

/// `apps/v1 Deployment`.
pub fn kind() -> Kind {
    Kind::new("apps", "v1", "Deployment", "deployments")
        .short(&["deploy"])
        .in_all()
        .with(&[Subresource::Scale, Subresource::Status])
        .with_generation()
        .columns(columns("Name Ready #Up-to-date #Available Age +Containers +Images +Selector"))
        .behaves(Deployment)
}

struct Deployment;

const SELECTING: Selecting = Selecting {
    required: true,
    everything: Some("deployment"),
    broken: Some("invalid label selector"),
};

impl Strategy for Deployment {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        default_template(spec.get_mut("template"));
        let Some(strategy) = child(spec, "strategy") else { return };
        default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            default(rolling, "maxUnavailable", "25%");
            default(rolling, "maxSurge", "25%");
        }
    }

    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        drop_disabled_of(object, old, "/spec/template/spec");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        for field in ["/spec/replicas", "/spec/minReadySeconds", "/spec/revisionHistoryLimit"] {
            findings.not_negative(&root.pointer(field));
        }
        selector_of_template(object, SELECTING, &mut findings);
        findings.extend(template_mistakes(object, "/spec/template", Whose::Keeper("Deployment")));
        check_strategy(&root.pointer("/spec/strategy"), &mut findings);
        let deadline = root.pointer("/spec/progressDeadlineSeconds");
        findings.not_negative(&deadline);
        if deadline.integer().is_some_and(|most| most <= number(object, "/spec/minReadySeconds")) {
            findings.invalid(&deadline, "must be greater than minReadySeconds");
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        selector_stays(object, old)
    }

    fn validate_status(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let parts = [
            ("updatedReplicas", "replicas", "status.replicas"),
            ("readyReplicas", "replicas", "status.replicas"),
            ("availableReplicas", "replicas", "status.replicas"),
            ("availableReplicas", "readyReplicas", "readyReplicas"),
        ];
        amount::check_counts(object, &parts, &mut findings);
        findings.not_negative(&Spot::root(object).pointer("/status/unavailableReplicas"));
        amount::check_collisions(object, old, &mut findings);
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        workload_warnings(object, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(&object["spec"]["template"]);
        let ready = number(object, "/status/readyReplicas");
        vec![
            json!(name(object)),
            json!(format!("{ready}/{}", number(object, "/spec/replicas"))),
            json!(number(object, "/status/updatedReplicas")),
            json!(number(object, "/status/availableReplicas")),
            json!(age(object, now)),
            names,
            images,
            json!(selector(object.pointer("/spec/selector"))),
        ]
    }
}

fn check_strategy(strategy: &Spot<'_>, findings: &mut Findings) {
    let (kind, rolling) = (strategy.field("type"), strategy.field("rollingUpdate"));
    check_strategy_type(strategy, ["Recreate", "RollingUpdate"], findings);
    if kind.text() == "Recreate" && rolling.is_there() {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        findings.forbidden(&rolling, why);
    }
    if kind.text() != "RollingUpdate" {
        return;
    }
    let [less, more] = ["maxUnavailable", "maxSurge"].map(|field| rolling.field(field));
    amount::check(&less, findings);
    amount::check(&more, findings);
    if amount::is_nothing(&less) && amount::is_nothing(&more) {
        let less = less.clone().of(&GoType::IntOrString);
        findings.invalid(&less, "may not be 0 when `maxSurge` is 0");
    }
    amount::at_most_all(&less, findings);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::field_error::FieldPath;

    #[test]
    fn a_small_deployment_is_valid_with_its_defaults() {
        let mut object = json!({"kind": "Deployment", "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}},
        }});
        Deployment.default(&mut object);
        assert_eq!(Deployment.validate(&object), []);
        assert_eq!(object["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
        let row = Deployment.row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            row[1..],
            [
                json!("0/1"),
                json!(0),
                json!(0),
                json!("<unknown>"),
                json!("web"),
                json!("nginx"),
                json!("app=web")
            ]
        );
        object["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
        assert_eq!(
            Deployment.validate(&object)[0].to_string(),
            r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#
        );
    }

    #[test]
    fn a_strategy_makes_progress() {
        let told = |strategy: Value| {
            let mut findings = Findings::default();
            check_strategy(&Spot::at(&strategy, FieldPath::root("strategy")), &mut findings);
            findings.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let rolling = |less: Value, more: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": less, "maxSurge": more}});
        assert!(told(rolling(json!("25%"), json!("200%"))).is_empty());
        assert_eq!(
            told(rolling(json!(0), json!("0%"))),
            [
                r#"strategy.rollingUpdate.maxUnavailable: Invalid value: intstr.IntOrString{Type:0, IntVal:0, StrVal:""}: may not be 0 when `maxSurge` is 0"#
            ]
        );
        assert_eq!(told(rolling(json!("x"), json!(1))).len(), 1);
        let mut both = rolling(json!(1), json!(1));
        both["type"] = json!("Recreate");
        assert_eq!(
            told(both),
            [
                "strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
            ]
        );
    }

    #[test]
    fn an_empty_body_is_a_list_of_mistakes() {
        let mut object = json!({"kind": "Deployment"});
        Deployment.default(&mut object);
        let paths: Vec<_> =
            Deployment.validate(&object).iter().map(|e| e.path.to_string()).collect();
        assert_eq!(paths, ["spec.selector", "spec.template.metadata.labels", "spec.template.spec"]);
    }
}
