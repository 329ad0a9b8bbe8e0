//! rollout, with the replica sets that a controller would have made.

use crate::day::Day;

pub fn play(day: &mut Day) {
    day.kubectl("create -f web.yaml");
    day.quietly("annotate deployment web deployment.kubernetes.io/revision=2");
    let owner = day.quietly("get deployment web -o jsonpath='{.metadata.uid}'");
    let history = include_str!("../manifests/history.yaml").replace("OWNER", &owner);
    day.file("history.yaml", &history);
    day.kubectl(
        r#"
        rollout status deployment/web --timeout=1s
        create -f history.yaml
        get rs -o wide
        rollout history deployment/web
        rollout history deployment/web --revision=1
        rollout history deployment/web --revision=7
        rollout undo deployment/web --to-revision=1
        get deployment web -o jsonpath='{.spec.template.spec.containers[0].image} {.metadata.generation}'
        rollout undo deployment/web --to-revision=7
        rollout pause deployment/web
        rollout pause deployment/web
        rollout resume deployment/web
        rollout restart deployment/web
        get deployment web -o jsonpath='{.spec.template.metadata.annotations}'
        patch deployment web --subresource=status --type=merge -p '{"status":{"observedGeneration":9,"replicas":2,"updatedReplicas":2,"availableReplicas":2,"readyReplicas":2,"conditions":[{"type":"Available","status":"True"},{"type":"Progressing","status":"True","reason":"NewReplicaSetAvailable"}]}}'
        rollout status deployment/web
        wait --for=condition=Available deployment/web --timeout=10s
        wait --for=condition=Available=False deployment/web --timeout=1s
        wait --for=jsonpath='{.status.readyReplicas}'=2 deployment/web --timeout=10s
        get deployment web
        describe deployment web
        "#,
    );
    let waiting =
        day.start("wait --for=jsonpath='{.spec.replicas}'=8 deployment/web --timeout=60s");
    day.kubectl("scale deployment/web --replicas=8");
    day.finish(waiting);
}
