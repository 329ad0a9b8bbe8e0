//! Endpoints: a service's addresses in the form of old.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, name, number, text};
use super::defaults::{default, each};
use super::kind::Kind;
use super::strategy::Strategy;

/// `v1 Endpoints`.
pub fn kind() -> Kind {
    let mut kind = Kind::new("", "v1", "Endpoints", "endpoints")
        .stored_as("services/endpoints")
        .short(&["ep"])
        .columns(columns("Name Endpoints Age"))
        .behaves(Endpoints);
    kind.create_on_update = true;
    kind
}

struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in each(object, "subsets") {
            each(subset, "ports").for_each(|port| default(port, "protocol", "TCP"));
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let all: Vec<String> = items(object, "/subsets").iter().flat_map(addresses).collect();
        vec![json!(name(object)), json!(first_three(&all, "<none>")), json!(age(object, now))]
    }
}

fn addresses(subset: &Value) -> Vec<String> {
    let ips = || items(subset, "/addresses").iter().map(|address| text(address, "/ip"));
    let ports = items(subset, "/ports");
    if ports.is_empty() {
        return ips().map(str::to_owned).collect();
    }
    ports
        .iter()
        .flat_map(|port| ips().map(move |ip| host_port(ip, number(port, "/port"))))
        .collect()
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// Three of a list, and how many more there are.
pub fn first_three(list: &[String], none: &str) -> String {
    match list {
        [] => none.to_owned(),
        [a, b, c, more @ ..] if !more.is_empty() => format!("{a},{b},{c} + {} more...", more.len()),
        few => few.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let object = json!({"subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}, {"port": 443}],
        }]});
        assert_eq!(
            Endpoints.row(&object, Timestamp::UNIX_EPOCH)[1],
            json!("10.0.0.1:80,[fd00::1]:80,10.0.0.1:443 + 1 more...")
        );
        assert_eq!(Endpoints.row(&json!({}), Timestamp::UNIX_EPOCH)[1], json!("<none>"));
    }
}
