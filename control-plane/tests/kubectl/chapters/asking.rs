//! What the server says of itself, and of who may do what.

use crate::day::Day;

pub fn play(day: &mut Day) {
    the_server(day);
    permissions(day);
    documents(day);
}

fn the_server(day: &mut Day) {
    day.kubectl(
        "
        version | grep Server
        cluster-info
        cluster-info --as=jane
        api-versions | grep -E '^(v1|(apps|batch|policy)/v1)$'
        api-resources --api-group=
        api-resources --api-group=networking.k8s.io --namespaced=false --verbs=list -o name
        api-resources --api-group=apps -o wide
        explain deployment
        explain deployment.spec.strategy --recursive
        explain pod.spec.containers.resources
        explain cronjob.spec.schedule
        explain pod.spec.restartPolicy
        explain service.spec.type
        explain deployment.spec.strategy.type
        explain pod.spec.containers.imagePullPolicy
        explain nothing
        explain pod.spec.nothing
        get --raw /healthz
        get --raw /livez
        get --raw '/readyz?verbose'
        get --raw '/readyz?verbose&exclude=ping&exclude=etcd'
        get --raw /readyz/shutdown
        get --raw /livez/nothing
        get --raw /
        get --raw / --as=jane
        get --raw /version
        get --raw /nothing
        ",
    );
}

fn permissions(day: &mut Day) {
    day.kubectl(
        "
        auth whoami
        auth whoami -o json
        auth whoami --as=jane --as-group=devs
        auth can-i create pods
        auth can-i '*' '*'
        auth can-i create pods --as=jane
        auth can-i get pods/log --as=jane
        auth can-i create nothing
        create role reader --verb=get,list,watch --resource=pods,deployments.apps
        create rolebinding readers --role=reader --user=jane --group=devs --serviceaccount=default:bot
        create clusterrole nodes --verb=get --resource=nodes --non-resource-url=/metrics
        create clusterrole nodes --verb=get --resource=nodes
        create clusterrolebinding nodes --clusterrole=nodes --user=jane
        ",
    );
    day.wait_for("auth can-i list pods --as=jane || true", "yes");
    day.wait_for("auth can-i get nodes --as=jane || true", "yes");
    day.kubectl(
        "
        auth can-i list pods --as=jane
        auth can-i list pods --as=joe --as-group=devs
        auth can-i list pods --as=system:serviceaccount:default:bot
        auth can-i list pods -n kube-system --as=jane
        auth can-i get nodes --as=jane
        auth can-i --list
        auth can-i --list --as=jane
        get pods --as=jane
        get secrets --as=jane
        get pods -n kube-system --as=jane
        get pods -A --as=jane
        delete pod x --as=jane
        create configmap x --as=jane
        get roles,rolebindings
        get role reader -o yaml
        get clusterrolebinding nodes -o wide
        describe role reader
        describe rolebinding readers
        get clusterroles cluster-admin admin edit view
        describe clusterrole nodes
        auth reconcile -f rules.yaml
        auth reconcile -f rules.yaml
        ",
    );
}

/// Each group has a document, and something in it.
fn documents(day: &mut Day) {
    let paths = day.quietly("get --raw /openapi/v3");
    let index: serde_json::Value = serde_json::from_str(&paths).expect("the index is JSON");
    for path in ["api/v1", "apis/apps/v1", "apis/batch/v1", "apis/rbac.authorization.k8s.io/v1"] {
        let url = index["paths"][path]["serverRelativeURL"]
            .as_str()
            .expect("each group has its document");
        let document: serde_json::Value =
            serde_json::from_str(&day.quietly(&format!("get --raw '{url}'"))).expect("JSON");
        assert!(
            document["paths"].as_object().is_some_and(|paths| !paths.is_empty()),
            "{path} has no paths"
        );
    }
}
