//! Stateful sets.

use jiff::Timestamp;
use serde_json::{Value, json};

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
        let policy = root.pointer("/spec/podManagementPolicy");
        findings.one_of_if_set(&policy, &["OrderedReady", "Parallel"]);
        let strategy = root.pointer("/spec/updateStrategy/type");
        findings.one_of_if_set(&strategy, &["OnDelete", "RollingUpdate"]);
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

#[cfg(test)]
mod tests {
    use super::*;

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
