//! get in all its forms, and watching.

use crate::day::Day;

pub fn play(day: &mut Day) {
    day.kubectl(
        "
        get namespaces
        create -f pods.yaml
        get pods
        get pods -o wide
        get pods -A
        get pods --show-labels
        get pods -L colour,app
        get pods -l colour=red
        get pods -l 'colour in (red,blue),colour!=red' -o name
        get pods --field-selector metadata.name=red --no-headers
        get pods --sort-by '{.metadata.labels.colour}' --no-headers
        get pods --sort-by '.spec.containers[0].name' -o name
        get pod blue -o yaml
        get pod blue -o json
        get pods -o jsonpath='{range .items[*]}{.metadata.name}={.spec.containers[*].image};{end}'
        get pods -o name
        get pods -o custom-columns=NAME:.metadata.name,QOS:.status.qosClass
        get pods --chunk-size=1
        get pods red blue --ignore-not-found
        get pods red green
        get -f pods.yaml
        get pods --field-selector status.phase!=Pending
        get pods -o go-template='{{range .items}}{{.metadata.name}} {{end}}'
        get pods --server-print=false
        get pods,configmaps -o name
        get all
        get svc kubernetes -o wide
        get endpointslices,endpoints
        get nodes
        get po/blue cm/kube-root-ca.crt
        get configmap -n kube-system
        events
        ",
    );
    let uid = day.quietly("get pod blue -o jsonpath='{.metadata.uid}'");
    let moment = day.quietly("get pod blue -o jsonpath='{.metadata.creationTimestamp}'");
    let events =
        include_str!("../manifests/events.yaml").replace("OBJECT", &uid).replace("MOMENT", &moment);
    day.file("events.yaml", &events);
    day.kubectl(
        "
        create -f events.yaml
        events
        get events
        get events -o wide
        events --for pod/blue
        describe pod blue
        ",
    );
    day.while_running(
        "get configmaps -w",
        2,
        "create configmap one --from-literal=a=1\nlabel cm one x=y\ndelete cm one",
        5,
    );
    let types = "get pods -w --output-watch-events -o jsonpath='{.type} {.object.metadata.labels}{\"\\n\"}'";
    day.while_running(types, 2, "label pod red size=big", 3);
    let event = "patch event blue.1 --type=merge -p '{\"count\":2}'";
    day.while_running("get events -w", 2, event, 3);
    day.while_running("events --watch", 2, event.replace('2', "3").as_str(), 2);
}
