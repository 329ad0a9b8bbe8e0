//! What is let into a service and does nothing: told, in the sentences of `k8s.io/kubernetes/pkg/api/service`.

use serde_json::Value;

use super::address::form_warning;
use crate::meta::findings::Spot;
use crate::meta::object::Meta;

/// What there is to tell of a service.
pub fn warnings(object: &Value) -> Vec<String> {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let spec = Spot::root(object).field("spec");
    let mut told = Vec::new();
    if Meta::of(object).annotation(HINTS).is_some() {
        let now = "service.kubernetes.io/topology-mode";
        told.push(format!("annotation {HINTS} is deprecated, please use {now} instead"));
    }
    let headless =
        spec.field("type").text() == "ClusterIP" && spec.field("clusterIP").text() == "None";
    told.extend(spec.field("clusterIPs").items().filter_map(|one| form_warning(&one)));
    if headless {
        told.extend(of_headless(&spec));
    }
    told.extend(spec.field("externalIPs").items().filter_map(|one| form_warning(&one)));
    told.extend(form_warning(&spec.field("loadBalancerIP")));
    told.extend(
        spec.field("loadBalancerSourceRanges").items().filter_map(|one| form_warning(&one)),
    );
    let external = spec.field("type").text() == "ExternalName";
    if external && !spec.field("externalIPs").is_empty() {
        told.push(r#"spec.externalIPs is ignored when spec.type is "ExternalName""#.to_owned());
    }
    if !external && !spec.field("externalName").is_empty() {
        told.push(
            r#"spec.externalName is ignored when spec.type is not "ExternalName""#.to_owned(),
        );
    }
    told
}

/// Nothing stands between the clients and the pods of a headless service.
fn of_headless(spec: &Spot<'_>) -> Vec<String> {
    let set = [
        ("loadBalancerIP", !spec.field("loadBalancerIP").is_empty()),
        ("externalIPs", !spec.field("externalIPs").is_empty()),
        ("SessionAffinity", spec.field("sessionAffinity").text() != "None"),
    ];
    let told = set.iter().filter(|(_, is)| *is);
    told.map(|(field, _)| format!("spec.{field} is ignored for headless services")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_service_ignores_is_told() {
        let told = |spec: Value| warnings(&json!({"spec": spec}));
        assert!(told(json!({"type": "ClusterIP", "clusterIPs": ["10.0.0.1"]})).is_empty());
        assert_eq!(
            told(
                json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "ClientIP",
                "externalIPs": ["192.0.2.1"], "loadBalancerIP": "192.0.2.2"})
            ),
            [
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ]
        );
        assert_eq!(
            told(
                json!({"type": "ExternalName", "externalName": "a.b", "externalIPs": ["192.0.2.1"]})
            ),
            [r#"spec.externalIPs is ignored when spec.type is "ExternalName""#]
        );
        assert_eq!(
            told(
                json!({"type": "LoadBalancer", "externalName": "a.b", "loadBalancerSourceRanges": ["2001:DB8::/32"]})
            ),
            [
                r#"spec.loadBalancerSourceRanges[0]: IPv6 prefix "2001:DB8::/32" is not in RFC 5952 canonical format ("2001:db8::/32"), which may cause controller apply-loops"#,
                r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
            ]
        );
        let hints = json!({"metadata": {"annotations": {"service.kubernetes.io/topology-aware-hints": "auto"}}});
        assert_eq!(
            warnings(&hints),
            [
                "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead"
            ]
        );
    }
}
