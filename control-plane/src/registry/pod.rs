//! Pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{columns, items, number, text};
use super::defaults::child;
use super::kind::{Kind, Subresource};
use super::podspec::{
    Whose, apparmor_warnings, creation_mistakes, drop_disabled_of, merge_label_keys, mistakes,
    quality_of_service, set_pod_defaults, settle_apparmor, update_mistakes, warnings,
};
use super::strategy::Strategy;
use super::template::label_warning;
use super::{pod_row, pod_status};
use crate::meta::field_error::FieldError;
use crate::meta::findings::Spot;

/// `v1 Pod`.
pub fn kind() -> Kind {
    Kind::new("", "v1", "Pod", "pods")
        .short(&["po"])
        .in_all()
        .with(&[Subresource::Binding, Subresource::Eviction, Subresource::Status])
        .select_by(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ])
        .columns(columns(
            "Name Ready Status Restarts Age +IP +Node +Nominated_Node +Readiness_Gates",
        ))
        .behaves(Pod)
}

struct Pod;

impl Strategy for Pod {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        set_pod_defaults(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        merge_label_keys(object);
    }

    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        drop_disabled_of(object, old, "/spec");
    }

    fn first_status(&self, object: &Value) -> Option<Value> {
        let mut status =
            json!({"phase": "Pending", "qosClass": quality_of_service(&object["spec"])});
        if !items(object, "/spec/schedulingGates").is_empty() {
            status["conditions"] = json!([pod_status::held_back()]);
        }
        Some(status)
    }

    fn complete(&self, object: &mut Value) {
        settle_apparmor(object);
    }

    fn settle_status(&self, object: &mut Value, old: &Value) {
        pod_status::settle(object, old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        creation_mistakes(object)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        mistakes(object, Whose::Pod)
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        update_mistakes(object, old)
    }

    fn validate_status(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        pod_status::mistakes(object, old)
    }

    /// A pod that runs on a node stays until the node has stopped it; others go at once.
    fn grace(&self, object: &Value, asked: Option<u64>) -> Option<u64> {
        let own = u64::try_from(number(object, "/spec/terminationGracePeriodSeconds")).unwrap_or(1);
        let ended = matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
        match asked.unwrap_or(own) {
            0 => None,
            _ if ended || text(object, "/spec/nodeName").is_empty() => None,
            seconds => Some(seconds),
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        // people write pods once; who changes them later is a program
        if old.is_some() {
            return Vec::new();
        }
        let mut told = apparmor_warnings(object);
        told.extend(label_warning(object, "the Pod's hostname"));
        told.extend(warnings(&Spot::root(object)));
        told
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        pod_row::row(object, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value) -> Value {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "a:1", "resources": resources}]}});
        Pod.default(&mut pod);
        pod
    }

    #[test]
    fn quality_follows_from_resources() {
        let class = |resources| Pod.first_status(&pod(resources)).unwrap()["qosClass"].clone();
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    }

    #[test]
    fn images_and_added_tolerations_may_change() {
        let old = pod(json!({}));
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = json!("a:2");
        new["spec"]["tolerations"] = json!([{"key": "x", "operator": "Exists"}]);
        assert_eq!(Pod.validate_update(&new, &old), []);
        new["spec"]["nodeName"] = json!("n1");
        assert_eq!(Pod.validate_update(&new, &old)[0].path.to_string(), "spec");
    }

    #[test]
    fn only_a_pod_on_a_node_has_grace() {
        let mut pod = pod(json!({}));
        assert_eq!(Pod.grace(&pod, None), None);
        pod["spec"]["nodeName"] = json!("n1");
        assert_eq!(Pod.grace(&pod, None), Some(30));
        assert_eq!(Pod.grace(&pod, Some(0)), None);
    }
}
