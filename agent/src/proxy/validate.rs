//! Services and `EndpointSlices` from a folder: what the proxy can serve. Everything else is refused by the name of its field.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use netns_tools::iptables::Family;

use super::allocate::{FamilyPolicy, chosen, family_of, is_headless, parse_family};
use super::model::{self, Protocol};

const KINDS: [&str; 4] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
const MODES: [&str; 2] = ["VIP", "Proxy"];
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Every mistake of a service, each with its field.
pub fn service(service: &Service) -> Result<(), Vec<String>> {
    let mut errors = Vec::new();
    if service.metadata.name.as_deref().is_none_or(str::is_empty) {
        errors.push("metadata.name: is needed".to_owned());
    }
    let Some(spec) = &service.spec else {
        errors.push("spec: is needed".to_owned());
        return Err(errors);
    };
    one_of("spec.type", spec.type_.as_deref(), &KINDS, &mut errors);
    cluster_ips(spec, &mut errors);
    families(spec, &mut errors);
    policies(spec, &mut errors);
    load_balancer(service, spec, &mut errors);
    ports(spec, &mut errors);
    if errors.is_empty() {
        errors.extend(rest(service));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// What else rules are made of, as the model reads it. It passes over services without an address, which this one will have.
fn rest(service: &Service) -> Option<String> {
    let mut service = service.clone();
    let spec = service.spec.get_or_insert_default();
    if !is_headless(spec) && chosen(spec).is_empty() {
        spec.cluster_ips = Some(vec![Ipv4Addr::UNSPECIFIED.to_string()]);
    }
    model::Service::of(&service).err().map(|refused| refused.reason)
}

/// Every mistake of a slice, each with its field.
pub fn slice(slice: &EndpointSlice) -> Result<(), Vec<String>> {
    let mut errors = Vec::new();
    if slice.metadata.name.as_deref().is_none_or(str::is_empty) {
        errors.push("metadata.name: is needed".to_owned());
    }
    let labels = slice.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(SERVICE_LABEL)).is_none_or(String::is_empty) {
        errors.push(format!(
            "metadata.labels: {SERVICE_LABEL} is needed; it names the service that the endpoints serve"
        ));
    }
    let family = parse_family(&slice.address_type);
    if family.is_none() {
        errors.push(format!("addressType: {:?} is not IPv4 or IPv6", slice.address_type));
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        endpoint_errors(endpoint, family, &format!("endpoints[{index}]"), &mut errors);
    }
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        endpoint_port_errors(port, &format!("ports[{index}]"), &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn one_of(field: &str, word: Option<&str>, known: &[&str], errors: &mut Vec<String>) {
    if let Some(word) = word.filter(|word| !known.contains(word)) {
        let (last, others) = known.split_last().unwrap_or((&"", &[]));
        errors.push(format!("{field}: {word:?} is not {} or {last}", others.join(", ")));
    }
}

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn cluster_ips(spec: &ServiceSpec, errors: &mut Vec<String>) {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let named = |index: usize| format!("spec.clusterIPs[{index}]");
    let all = listed.iter().enumerate().map(|(index, ip)| (named(index), ip));
    let single = spec.cluster_ip.iter().map(|ip| ("spec.clusterIP".to_owned(), ip));
    for (field, ip) in single.chain(all) {
        if !matches!(ip.as_str(), "" | "None") && ip.parse::<IpAddr>().is_err() {
            errors.push(format!("{field}: {ip:?} is not an address"));
        }
    }
    if let (Some(single), Some(first)) = (&spec.cluster_ip, listed.first())
        && single != first
    {
        errors.push(format!("spec.clusterIPs[0]: {first:?} is not spec.clusterIP {single:?}"));
    }
    let ips = chosen(spec);
    let same_family = |pair: &[IpAddr]| family_of(pair[0]) == family_of(pair[1]);
    if listed.len() > 2 || ips.windows(2).any(same_family) {
        errors.push("spec.clusterIPs: there may be one address of each family".to_owned());
    }
    if is_headless(spec) && kind(spec) != "ClusterIP" {
        errors.push(format!("spec.clusterIP: None is for type ClusterIP, not {}", kind(spec)));
    }
}

fn families(spec: &ServiceSpec, errors: &mut Vec<String>) {
    let policy = spec.ip_family_policy.as_deref();
    if let Some(word) = policy.filter(|word| FamilyPolicy::parse(word).is_none()) {
        errors.push(format!(
            "spec.ipFamilyPolicy: {word:?} is not SingleStack, PreferDualStack or RequireDualStack"
        ));
    }
    let listed = spec.ip_families.as_deref().unwrap_or_default();
    for (index, word) in listed.iter().enumerate() {
        one_of(&format!("spec.ipFamilies[{index}]"), Some(word), &["IPv4", "IPv6"], errors);
    }
    if listed.len() > 2 || (listed.len() == 2 && listed[0] == listed[1]) {
        errors.push("spec.ipFamilies: each family may be there once".to_owned());
    }
    let wanted: Vec<Family> = listed.iter().filter_map(|word| parse_family(word)).collect();
    let given: Vec<Family> = chosen(spec).into_iter().map(family_of).collect();
    if wanted.iter().zip(&given).any(|(wanted, given)| wanted != given) {
        errors.push("spec.ipFamilies: is not in the order of spec.clusterIPs".to_owned());
    }
    if policy == Some("SingleStack") && wanted.len().max(given.len()) > 1 {
        errors.push(
            "spec.ipFamilyPolicy: SingleStack allows one family; use PreferDualStack or RequireDualStack"
                .to_owned(),
        );
    }
}

fn policies(spec: &ServiceSpec, errors: &mut Vec<String>) {
    let external = spec.external_traffic_policy.as_deref();
    one_of("spec.externalTrafficPolicy", external, &POLICIES, errors);
    one_of(
        "spec.internalTrafficPolicy",
        spec.internal_traffic_policy.as_deref(),
        &POLICIES,
        errors,
    );
    let distribution = spec.traffic_distribution.as_deref();
    one_of("spec.trafficDistribution", distribution, &DISTRIBUTIONS, errors);
    one_of("spec.sessionAffinity", spec.session_affinity.as_deref(), &["None", "ClientIP"], errors);
    let is_external = matches!(kind(spec), "NodePort" | "LoadBalancer")
        || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if external.is_some() && !is_external {
        errors.push(
            "spec.externalTrafficPolicy: is for type NodePort or LoadBalancer, or with externalIPs"
                .to_owned(),
        );
    }
}

fn load_balancer(service: &Service, spec: &ServiceSpec, errors: &mut Vec<String>) {
    let is_balanced = kind(spec) == "LoadBalancer";
    let mut only = |set: bool, allowed: bool, field: &str, condition: &str| {
        if set && !allowed {
            errors.push(format!("spec.{field}: is for type LoadBalancer{condition}"));
        }
    };
    let ranges = spec.load_balancer_source_ranges.as_ref().is_some_and(|list| !list.is_empty());
    only(ranges, is_balanced, "loadBalancerSourceRanges", "");
    let allocate = spec.allocate_load_balancer_node_ports.is_some();
    only(allocate, is_balanced, "allocateLoadBalancerNodePorts", "");
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let health = spec.health_check_node_port.is_some_and(|port| port != 0);
    only(health, is_balanced && local, "healthCheckNodePort", " with externalTrafficPolicy Local");
    if spec.load_balancer_ip.is_some() {
        errors.push(
            "spec.loadBalancerIP: nobody is here to ask for it; write the address that leads here to status.loadBalancer.ingress"
                .to_owned(),
        );
    }
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    for (index, ingress) in ingress.enumerate() {
        let field = format!("status.loadBalancer.ingress[{index}]");
        if let Some(ip) = ingress.ip.as_deref().filter(|ip| ip.parse::<IpAddr>().is_err()) {
            errors.push(format!("{field}.ip: {ip:?} is not an address"));
        }
        one_of(&format!("{field}.ipMode"), ingress.ip_mode.as_deref(), &MODES, errors);
    }
}

fn ports(spec: &ServiceSpec, errors: &mut Vec<String>) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && kind(spec) != "ExternalName" {
        errors.push("spec.ports: at least one is needed".to_owned());
    }
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        port_errors(port, &ports[..index], ports.len(), &at, errors);
    }
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn port_errors(
    port: &ServicePort,
    earlier: &[ServicePort],
    count: usize,
    at: &str,
    errors: &mut Vec<String>,
) {
    let protocol = protocol(port);
    if !(1..=65535).contains(&port.port) {
        errors.push(format!("{at}.port: {} is not between 1 and 65535", port.port));
    }
    if Protocol::parse(protocol).is_none() {
        errors.push(format!("{at}.protocol: {protocol:?} is not TCP, UDP or SCTP"));
    }
    if port.node_port.is_some_and(|port| !(0..=65535).contains(&port)) {
        errors.push(format!("{at}.nodePort: is not between 1 and 65535"));
    }
    port_name_errors(port, earlier, count, at, errors);
    let others = || earlier.iter().filter(|other| self::protocol(other) == protocol);
    if others().any(|other| other.port == port.port) {
        errors.push(format!("{at}.port: {} {protocol} is used twice", port.port));
    }
    let number = port.node_port.filter(|number| *number != 0);
    if let Some(number) = number.filter(|_| others().any(|other| other.node_port == number)) {
        errors.push(format!("{at}.nodePort: {number} {protocol} is used twice"));
    }
}

fn port_name_errors(
    port: &ServicePort,
    earlier: &[ServicePort],
    count: usize,
    at: &str,
    errors: &mut Vec<String>,
) {
    // the name becomes part of comments in rules, where a quote would end the comment
    let plain =
        |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    match port.name.as_deref() {
        None | Some("") if count > 1 => {
            errors.push(format!("{at}.name: is needed where there are several ports"));
        }
        Some(name) if !plain(name) => {
            errors.push(format!("{at}.name: {name:?} is not lower-case letters, digits and '-'"));
        }
        Some(name) if earlier.iter().any(|other| other.name.as_deref() == Some(name)) => {
            errors.push(format!("{at}.name: {name:?} is used twice"));
        }
        _ => {}
    }
}

fn endpoint_errors(
    endpoint: &Endpoint,
    family: Option<Family>,
    at: &str,
    errors: &mut Vec<String>,
) {
    if endpoint.addresses.is_empty() {
        errors.push(format!("{at}.addresses: one is needed"));
    }
    for (index, text) in endpoint.addresses.iter().enumerate() {
        let reason = match text.parse::<IpAddr>() {
            Err(_) => "is not an address".to_owned(),
            Ok(ip) if family.is_some_and(|family| family != family_of(ip)) => {
                "is not of the slice's addressType".to_owned()
            }
            Ok(ip) if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() => {
                "is not an address that an endpoint can have".to_owned()
            }
            Ok(_) => continue,
        };
        errors.push(format!("{at}.addresses[{index}]: {text:?} {reason}"));
    }
}

fn endpoint_port_errors(port: &EndpointPort, at: &str, errors: &mut Vec<String>) {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    if Protocol::parse(protocol).is_none() {
        errors.push(format!("{at}.protocol: {protocol:?} is not TCP, UDP or SCTP"));
    }
    match port.port {
        Some(number) if (1..=65535).contains(&number) => {}
        Some(number) => errors.push(format!("{at}.port: {number} is not between 1 and 65535")),
        None => errors.push(format!("{at}.port: is needed")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn errors_with(spec: Value, status: Value) -> String {
        let object = json!({"metadata": {"name": "s"}, "spec": spec, "status": status});
        let object: Service = serde_json::from_value(object).unwrap();
        service(&object).err().unwrap_or_default().join("\n")
    }

    fn errors(spec: Value) -> String {
        errors_with(spec, json!({}))
    }

    #[test]
    fn what_the_proxy_serves_is_accepted() {
        let ports = json!([{"port": 80}]);
        for spec in [
            json!({"ports": ports}),
            json!({"clusterIP": "None"}),
            json!({"type": "ExternalName", "externalName": "example.org"}),
            json!({"ports": [{"port": 80, "protocol": "SCTP"}]}),
            json!({"ports": ports, "externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local"}),
            json!({"ports": ports, "type": "NodePort", "internalTrafficPolicy": "Local"}),
            json!({"ports": ports, "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
            json!({"ports": ports, "type": "LoadBalancer", "externalTrafficPolicy": "Local",
                "healthCheckNodePort": 30001, "loadBalancerSourceRanges": ["192.0.2.0/24"],
                "allocateLoadBalancerNodePorts": false}),
            json!({"ports": ports, "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack"}),
            json!({"ports": ports, "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
            json!({"ports": ports, "trafficDistribution": "PreferSameNode", "publishNotReadyAddresses": true}),
            json!({"ports": [{"name": "a", "port": 53, "nodePort": 30053},
                {"name": "b", "port": 53, "nodePort": 30053, "protocol": "UDP"}], "type": "NodePort"}),
        ] {
            assert_eq!(errors(spec.clone()), "", "{spec}");
        }
    }

    #[test]
    fn mistakes_name_their_fields() {
        let cases = [
            (
                json!({"type": "Magic"}),
                "spec.type: \"Magic\" is not ClusterIP, NodePort, LoadBalancer or ExternalName",
            ),
            (json!({"clusterIP": "x"}), "spec.clusterIP: \"x\" is not an address"),
            (
                json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
                "spec.clusterIPs: there may be one address of each family",
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]}),
                "spec.clusterIPs[0]: \"10.0.0.2\" is not spec.clusterIP",
            ),
            (
                json!({"type": "NodePort", "clusterIP": "None"}),
                "spec.clusterIP: None is for type ClusterIP",
            ),
            (json!({"ipFamilies": ["IPv5"]}), "spec.ipFamilies[0]: \"IPv5\" is not IPv4 or IPv6"),
            (
                json!({"ipFamilies": ["IPv4", "IPv4"]}),
                "spec.ipFamilies: each family may be there once",
            ),
            (
                json!({"ipFamilies": ["IPv6"], "clusterIP": "10.0.0.1"}),
                "spec.ipFamilies: is not in the order",
            ),
            (json!({"ipFamilyPolicy": "Dual"}), "spec.ipFamilyPolicy: \"Dual\""),
            (
                json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}),
                "spec.ipFamilyPolicy: SingleStack allows one",
            ),
            (
                json!({"externalTrafficPolicy": "Local"}),
                "spec.externalTrafficPolicy: is for type NodePort",
            ),
            (
                json!({"internalTrafficPolicy": "local"}),
                "spec.internalTrafficPolicy: \"local\" is not Cluster or Local",
            ),
            (
                json!({"sessionAffinity": "Cookie"}),
                "spec.sessionAffinity: \"Cookie\" is not None or ClientIP",
            ),
            (
                json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: is not between",
            ),
            (
                json!({"externalIPs": ["nowhere"]}),
                "spec.externalIPs: \"nowhere\" is not an IP address",
            ),
            (
                json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
                "spec.loadBalancerSourceRanges: is for type LoadBalancer",
            ),
            (
                json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["all"]}),
                "spec.loadBalancerSourceRanges: \"all\" is not a range",
            ),
            (
                json!({"type": "LoadBalancer", "healthCheckNodePort": 30001}),
                "spec.healthCheckNodePort: is for type LoadBalancer with",
            ),
            (
                json!({"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1"}),
                "spec.loadBalancerIP: nobody is here",
            ),
        ];
        for (mut spec, expected) in cases {
            spec["ports"] = json!([{"port": 80}]);
            let found = errors(spec.clone());
            assert!(found.starts_with(expected), "{spec}\n{found}");
        }
    }

    #[test]
    fn mistakes_of_a_load_balancers_status_name_their_fields() {
        let status = json!({"loadBalancer": {"ingress": [{"ip": "x"}, {"ip": "192.0.2.1", "ipMode": "NAT"}]}});
        let found = errors_with(json!({"type": "LoadBalancer", "ports": [{"port": 80}]}), status);
        assert!(found.contains("status.loadBalancer.ingress[0].ip: \"x\""), "{found}");
        assert!(
            found.contains("status.loadBalancer.ingress[1].ipMode: \"NAT\" is not VIP or Proxy"),
            "{found}"
        );
    }

    #[test]
    fn mistakes_of_ports_name_their_fields_all_at_once() {
        let found = errors(json!({"type": "NodePort", "ports": [
            {"port": 0, "name": "A\""}, {"port": 80, "protocol": "ICMP"}, {"port": 0, "name": "b", "nodePort": 30000},
            {"port": 1, "name": "b", "nodePort": 30000}]}));
        for expected in [
            "spec.ports[0].port: 0",
            "spec.ports[0].name",
            "spec.ports[1].protocol: \"ICMP\" is not TCP, UDP or SCTP",
            "spec.ports[1].name: is needed",
            "spec.ports[2].port: 0 TCP is used twice",
            "spec.ports[3].name: \"b\" is used twice",
            "spec.ports[3].nodePort: 30000 TCP is used twice",
        ] {
            assert!(found.contains(expected), "{expected}\n---\n{found}");
        }
        assert!(errors(json!({})).contains("spec.ports: at least one is needed"));
    }

    #[test]
    fn mistakes_of_slices_name_their_fields() {
        let check = |object: Value| {
            let object: EndpointSlice = serde_json::from_value(object).unwrap();
            slice(&object).err().unwrap_or_default().join("\n")
        };
        let good = json!({"metadata": {"name": "s-1", "labels": {SERVICE_LABEL: "s"}}, "addressType": "IPv4",
            "ports": [{"port": 80}], "endpoints": [{"addresses": ["192.0.2.1"]}]});
        assert_eq!(check(good.clone()), "");
        let found = check(
            json!({"addressType": "FQDN", "endpoints": [{"addresses": []}, {"addresses": ["x"]}],
            "ports": [{"port": 0}, {"name": "b", "protocol": "ICMP"}]}),
        );
        for expected in [
            "metadata.name: is needed",
            "metadata.labels: kubernetes.io/service-name is needed",
            "addressType: \"FQDN\" is not IPv4 or IPv6",
            "endpoints[0].addresses: one is needed",
            "endpoints[1].addresses[0]: \"x\" is not an address",
            "ports[0].port: 0 is not between",
            "ports[1].protocol: \"ICMP\"",
            "ports[1].port: is needed",
        ] {
            assert!(found.contains(expected), "{expected}\n---\n{found}");
        }
        for (address, expected) in
            [("fd00::1", "is not of the slice's"), ("127.0.0.1", "that an endpoint can")]
        {
            let mut wrong = good.clone();
            wrong["endpoints"][0]["addresses"][0] = address.into();
            assert!(check(wrong).contains(expected));
        }
    }
}
