//! What a user does wrong, and is told.

use crate::day::Day;

const NOBODYS: &str = "apiVersion: example.org/v1\nkind: Loom\nmetadata: {name: l}\n";
const OLD: &str = "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: d}\n";
const JOB: &str = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {template: {spec: {containers: [{name: a, image: a}]}}}\n";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: NodePort, clusterIP: None, ports: [{port: 80}], externalIPs: [127.0.0.1]}\n";

pub fn play(day: &mut Day) {
    for (file, text) in
        [("nobodys.yaml", NOBODYS), ("old.yaml", OLD), ("job.yaml", JOB), ("service.yaml", SERVICE)]
    {
        day.file(file, text);
    }
    day.kubectl(
        r#"
        get pod nothing
        get nothing
        get pods -n nowhere
        describe pod nothing
        create configmap one
        create configmap one
        create configmap one -n nowhere
        create -f wrong.yaml
        apply -f wrong.yaml
        create -f unknown.yaml
        create -f unknown.yaml --validate=warn
        create -f unknown.yaml --validate=ignore
        create deployment Wrong_Name --image=x
        create service clusterip plain --tcp=80 --clusterip=1.2.3.4
        create cronjob c --image=x --schedule=never
        create deployment web --image=nginx
        patch deployment web --type=merge -p '{"spec":{"selector":{"matchLabels":{"app":"other"}}}}'
        patch deployment web --type=merge -p '{"spec":{"replicas":"many"}}' 2>&1 | sed 's/"{.*}"/OBJECT/'
        patch deployment web -p '{"spec":{"replica":1}}'
        patch deployment web --type=json -p '[{"op":"replace","path":"/spec/none","value":1}]'
        patch deployment web --type=json -p '{"op":"remove","path":"/spec"}'
        patch deployment web --type=json -p '[{"op":"frob","path":"/spec"}]'
        patch deployment web --type=json -p '[{"op":1}]'
        patch deployment web --type=merge -p '[1]'
        patch deployment web -p '[1]'
        patch deployment web -p '{"spec":'
        patch deployment web --type=merge -p '{"metadata":{"name":"other"}}'
        patch configmap nothing -p '{}'
        label configmap one 'bad key=1'
        label configmap one good=bad/value
        scale deployment nothing --replicas=1
        scale deployment web --replicas=-1
        get pods --field-selector spec.nothing=1
        get pods -l 'a in'
        get pods --as=jane
        get pods --as=jane -o json
        delete deployment nothing
        create -f pods.yaml --as=jane
        rollout status deployment nothing
        drain nothing
        taint node nothing a=b:NoSchedule
        wait --for=condition=Ready pod/nothing --timeout=1s
        get --raw /api/v1/namespaces/default/pods/nothing
        create namespace 'Bad_Name'
        run bad --image=x --restart=Sometimes
        explain pods.nothing
        apply -f nobodys.yaml
        apply -f old.yaml
        create -f job.yaml
        create -f service.yaml
        patch deployment web -p '{"spec":{"strategy":{"type":"Recreate"}}}'
        patch deployment web -p '{"spec":{"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":0}}}}'
        create token default --duration=1m
        get --raw /api/v1/namespaces/default/pods/p/ephemeralcontainers -v=0
        "#,
    );
}
