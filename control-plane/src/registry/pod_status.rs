//! What those who run pods say of them. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::address::NO_ADDRESS;
use super::column::{items, text};
use super::podspec::check_annotation_changes;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value::{GoType, HOST_IP, HOST_IPS, POD_IP, POD_IPS};
use crate::meta::name;
use crate::meta::time::Time;

/// The condition of a new pod that gates hold back.
pub fn held_back() -> Value {
    json!({
        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
        "lastProbeTime": null, "lastTransitionTime": Time::now().to_string(),
    })
}

/// Puts right what a write of the status says: of the addresses, `podIP` is the first, whoever wrote only one of both fields; the class is
/// that which the pod was made with.
pub fn settle(object: &mut Value, old: &Value) {
    let class = text(old, "/status/qosClass");
    let Some(status) = object.get_mut("status").filter(|status| status.is_object()) else { return };
    if text(status, "/qosClass").is_empty() && !class.is_empty() {
        status["qosClass"] = json!(class);
    }
    let first = text(status, "/podIPs/0/ip").to_owned();
    match text(status, "/podIP").to_owned() {
        one if one.is_empty() && !first.is_empty() => status["podIP"] = json!(first),
        one if one != first => status["podIPs"] = json!([{"ip": one}]),
        _ => {}
    }
}

/// What is wrong with a change of a pod's status.
pub fn mistakes(object: &Value, old: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let (root, before) = (Spot::root(object), Spot::root(old));
    let (status, was) = (root.field("status"), before.field("status"));
    check_annotation_changes(&root, old, &mut findings);
    check_conditions(&status, &mut findings);
    let phases = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];
    findings.one_of_if_set(&status.field("phase"), &phases);
    let wanted = status.field("nominatedNodeName");
    if !wanted.is_empty() && wanted.value != was.field("nominatedNodeName").value {
        findings.sentences(&wanted, name::dns_subdomain(wanted.text()));
    }
    let class = status.field("qosClass");
    if class.text() != was.field("qosClass").text() {
        findings.invalid(&class, "field is immutable");
    }
    check_transitions(&status, old, &mut findings);
    check_addresses(&status.field("podIPs"), (&POD_IPS, &POD_IP), &mut findings);
    let hosts = status.field("hostIPs");
    let first = hosts.items().next().map(|one| one.field("ip"));
    if let Some(first) = first.filter(|first| first.text() != status.field("hostIP").text()) {
        findings.invalid(&first, "must be equal to `hostIP`");
    }
    check_addresses(&hosts, (&HOST_IPS, &HOST_IP), &mut findings);
    findings.into_vec()
}

/// Conditions that others than Kubernetes itself set have qualified names.
fn check_conditions(status: &Spot<'_>, findings: &mut Findings) {
    // Kubernetes tells of them as if they were the metadata's
    let place = FieldPath::of_pointer("/metadata/conditions");
    for (index, condition) in status.field("conditions").items().enumerate() {
        let kind = condition.field("type");
        if !matches!(kind.text(), "PodScheduled" | "Ready" | "Initialized") {
            let told = json!(kind.text());
            let spot = Spot::at(&told, place.index(index).field("Type"));
            findings.sentences(&spot, name::qualified(kind.text()));
        }
    }
}

/// What has ended stays so, unless the pod's policy is that it starts again.
fn check_transitions(status: &Spot<'_>, old: &Value, findings: &mut Findings) {
    let policy = text(old, "/spec/restartPolicy");
    let sidecar = |of: &str| {
        let mut first = items(old, "/spec/initContainers").iter();
        let found = first.find(|one| text(one, "/name") == of);
        found.is_some_and(|one| text(one, "/restartPolicy") == "Always")
    };
    for (list, policy) in [
        ("containerStatuses", policy),
        ("initContainerStatuses", policy),
        ("ephemeralContainerStatuses", "Never"),
    ] {
        if policy == "Always" {
            continue;
        }
        let place = status.field(list);
        for (index, was) in items(old, &format!("/status/{list}")).iter().enumerate() {
            let Some(end) = was.pointer("/state/terminated").filter(|end| end.is_object()) else {
                continue;
            };
            let failed = end.get("exitCode").and_then(Value::as_i64).unwrap_or_default() != 0;
            let of = text(was, "/name");
            let again = (failed && policy == "OnFailure")
                || (list == "initContainerStatuses" && sidecar(of));
            let goes_on = |now: &Spot<'_>| {
                now.field("name").text() == of && now.pointer("/state/terminated").is_absent()
            };
            for _ in place.items().filter(|now| !again && goes_on(now)) {
                let spot = Spot::at(was, place.path.index(index).field("state"));
                findings.forbidden(&spot, "may not be transitioned to non-terminated state");
            }
        }
    }
}

