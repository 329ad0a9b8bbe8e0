//! What is wrong with the spec of a service. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::address;
use crate::meta::field_error::{FieldError, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;
use crate::meta::label;
use crate::meta::name::{dns_label, dns_subdomain, port as port_name, qualified};

/// The longest that a client stays with an endpoint, in seconds: a day.
const LONGEST_AFFINITY: i64 = 86_400;
/// Where kubelets listen.
const KUBELET: i64 = 10_250;

/// Who is outside of the cluster reaches it.
pub fn is_external(spec: &Value) -> bool {
    let spec = Spot::root(spec);
    match spec.field("type").text() {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !spec.field("externalIPs").is_empty(),
        _ => false,
    }
}

/// A balancer asks a node whether it has endpoints of its own.
pub fn is_asked_for_health(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

/// What is wrong with it, beside its addresses.
pub fn validate(spec: &Spot<'_>, findings: &mut Findings) {
    check_type(spec, findings);
    check_ports(spec, findings);
    let selector = spec.field("selector");
    findings.extend(label::labels(selector.value, &selector.path));
    check_affinity(spec, findings);
    spec.field("externalIPs").items().for_each(|one| address::check(&one, findings));
    check_balancer(spec, findings);
    check_policies(spec, findings);
}

fn check_type(spec: &Spot<'_>, findings: &mut Findings) {
    let kind = spec.field("type");
    findings.one_of_if_set(&kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    let headless = spec.field("clusterIP").text() == "None";
    if spec.field("ports").is_empty() && !headless && kind.text() != "ExternalName" {
        findings.required(&spec.field("ports"), "");
    }
    match kind.text() {
        of @ ("NodePort" | "LoadBalancer") if headless => {
            let first =
                Spot::at(spec.field("clusterIP").value, spec.field("clusterIPs").path.index(0));
            findings.invalid(&first, format!("may not be set to 'None' for {of} services"));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let alone = field == "clusterIPs" && !spec.field("clusterIP").is_empty();
                if alone || !spec.field(field).is_empty() {
                    findings
                        .forbidden(&spec.field(field), "may not be set for ExternalName services");
                }
            }
            let name = spec.field("externalName");
            match name.text() {
                "" => findings.required(&name, ""),
                // a dot at the end says that the name is whole
                text => {
                    findings
                        .sentences(&name, dns_subdomain(text.strip_suffix('.').unwrap_or(text)));
                }
            }
        }
        _ => {}
    }
}

fn check_ports(spec: &Spot<'_>, findings: &mut Findings) {
    let (kind, ports) = (spec.field("type"), spec.field("ports"));
    let mut before: Vec<(&Value, &Value)> = Vec::new();
    let mut of_nodes = BTreeSet::new();
    for one in ports.items() {
        check_port(&one, ports.len() > 1, findings);
        let (port, protocol, of_node) =
            (one.field("port"), one.field("protocol"), one.field("nodePort"));
        if kind.text() == "LoadBalancer" && port.integer() == Some(KUBELET) {
            let why =
                format!("may not expose port {KUBELET} externally since it is used by kubelet");
            findings.invalid(&Spot::at(port.value, one.path.clone()), why);
        }
        if let Some(number) = of_node.integer().filter(|number| *number != 0) {
            if kind.text() == "ClusterIP" {
                findings.forbidden(&of_node, "may not be used when `type` is 'ClusterIP'");
            }
            if !of_nodes.insert((protocol.text(), number)) {
                findings.duplicate(&of_node);
            }
        }
        let own = (port.value, protocol.value);
        if before.contains(&own) {
            let value = json!({"port": own.0, "protocol": own.1});
            findings.add(
                FieldError::new(one.path.clone(), Mistake::Duplicate(value), "")
                    .of(&go_value::SERVICE_PORT),
            );
        }
        before.push(own);
    }
    findings.unique(&ports, "name");
}

fn check_port(one: &Spot<'_>, several: bool, findings: &mut Findings) {
    findings.port(&one.field("port"));
    findings.one_of_if_set(&one.field("protocol"), &["SCTP", "TCP", "UDP"]);
    let name = one.field("name");
    match name.text() {
        "" if several => findings.required(&name, ""),
        "" => {}
        text => findings.sentences(&name, dns_label(text)),
    }
    let target = one.field("targetPort");
    match target.value {
        Value::Number(_) => findings.port(&target),
        Value::String(text) => findings.sentences(&target, port_name(text)),
        _ => {}
    }
    let protocol = one.field("appProtocol");
    if protocol.is_there() {
        findings.sentences(&protocol, qualified(protocol.text()));
    }
}

fn check_affinity(spec: &Spot<'_>, findings: &mut Findings) {
    let (affinity, config) = (spec.field("sessionAffinity"), spec.field("sessionAffinityConfig"));
    findings.one_of_if_set(&affinity, &["ClientIP", "None"]);
    if affinity.text() == "None" && config.is_there() {
        findings.forbidden(&config, "must not be set when session affinity is None");
    }
    let seconds = config.field("clientIP").field("timeoutSeconds");
    if affinity.text() == "ClientIP"
        && seconds.integer().is_some_and(|seconds| !(1..=LONGEST_AFFINITY).contains(&seconds))
    {
        let why = format!("must be greater than 0 and less than {LONGEST_AFFINITY}");
        findings.invalid(&seconds, why);
    }
}

/// What is only for load balancers.
fn check_balancer(spec: &Spot<'_>, findings: &mut Findings) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let balanced = spec.field("type").text() == "LoadBalancer";
    let ranges = Spot::at(
        spec.field("loadBalancerSourceRanges").value,
        // so is it spelled in these sentences
        spec.path.field("LoadBalancerSourceRanges"),
    );
    let others = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
    for spot in std::iter::once(ranges.clone()).chain(others.map(|field| spec.field(field))) {
        if !balanced && !spot.is_empty() {
            findings.forbidden(&spot, ONLY);
        }
    }
    ranges.items().for_each(|range| check_range(&range, range.text(), findings));
    let class = spec.field("loadBalancerClass");
    if balanced && class.is_there() {
        findings.sentences(&class, qualified(class.text()));
    }
}

fn check_range(place: &Spot<'_>, range: &str, findings: &mut Findings) {
    const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let range = range.trim();
    if range.parse::<ipnetwork::IpNetwork>().is_err() || !range.contains('/') {
        let value = json!(range);
        findings.invalid(&Spot::at(&value, place.path.clone()), NO_RANGE);
    }
}

/// What annotations say that came before fields, or have another name by now.
pub fn check_annotations(root: &Spot<'_>, findings: &mut Findings) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const MODE: &str = "service.kubernetes.io/topology-mode";
    const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let all = root.field("metadata").field("annotations");
    let at = |key: &str| Spot { path: all.path.key(key), ..all.field(key) };
    let (hints, mode) = (at(HINTS), at(MODE));
    if hints.is_there() && mode.is_there() && hints.value != mode.value {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        findings.invalid(&mode, why);
    }
    let (ranges, spec) = (at(RANGES), root.field("spec"));
    if ranges.is_absent() || !spec.field("loadBalancerSourceRanges").is_empty() {
        return;
    }
    if spec.field("type").text() != "LoadBalancer" {
        findings.forbidden(&ranges, "may only be used when `type` is 'LoadBalancer'");
    }
    if !ranges.text().trim().is_empty() {
        ranges.text().split(',').for_each(|range| check_range(&ranges, range, findings));
    }
}

/// Where a balancer takes connections.
pub fn check_balancer_status(root: &Spot<'_>, findings: &mut Findings) {
    let ingress = root.pointer("/status/loadBalancer/ingress");
    if root.pointer("/spec/type").text() != "LoadBalancer" && !ingress.is_empty() {
        findings.forbidden(&ingress, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    for one in ingress.items() {
        let [ip, mode, host] = ["ip", "ipMode", "hostname"].map(|field| one.field(field));
        let is_address = |spot: &Spot<'_>| spot.text().parse::<std::net::IpAddr>().is_ok();
        if !ip.is_empty() && !is_address(&ip) {
            findings.invalid(&ip, address::NO_ADDRESS);
        }
        if mode.is_there() && ip.is_empty() {
            findings.forbidden(&mode, "may not be specified when `ip` is not set");
        } else {
            findings.one_of(&mode, &["Proxy", "VIP"]);
        }
        if !host.is_empty() {
            findings.sentences(&host, dns_subdomain(host.text()));
            if is_address(&host) {
                findings.invalid(&host, "must be a DNS name, not an IP address");
            }
        }
    }
}

fn check_policies(spec: &Spot<'_>, findings: &mut Findings) {
    let [inner, outer] =
        ["internalTrafficPolicy", "externalTrafficPolicy"].map(|field| spec.field(field));
    findings.one_of_if_set(&inner, &["Cluster", "Local"]);
    if is_external(spec.value) {
        findings.required_one_of(&outer, &["Cluster", "Local"]);
    } else if !outer.is_empty() {
        findings.invalid(&outer, "may only be set for externally-accessible services");
    }
    let health = spec.field("healthCheckNodePort");
    if !is_asked_for_health(spec.value) && health.integer().is_some_and(|port| port != 0) {
        findings.invalid(
            &health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    }
    let near = spec.field("trafficDistribution");
    findings.one_of(&near, &["PreferClose"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(spec: Value) -> Vec<String> {
        let mut findings = Findings::default();
        let object = json!({"spec": spec});
        validate(&Spot::root(&object).field("spec"), &mut findings);
        findings.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn several_ports_need_names_and_differ() {
        let ports =
            json!([{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "TCP", "name": "b"}]);
        assert_eq!(
            told(json!({"ports": ports})),
            [
                "spec.ports[0].name: Required value",
                r#"spec.ports[1]: Duplicate value: core.ServicePort{Name:"", Protocol:"TCP", AppProtocol:(*string)(nil), Port:80, TargetPort:intstr.IntOrString{Type:0, IntVal:0, StrVal:""}, NodePort:0}"#,
            ]
        );
        let ports = json!([{"port": 1, "protocol": "TCP", "name": "a", "nodePort": 30000},
            {"port": 2, "protocol": "TCP", "name": "b", "nodePort": 30000}]);
        assert_eq!(
            told(json!({"type": "NodePort", "externalTrafficPolicy": "Cluster", "ports": ports})),
            ["spec.ports[1].nodePort: Duplicate value: 30000"]
        );
    }

    #[test]
    fn what_a_type_does_not_have_is_refused() {
        let ports = json!([{"port": 80, "protocol": "TCP", "nodePort": 30000}]);
        assert_eq!(
            told(json!({
                "type": "ClusterIP", "ports": ports, "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
                "loadBalancerSourceRanges": ["10.0.0.0/8"], "allocateLoadBalancerNodePorts": true,
                "sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {}},
            })),
            [
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                "spec.sessionAffinityConfig: Forbidden: must not be set when session affinity is None",
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
                r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#,
                "spec.healthCheckNodePort: Invalid value: 30001: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ]
        );
        assert_eq!(
            told(
                json!({"type": "NodePort", "clusterIP": "None", "externalTrafficPolicy": "Cluster"})
            ),
            [
                r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services"#
            ]
        );
    }

    #[test]
    fn values_are_looked_at() {
        let ports = json!([{"port": 10250, "protocol": "TCP", "appProtocol": "a b"}]);
        let found = told(json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "ports": ports, "selector": {"a": "b c"},
            "externalIPs": ["127.0.0.1", "192.0.2.1"], "loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0.1"],
            "loadBalancerClass": "a/b/c", "trafficDistribution": "Near",
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86_401}},
        }));
        let paths: Vec<&str> =
            found.iter().filter_map(|one| Some(one.split_once(": ")?.0)).collect();
        assert_eq!(
            paths,
            [
                "spec.ports[0].appProtocol",
                "spec.ports[0]",
                "spec.selector",
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                "spec.externalIPs[0]",
                "spec.LoadBalancerSourceRanges[1]",
                "spec.loadBalancerClass",
                "spec.trafficDistribution",
            ]
        );
    }

    #[test]
    fn a_name_outside_of_the_cluster_has_no_address() {
        let spec = json!({"type": "ExternalName", "externalName": "a.b.", "clusterIP": "None"});
        assert_eq!(
            told(spec),
            ["spec.clusterIPs: Forbidden: may not be set for ExternalName services"]
        );
        let spec = json!({"type": "ExternalName", "externalName": "a..", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
        let found = told(spec);
        assert_eq!(
            found[..2],
            [
                "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
                "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
            ]
        );
        assert!(
            found[2].starts_with(
                r#"spec.externalName: Invalid value: "a..": a lowercase RFC 1123 subdomain"#
            ),
            "{found:?}"
        );
    }

    #[test]
    fn annotations_and_the_status_are_looked_at() {
        let found = |object: Value| {
            let mut findings = Findings::default();
            check_annotations(&Spot::root(&object), &mut findings);
            check_balancer_status(&Spot::root(&object), &mut findings);
            findings.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let ranges = "service.beta.kubernetes.io/load-balancer-source-ranges";
        assert_eq!(
            found(
                json!({"metadata": {"annotations": {ranges: "10.0.0.0/8, x", "service.kubernetes.io/topology-mode": "Auto",
                "service.kubernetes.io/topology-aware-hints": "auto"}}, "spec": {"type": "ClusterIP"},
                "status": {"loadBalancer": {"ingress": [{}]}}})
            ),
            [
                r#"metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "Auto": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified"#,
                "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden: may only be used when `type` is 'LoadBalancer'",
                r#"metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
                "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'",
            ]
        );
        let ingress = json!([{"ip": "10.0.0.1", "ipMode": "Proxy"}, {"ip": "x"}, {"hostname": "10.0.0.1", "ipMode": "VIP"}, {"ip": "10.0.0.1", "ipMode": "Some"}]);
        assert_eq!(
            found(
                json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": ingress}}})
            ),
            [
                r#"status.loadBalancer.ingress[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                "status.loadBalancer.ingress[2].ipMode: Forbidden: may not be specified when `ip` is not set",
                r#"status.loadBalancer.ingress[2].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#,
                r#"status.loadBalancer.ingress[3].ipMode: Unsupported value: "Some": supported values: "Proxy", "VIP""#,
            ]
        );
    }
}
