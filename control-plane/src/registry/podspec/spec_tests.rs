//! Whole specs, and what is wrong with them.

use serde_json::{Value, json};

use super::*;
use crate::meta::field_error::FieldPath;
use crate::registry::podspec::set_pod_defaults;

pub(in crate::registry::podspec) fn mistakes(mut spec: Value) -> Vec<String> {
    set_pod_defaults(&mut spec);
    told(&spec, Whose::Pod)
}

fn told(spec: &Value, whose: Whose) -> Vec<String> {
    let mut findings = Findings::default();
    validate(&Spot::at(spec, FieldPath::root("spec")), Some("p"), whose, &mut findings);
    findings.into_vec().iter().map(ToString::to_string).collect()
}

/// A pod of one container with these fields more.
pub(in crate::registry::podspec) fn container(more: Value) -> Value {
    let mut container = json!({"name": "a", "image": "a:1"});
    container.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    json!({"containers": [container]})
}

/// A pod with these fields more.
pub(in crate::registry::podspec) fn pod(more: Value) -> Value {
    let mut spec = container(json!({}));
    spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    spec
}

pub(in crate::registry::podspec) fn all_told(cases: &[(Value, &[&str])]) {
    for (spec, expected) in cases {
        assert_eq!(mistakes(spec.clone()), *expected, "{spec}");
    }
}

#[test]
fn what_most_people_write_is_in_order() {
    assert_eq!(mistakes(container(json!({}))), [""; 0]);
    let full = json!({
        "containers": [{
            "name": "web", "image": "nginx:1.27", "command": ["nginx"], "args": ["-g", "daemon off;"],
            "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "protocol": "UDP"}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "envFrom": [{"configMapRef": {"name": "c"}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "x/y"}],
            "livenessProbe": {"httpGet": {"port": "http"}}, "readinessProbe": {"tcpSocket": {"port": 80}, "successThreshold": 2},
            "startupProbe": {"exec": {"command": ["true"]}}, "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            "securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
        "initContainers": [{"name": "first", "image": "a:1"},
            {"name": "beside", "image": "a:1", "restartPolicy": "Always", "readinessProbe": {"grpc": {"port": 1}}}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "d"}},
            {"name": "all", "projected": {"sources": [{"configMap": {"name": "c"}}, {"serviceAccountToken": {"path": "token"}}]}}],
        "nodeSelector": {"kubernetes.io/os": "linux"}, "serviceAccountName": "robot",
        "tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 3}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}}]}},
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.96.0.10"], "searches": ["a.b."], "options": [{"name": "ndots", "value": "5"}]},
        "hostAliases": [{"ip": "::1", "hostnames": ["me"]}], "imagePullSecrets": [{"name": "p"}],
        "securityContext": {"fsGroup": 1, "sysctls": [{"name": "net.core.somaxconn", "value": "1"}],
            "seccompProfile": {"type": "RuntimeDefault"}},
    });
    assert_eq!(mistakes(full), [""; 0]);
}

