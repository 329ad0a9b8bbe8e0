//! Ranges of cluster addresses, and who has which address.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, name, text};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, Mistake};
use crate::meta::findings::{Findings, Spot};

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
        Ok(address) if address.to_string() != text => {
            vec![format!("must be in canonical form ({address:?})")]
        }
        Ok(_) => Vec::new(),
    }
}

struct Range;

impl Strategy for Range {
    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let ranges = Spot::root(object).field("spec").field("cidrs");
        match ranges.len() {
            0 => findings.required(&ranges, "at least one CIDR required"),
            1 | 2 => {}
            _ => findings.invalid(&ranges, "may only hold up to 2 values"),
        }
        for range in ranges.items() {
            match range.text().parse::<IpNetwork>() {
                Err(_) => findings.invalid(
                    &range,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ),
                Ok(parsed) if parsed.network() != parsed.ip() => {
                    findings.invalid(&range, "must not have bits set beyond the prefix length");
                }
                Ok(_) => {}
            }
        }
        let families: Vec<bool> = ranges
            .items()
            .filter_map(|range| Some(range.text().parse::<IpNetwork>().ok()?.is_ipv4()))
            .collect();
        if let [one, other] = families[..]
            && one == other
        {
            findings.invalid(&ranges, "may specify no more than one IP for each IP family");
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        findings.immutable(&root.pointer("/spec/cidrs"), &before.pointer("/spec/cidrs"));
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ranges: Vec<&str> =
            items(object, "/spec/cidrs").iter().filter_map(Value::as_str).collect();
        vec![json!(name(object)), json!(ranges.join(",")), json!(age(object, now))]
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
        for field in ["resource", "name"] {
            if parent.field(field).is_empty() {
                findings.required(&parent.field(field), "");
            }
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        if object.get("spec") == old.get("spec") {
            return Vec::new();
        }
        let path = Spot::root(object).field("spec").path;
        vec![FieldError::new(path, Mistake::Invalid(object["spec"].clone()), "field is immutable")]
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
        vec![json!(name(object)), json!(parent), json!(age(object, now))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_for_each_family() {
        let told = |ranges: Value| {
            let errors = Range.validate(&json!({"spec": {"cidrs": ranges}}));
            errors.iter().map(|error| error.detail.clone()).collect::<Vec<_>>()
        };
        assert!(told(json!(["10.96.0.0/12", "fd00::/112"])).is_empty());
        assert_eq!(
            told(json!(["10.96.0.1/12"])),
            ["must not have bits set beyond the prefix length"]
        );
        assert_eq!(
            told(json!(["10.96.0.0/12", "10.0.0.0/24"])),
            ["may specify no more than one IP for each IP family"]
        );
        assert_eq!(told(json!([])), ["at least one CIDR required"]);
    }

    #[test]
    fn an_address_is_written_in_one_way() {
        assert!(address_name("10.96.0.1").is_empty() && address_name("fd00::1").is_empty());
        assert_eq!(address_name("fd00:0::1"), ["must be in canonical form (fd00::1)"]);
        assert_eq!(address_name("10.96.0.01").len(), 1);
        let object = json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}});
        assert!(Address.validate(&object).is_empty());
        assert_eq!(Address.row(&object, Timestamp::UNIX_EPOCH)[1], "services/default/web");
    }
}
