//! Stateful sets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::amount;
use super::column::{age, columns, containers, name, number, text};
use super::defaults::{child, default, each};
use super::kind::{Kind, Subresource};
use super::podspec::{Whose, default_template, template_mistakes};
use super::strategy::Strategy;
use super::template::selector_of_template;
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::findings::{Findings, Spot};

/// `apps/v1 StatefulSet`.
pub fn kind() -> Kind {
    Kind::new("apps", "v1", "StatefulSet", "statefulsets")
        .short(&["sts"])
        .in_all()
        .with(&[Subresource::Scale, Subresource::Status])
        .with_generation()
        .columns(columns("Name Ready Age +Containers +Images"))
        .behaves(StatefulSet)
}

struct StatefulSet;

impl Strategy for StatefulSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "podManagementPolicy", "OrderedReady");
        default(
            spec,
            "persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
        );
        default_template(spec.get_mut("template"));
        for claim in each(spec, "volumeClaimTemplates") {
            default(claim, "apiVersion", "v1");
            default(claim, "kind", "PersistentVolumeClaim");
            if let Some(spec) = child(claim, "spec") {
                default(spec, "volumeMode", "Filesystem");
            }
            default(claim, "status", json!({"phase": "Pending"}));
        }
        let Some(strategy) = child(spec, "updateStrategy") else { return };
        default(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            default(rolling, "partition", 0);
        }
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"replicas": 0, "availableReplicas": 0}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        for field in ["/spec/replicas", "/spec/minReadySeconds", "/spec/revisionHistoryLimit"] {
            findings.not_negative(&root.pointer(field));
        }
        selector_of_template(object, &mut findings);
        findings.extend(template_mistakes(object, "/spec/template", Whose::Keeper("StatefulSet")));
        check_policies(&root.field("spec"), &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        const MAY_CHANGE: [&str; 8] = [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
            "status",
        ];
        const WHY: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        let rest = |object: &Value| {
            let mut spec = object["spec"].clone();
            if let Some(map) = spec.as_object_mut() {
                map.retain(|field, _| !MAY_CHANGE.contains(&&**field));
            }
            spec
        };
        if rest(object) == rest(old) {
            return Vec::new();
        }
        vec![FieldError::new(FieldPath::root("spec"), Mistake::Forbidden, WHY)]
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let parts = [
            ("readyReplicas", "replicas"),
            ("currentReplicas", "replicas"),
            ("updatedReplicas", "replicas"),
            ("availableReplicas", "replicas"),
            ("availableReplicas", "readyReplicas"),
        ];
        amount::check_counts(object, &parts, &mut findings);
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(&object["spec"]["template"]);
        let ready = number(object, "/status/readyReplicas");
        vec![
            json!(name(object)),
            json!(format!("{ready}/{}", number(object, "/spec/replicas"))),
            json!(age(object, now)),
            names,
            images,
        ]
    }
}

fn check_policies(spec: &Spot<'_>, findings: &mut Findings) {
    let management = spec.field("podManagementPolicy");
    if !matches!(management.text(), "" | "OrderedReady" | "Parallel") {
        findings.invalid(&management, "must be 'OrderedReady' or 'Parallel'");
    }
    let strategy = spec.field("updateStrategy");
    let rolling = strategy.field("rollingUpdate");
    match strategy.field("type").text() {
        "RollingUpdate" | "" => findings.not_negative(&rolling.field("partition")),
        "OnDelete" if rolling.is_there() => {
            findings.invalid(&rolling, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        _ => findings.invalid(&strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    let claims = spec.field("persistentVolumeClaimRetentionPolicy");
    for moment in ["whenDeleted", "whenScaled"] {
        findings.one_of(&claims.field(moment), &["Delete", "Retain"]);
    }
    findings.not_negative(&spec.pointer("/ordinals/start"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_those_that_there_are() {
        let told = |spec: Value| {
            let mut findings = Findings::default();
            check_policies(&Spot::at(&spec, FieldPath::root("spec")), &mut findings);
            findings.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(told(json!({"updateStrategy": {"type": "OnDelete"}})).is_empty());
        assert_eq!(
            told(json!({
                "podManagementPolicy": "Any", "ordinals": {"start": -1},
                "updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Keep"},
            })),
            [
                r#"spec.podManagementPolicy: Invalid value: "Any": must be 'OrderedReady' or 'Parallel'"#,
                r#"spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy 'RollingUpdate'"#,
                r#"spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "Keep": supported values: "Delete", "Retain""#,
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }

    #[test]
    fn what_identifies_the_pods_stays() {
        let old = json!({"spec": {"replicas": 1, "serviceName": "db"}});
        assert!(
            StatefulSet
                .validate_update(&json!({"spec": {"replicas": 2, "serviceName": "db"}}), &old)
                .is_empty()
        );
        let errors = StatefulSet
            .validate_update(&json!({"spec": {"replicas": 1, "serviceName": "other"}}), &old);
        assert_eq!(errors[0].mistake, Mistake::Forbidden);
    }
}