#[test]
fn mistakes_of_containers_are_told_with_their_place() {
    all_told(&[
        (json!({}), &["spec.containers: Required value"]),
        (
            json!({"containers": [{}]}),
            &[
                "spec.containers[0].name: Required value",
                "spec.containers[0].image: Required value",
            ],
        ),
        (
            pod(json!({"containers": [{"name": "a", "image": "a"}, {"name": "a", "image": "b "}]})),
            &[
                r#"spec.containers[1].image: Invalid value: "b ": must not have leading or trailing whitespace"#,
                r#"spec.containers[1].name: Duplicate value: "a""#,
            ],
        ),
        (
            container(json!({"imagePullPolicy": "Sometimes"})),
            &[
                r#"spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never""#,
            ],
        ),
        (
            container(
                json!({"ports": [{"containerPort": 70000}, {"protocol": "tcp", "containerPort": 1}]}),
            ),
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                r#"spec.containers[0].ports[1].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP""#,
            ],
        ),
        (
            container(
                json!({"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]}),
            ),
            &[r#"spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//9""#],
        ),
        (
            container(json!({"volumeMounts": [{"name": "gone", "mountPath": "/a"}]})),
            &[r#"spec.containers[0].volumeMounts[0].name: Not found: "gone""#],
        ),
        (
            container(
                json!({"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            ),
            &[
                r#"spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#,
            ],
        ),
        (
            container(
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.other"}}}]}),
            ),
            &[
                r#"spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.other": error converting fieldPath: field label not supported: spec.other"#,
            ],
        ),
        (
            container(json!({"livenessProbe": {"successThreshold": 2}})),
            &[
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            container(
                json!({"readinessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}}),
            ),
            &[
                "spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            ],
        ),
    ]);
}

#[test]
fn mistakes_of_pods_are_told_with_their_place() {
    all_told(&[
        (
            pod(
                json!({"initContainers": [{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]}),
            ),
            &[
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
        (
            pod(
                json!({"volumes": [{"name": "a", "secret": {}, "hostPath": {"path": "/a/../b"}}, {"name": "A", "emptyDir": {}}]}),
            ),
            &[
                "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
                r#"spec.volumes[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"#,
            ],
        ),
        (
            pod(json!({"restartPolicy": "Perhaps"})),
            &[
                r#"spec.restartPolicy: Unsupported value: "Perhaps": supported values: "Always", "OnFailure", "Never""#,
            ],
        ),
        (
            pod(json!({"dnsPolicy": "None"})),
            &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            pod(
                json!({"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]}),
            ),
            &[
                r#"spec.tolerations[0].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when `tolerationSeconds` is set"#,
            ],
        ),
        (
            pod(json!({"tolerations": [{"operator": "Exists", "value": "b"}]})),
            &[
                r#"spec.tolerations[0].operator: Invalid value: core.Toleration{Key:"", Operator:"Exists", Value:"b", Effect:"", TolerationSeconds:(*int64)(nil)}: value must be empty when `operator` is 'Exists'"#,
            ],
        ),
        (
            pod(json!({"securityContext": {"runAsUser": -1}})),
            &[
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ],
        ),
    ]);
}

#[test]
fn a_workload_decides_on_restarts_and_deadlines() {
    let mut spec = pod(json!({"restartPolicy": "Never", "activeDeadlineSeconds": 5}));
    set_pod_defaults(&mut spec);
    assert_eq!(told(&spec, Whose::Template), [""; 0]);
    assert_eq!(
        told(&spec, Whose::Keeper("ReplicaSet")),
        [
            r#"spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#,
            "spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
        ]
    );
}

#[test]
fn whatever_stands_in_it_nothing_breaks() {
    for value in [
        json!(null),
        json!([]),
        json!({"containers": {"a": 1}, "volumes": "x", "affinity": []}),
        json!({"containers": [1, null, {"name": 5, "ports": [{"containerPort": "a"}], "env": {}, "resources": []}]}),
    ] {
        let mut spec = value;
        set_pod_defaults(&mut spec);
        assert!(!told(&spec, Whose::Pod).is_empty());
    }
}

#[test]
fn containers_to_look_inside_are_added_later() {
    let pod = json!({"spec": pod(json!({"ephemeralContainers": [{"name": "e", "image": "e"}]}))});
    let told: Vec<String> =
        super::creation_mistakes(&pod).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["spec.ephemeralContainers: Forbidden: cannot be set on create"]);
    assert!(
        super::mistakes(&pod, Whose::Pod)
            .iter()
            .all(|error| error.path.to_string() != "spec.ephemeralContainers")
    );
    let template = json!({"template": pod});
    let told: Vec<String> = super::template_mistakes(&template, "/template", Whose::Template)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(told.contains(&"template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template".to_owned()), "{told:?}");
}

#[test]
fn values_of_pods_are_those_of_kubernetes() {
    let huge = json!({"limits": {"hugepages-2Mi": "3Mi"}});
    let divisor = json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "3"}});
    let spread = json!({"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["a"]});
    all_told(&[
        (pod(json!({"terminationGracePeriodSeconds": -1, "imagePullSecrets": [{}]})), &[]),
        (
            container(json!({"resources": huge})),
            &[
                r#"spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi"#,
                r#"spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi"#,
                "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
            ],
        ),
        (
            container(json!({"env": [{"name": "A", "valueFrom": divisor}]})),
            &[
                r#"spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.memory": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"#,
            ],
        ),
        (
            container(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}})),
            &[
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be greater than 0 and less than terminationGracePeriodSeconds (30). Enable AllowPodLifecycleSleepActionZeroValue feature gate for zero sleep.",
            ],
        ),
        (
            pod(json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]})),
            &[
                r#"spec.tolerations[0].operator: Invalid value: core.Toleration{Key:"a", Operator:"Exists", Value:"b", Effect:"", TolerationSeconds:(*int64)(nil)}: value must be empty when `operator` is 'Exists'"#,
            ],
        ),
        (
            pod(json!({"topologySpreadConstraints": [spread, spread]})),
            &[
                r#"spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, DoNotSchedule}""#,
                r#"spec.topologySpreadConstraints[0].matchLabelKeys[0]: Invalid value: "a": exists in both matchLabelKeys and labelSelector"#,
                r#"spec.topologySpreadConstraints[1].matchLabelKeys[0]: Invalid value: "a": exists in both matchLabelKeys and labelSelector"#,
            ],
        ),
        (
            pod(json!({"schedulingGates": [{"name": "a"}, {"name": "a"}]})),
            &[r#"spec.schedulingGates[1]: Duplicate value: "a""#],
        ),
        (
            pod(json!({"hostUsers": false, "hostPID": true})),
            &["spec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false"],
        ),
        (
            pod(
                json!({"os": {"name": "windows"}, "hostPID": true, "securityContext": {"runAsUser": 1}}),
            ),
            &[
                "spec.hostPID: Forbidden: cannot be set for a windows pod",
                "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
            ],
        ),
        (
            pod(json!({"os": {"name": "plan9"}})),
            &[r#"spec.os: Unsupported value: "plan9": supported values: "linux", "windows""#],
        ),
    ]);
}

#[test]
fn annotations_and_templates_are_looked_at() {
    let told = |errors: Vec<FieldError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut spec = container(json!({"image": " a "}));
    set_pod_defaults(&mut spec);
    let cost = json!({"controller.kubernetes.io/pod-deletion-cost": "+1", "kubernetes.io/config.mirror": "x"});
    let object = json!({"metadata": {"name": "p", "annotations": cost, "labels": {"a": "b c"}}, "spec": spec});
    assert_eq!(
        told(super::mistakes(&object, Whose::Pod)),
        [
            r#"metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod annotation is set"#,
            r#"metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer"#,
            r#"spec.containers[0].image: Invalid value: " a ": must not have leading or trailing whitespace"#,
        ]
    );
    let found = told(super::template_mistakes(&json!({"t": object}), "/t", Whose::Template));
    let places: Vec<&str> = found.iter().filter_map(|one| Some(one.split_once(": ")?.0)).collect();
    assert_eq!(
        places,
        [
            "t.labels",
            "t.annotations[kubernetes.io/config.mirror]",
            "t.annotations[controller.kubernetes.io/pod-deletion-cost]",
        ]
    );
    let gated = json!({"spec": {"nodeName": "n", "schedulingGates": [{"name": "a"}]}});
    assert_eq!(
        told(super::creation_mistakes(&gated)),
        ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]
    );
}
