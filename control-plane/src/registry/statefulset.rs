//! Stateful sets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::amount;
use super::column::{age, columns, containers, name, number, text};
use super::defaults::{child, default, default_text, each};
use super::kind::{Kind, Subresource};
use super::podspec::{claim_warnings, default_template, drop_disabled_of, template_warnings};
use super::strategy::Strategy;
use super::template::{Selecting, is_news, selector_of_template};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::findings::{Findings, Spot, same};
use crate::meta::{go_value, label, name as names};

/// `apps/v1 StatefulSet`.
pub fn kind() -> Kind {
    Kind::new("apps", "v1", "StatefulSet", "statefulsets")
        .short(&["sts"])
        .in_all()
        .with(&[Subresource::Scale, Subresource::Status])
        .with_generation()
        .named(names::dns_label)
        .columns(columns("Name Ready Age +Containers +Images"))
        .behaves(StatefulSet)
}

struct StatefulSet;

const SELECTING: Selecting =
    Selecting { required: true, everything: Some("statefulset"), broken: Some("") };

impl Strategy for StatefulSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default_text(spec, "podManagementPolicy", "OrderedReady");
        if let Some(claims) = child(spec, "persistentVolumeClaimRetentionPolicy") {
            default_text(claims, "whenDeleted", "Retain");
            default_text(claims, "whenScaled", "Retain");
        }
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
        default_text(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate"
            && let Some(rolling) = child(strategy, "rollingUpdate")
        {
            default(rolling, "partition", 0);
        }
    }

    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        const ROLLING: &str = "/spec/updateStrategy/rollingUpdate";
        drop_disabled_of(object, old, "/spec/template/spec");
        // of a gate that is off (MaxUnavailableStatefulSet)
        let used = |object: &Value| object.pointer(ROLLING)?.get("maxUnavailable").map(drop);
        if old.and_then(used).is_none()
            && let Some(rolling) = object.pointer_mut(ROLLING).and_then(Value::as_object_mut)
        {
            rolling.remove("maxUnavailable");
        }
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"replicas": 0, "availableReplicas": 0}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        for field in ["/spec/replicas", "/spec/minReadySeconds"] {
            findings.not_negative(&root.pointer(field));
        }
        selector_of_template(object, SELECTING, &mut findings);
        check_template(&root.pointer("/spec/template"), &mut findings);
        check_policies(&root.field("spec"), &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        const MAY_CHANGE: [&str; 6] = [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ];
        const WHY: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        let rest = |object: &Value| {
            let mut spec = object["spec"].clone();
            if let Some(map) = spec.as_object_mut() {
                map.retain(|field, _| !MAY_CHANGE.contains(&&**field));
            }
            spec
        };
        if same(&rest(object), &rest(old)) {
            return Vec::new();
        }
        vec![FieldError::new(FieldPath::root("spec"), Mistake::Forbidden, WHY)]
    }

    fn validate_status(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let parts = [
            ("readyReplicas", "replicas", "status.replicas"),
            ("currentReplicas", "replicas", "status.replicas"),
            ("updatedReplicas", "replicas", "status.replicas"),
            ("availableReplicas", "replicas", "status.replicas"),
            ("availableReplicas", "readyReplicas", "status.readyReplicas"),
        ];
        amount::check_counts(object, &parts, &mut findings);
        amount::check_collisions(object, old, &mut findings);
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        if !is_news(object, old) {
            return Vec::new();
        }
        let mut told = template_warnings(object, "/spec/template");
        let spec = Spot::root(object).field("spec");
        for claim in spec.field("volumeClaimTemplates").items() {
            // Kubernetes tells the place of an update otherwise than that of a new object, and neither quite right
            let place = if old.is_some() { claim.path.field("Spec") } else { claim.path.clone() };
            told.extend(claim_warnings(&Spot::at(claim.field("spec").value, place)));
        }
        told
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

/// Of what pods run only this is looked at: volumes of the claims are not among those of the template.
fn check_template(template: &Spot<'_>, findings: &mut Findings) {
    let metadata = template.field("metadata");
    let of = |field: &str| (metadata.field(field).value, template.field(field).path);
    let ((labels, labelled), (annotations, annotated)) = (of("labels"), of("annotations"));
    findings.extend(label::labels(labels, &labelled));
    findings.extend(label::annotations(annotations, &annotated));
    let spec = template.field("spec");
    let (policy, deadline) = (spec.field("restartPolicy"), spec.field("activeDeadlineSeconds"));
    findings.one_of(&policy, &["Always"]);
    if deadline.is_there() {
        findings.forbidden(&deadline, "activeDeadlineSeconds in StatefulSet is not Supported");
    }
}

fn check_policies(spec: &Spot<'_>, findings: &mut Findings) {
    let management = spec.field("podManagementPolicy");
    match management.text() {
        "" => findings.required(&management, ""),
        "OrderedReady" | "Parallel" => {}
        _ => findings.invalid(&management, "must be 'OrderedReady' or 'Parallel'"),
    }
    let strategy = spec.field("updateStrategy").of(&go_value::STATEFUL_STRATEGY);
    let rolling = strategy.field("rollingUpdate").of(&go_value::STATEFUL_ROLLING);
    match strategy.field("type").text() {
        "" => findings.required(&strategy, ""),
        "RollingUpdate" => findings.not_negative(&rolling.field("partition")),
        "OnDelete" if rolling.is_there() => {
            findings.invalid(&rolling, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        _ => findings.invalid(&strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    let claims = spec.field("persistentVolumeClaimRetentionPolicy");
    for moment in ["whenDeleted", "whenScaled"] {
        findings.one_of(&claims.field(moment), &["Retain", "Delete"]);
    }
    let start = spec.field("ordinals").field("start");
    findings.not_negative(&start);
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
        let on_delete = json!({"type": "OnDelete"});
        assert!(
            told(json!({"updateStrategy": on_delete, "podManagementPolicy": "Parallel"}))
                .is_empty()
        );
        assert_eq!(
            told(json!({})),
            ["spec.podManagementPolicy: Required value", "spec.updateStrategy: Required value"]
        );
        assert_eq!(
            told(json!({
                "podManagementPolicy": "Any", "ordinals": {"start": -1},
                "updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Keep"},
            })),
            [
                r#"spec.podManagementPolicy: Invalid value: "Any": must be 'OrderedReady' or 'Parallel'"#,
                "spec.updateStrategy.rollingUpdate: Invalid value: apps.RollingUpdateStatefulSetStrategy{Partition:1, MaxUnavailable:(*intstr.IntOrString)(nil)}: only allowed for updateStrategy 'RollingUpdate'",
                r#"spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "Keep": supported values: "Retain", "Delete""#,
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }

    #[test]
    fn what_identifies_the_pods_stays() {
        let old = json!({"spec": {"replicas": 1, "serviceName": "db", "template": {}}});
        for (field, value, may) in [
            ("replicas", json!(2), true),
            ("ordinals", json!({"start": 1}), true),
            ("template", json!({"spec": {"nodeName": "a"}}), true),
            ("updateStrategy", json!({"type": "OnDelete"}), true),
            ("persistentVolumeClaimRetentionPolicy", json!({"whenScaled": "Delete"}), true),
            ("minReadySeconds", json!(1), true),
            ("volumeClaimTemplates", json!([]), true),
            ("volumeClaimTemplates", json!([{}]), false),
            ("serviceName", json!("other"), false),
            ("revisionHistoryLimit", json!(1), false),
            ("podManagementPolicy", json!("Parallel"), false),
        ] {
            let mut new = old.clone();
            new["spec"][field] = value;
            let errors = StatefulSet.validate_update(&new, &old);
            assert_eq!(errors.is_empty(), may, "{new}: {errors:?}");
            assert!(errors.iter().all(|one| one.mistake == Mistake::Forbidden));
        }
    }

    #[test]
    fn a_stateful_set_with_claims_is_valid() {
        let mut object = json!({"kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
            "selector": {"matchLabels": {"app": "db"}}, "serviceName": "db",
            // refused from 1.33 on
            "revisionHistoryLimit": -1,
            "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [
                {"name": "db", "image": "db:1", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}});
        StatefulSet.default(&mut object);
        let rolling = "/spec/updateStrategy/rollingUpdate";
        let old = object.clone();
        StatefulSet.drop_disabled(&mut object, Some(&old));
        assert_eq!(object.pointer(rolling), Some(&json!({"partition": 0, "maxUnavailable": 2})));
        StatefulSet.drop_disabled(&mut object, None);
        assert_eq!(object.pointer(rolling), Some(&json!({"partition": 0})));
        assert_eq!(StatefulSet.validate(&object), []);
        let spec = &object["spec"];
        assert_eq!(
            spec["persistentVolumeClaimRetentionPolicy"],
            json!({"whenDeleted": "Retain", "whenScaled": "Delete"})
        );
        object["spec"]["template"]["metadata"]["labels"]["a b"] = json!("c");
        object["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
        object["spec"]["template"]["spec"]["activeDeadlineSeconds"] = json!(1);
        let paths: Vec<_> =
            StatefulSet.validate(&object).iter().map(|error| error.path.to_string()).collect();
        assert_eq!(
            paths,
            [
                "spec.template.labels",
                "spec.template.spec.restartPolicy",
                "spec.template.spec.activeDeadlineSeconds"
            ]
        );
    }
}
