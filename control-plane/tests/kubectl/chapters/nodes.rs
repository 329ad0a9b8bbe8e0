//! cordon, taint, drain and describe of a node that nobody runs.

use crate::day::Day;

pub fn play(day: &mut Day) {
    day.kubectl(
        "
        create -f node.yaml
        get nodes
        get nodes -o wide
        describe node n1
        cordon n1
        cordon n1
        get nodes
        get nodes --field-selector spec.unschedulable=true -o name
        uncordon n1
        get nodes --field-selector spec.unschedulable=false -o name
        taint nodes n1 dedicated=db:NoSchedule
        taint nodes n1 dedicated=web:NoSchedule
        taint nodes n1 dedicated=web:NoSchedule --overwrite
        get node n1 -o jsonpath='{.spec.taints}'
        taint nodes n1 dedicated-
        taint nodes n1 dedicated-
        label node n1 node-role.kubernetes.io/worker=
        get nodes
        get pods -o wide
        get pods --field-selector spec.nodeName=n1 -o name
        drain n1 --timeout=20s
        get node n1 -o jsonpath='{.spec.unschedulable}'
        create poddisruptionbudget calm --selector=app=placed --min-available=1
        ",
    );
    let [pod, budget] = [
        r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#,
        r#"{"status":{"observedGeneration":1,"currentHealthy":1,"desiredHealthy":1,"expectedPods":1,"disruptionsAllowed":0}}"#,
    ];
    day.quietly(&format!("patch pod placed --subresource=status --type=merge -p '{pod}'"));
    day.quietly(&format!("patch pdb calm --subresource=status --type=merge -p '{budget}'"));
    day.kubectl(
        "get pdb,pods
        drain n1 --force --timeout=4s
        delete pdb calm",
    );
    let draining = day.start("drain n1 --force --timeout=60s");
    end_like_a_kubelet(day, "placed");
    day.finish(draining);
    day.kubectl(
        "get pods
        uncordon n1
        create -f node.yaml
        ",
    );
    let deleting = day.start("delete pod placed");
    end_like_a_kubelet(day, "placed");
    day.finish(deleting);
    day.kubectl("delete node n1");
}

/// Waits until the pod is to go, and says that it has gone, as the agent of its node would.
fn end_like_a_kubelet(day: &mut Day, pod: &str) {
    day.wait_for(
        &format!("get pod {pod} -o jsonpath='{{.metadata.deletionGracePeriodSeconds}}'"),
        "30",
    );
    day.quietly(&format!(
        "delete --raw '/api/v1/namespaces/default/pods/{pod}?gracePeriodSeconds=0'"
    ));
}
