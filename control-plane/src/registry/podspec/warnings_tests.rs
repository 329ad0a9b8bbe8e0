use serde_json::{Value, json};

use super::*;

/// What is told of a pod with this spec; a container `a` is there unless the spec has its own.
fn told(spec: &Value) -> Vec<String> {
    told_of(spec, &json!({}))
}

fn told_of(spec: &Value, annotations: &Value) -> Vec<String> {
    let mut pod =
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "a"}]}});
    for (field, value) in spec.as_object().expect("a map") {
        pod["spec"][field] = value.clone();
    }
    warnings(&Spot::root(&pod))
}

#[test]
fn fields_that_do_nothing_are_told() {
    let affinity = "spec.affinity.nodeAffinity";
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let old = json!({"matchExpressions": [{"key": "beta.kubernetes.io/arch"}]});
    let cases = [
        (json!({}), vec![]),
        (
            json!({"nodeSelector": {"beta.kubernetes.io/os": "linux", "kubernetes.io/os": "linux"}}),
            vec![r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#.to_owned()],
        ),
        (
            json!({"affinity": {"nodeAffinity": {required: {"nodeSelectorTerms": [old]}, preferred: [{"preference": old}]}}}),
            [format!("{required}.nodeSelectorTerms[0]"), format!("{preferred}[0].preference")]
                .map(|term| format!(r#"{affinity}.{term}.matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use "kubernetes.io/arch" instead"#))
                .to_vec(),
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}]}),
            vec![
                r#"spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#.to_owned(),
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod".to_owned(),
            ],
        ),
        (
            json!({"affinity": {"podAntiAffinity": {preferred: [{"podAffinityTerm": {}}]}, "podAffinity": {required: [{"labelSelector": {}}]}}}),
            vec![format!("spec.affinity.podAntiAffinity.{preferred}[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod")],
        ),
        (
            json!({"volumes": [{"gitRepo": {}}, {"storageos": {}}, {"emptyDir": {}}]}),
            vec![
                "spec.volumes[0].gitRepo: deprecated in v1.11".to_owned(),
                "spec.volumes[1].storageOS: deprecated in v1.22, non-functional in v1.25+".to_owned(),
            ],
        ),
        (
            json!({"volumes": [{"ephemeral": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "500m"}}}}}}]}),
            vec![r#"spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value "500m" is invalid, must be an integer"#.to_owned()],
        ),
        (
            json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"secret": {"items": [{"path": "s"}, {"path": "t"}]}}]}}]}),
            vec![r#"spec.volumes[0].projected.sources.secrets[1]: has duplicated path with ServiceAccountToken "t""#.to_owned()],
        ),
        (
            json!({"hostAliases": [{"ip": "::1"}, {"ip": "::1"}], "imagePullSecrets": [{"name": "p"}, {"name": "p"}, {}]}),
            vec![
                r#"spec.hostAliases[1].ip: duplicate ip "::1""#.to_owned(),
                r#"spec.imagePullSecrets[1].name: duplicate name "p""#.to_owned(),
                r#"spec.imagePullSecrets[2].name: invalid empty name """#.to_owned(),
            ],
        ),
        (
            json!({"overhead": {"memory": "1500m", "cpu": "1m"}, "terminationGracePeriodSeconds": -1}),
            vec![
                r#"spec.overhead[memory]: fractional byte value "1500m" is invalid, must be an integer"#.to_owned(),
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1".to_owned(),
            ],
        ),
        (
            json!({"containers": [{"name": "a", "resources": {"limits": {"memory": "100m", "cpu": "100m"}, "requests": {"ephemeral-storage": "1.5"}}}]}),
            vec![
                r#"spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer"#.to_owned(),
                r#"spec.containers[0].resources.requests[ephemeral-storage]: fractional byte value "1500m" is invalid, must be an integer"#.to_owned(),
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(told(&spec), expected, "{spec}");
    }
}

