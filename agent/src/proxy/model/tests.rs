//! The model against tables: what is served, by whom, and what a change touches.

use serde_json::{Value, json};

use super::*;

fn service(name: &str, spec: Value) -> Service {
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    Service::of(&serde_json::from_value(object).unwrap()).unwrap().unwrap()
}

fn slice(name: &str, owner: &str, endpoints: Value) -> Slice {
    let object = json!({
        "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": owner}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080}],
    });
    Slice::of(&serde_json::from_value(object).unwrap()).unwrap()
}

fn node() -> Node {
    Node { zone: "z1".into(), ..Node::named("n1") }
}

fn port(model: &Model) -> &ServicePort {
    model.ports(Family::V4).values().next().unwrap()
}

fn hosts(endpoints: &[Endpoint]) -> Vec<u8> {
    let last = |endpoint: &Endpoint| match endpoint.address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(ip) => ip.octets()[15],
    };
    endpoints.iter().map(last).collect()
}

/// `<host>@<node>[/<zone or node hint>]:<r|s|t|d>`: ready, serving and terminating, terminating, not ready.
fn endpoint(text: &str) -> Value {
    let (place, state) = text.split_once(':').unwrap();
    let (place, hint) = place.split_once('/').map_or((place, None), |(a, b)| (a, Some(b)));
    let (host, node) = place.split_once('@').unwrap();
    let (ready, serving, terminating) = match state {
        "r" => (true, true, false),
        "s" => (false, true, true),
        "t" => (false, false, true),
        _ => (false, false, false),
    };
    let hints = hint.map(|hint| {
        let kind = if hint.starts_with('z') { "forZones" } else { "forNodes" };
        json!({kind: [{"name": hint}]})
    });
    json!({"addresses": [format!("10.1.0.{host}")], "nodeName": node, "hints": hints,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
}

/// Policies (internal, external), endpoints; those of Cluster, those of Local; what clients inside and outside meet.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [u8],
    &'static [u8],
    &'static str,
    &'static str,
);

#[test]
fn who_serves() {
    let cases: [Case; 16] = [
        ("Cluster", "Cluster", "", &[], &[], "reject", "reject"),
        ("Cluster", "Cluster", "1@n1:d 2@n2:t", &[], &[], "reject", "reject"),
        ("Cluster", "Cluster", "1@n1:r 2@n2:r 3@n2:d", &[1, 2], &[], "to", "to"),
        ("Cluster", "Cluster", "1@n1:s 2@n2:r", &[2], &[], "to", "to"),
        ("Cluster", "Cluster", "1@n1:s 2@n2:s 3@n2:t", &[1, 2], &[], "to", "to"),
        ("Cluster", "Local", "1@n1:r 2@n2:r", &[1, 2], &[1], "to", "to"),
        ("Cluster", "Local", "2@n2:r", &[2], &[], "to", "drop"),
        // judged apart: here only a terminating one is left, elsewhere a ready one
        ("Cluster", "Local", "1@n1:s 2@n2:r", &[2], &[1], "to", "to"),
        ("Cluster", "Local", "1@n1:d", &[], &[], "reject", "reject"),
        ("Local", "Cluster", "1@n1:r 2@n2:r", &[1, 2], &[1], "to", "to"),
        ("Local", "Cluster", "2@n2:s", &[2], &[], "drop", "to"),
        ("Local", "Local", "2@n2:r", &[2], &[], "drop", "drop"),
        // hints: only if every ready endpoint has one, and one is for us
        ("Cluster", "Cluster", "1@n1/z1:r 2@n2/z2:r", &[1], &[], "to", "to"),
        ("Cluster", "Cluster", "1@n1/z3:r 2@n2/z2:r", &[1, 2], &[], "to", "to"),
        ("Cluster", "Cluster", "1@n1/z1:r 2@n2:r 3@n2/z2:r", &[1, 2, 3], &[], "to", "to"),
        ("Cluster", "Cluster", "1@n1/n1:r 2@n2/n2:r", &[1], &[], "to", "to"),
    ];
    for (internal, external, endpoints, cluster, local, inside, outside) in cases {
        let mut model = Model::new(node());
        model.set_service(service(
            "s",
            json!({"type": "NodePort", "clusterIP": "10.96.0.1", "internalTrafficPolicy": internal,
                "externalTrafficPolicy": external, "ports": [{"port": 80, "nodePort": 30080}]}),
        ));
        let endpoints: Vec<_> = endpoints.split_whitespace().map(endpoint).collect();
        model.set_slice(slice("s-1", "s", json!(endpoints)));
        let port = port(&model);
        let meets = |reach: Reach<'_>| match reach {
            Reach::To(_) => "to",
            Reach::Reject => "reject",
            Reach::Drop => "drop",
        };
        let found = (
            hosts(&port.endpoints.cluster),
            hosts(&port.endpoints.local),
            meets(port.internal()),
            meets(port.external()),
        );
        let case = format!("{internal} {external} {endpoints:?}");
        assert_eq!(found, (cluster.to_vec(), local.to_vec(), inside, outside), "{case}");
        assert!(port.endpoints.local.iter().all(|endpoint| endpoint.local), "{case}");
    }
}

