//! Ranges of cluster addresses, and who has which address.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::address;
use super::column::{age, columns, items, name as name_of, text};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;
use crate::meta::name;

/// `networking.k8s.io/v1 ServiceCIDR`, `networking.k8s.io/v1 IPAddress`.
pub fn kinds() -> [Kind; 2] {
    let group = "networking.k8s.io";
    [
        Kind::new(group, "v1", "ServiceCIDR", "servicecidrs")
            .cluster_scoped()
            .with(&[Subresource::Status])
            .with_generation()
            .columns(columns("Name CIDRs Age"))
            .behaves(Range),
        Kind::new(group, "v1", "IPAddress", "ipaddresses")
            .cluster_scoped()
            .short(&["ip"])
            .named(address_name)
            .columns(columns("Name ParentRef Age"))
            .behaves(Address),
    ]
}

/// An address in its one canonical form.
fn address_name(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
        Ok(address) if is_mapped(address) => vec![MAPPED.to_owned()],
        Ok(address) if address.to_string() != text => {
            vec![format!("must be in canonical form (\"{address}\")")]
        }
        Ok(_) => Vec::new(),
    }
}

/// A network in its one canonical form.
fn network(text: &str) -> Vec<String> {
    match address::network(text) {
        Some(network) if is_mapped(network.ip()) => vec![MAPPED.to_owned()],
        Some(network) if network.network() != network.ip() => {
            vec!["must not have bits set beyond the prefix length".to_owned()]
        }
        Some(network) if network.to_string() != text => {
            vec![format!("must be in canonical form (\"{network}\")")]
        }
        Some(_) => Vec::new(),
        None => vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()],
    }
}

const MAPPED: &str = "must not be an IPv4-mapped IPv6 address";

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

struct Range;