#[test]
fn a_variable_may_go_on_from_its_former_value_only() {
    let of = |second: Value| {
        told(&json!({"containers": [{"env": [{"name": "X", "value": "a"}, second]}]}))
    };
    let hides = [
        r#"spec.containers[0].env[1]: hides previous definition of "X", which may be dropped when using apply"#,
    ];
    assert!(of(json!({"name": "X", "value": "$(X)b"})).is_empty());
    assert!(of(json!({"name": "Y", "value": "b"})).is_empty());
    assert_eq!(of(json!({"name": "X", "value": "b"})), hides);
    assert_eq!(of(json!({"name": "X", "value": "$(X)"})), hides);
    assert_eq!(of(json!({"name": "X", "valueFrom": {"fieldRef": {}}})), hides);
}

#[test]
fn ports_in_each_others_way_are_told() {
    let of = |first: Value, second: Value| {
        told(&json!({"initContainers": [{"ports": [first]}], "containers": [{"ports": [second]}]}))
    };
    let port = |host: i64, address: &str| json!({"containerPort": 80, "hostPort": host, "hostIP": address, "protocol": "TCP"});
    let with = |how: &str| {
        vec![format!(
            "spec.containers[0].ports[0]: {how} port definition with spec.initContainers[0].ports[0]"
        )]
    };
    assert_eq!(of(port(0, ""), port(0, "")), with("duplicate"));
    assert_eq!(of(port(80, ""), port(0, "")), with("overlapping"));
    assert_eq!(of(port(80, "1.1.1.1"), port(80, "")), with("dangerously ambiguous"));
    assert!(of(port(80, "1.1.1.1"), port(80, "2.2.2.2")).is_empty());
    assert!(of(port(80, ""), port(81, "")).is_empty());
    assert!(of(port(80, ""), json!({"containerPort": 80, "protocol": "UDP"})).is_empty());
    assert_eq!(
        told(&json!({"containers": [{"ports": [port(0, "1.1.1.1")]}]})),
        [
            "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:1.1.1.1}"
        ]
    );
}

#[test]
fn annotations_of_old_are_told_where_no_field_says_the_same() {
    let annotations = json!({
        "scheduler.alpha.kubernetes.io/critical-pod": "", "seccomp.security.alpha.kubernetes.io/pod": "",
        "container.seccomp.security.alpha.kubernetes.io/a": "", "container.apparmor.security.beta.kubernetes.io/a": "",
        "container.apparmor.security.beta.kubernetes.io/other": "",
    });
    let critical = r#"metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead"#;
    assert_eq!(
        told_of(&json!({}), &annotations),
        [
            critical,
            r#"metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "seccompProfile" field instead"#,
            r#"metadata.annotations[container.seccomp.security.alpha.kubernetes.io/a]: non-functional in v1.27+; use the "seccompProfile" field instead"#,
        ]
    );
    let template = |spec: &Value| {
        let object = json!({"template": {"metadata": {"annotations": annotations}, "spec": spec}});
        template_warnings(&object, "/template")
    };
    assert_eq!(
        template(&json!({"containers": [{"name": "a"}]}))[3..],
        [
            r#"template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]: deprecated since v1.30; use the "appArmorProfile" field instead"#
        ]
    );
    let said = json!({"securityContext": {"seccompProfile": {}, "appArmorProfile": {}},
        "containers": [{"name": "a", "securityContext": {"seccompProfile": {}}}]});
    assert_eq!(told_of(&said, &annotations), [critical]);
    assert_eq!(template(&said).len(), 1);
}

#[test]
fn a_template_is_told_of_with_its_place() {
    let object = json!({"spec": {"template": {"spec": {"nodeSelector": {"app.kubernetes.io/created-by": "x"}}}}});
    assert_eq!(
        template_warnings(&object, "/spec/template"),
        ["spec.template.spec.nodeSelector[app.kubernetes.io/created-by]: deprecated since v1.9"]
    );
}