#[test]
fn a_service_that_is_internal_only_and_local_has_no_use_for_others() {
    let mut model = Model::new(node());
    let spec = json!({"clusterIP": "10.96.0.1", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    model.set_service(service("s", spec));
    model.set_slice(slice("s-1", "s", json!([endpoint("1@n1:r"), endpoint("2@n2:r")])));
    assert_eq!(hosts(&port(&model).reachable()), [1]);
    assert!(port(&model).endpoints.cluster.is_empty());
}

/// New flows go to the ready ones near by; who else serves keeps what it has, and that it ends is a change too. TCP needs none of it.
#[test]
fn who_keeps_flows_though_nothing_new_comes() {
    for (protocol, expected) in [("UDP", &[2, 3][..]), ("SCTP", &[2, 3]), ("TCP", &[])] {
        let mut model = Model::new(node());
        let spec = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80, "protocol": protocol}]});
        model.set_service(service("s", spec));
        let of = |endpoints: &str| {
            let endpoints: Vec<_> = endpoints.split_whitespace().map(endpoint).collect();
            let mut made = slice("s-1", "s", json!(endpoints));
            for port in &mut made.ports {
                port.protocol = Protocol::parse(protocol).unwrap();
            }
            made
        };
        model.set_slice(of("1@n1/z1:r 2@n2/z2:r 3@n1:s 4@n1:t"));
        let retained = |model: &Model| {
            let all = port(model).endpoints.retained.iter();
            let all = all.map(|address| Endpoint { address: *address, local: false });
            hosts(&all.collect::<Vec<_>>())
        };
        assert_eq!(
            (hosts(&port(&model).reachable()), retained(&model)),
            (vec![1], expected.to_vec())
        );
        model.take_changes();
        model.set_slice(of("1@n1/z1:r 2@n2/z2:r"));
        let changed = !model.take_changes().is_empty();
        assert_eq!((retained(&model).len(), changed), (expected.len() / 2, !expected.is_empty()));
    }
}

#[test]
fn what_is_not_for_this_proxy() {
    let of = |object: Value| Service::of(&serde_json::from_value(object).unwrap());
    let meta = json!({"namespace": "default", "name": "s"});
    for spec in [
        json!({"clusterIP": "None", "ports": [{"port": 80}]}),
        json!({"type": "ExternalName", "externalName": "x"}),
        json!({"ports": [{"port": 80}]}),
    ] {
        assert_eq!(of(json!({"metadata": meta, "spec": spec})), Ok(None));
    }
    let labels = json!({PROXY_NAME_LABEL: "other"});
    let labelled = json!({"metadata": {"namespace": "default", "name": "s", "labels": labels},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}});
    assert_eq!(of(labelled), Ok(None));
}