/// Addresses, of each family one at most; `of` is what the list and an item of it are in Go.
fn check_addresses(
    list: &Spot<'_>,
    of: (&'static GoType, &'static GoType),
    findings: &mut Findings,
) {
    let parsed = |one: &Spot<'_>| one.field("ip").text().parse::<IpAddr>().ok();
    for one in list.items().filter(|one| parsed(one).is_none()) {
        let told = json!(one.field("ip").text());
        findings.invalid(&Spot::at(&told, one.path), NO_ADDRESS);
    }
    if list.len() < 2 {
        return;
    }
    let families: BTreeSet<Option<bool>> =
        list.items().map(|one| parsed(&one).map(|ip| ip.is_ipv4())).collect();
    if list.len() > 2 || families.len() != 2 || families.contains(&None) {
        let why = "may specify no more than one IP for each IP family";
        findings.invalid(&list.clone().of(of.0), why);
    }
    let mut seen = BTreeSet::new();
    for one in list.items() {
        if !seen.insert(one.field("ip").text()) {
            findings.duplicate(&one.of(of.1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(old: &Value, status: Value) -> Vec<String> {
        let mut new = old.clone();
        new["status"] = status;
        mistakes(&new, old).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn both_fields_of_addresses_say_the_same() {
        for (status, expected) in [
            (json!({"podIP": "a"}), json!({"podIP": "a", "podIPs": [{"ip": "a"}]})),
            (
                json!({"podIPs": [{"ip": "a"}, {"ip": "b"}]}),
                json!({"podIP": "a", "podIPs": [{"ip": "a"}, {"ip": "b"}]}),
            ),
            (
                json!({"podIP": "c", "podIPs": [{"ip": "a"}, {"ip": "b"}]}),
                json!({"podIP": "c", "podIPs": [{"ip": "c"}]}),
            ),
            (
                json!({"podIP": "a", "podIPs": [{"ip": "a"}, {"ip": "b"}]}),
                json!({"podIP": "a", "podIPs": [{"ip": "a"}, {"ip": "b"}]}),
            ),
            (json!({}), json!({})),
        ] {
            let mut pod = json!({"status": status});
            settle(&mut pod, &json!({}));
            assert_eq!(pod["status"], expected);
        }
    }

    #[test]
    fn the_class_stays() {
        let old = json!({"status": {"qosClass": "Burstable"}});
        let mut new = json!({"status": {"phase": "Running"}});
        settle(&mut new, &old);
        assert_eq!(new["status"]["qosClass"], "Burstable");
        assert_eq!(
            told(&old, json!({"qosClass": "Guaranteed"})),
            [r#"status.qosClass: Invalid value: "Guaranteed": field is immutable"#]
        );
    }

    #[test]
    fn addresses_are_looked_at() {
        let ips = |all: &[&str]| -> Value { all.iter().map(|ip| json!({"ip": ip})).collect() };
        let pods = |all: &[&str]| told(&json!({}), json!({"podIPs": ips(all)}));
        assert!(pods(&["10.0.0.1", "fd00::1"]).is_empty() && pods(&["10.0.0.1"]).is_empty());
        assert_eq!(
            pods(&["x"]),
            [format!(r#"status.podIPs[0]: Invalid value: "x": {NO_ADDRESS}"#)]
        );
        assert_eq!(
            pods(&["10.0.0.1", "10.0.0.1"]),
            [
                r#"status.podIPs: Invalid value: []core.PodIP{core.PodIP{IP:"10.0.0.1"}, core.PodIP{IP:"10.0.0.1"}}: may specify no more than one IP for each IP family"#,
                r#"status.podIPs[1]: Duplicate value: core.PodIP{IP:"10.0.0.1"}"#,
            ]
        );
        assert_eq!(pods(&["10.0.0.1", "fd00::1", "fd00::2"]).len(), 1);
        let hosts = |first: &str, all: &[&str]| {
            told(&json!({}), json!({"hostIP": first, "hostIPs": ips(all)}))
        };
        assert!(hosts("10.0.0.1", &["10.0.0.1", "fd00::1"]).is_empty());
        assert!(hosts("10.0.0.1", &[]).is_empty());
        assert_eq!(
            hosts("10.0.0.1", &["10.0.0.2"]),
            [r#"status.hostIPs[0].ip: Invalid value: "10.0.0.2": must be equal to `hostIP`"#]
        );
    }

    #[test]
    fn what_has_ended_stays_so() {
        let of = |list: &str, state: Value| json!({list: [{"name": "b"}, {"name": "a", "state": state}]});
        let pod = |policy: &str, list: &str, code: i64| {
            json!({"spec": {"restartPolicy": policy, "initContainers": [{"name": "a", "restartPolicy": "Always"}]},
                "status": of(list, json!({"terminated": {"exitCode": code}}))})
        };
        for (policy, list, code, refused) in [
            ("Always", "containerStatuses", 0, false),
            ("OnFailure", "containerStatuses", 0, true),
            ("OnFailure", "containerStatuses", 1, false),
            ("Never", "containerStatuses", 1, true),
            // a sidecar
            ("Never", "initContainerStatuses", 0, false),
            ("Always", "ephemeralContainerStatuses", 1, true),
        ] {
            let old = pod(policy, list, code);
            let found = told(&old, of(list, json!({"running": {}})));
            let line = format!(
                "status.{list}[1].state: Forbidden: may not be transitioned to non-terminated state"
            );
            assert_eq!(found, Vec::from_iter(refused.then_some(line)), "{policy} {list} {code}");
            assert!(told(&old, of(list, json!({"terminated": {"exitCode": 0}}))).is_empty());
            assert!(told(&old, json!({})).is_empty(), "gone");
        }
    }

    #[test]
    fn names_in_a_status_are_looked_at() {
        let found = told(
            &json!({}),
            json!({"nominatedNodeName": "N", "conditions": [{"type": "Ready"}, {"type": "a b"}, {"type": "x.io/y"}]}),
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with(
                r#"metadata.conditions[1].Type: Invalid value: "a b": name part must"#
            ),
            "{found:?}"
        );
        assert!(
            found[1].starts_with(r#"status.nominatedNodeName: Invalid value: "N": a lowercase"#),
            "{found:?}"
        );
    }
}
