//! delete in all its forms, and what it takes with it.

use crate::day::Day;

pub fn play(day: &mut Day) {
    day.kubectl(
        r#"
        create -f pods.yaml
        delete pod blue
        get pods -o name
        delete pod red --force
        delete pod red
        delete pod red --ignore-not-found
        create -f pods.yaml
        delete -f pods.yaml --now
        create -f pods.yaml
        delete pods -l colour=red
        delete pods --all
        delete pods -l colour=none
        create -f pods.yaml
        delete pod/blue pod/red
        create -f settings.yaml
        delete cm settings --dry-run=server
        delete cm settings --dry-run=client
        delete -f settings.yaml -o name
        delete pods,cm -l colour=red
        create configmap kept
        patch cm kept -p '{"metadata":{"finalizers":["example.org/wait"]}}'
        delete cm kept --wait=false
        get cm kept -o jsonpath='{.metadata.finalizers} {.metadata.deletionTimestamp}'
        delete cm kept --timeout=1s
        "#,
    );
    // whether it prints anything depends on whether it asks before or after the object goes
    let waiting = day.start("wait --for=delete cm/kept --timeout=60s >/dev/null");
    day.kubectl("patch cm kept --type=merge -p '{\"metadata\":{\"finalizers\":null}}'");
    day.finish(waiting);
    day.kubectl("wait --for=delete cm/kept --timeout=10s");
    let waiting = day.start("wait --for=create cm/late --timeout=60s");
    day.quietly("create configmap late");
    day.finish(waiting);
    for cascade in ["background", "foreground", "orphan"] {
        family(day);
        day.kubectl(&format!("delete deployment web --cascade={cascade}"));
        if cascade == "background" {
            // they may be gone before or after kubectl asks
            day.quietly("wait --for=delete rs/web-1 rs/web-2 --timeout=60s");
        }
        day.kubectl("get rs -o name");
    }
    day.kubectl(
        "
        get rs -o jsonpath='{range .items[*]}{.metadata.ownerReferences}{end}'
        delete rs --all
        create namespace shop
        ",
    );
    day.wait_for("get serviceaccount default -n shop -o name", "serviceaccount/default");
    day.kubectl(
        "
        create -f pods.yaml -n shop
        create deployment web --image=nginx:1.27 -n shop
        delete namespace shop
        get pods -n shop
        get ns shop
        create configmap late -n shop
        delete namespace kube-system
        ",
    );
}

/// A deployment and its replica sets.
fn family(day: &mut Day) {
    day.quietly("create -f web.yaml");
    let owner = day.quietly("get deployment web -o jsonpath='{.metadata.uid}'");
    day.file("history.yaml", &include_str!("../manifests/history.yaml").replace("OWNER", &owner));
    day.quietly("create -f history.yaml");
}
