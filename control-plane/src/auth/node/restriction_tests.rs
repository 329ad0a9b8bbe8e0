//! What the kubelet of node n1 may write.

use serde_json::json;

use super::*;

fn ask(verb: Verb, what: &str, name: &str, new: &Value, old: Option<&Value>) -> Result<(), String> {
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (group, namespace) = match resource {
        "leases" => ("coordination.k8s.io", LEASES),
        "nodes" => ("", ""),
        _ => ("", "dev"),
    };
    let change = Change {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
        new,
        old,
        node_uid: Some("node-uid"),
    };
    let node = User::new("system:node:n1", ["system:nodes"]);
    admit(&User::new("ada", []), &change).unwrap();
    admit(&node, &change)
}

fn mirror() -> Value {
    json!({"metadata": {"name": "static-n1", "annotations": {MIRROR: "hash"}, "ownerReferences": [
        {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": true}]},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}})
}

#[test]
fn mirror_pods_are_the_only_pods_that_it_makes() {
    let create = |pod: &Value| ask(Verb::Create, "pods", "", pod, None);
    assert_eq!(create(&mirror()), Ok(()));
    let cases = [
        (
            "/metadata/annotations",
            json!({}),
            r#"pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods"#,
        ),
        (
            "/spec/nodeName",
            json!("n2"),
            r#"node "n1" can only create pods with spec.nodeName set to itself"#,
        ),
        (
            "/metadata/ownerReferences",
            json!([]),
            r#"node "n1" can only create pods with an owner reference set to itself"#,
        ),
        (
            "/metadata/ownerReferences/0/name",
            json!("n2"),
            r#"node "n1" can only create pods with an owner reference set to itself"#,
        ),
        (
            "/metadata/ownerReferences/0/controller",
            json!(false),
            r#"node "n1" can only create pods with a controller owner reference set to itself"#,
        ),
        (
            "/metadata/ownerReferences/0/uid",
            json!("x"),
            "node n1 UID mismatch: expected node-uid got x",
        ),
        (
            "/spec/containers/0",
            json!({"envFrom": [{"secretRef": {"name": "s"}}]}),
            r#"node "n1" can not create pods that reference secrets"#,
        ),
        (
            "/spec/containers/0",
            json!({"env": [{"valueFrom": {"configMapKeyRef": {"name": "s"}}}]}),
            r#"node "n1" can not create pods that reference configmaps"#,
        ),
    ];
    for (pointer, value, expected) in cases {
        let mut pod = mirror();
        *pod.pointer_mut(pointer).unwrap() = value;
        assert_eq!(create(&pod).unwrap_err(), expected);
    }
    let mut pod = mirror();
    let owner = pod["metadata"]["ownerReferences"][0].clone();
    pod["metadata"]["ownerReferences"] = json!([owner, owner]);
    assert_eq!(
        create(&pod).unwrap_err(),
        r#"node "n1" can only create pods with a single owner reference set to itself"#
    );
    let mut pod = mirror();
    pod["spec"]["serviceAccountName"] = json!("default");
    assert_eq!(
        create(&pod).unwrap_err(),
        r#"node "n1" can not create pods that reference a service account"#
    );
    pod["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = json!(true);
    assert!(create(&pod).unwrap_err().contains("must not set blockOwnerDeletion"));
}

#[test]
fn it_deletes_evicts_and_reports_about_its_own_pods() {
    let (own, other) = (json!({"spec": {"nodeName": "n1"}}), json!({"spec": {"nodeName": "n2"}}));
    let cases = [
        (
            Verb::Delete,
            "pods",
            r#"node "n1" can only delete pods with spec.nodeName set to itself"#,
        ),
        (
            Verb::Update,
            "pods/status",
            r#"node "n1" can only update pod status for pods with spec.nodeName set to itself"#,
        ),
        (
            Verb::Create,
            "pods/eviction",
            "node n1 can only evict pods with spec.nodeName set to itself",
        ),
    ];
    for (verb, what, refusal) in cases {
        assert_eq!(ask(verb, what, "web", &json!({}), Some(&own)), Ok(()), "{what}");
        assert_eq!(ask(verb, what, "web", &json!({}), Some(&other)).unwrap_err(), refusal);
        assert_eq!(
            ask(verb, what, "web", &json!({}), None).unwrap_err(),
            refusal,
            "it does not exist"
        );
    }
    let labelled = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"nodeName": "n1"}});
    let refused = ask(Verb::Update, "pods/status", "web", &labelled, Some(&own)).unwrap_err();
    assert_eq!(refused, r#"node "n1" cannot update labels through pod status"#);
    let another = json!({"metadata": {"name": "other"}});
    assert!(ask(Verb::Create, "pods/eviction", "web", &another, Some(&own)).is_err());
    let refused = ask(Verb::Update, "pods", "web", &own, Some(&own)).unwrap_err();
    assert_eq!(
        refused,
        r#"unexpected operation "UPDATE", node "n1" can only create and delete mirror pods"#
    );
    let refused =
        ask(Verb::Update, "pods/ephemeralcontainers", "web", &own, Some(&own)).unwrap_err();
    assert_eq!(
        refused,
        "unexpected pod subresource \"ephemeralcontainers\", only 'status' and 'eviction' are allowed"
    );
}

#[test]
fn it_writes_its_own_node_but_for_taints_and_foreign_labels() {
    let node = |labels: Value| json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": [{"key": "a"}]}});
    let old =
        node(json!({"kubernetes.io/os": "linux", "node-restriction.kubernetes.io/tier": "a"}));
    let kept = |more: Value| {
        let mut labels = old["metadata"]["labels"].clone();
        labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        node(labels)
    };
    for labels in [
        json!({}),
        json!({"kubernetes.io/arch": "arm64", "example.com/x": "y", "plain": "z"}),
        json!({"a.kubelet.kubernetes.io/x": "y", "node.kubernetes.io/instance-type": "z", "notkubernetes.io/x": "y"}),
    ] {
        assert_eq!(
            ask(Verb::Update, "nodes", "n1", &kept(labels.clone()), Some(&old)),
            Ok(()),
            "{labels}"
        );
        assert_eq!(ask(Verb::Create, "nodes", "", &node(labels.clone()), None), Ok(()), "{labels}");
    }
    let foreign = json!({"node-role.kubernetes.io/control-plane": "", "x.k8s.io/y": "", "x.node-restriction.kubernetes.io/z": ""});
    let list =
        "node-role.kubernetes.io/control-plane, x.k8s.io/y, x.node-restriction.kubernetes.io/z";
    let refused = ask(Verb::Update, "nodes", "n1", &kept(foreign.clone()), Some(&old)).unwrap_err();
    assert_eq!(refused, format!("is not allowed to modify labels: {list}"));
    let refused = ask(Verb::Create, "nodes", "", &node(foreign), None).unwrap_err();
    assert_eq!(refused, format!("node \"n1\" is not allowed to set the following labels: {list}"));
    let removed = node(json!({"kubernetes.io/os": "linux"}));
    assert!(
        ask(Verb::Update, "nodes", "n1", &removed, Some(&old)).is_err(),
        "a label that is taken away"
    );
    let mut untainted = kept(json!({}));
    untainted["spec"] = json!({});
    assert_eq!(
        ask(Verb::Update, "nodes", "n1", &untainted, Some(&old)).unwrap_err(),
        r#"node "n1" is not allowed to modify taints"#
    );
    let mut owned = kept(json!({}));
    owned["metadata"]["ownerReferences"] = json!([{"kind": "Node"}]);
    assert_eq!(
        ask(Verb::Update, "nodes", "n1", &owned, Some(&old)).unwrap_err(),
        r#"node "n1" is not allowed to modify ownerReferences"#
    );
    for what in ["nodes", "nodes/status"] {
        let refused =
            ask(Verb::Update, what, "n2", &json!({"metadata": {"name": "n2"}}), Some(&json!({})))
                .unwrap_err();
        assert_eq!(refused, r#"node "n1" is not allowed to modify node "n2""#);
    }
    let sly =
        ask(Verb::Update, "nodes", "n1", &json!({"metadata": {"name": "n2"}}), Some(&json!({})));
    assert!(sly.is_err(), "the path says one name, the object another");
}

#[test]
fn it_gets_tokens_for_its_own_pods_only() {
    let request = |uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid}}});
    let pod = |node: &str| json!({"metadata": {"uid": "p1"}, "spec": {"nodeName": node}});
    let create = |request: &Value, pod: Option<&Value>| {
        ask(Verb::Create, "serviceaccounts/token", "builder", request, pod)
    };
    assert_eq!(create(&request("p1"), Some(&pod("n1"))), Ok(()));
    let cases = [
        (json!({"spec": {}}), Some(pod("n1")), "node requested token not bound to a pod"),
        (
            json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "x"}}}),
            Some(pod("n1")),
            "node requested token not bound to a pod",
        ),
        (request(""), Some(pod("n1")), "node requested token with a pod binding without a uid"),
        (request("p1"), None, "pod \"web\" not found"),
        (
            request("p0"),
            Some(pod("n1")),
            "the UID in the bound object reference (p0) does not match",
        ),
        (
            request("p1"),
            Some(pod("n2")),
            "node requested token bound to a pod scheduled on a different node",
        ),
    ];
    for (request, pod, expected) in cases {
        let refused = create(&request, pod.as_ref()).unwrap_err();
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn it_holds_its_own_lease_only() {
    let lease = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(ask(Verb::Create, "leases", "", &lease("n1"), None), Ok(()));
    assert_eq!(ask(Verb::Update, "leases", "n1", &lease("n1"), None), Ok(()));
    let refused = ask(Verb::Create, "leases", "", &lease("n2"), None).unwrap_err();
    assert_eq!(refused, "can only access node lease with the same name as the requesting node");
    assert!(
        ask(Verb::Create, "leases", "", &json!({"metadata": {"generateName": "n1"}}), None)
            .is_err()
    );
}
