//! expose, run and describe.

use crate::day::Day;

pub fn play(day: &mut Day) {
    day.kubectl(
        r#"
        create -f web.yaml
        expose deployment web --port=80 --target-port=8080
        get svc web -o yaml
        get svc web -o wide
        describe service web
        expose deployment web --port=80 --name=outside --type=NodePort
        expose deployment web --port=80
        run one --image=busybox:1.36 --port=80 --labels=app=one --env=A=1 --restart=Never -- sleep 60
        get pod one -o jsonpath='{.spec.restartPolicy} {.status.phase} {.spec.containers[0].args}'
        run two --image=busybox:1.36 --expose --port=80
        get svc
        patch svc web -p '{"spec":{"clusterIP":"10.96.0.77"}}'
        patch svc web -p '{"spec":{"type":"NodePort"}}'
        describe svc kubernetes
        describe namespace default
        describe deployment web
        describe pod one
        describe configmap kube-root-ca.crt | sed '/^[A-Za-z0-9+=\/]*$/d'
        describe serviceaccount default
        get endpointslices -n default -l kubernetes.io/service-name=kubernetes
        delete svc web outside
        "#,
    );
}