impl Strategy for Range {
    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec").of(&go_value::SERVICE_RANGES);
        let ranges = spec.field("cidrs");
        // Kubernetes shows what holds them
        let shown = Spot { path: ranges.path.clone(), ..spec };
        let texts: Vec<&str> = ranges.items().map(|range| range.text()).collect();
        let is_v4 = |text: &str| text.parse::<IpNetwork>().ok().map(|network| network.is_ipv4());
        match texts[..] {
            [] => findings.required(&ranges, "at least one CIDR required"),
            [one, other] if is_v4(one).is_none() || is_v4(one) != is_v4(other).map(|v4| !v4) => {
                findings.invalid(
                    &shown,
                    "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                );
            }
            [_] | [_, _] => {
                for range in ranges.items() {
                    findings.sentences(&range, network(range.text()));
                }
            }
            _ => findings.invalid(&shown, "may only hold up to 2 values"),
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        let ranges = root.pointer("/spec/cidrs").of(&go_value::TEXTS);
        findings.immutable(&ranges, &before.pointer("/spec/cidrs"));
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ranges: Vec<&str> =
            items(object, "/spec/cidrs").iter().filter_map(Value::as_str).collect();
        vec![json!(name_of(object)), json!(ranges.join(",")), json!(age(object, now))]
    }
}

struct Address;

impl Strategy for Address {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let parent = Spot::root(object).field("spec").field("parentRef");
        if parent.is_absent() {
            findings.required(&parent, "");
            return findings.into_vec();
        }
        let group = parent.field("group");
        if !group.is_empty() {
            findings.sentences(&group, name::dns_subdomain(group.text()));
        }
        for (field, required) in [("resource", true), ("name", true), ("namespace", false)] {
            let spot = parent.field(field);
            match spot.text() {
                "" if required => findings.required(&spot, ""),
                "" => {}
                text => findings.sentences(&spot, name::path_segment(text)),
            }
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let pointer = "/spec/parentRef";
        let parent = Spot::root(object).pointer(pointer).of(&go_value::PARENT_REFERENCE);
        findings.immutable(&parent, &Spot::root(old).pointer(pointer));
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let of = |field: &str| text(object, &format!("/spec/parentRef/{field}"));
        let resource = match of("group") {
            "" => of("resource").to_owned(),
            group => format!("{}.{group}", of("resource")),
        };
        let parent = match of("namespace") {
            "" => format!("{resource}/{}", of("name")),
            namespace => format!("{resource}/{namespace}/{}", of("name")),
        };
        vec![json!(name_of(object)), json!(parent), json!(age(object, now))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_range_for_each_family() {
        const BOTH: &str = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        const BAD: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        for (ranges, expected) in [
            (json!(["10.96.0.0/12"]), ""),
            (json!(["10.96.0.0/12", "fd00::/112"]), ""),
            (json!(["fd00::/112", "10.96.0.0/12"]), ""),
            (json!([]), "spec.cidrs: Required value: at least one CIDR required"),
            (Value::Null, "spec.cidrs: Required value: at least one CIDR required"),
            (json!(["10.0.0.0/24", "fd00::/112", "fd01::/112"]), "may only hold up to 2 values"),
            (json!(["10.96.0.0/12", "10.0.0.0/24"]), BOTH),
            (
                json!(["a", "b", "c"]),
                r#"spec.cidrs: Invalid value: networking.ServiceCIDRSpec{CIDRs:[]string{"a", "b", "c"}}: may only"#,
            ),
            (json!(["10.96.0.0/12", "10.96.0.0/12"]), BOTH),
            (json!(["10.96.0.0/12", "x"]), BOTH),
            (json!(["x", "fd00::/112"]), BOTH),
            (json!(["10.96.0.1/12"]), "must not have bits set beyond the prefix length"),
            (
                json!(["10.96.0.0/12", "fd00:0::/112"]),
                "spec.cidrs[1]: Invalid value: \"fd00:0::/112\": must be in canonical form (\"fd00::/112\")",
            ),
            (json!(["10.96.0.0/012"]), "spec.cidrs[0]: Invalid value"),
            (json!(["10.96.0.0"]), BAD),
            (json!(["10.96.0.0/255.240.0.0"]), BAD),
            (json!(["010.96.0.0/12"]), BAD),
            (json!(["10.96.0.0/33"]), BAD),
            (json!([""]), BAD),
            (json!(["::ffff:10.96.0.0/108"]), "must not be an IPv4-mapped IPv6 address"),
        ] {
            let told = told(&Range.validate(&json!({"spec": {"cidrs": ranges}})));
            assert_eq!(told.len(), usize::from(!expected.is_empty()), "{ranges}: {told:?}");
            assert!(told.iter().all(|one| one.contains(expected)), "{ranges}: {told:?}");
        }
        let of = |ranges: Value| json!({"spec": {"cidrs": ranges}});
        let (one, two) = (of(json!(["10.96.0.0/12"])), of(json!(["10.96.0.0/12", "fd00::/112"])));
        assert!(Range.validate_update(&one, &one).is_empty());
        for (new, old) in [(&one, &two), (&two, &one)] {
            let told = told(&Range.validate_update(new, old));
            assert!(told[0].starts_with("spec.cidrs: ") && told[0].ends_with("field is immutable"));
        }
    }

    #[test]
    fn an_address_is_written_in_one_way() {
        for (text, expected) in [
            ("10.96.0.1", ""),
            ("fd00::1", ""),
            ("fd00:0::1", "must be in canonical form (\"fd00::1\")"),
            ("FD00::1", "must be in canonical form (\"fd00::1\")"),
            ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
            ("10.96.0.01", "must be a valid IP address"),
            ("web", "must be a valid IP address"),
        ] {
            let told = address_name(text);
            assert_eq!(told.is_empty(), expected.is_empty(), "{text}: {told:?}");
            assert!(told.iter().all(|one| one.contains(expected)), "{text}: {told:?}");
        }
    }

    #[test]
    fn an_address_belongs_to_something_for_ever() {
        let of = |parent: Value| json!({"spec": {"parentRef": parent}});
        let object = of(json!({"resource": "services", "namespace": "default", "name": "web"}));
        assert!(Address.validate(&object).is_empty());
        assert_eq!(Address.row(&object, Timestamp::UNIX_EPOCH)[1], "services/default/web");
        for (parent, expected) in [
            (Value::Null, &[": Required value"][..]),
            (json!({}), &[".resource: Required value", ".name: Required value"]),
            (
                json!({"group": "A_", "resource": "a/b", "namespace": "..", "name": "%"}),
                &[".group: Invalid", ".resource: Invalid", ".name: Invalid", ".namespace: Invalid"],
            ),
        ] {
            let told = told(&Address.validate(&of(parent)));
            assert_eq!(told.len(), expected.len(), "{told:?}");
            for (one, expected) in told.iter().zip(expected) {
                assert!(one.starts_with(&format!("spec.parentRef{expected}")), "{told:?}");
            }
        }
        let other = of(json!({"resource": "services", "namespace": "default", "name": "other"}));
        let told = told(&Address.validate_update(&other, &object));
        assert!(told[0].starts_with("spec.parentRef: "), "{told:?}");
        assert!(told[0].ends_with("field is immutable"), "{told:?}");
    }
}
