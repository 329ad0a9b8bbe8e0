use serde_json::{Value, json};

use super::*;

fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(
        json!({"metadata": {"namespace": "default", "name": name}, "spec": spec}),
    )
    .unwrap()
}

fn cidrs(text: &str) -> Vec<IpNetwork> {
    text.split(',').map(|cidr| cidr.parse().unwrap()).collect()
}

fn open(folder: &Path, cidr: &str) -> ServiceAllocator {
    ServiceAllocator::open(&folder.join("services.json"), cidrs(cidr), 30000..=30099).unwrap()
}

fn ip(service: &Service) -> String {
    service.spec.as_ref().unwrap().cluster_ip.clone().unwrap()
}

#[test]
fn what_is_allocated_stays_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let asks = || {
        service(
            "web",
            json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}),
        )
    };
    let (mut first, mut second) = (asks(), asks());
    open(folder.path(), "10.96.0.0/12").assign(&mut first).unwrap();
    open(folder.path(), "10.96.0.0/12").assign(&mut second).unwrap();
    assert_eq!(first, second);
    let ports: BTreeSet<_> =
        first.spec.unwrap().ports.unwrap().iter().map(|port| port.node_port).collect();
    assert_eq!(ports.len(), 2);
    assert!(
        ports.iter().all(|port| port.is_some_and(|port| (30016..=30099).contains(&port))),
        "{ports:?}"
    );
}

#[test]
fn choices_are_checked_and_both_services_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut allocator = open(folder.path(), "10.96.0.0/24");
    let ask = |name: &str, ip: &str, port: i32| {
        service(
            name,
            json!({"type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": port}]}),
        )
    };
    allocator.assign(&mut ask("a", "10.96.0.10", 30080)).unwrap();
    let cases = [
        (ask("b", "10.96.0.10", 30081), "spec.clusterIP: 10.96.0.10 belongs to service default/a"),
        (
            ask("b", "10.97.0.10", 30081),
            "spec.clusterIP: 10.97.0.10 is not in network.service_cidr 10.96.0.0/24",
        ),
        (ask("b", "10.96.0.0", 30081), "spec.clusterIP: 10.96.0.0 is not in"),
        (
            ask("b", "10.96.0.11", 30080),
            "spec.ports[0].nodePort: 30080 belongs to service default/a",
        ),
        (
            ask("b", "10.96.0.11", 80),
            "spec.ports[0].nodePort: 80 is not in network.node_ports 30000-30099",
        ),
    ];
    for (mut service, expected) in cases {
        let error = allocator.assign(&mut service).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    allocator.retain(&[]).unwrap();
    allocator.assign(&mut ask("b", "10.96.0.10", 30080)).unwrap();
}

#[test]
fn every_address_is_given_once_and_the_lower_band_last() {
    let folder = tempfile::tempdir().unwrap();
    let mut allocator = open(folder.path(), "10.96.0.0/27");
    let mut seen = BTreeSet::new();
    for number in 0..30 {
        let mut service = service(&format!("s{number}"), json!({"ports": [{"port": 80}]}));
        allocator.assign(&mut service).unwrap();
        let last: u8 = ip(&service).rsplit('.').next().unwrap().parse().unwrap();
        assert_eq!(last > 16, number < 14, "service {number} has .{last}");
        assert!(seen.insert(last));
    }
    let error =
        allocator.assign(&mut service("more", json!({"ports": [{"port": 80}]}))).unwrap_err();
    assert!(error.to_string().contains("network.service_cidr has nothing left"), "{error}");
}

#[test]
fn headless_services_need_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut headless = service("h", json!({"clusterIP": "None"}));
    open(folder.path(), "10.96.0.0/12").assign(&mut headless).unwrap();
    assert_eq!(ip(&headless), "None");
}

#[test]
fn a_broken_file_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("services.json"), "{").unwrap();
    let error =
        ServiceAllocator::open(&folder.path().join("services.json"), cidrs("10.96.0.0/12"), 1..=2)
            .unwrap_err();
    assert!(error.to_string().contains("remove it to allocate anew"), "{error}");
}

#[test]
fn a_service_of_both_families_has_an_address_of_each_and_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let cidr = "10.96.0.0/12,fd00:96::/108";
    let ask =
        |policy: &str| service("web", json!({"ipFamilyPolicy": policy, "ports": [{"port": 80}]}));
    let assign = |policy: &str| {
        let mut asked = ask(policy);
        open(folder.path(), cidr).assign(&mut asked).unwrap();
        asked.spec.unwrap()
    };
    let both = assign("PreferDualStack");
    let ips = both.cluster_ips.clone().unwrap();
    assert_eq!(both.cluster_ip.as_ref(), ips.first());
    assert_eq!(both.ip_families.clone().unwrap(), ["IPv4", "IPv6"]);
    let ranges = cidrs(cidr);
    for (ip, range) in ips.iter().zip(&ranges) {
        assert!(range.contains(ip.parse().unwrap()), "{ip}");
    }
    assert_eq!(assign("RequireDualStack").cluster_ips.unwrap(), ips);
    assert_eq!(assign("SingleStack").cluster_ips.unwrap(), ips[..1]);
}

#[test]
fn a_second_chosen_address_is_named_by_its_own_field() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = service("web", json!({"clusterIPs": ["10.96.0.1", "fd01::1"]}));
    let error = open(folder.path(), "10.96.0.0/12,fd00::/108").assign(&mut wrong).unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.clusterIPs[1]: fd01::1 is not in network.service_cidr fd00::/108"
    );
}

#[test]
fn a_file_of_one_family_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let text = json!({"default/web": {"cluster_ip": "10.96.7.7", "node_ports": {"80/TCP": 30077}}});
    std::fs::write(folder.path().join("services.json"), text.to_string()).unwrap();
    let mut web = service("web", json!({"type": "NodePort", "ports": [{"port": 80}]}));
    open(folder.path(), "10.96.0.0/12").assign(&mut web).unwrap();
    assert_eq!(ip(&web), "10.96.7.7");
    assert_eq!(web.spec.unwrap().ports.unwrap()[0].node_port, Some(30077));
}

#[test]
fn a_load_balancer_has_node_ports_unless_it_wants_none_and_one_for_its_health() {
    let folder = tempfile::tempdir().unwrap();
    let mut allocator = open(folder.path(), "10.96.0.0/12");
    let mut assign = |extra: Value| {
        let mut spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let mut asked = service("lb", spec);
        allocator.assign(&mut asked).map(|()| {
            let spec = asked.spec.unwrap();
            (spec.ports.unwrap()[0].node_port.is_some(), spec.health_check_node_port.is_some())
        })
    };
    assert_eq!(assign(json!({})).unwrap(), (true, false));
    assert_eq!(assign(json!({"externalTrafficPolicy": "Local"})).unwrap(), (true, true));
    assert_eq!(assign(json!({"allocateLoadBalancerNodePorts": false})).unwrap(), (false, false));
    let wrong = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 5});
    let error = assign(wrong).unwrap_err().to_string();
    assert_eq!(error, "spec.healthCheckNodePort: 5 is not in network.node_ports 30000-30099");
}
