//! Endpoint slices: a part of a service's endpoints.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{Errors, immutable, invalid, one_of, path, required};
use super::column::{age, columns, items, name, text};
use super::defaults::{default, each};
use super::endpoints::first_three;
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, Mistake};

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;

/// `discovery.k8s.io/v1 EndpointSlice`.
pub fn kind() -> Kind {
    Kind::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .with_generation()
        .columns(columns("Name AddressType Ports Endpoints Age"))
        .behaves(EndpointSlice)
}

struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, object: &mut Value) {
        for port in each(object, "ports") {
            default(port, "name", "");
            default(port, "protocol", "TCP");
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        match text(object, "/addressType") {
            "" => errors.push(required(&path("/addressType"), "")),
            _ => one_of(
                object,
                "/addressType",
                &path("/addressType"),
                &["FQDN", "IPv4", "IPv6"],
                &mut errors,
            ),
        }
        let (endpoints, ports) = (items(object, "/endpoints"), items(object, "/ports"));
        for (list, most, field) in
            [(endpoints, MAX_ENDPOINTS, "/endpoints"), (ports, MAX_PORTS, "/ports")]
        {
            if list.len() > most {
                errors.push(FieldError::new(path(field), Mistake::TooMany(list.len(), most), ""));
            }
        }
        for (index, endpoint) in endpoints.iter().enumerate().take(MAX_ENDPOINTS) {
            addresses(
                endpoint,
                text(object, "/addressType"),
                &path("/endpoints").index(index).field("addresses"),
                &mut errors,
            );
        }
        super::check::unique(ports, "/name", &path("/ports"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        immutable(object, old, "/addressType", &mut errors);
        errors
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = items(object, "/ports").iter().map(port).collect();
        let all: Vec<String> = items(object, "/endpoints")
            .iter()
            .flat_map(|endpoint| items(endpoint, "/addresses"))
            .map(|address| address.as_str().unwrap_or_default().to_owned())
            .collect();
        vec![
            json!(name(object)),
            json!(text(object, "/addressType")),
            json!(first_three(&ports, "<unset>")),
            json!(first_three(&all, "<unset>")),
            json!(age(object, now)),
        ]
    }
}

fn addresses(
    endpoint: &Value,
    family: &str,
    at: &crate::meta::field_error::FieldPath,
    errors: &mut Errors,
) {
    let addresses = items(endpoint, "/addresses");
    if addresses.is_empty() {
        errors.push(required(at, "must contain at least 1 address"));
    }
    if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::new(
            at.clone(),
            Mistake::TooMany(addresses.len(), MAX_ADDRESSES),
            "",
        ));
    }
    for (index, address) in addresses.iter().enumerate() {
        let text = address.as_str().unwrap_or_default();
        let wrong = match family {
            "IPv4" => text
                .parse::<std::net::Ipv4Addr>()
                .is_err()
                .then_some("must be a valid IPv4 address"),
            "IPv6" => text
                .parse::<std::net::Ipv6Addr>()
                .is_err()
                .then_some("must be a valid IPv6 address"),
            _ => None,
        };
        errors.extend(wrong.map(|why| invalid(&at.index(index), address, why)));
    }
}

fn port(port: &Value) -> String {
    match (port.get("port").and_then(Value::as_i64), text(port, "/name")) {
        (Some(number), _) => number.to_string(),
        (None, "") => "*".to_owned(),
        (None, name) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_the_slice_family() {
        let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}, {"addresses": []}]});
        let sentences: Vec<_> =
            EndpointSlice.validate(&slice).iter().map(ToString::to_string).collect();
        assert_eq!(
            sentences,
            [
                r#"endpoints[0].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address"#,
                "endpoints[1].addresses: Required value: must contain at least 1 address",
            ]
        );
    }
}