/// What an object says may become the text of a rule, and an empty list of ranges lets everybody in.
#[test]
fn hostile_objects_are_refused_by_field() {
    let cases = [
        (json!({"clusterIP": "10.96.0.1 -j ACCEPT"}), "spec.clusterIPs: \"10.96.0.1 -j ACCEPT\""),
        (
            json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80, "name": "a\"\n-F"}]}),
            "spec.ports[0].name",
        ),
        (
            json!({"clusterIP": "10.96.0.1", "ports": [{"port": 70000}]}),
            "spec.ports[0].port: 70000",
        ),
        (json!({"clusterIP": "10.96.0.1", "externalIPs": ["x"]}), "spec.externalIPs: \"x\""),
        (
            json!({"clusterIP": "10.96.0.1", "type": "LoadBalancer", "loadBalancerSourceRanges": ["all"]}),
            "spec.loadBalancerSourceRanges: \"all\"",
        ),
        (
            json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}),
            "spec.ports[1].name: \"a\" is used twice",
        ),
    ];
    for (spec, expected) in cases {
        let object = json!({"metadata": {"namespace": "default", "name": "s"}, "spec": spec});
        let error = Service::of(&serde_json::from_value(object).unwrap()).unwrap_err();
        assert!(error.reason.starts_with(expected), "{error}");
    }
}

#[test]
fn a_change_touches_the_ports_of_its_service_only() {
    let mut model = Model::new(node());
    for index in 0..50 {
        let name = format!("s{index}");
        let spec = json!({"clusterIP": format!("10.96.0.{index}"), "ports": [{"port": 80}]});
        model.set_service(service(&name, spec));
        model.set_slice(slice(&format!("{name}-1"), &name, json!([endpoint("1@n1:r")])));
    }
    assert_eq!(model.take_changes().v4.len(), 50);
    let next = slice("s7-1", "s7", json!([endpoint("1@n1:r"), endpoint("2@n2:r")]));
    model.set_slice(next.clone());
    let changes = model.take_changes();
    assert_eq!(changes.v4.keys().map(ToString::to_string).collect::<Vec<_>>(), ["default/s7"]);
    assert!(changes.v6.is_empty());
    // told again, and touched without a change
    model.set_slice(Slice { triggered: Some(SystemTime::UNIX_EPOCH), ..next });
    assert!(model.take_changes().is_empty());
    // one that does not serve yet
    model.set_slice(slice("s7-2", "s7", json!([endpoint("9@n1:d")])));
    assert!(model.take_changes().is_empty());
    model.remove_slice("default/s7-1", None);
    model.remove_service(&ServiceName::new("default", "s8"));
    assert_eq!(model.take_changes().v4.len(), 2);
}

#[test]
fn an_address_belongs_to_the_older_service_until_it_is_gone() {
    let mut model = Model::new(node());
    let make = |name: &str, created: i64| Service {
        created: Some(created),
        ..service(
            name,
            json!({"type": "NodePort", "clusterIP": format!("10.96.0.{created}"), "externalIPs": ["192.0.2.1"],
                "ports": [{"port": 80, "nodePort": 30080}]}),
        )
    };
    model.set_service(make("young", 9));
    model.set_service(make("old", 1));
    let has = |model: &Model, name: &str| {
        let mut ports = model.ports(Family::V4).iter();
        let (_, port) = ports.find(|(id, _)| id.service.parts().1 == name).unwrap();
        (!port.external_ips.is_empty(), port.node_port.is_some())
    };
    assert_eq!((has(&model, "old"), has(&model, "young")), ((true, true), (false, false)));
    model.take_changes();
    model.remove_service(&ServiceName::new("default", "old"));
    assert_eq!(has(&model, "young"), (true, true));
    assert_eq!(model.take_changes().v4.len(), 2);
}

