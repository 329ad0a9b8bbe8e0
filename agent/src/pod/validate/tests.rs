use serde_json::json;

use super::*;

fn check(value: &Value) -> Result<(), Vec<String>> {
    let object: Pod = serde_json::from_value(value.clone()).unwrap();
    pod(&object, value)
}

fn web(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn expect(value: &Value, expected: &[&str]) {
    let errors = check(value).unwrap_err();
    for words in expected {
        assert!(errors.iter().any(|error| error.starts_with(words)), "{words}\n---\n{errors:#?}");
    }
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
}

#[test]
fn every_mistake_is_named_with_its_field() {
    let value = web(json!({
        "restartPolicy": "Sometimes", "dnsPolicy": "None", "hostname": "A", "terminationGracePeriodSeconds": -1,
        "securityContext": {"runAsUser": -1, "supplementalGroups": [5, 4_294_967_296_i64]},
        "containers": [
            {"name": "C", "image": "i", "ports": [{"containerPort": 70000, "protocol": "ICMP", "name": "Web"}]},
            {"name": "d", "workingDir": "x", "imagePullPolicy": "Perhaps", "ports": [{"containerPort": 1, "name": "http"}],
             "resources": {"limits": {"memory": "lots", "nvidia.com/gpu": "1", "cpu": "1"}, "requests": {"cpu": "1500m"}}},
            {"name": "d", "image": " ", "env": [{"name": "A=B"}], "args": ["a\0b"], "securityContext": {"runAsGroup": -5},
             "ports": [{"containerPort": 1, "name": "http"}]}]}));
    expect(
        &value,
        &[
            "spec.restartPolicy: \"Sometimes\"",
            "spec.dnsPolicy: \"None\"",
            "spec.hostname",
            "spec.terminationGracePeriodSeconds",
            "spec.securityContext.runAsUser: -1",
            "spec.securityContext.supplementalGroups[1]: 4294967296",
            "spec.containers[0].name: \"C\"",
            "spec.containers[0].ports[0].containerPort: 70000",
            "spec.containers[0].ports[0].protocol",
            "spec.containers[0].ports[0].name: \"Web\"",
            "spec.containers[1].image: is needed",
            "spec.containers[1].workingDir",
            "spec.containers[1].imagePullPolicy",
            "spec.containers[1].resources.limits.memory: \"lots\"",
            "spec.containers[1].resources.limits.nvidia.com/gpu: is not supported yet",
            "spec.containers[1].resources.requests.cpu: 1500m is more than the limit",
            "spec.containers[2].name: d is used twice",
            "spec.containers[2].image: is needed",
            "spec.containers[2].env[0].name",
            "spec.containers[2].args[0]",
            "spec.containers[2].securityContext.runAsGroup: -5",
            "spec.containers[2].ports[0].name: http is used twice",
        ],
    );
}

#[test]
fn what_is_not_supported_yet_is_refused_by_name() {
    let value = web(json!({
        "volumes": [{"name": "v"}], "initContainers": [{"name": "i"}], "hostNetwork": true, "hostPID": false,
        "securityContext": {"fsGroup": 1, "runAsUser": 1}, "nodeSelector": {"a": "b"}, "tolerations": [],
        "containers": [{"name": "c", "image": "i", "livenessProbe": {}, "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "envFrom": [{"prefix": "x"}], "env": [{"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
            "ports": [{"containerPort": 80, "appProtocol": "x"}], "lifecycle": null,
            "securityContext": {"capabilities": {}, "privileged": true}, "resources": {"claims": [{"name": "x"}]}}]}));
    expect(
        &value,
        &[
            "spec.volumes: is not supported yet",
            "spec.initContainers",
            "spec.hostNetwork",
            "spec.securityContext.fsGroup",
            "spec.nodeSelector",
            "spec.containers[0].livenessProbe",
            "spec.containers[0].volumeMounts",
            "spec.containers[0].envFrom",
            "spec.containers[0].env[0].valueFrom",
            "spec.containers[0].ports[0].appProtocol",
            "spec.containers[0].securityContext.capabilities",
            "spec.containers[0].resources.claims",
        ],
    );
}

#[test]
fn names() {
    let named = |namespace: &str, name: &str| {
        let mut value = web(json!({"containers": [{"name": "c", "image": "i"}]}));
        value["metadata"] = json!({"name": name, "namespace": namespace});
        check(&value).map_err(|errors| errors.join("; "))
    };
    assert_eq!(named("default", "web.example-1"), Ok(()));
    assert_eq!(named("default", &"a".repeat(255 - 38 - 7)), Ok(()));
    for (namespace, name, expected) in [
        ("default", "", "metadata.name: is needed"),
        ("default", "Web", "metadata.name: \"Web\""),
        ("default", "../../etc", "metadata.name: \"../../etc\""),
        ("default", "a..b", "metadata.name: \"a..b\""),
        ("default", &"a".repeat(254), "at most 253"),
        ("default", &"a".repeat(255 - 38 - 6), "at most 210 characters"),
        ("a.b", "web", "metadata.namespace: \"a.b\""),
        ("", "web", "metadata.namespace: \"\""),
        (&"n".repeat(64), "web", "metadata.namespace"),
    ] {
        let errors = named(namespace, name).unwrap_err();
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
}

#[test]
fn an_empty_pod_says_what_it_needs() {
    expect(&json!({"metadata": {"name": "web", "namespace": "n"}}), &["spec: is needed"]);
    expect(&web(json!({"containers": []})), &["spec.containers: at least one is needed"]);
}

#[test]
fn host_ports() {
    let ports =
        |ports: Value| web(json!({"containers": [{"name": "c", "image": "i", "ports": ports}]}));
    let good = json!([
        {"containerPort": 80, "hostPort": 8080}, {"containerPort": 80, "hostPort": 8080, "protocol": "UDP"},
        {"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}, {"containerPort": 81, "hostPort": 0},
    ]);
    assert_eq!(check(&ports(good)), Ok(()));
    expect(
        &ports(json!([
            {"containerPort": 80, "hostPort": 8080}, {"containerPort": 81, "hostPort": 8080},
            {"containerPort": 82, "hostPort": 70000}, {"containerPort": 83, "hostIP": "here", "hostPort": 1},
        ])),
        &[
            "spec.containers[0].ports[1].hostPort: 8080 is used twice",
            "spec.containers[0].ports[2].hostPort: 70000 is not between",
            "spec.containers[0].ports[3].hostIP: \"here\" is not an IP address",
        ],
    );
}
