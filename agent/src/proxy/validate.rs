//! What this first form of the proxy can serve. Everything else is refused by name.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::pods::Protocol;

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
    kind(spec, &mut errors);
    unsupported(spec, &mut errors);
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty()
        && spec.cluster_ip.as_deref() != Some("None")
        && spec.type_.as_deref() != Some("ExternalName")
    {
        errors.push("spec.ports: at least one is needed".to_owned());
    }
    for (index, port) in ports.iter().enumerate() {
        port_errors(
            port,
            &ports[..index],
            ports.len(),
            &format!("spec.ports[{index}]"),
            &mut errors,
        );
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn kind(spec: &ServiceSpec, errors: &mut Vec<String>) {
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" | "NodePort" | "ExternalName" => {}
        "LoadBalancer" => {
            errors.push("spec.type: LoadBalancer is not supported yet; use NodePort".to_owned());
        }
        other => {
            errors.push(format!("spec.type: {other:?} is not ClusterIP, NodePort or ExternalName"));
        }
    }
    match spec.cluster_ip.as_deref().unwrap_or_default() {
        "" | "None" => {}
        ip => match ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => {}
            Ok(IpAddr::V6(_)) => {
                errors.push("spec.clusterIP: IPv6 services are not supported yet".to_owned());
            }
            Err(_) => errors.push(format!("spec.clusterIP: {ip:?} is not an address")),
        },
    }
}

fn unsupported(spec: &ServiceSpec, errors: &mut Vec<String>) {
    let mut refuse = |set: bool, field: &str| {
        if set {
            errors.push(format!("spec.{field}: is not supported yet; remove it"));
        }
    };
    refuse(spec.session_affinity.as_deref().is_some_and(|word| word != "None"), "sessionAffinity");
    refuse(
        spec.external_traffic_policy.as_deref().is_some_and(|word| word != "Cluster"),
        "externalTrafficPolicy",
    );
    refuse(
        spec.internal_traffic_policy.as_deref().is_some_and(|word| word != "Cluster"),
        "internalTrafficPolicy",
    );
    refuse(spec.external_ips.as_ref().is_some_and(|list| !list.is_empty()), "externalIPs");
    refuse(spec.load_balancer_ip.is_some(), "loadBalancerIP");
    refuse(spec.traffic_distribution.is_some(), "trafficDistribution");
    refuse(spec.publish_not_ready_addresses == Some(true), "publishNotReadyAddresses");
    refuse(
        spec.ip_families.as_ref().is_some_and(|list| list.iter().any(|family| family != "IPv4")),
        "ipFamilies",
    );
    refuse(
        spec.ip_family_policy.as_deref().is_some_and(|word| word == "RequireDualStack"),
        "ipFamilyPolicy",
    );
}

fn port_errors(
    port: &ServicePort,
    earlier: &[ServicePort],
    count: usize,
    at: &str,
    errors: &mut Vec<String>,
) {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    if !(1..=65535).contains(&port.port) {
        errors.push(format!("{at}.port: {} is not between 1 and 65535", port.port));
    }
    if Protocol::parse(protocol).is_none() {
        errors.push(format!("{at}.protocol: {protocol:?} is not supported; use TCP or UDP"));
    }
    if port.node_port.is_some_and(|port| !(0..=65535).contains(&port)) {
        errors.push(format!("{at}.nodePort: is not between 1 and 65535"));
    }
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
        _ => {}
    }
    let same = |other: &&ServicePort| {
        other.port == port.port && other.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    if earlier.iter().any(|other| same(&other)) {
        errors.push(format!("{at}.port: {} {protocol} is used twice", port.port));
    }
    if count > 1 && earlier.iter().any(|other| other.name == port.name) {
        errors.push(format!(
            "{at}.name: {:?} is used twice",
            port.name.as_deref().unwrap_or_default()
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn errors(spec: Value) -> String {
        let object: Service =
            serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
        service(&object).err().unwrap_or_default().join("\n")
    }

    #[test]
    fn mistakes_name_their_fields() {
        assert_eq!(errors(json!({"ports": [{"port": 80}]})), "");
        assert_eq!(errors(json!({"clusterIP": "None"})), "");
        let found = errors(
            json!({"type": "LoadBalancer", "clusterIP": "x", "sessionAffinity": "ClientIP",
            "ports": [{"port": 0, "name": "A\""}, {"port": 80, "protocol": "SCTP"}, {"port": 0, "name": "b"}]}),
        );
        for expected in [
            "spec.type: LoadBalancer",
            "spec.clusterIP: \"x\"",
            "spec.sessionAffinity: is not supported yet",
            "spec.ports[0].port: 0",
            "spec.ports[0].name",
            "spec.ports[1].protocol",
            "spec.ports[1].name: is needed",
            "spec.ports[2].port: 0 TCP is used twice",
        ] {
            assert!(found.contains(expected), "{expected}\n---\n{found}");
        }
    }
}