#[test]
fn both_families_of_a_service_and_moves_between_slices() {
    let mut model = Model::new(node());
    let spec = json!({"clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"port": 80}]});
    model.set_service(service("s", spec));
    let both = |name: &str, state: &str| slice(name, "s", json!([endpoint(state)]));
    // the same endpoint in two slices, better in one of them
    model.set_slice(both("s-1", "1@n1:d"));
    model.set_slice(both("s-2", "1@n1:r"));
    assert_eq!(hosts(&port(&model).endpoints.cluster), [1]);
    let object = json!({
        "metadata": {"namespace": "default", "name": "s-6", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv6", "endpoints": [{"addresses": ["fd01::2"], "nodeName": "n1"}, {"addresses": ["10.9.9.9"]}],
        "ports": [{"port": 8080}]});
    model.set_slice(Slice::of(&serde_json::from_value(object).unwrap()).unwrap());
    let six = model.ports(Family::V6).values().next().unwrap();
    assert_eq!(
        (six.cluster_ip.to_string(), hosts(&six.endpoints.cluster)),
        ("fd00::1".into(), vec![2])
    );
    // a slice that is given to another service serves the first no more
    model.set_slice(slice("s-2", "other", json!([endpoint("1@n1:r")])));
    assert_eq!(port(&model).internal(), Reach::Reject);
}

#[test]
fn health_checks_count_ready_addresses_of_this_node() {
    let mut model = Model::new(node());
    let spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32000, "ports": [{"port": 80}]});
    model.set_service(service("s", spec));
    let endpoints = ["1@n1:r", "1@n1:r", "2@n1:s", "3@n2:r", "4@n1:r"].map(endpoint);
    model.set_slice(slice("s-1", "s", json!(endpoints)));
    let checks = model.health_checks();
    assert_eq!(
        checks.values().collect::<Vec<_>>(),
        [&HealthCheck { port: 32000, local_endpoints: 2 }]
    );
}

#[test]
fn another_zone_judges_hints_anew() {
    let mut model = Model::new(node());
    model.set_service(service("s", json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]})));
    model.set_slice(slice("s-1", "s", json!([endpoint("1@n1/z1:r"), endpoint("2@n2/z2:r")])));
    model.take_changes();
    model.set_node(Node { zone: "z2".into(), ..node() });
    assert_eq!(hosts(&port(&model).endpoints.cluster), [2]);
    assert_eq!(model.take_changes().v4.len(), 1);
}

/// A list after a lost watch tells what went meanwhile, and changes are told with what was before the first of them.
#[test]
fn a_list_removes_what_is_not_in_it() {
    let mut model = Model::new(node());
    let of = |name: &str| {
        let last = &name[1..];
        service(name, json!({"clusterIP": format!("10.96.0.{last}"), "ports": [{"port": 80}]}))
    };
    model.apply(Event::AllServices(vec![of("s1"), of("s2")]));
    let slices =
        ["s1", "s2"].map(|name| slice(&format!("{name}-x"), name, json!([endpoint("1@n1:r")])));
    model.apply(Event::AllSlices(slices.to_vec()));
    let first = port(&model).clone();
    model.take_changes();
    model.apply(Event::AllServices(vec![of("s1"), of("s3")]));
    model.apply(Event::AllSlices(vec![slices[1].clone()]));
    model.apply(Event::NoService(ServiceName::new("default", "s1")));
    let changes = model.take_changes();
    let before: Vec<_> = changes.v4.values().map(Option::is_some).collect();
    assert_eq!((before, model.ports(Family::V4).len()), (vec![true, true, false], 1));
    assert_eq!(changes.v4.values().next().unwrap().as_deref(), Some(&first));
}

#[test]
fn a_cluster_address_belongs_to_one_service_and_a_number_to_one_port() {
    let mut model = Model::new(node());
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.1", "ports": [
        {"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 80, "nodePort": 30081},
        {"name": "c", "port": 81, "nodePort": 30080}]});
    model.set_service(Service { created: Some(1), ..service("old", spec.clone()) });
    model.set_service(Service { created: Some(2), ..service("young", spec) });
    let ports = |model: &Model| -> Vec<_> {
        let port = |(id, port): (&PortId, &Arc<ServicePort>)| (id.to_string(), port.node_port);
        model.ports(Family::V4).iter().map(port).collect()
    };
    assert_eq!(
        ports(&model),
        [("default/old:a".into(), Some(30080)), ("default/old:c".into(), None)]
    );
    model.remove_service(&ServiceName::new("default", "old"));
    assert_eq!(
        ports(&model),
        [("default/young:a".into(), Some(30080)), ("default/young:c".into(), None)]
    );
}
