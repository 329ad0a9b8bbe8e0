//! create in all its forms.

use crate::day::Day;

pub fn play(day: &mut Day) {
    day.kubectl(
        "
        create namespace shop
        create ns shop
        get ns shop -o yaml
        create deployment web --image=nginx:1.27 --replicas=3 --port=80
        get deployment web -o yaml
        get deployment web -o wide
        create configmap conf --from-literal=a=1 --from-file=settings.yaml
        create secret generic pass --from-literal=word=secret
        get secret pass -o jsonpath='{.data.word} {.type}'
        create secret docker-registry pull --docker-server=example.org --docker-username=u --docker-password=p
        get secrets
        create serviceaccount bot
        create job once --image=busybox:1.36 -- echo hello
        get job once -o wide
        create cronjob nightly --image=busybox:1.36 --schedule='0 3 * * *' -- echo night
        get cronjobs -o wide
        create job now --from=cronjob/nightly
        get job now -o jsonpath='{.metadata.ownerReferences[0].kind} {.spec.template.spec.containers[0].command}'
        create -f web.yaml --edit=false --save-config -n shop
        get deploy web -n shop -o jsonpath='{.metadata.annotations}'
        create service clusterip plain --tcp=80:8080
        create service nodeport outside --tcp=80:8080
        create service loadbalancer big --tcp=443
        create service externalname far --external-name=example.org
        create service clusterip bare --clusterip=None --tcp=80
        get services
        create ingress front --rule=shop.example/*=plain:80,tls=cert
        get ingress front
        create quota few --hard=pods=2,services=5 -n shop
        get quota -n shop
        create role reader --verb=get --resource=pods
        create rolebinding readers --role=reader --user=jane
        create clusterrole counter --verb=list --resource=nodes
        create clusterrolebinding counters --clusterrole=counter --group=devs
        create poddisruptionbudget calm --selector=app=web --min-available=1
        get pdb
        create priorityclass high --value=1000 --description=first
        get priorityclass high
        create token bot
        create token bot --duration=1h --audience=x
        create token nobody
        create -f web.yaml
        ",
    );
    day.wait_for("get serviceaccount default -n shop -o name", "serviceaccount/default");
    day.kubectl(
        "
        create -f pods.yaml -n shop
        run third --image=busybox:1.36 -n shop
        describe quota few -n shop
        create deployment dry --image=x --dry-run=client
        create deployment dry --image=x --dry-run=server
        create deployment dry --image=x --dry-run=client -o yaml
        create deployment dry --image=x --dry-run=server -o jsonpath='{.spec.strategy.type}'
        get deployment dry
        create -f pods.yaml -o name --dry-run=server
        ",
    );
    let token = day.quietly("create token bot");
    day.file("token", token.trim());
    day.kubectl("auth whoami --kubeconfig=/dev/null --server=$SERVER --insecure-skip-tls-verify --token=$(cat token)");
    day.kubectl(
        "get pods --kubeconfig=/dev/null --server=$SERVER --insecure-skip-tls-verify --token=wrong",
    );
}
