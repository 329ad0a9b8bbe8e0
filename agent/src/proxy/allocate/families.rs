//! Which families of addresses a service has. Pure.
//!
//! Kubernetes documentation, "IPv4/IPv6 dual-stack", section Services: what is not said follows from the addresses that are chosen,
//! then from the families, then from the cluster's own order.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;
use netns_tools::iptables::Family;

use super::AllocateError;

/// `spec.ipFamilyPolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum FamilyPolicy {
    SingleStack,
    PreferDualStack,
    RequireDualStack,
}

impl FamilyPolicy {
    /// From Kubernetes' spelling.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::SingleStack, Self::PreferDualStack, Self::RequireDualStack];
        all.into_iter().find(|policy| policy.as_str() == word)
    }

    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SingleStack => "SingleStack",
            Self::PreferDualStack => "PreferDualStack",
            Self::RequireDualStack => "RequireDualStack",
        }
    }
}

/// The family of an address.
pub fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// As Kubernetes writes it.
pub const fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// From Kubernetes' spelling.
pub fn parse(word: &str) -> Option<Family> {
    match word {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }
}

/// The addresses that a service chooses: `clusterIPs`, or `clusterIP`.
pub fn chosen(spec: &ServiceSpec) -> Vec<IpAddr> {
    let single = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none());
    let listed = spec.cluster_ips.iter().flatten().chain(single);
    listed.filter_map(|ip| ip.parse().ok()).collect()
}

/// The families of a service's addresses in order, and the policy that they follow from. `known`: the families that the cluster has
/// ranges for, the default one first.
pub fn families(
    spec: &ServiceSpec,
    known: &[Family],
) -> Result<(Vec<Family>, FamilyPolicy), AllocateError> {
    let of_addresses = chosen(spec).into_iter().map(family_of);
    let of_words = spec.ip_families.iter().flatten().filter_map(|word| parse(word));
    let mut families = Vec::new();
    for family in of_addresses.chain(of_words) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    if let Some(unknown) = families.iter().find(|family| !known.contains(family)) {
        return Err(AllocateError::NoRange(word(*unknown)));
    }
    let inferred = if families.len() == 2 {
        FamilyPolicy::RequireDualStack
    } else {
        FamilyPolicy::SingleStack
    };
    let said = spec.ip_family_policy.as_deref().and_then(FamilyPolicy::parse);
    let policy = said.unwrap_or(inferred);
    if policy == FamilyPolicy::SingleStack {
        families.extend(known.first().filter(|_| families.is_empty()));
        families.truncate(1);
    } else {
        let missing = known.iter().filter(|family| !families.contains(family)).copied();
        let missing: Vec<_> = missing.collect();
        families.extend(missing);
    }
    if policy == FamilyPolicy::RequireDualStack && families.len() < 2 {
        return Err(AllocateError::NotDual);
    }
    Ok((families, policy))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decide(spec: Value, known: &[Family]) -> String {
        let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
        match families(&spec, known) {
            Ok((families, policy)) => {
                let words: Vec<_> = families.into_iter().map(word).collect();
                format!("{} {}", words.join(","), policy.as_str())
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_not_said_follows_as_in_kubernetes() {
        let (v4, both, six_first) =
            (&[Family::V4][..], &[Family::V4, Family::V6][..], &[Family::V6, Family::V4][..]);
        let cases = [
            (json!({}), v4, "IPv4 SingleStack"),
            (json!({}), six_first, "IPv6 SingleStack"),
            (json!({"ipFamilies": ["IPv6"]}), both, "IPv6 SingleStack"),
            (json!({"clusterIP": "fd00::1"}), both, "IPv6 SingleStack"),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), v4, "IPv4 PreferDualStack"),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), both, "IPv4,IPv6 PreferDualStack"),
            (
                json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}),
                both,
                "IPv6,IPv4 PreferDualStack",
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": "fd00::1"}),
                both,
                "IPv6,IPv4 RequireDualStack",
            ),
            (json!({"clusterIPs": ["10.0.0.1", "fd00::1"]}), both, "IPv4,IPv6 RequireDualStack"),
            (json!({"ipFamilies": ["IPv6", "IPv4"]}), both, "IPv6,IPv4 RequireDualStack"),
        ];
        for (spec, known, expected) in cases {
            assert_eq!(decide(spec.clone(), known), expected, "{spec}");
        }
        let refused = decide(json!({"ipFamilies": ["IPv6"]}), v4);
        assert!(refused.starts_with("spec.ipFamilies: network.service_cidr has no range of IPv6"));
        let refused = decide(json!({"ipFamilyPolicy": "RequireDualStack"}), v4);
        assert!(refused.starts_with("spec.ipFamilyPolicy: RequireDualStack needs"), "{refused}");
    }
}
