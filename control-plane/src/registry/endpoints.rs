//! Endpoints: a service's addresses in the form of old.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::address;
use super::column::{age, columns, items, name, number, text};
use super::defaults::{default_text, each};
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::name as names;

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
            each(subset, "ports").for_each(|port| default_text(port, "protocol", "TCP"));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let own = is_of_server(object, name(object));
        for subset in Spot::root(object).field("subsets").items() {
            check_subset(&subset, own, &mut findings);
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let all: Vec<String> = items(object, "/subsets").iter().flat_map(addresses).collect();
        vec![json!(name(object)), json!(first_three(&all, "<none>")), json!(age(object, now))]
    }
}

/// The endpoints of the API itself (`default/kubernetes`), which a server in a lab has on its loopback.
pub fn is_of_server(object: &Value, service: &str) -> bool {
    text(object, "/metadata/namespace") == "default" && service == "kubernetes"
}

fn check_subset(subset: &Spot<'_>, own: bool, findings: &mut Findings) {
    let lists = ["addresses", "notReadyAddresses"].map(|field| subset.field(field));
    if lists.iter().all(Spot::is_empty) {
        findings.required(subset, "must specify `addresses` or `notReadyAddresses`");
    }
    for one in lists.iter().flat_map(Spot::items) {
        if !own {
            address::check(&one.field("ip"), findings);
        }
        let (host, node) = (one.field("hostname"), one.field("nodeName"));
        if !host.is_empty() {
            findings.sentences(&host, names::dns_label(host.text()));
        }
        if node.is_there() {
            findings.sentences(&node, names::dns_subdomain(node.text()));
        }
    }
    let ports = subset.field("ports");
    for port in ports.items() {
        let name = port.field("name");
        match name.text() {
            "" if ports.len() > 1 => findings.required(&name, ""),
            "" => {}
            text => findings.sentences(&name, names::dns_label(text)),
        }
        findings.port(&port.field("port"));
        findings.required_one_of(&port.field("protocol"), &["SCTP", "TCP", "UDP"]);
        let protocol = port.field("appProtocol");
        if protocol.is_there() {
            findings.sentences(&protocol, names::qualified(protocol.text()));
        }
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
    fn addresses_are_those_of_others_and_ports_have_names() {
        let told = |subset: Value| {
            let errors = Endpoints.validate(&json!({"subsets": [subset]}));
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let port = |number: i64| json!({"port": number, "protocol": "TCP"});
        assert!(told(json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [port(80)]})).is_empty());
        assert_eq!(
            told(json!({"ports": [port(0), port(80)]})),
            [
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[0].ports[0].name: Required value",
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "subsets[0].ports[1].name: Required value",
            ]
        );
        assert_eq!(
            told(json!({"addresses": [{"ip": "127.0.0.1", "hostname": "A"}, {"ip": "x"}]})).len(),
            3
        );
    }

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
