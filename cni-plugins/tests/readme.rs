//! Every network list of the README works as it stands there.

mod node;

use std::fs;
use std::path::Path;

use cni::ErrorCode;
use cni::runtime::{Attachment, NetworkList, Runtime, RuntimeError};
use node::Node;
use serde_json::{Value, json};

/// Kinds of devices that a kernel may lack, and what is said then.
const KINDS: [(&str, &str); 4] = [
    ("ipvlan", "this kernel has no ipvlan devices"),
    ("vlan", "this kernel has no VLAN devices"),
    ("dummy", "this kernel has no dummy devices"),
    ("vrf", "this kernel has no VRF devices"),
];

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The lists of the README, in order.
fn lists() -> Vec<Value> {
    let text = readme();
    let fences = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let parsed = fences.map(|fence| {
        serde_json::from_str::<Value>(fence).unwrap_or_else(|error| panic!("{error}: {fence}"))
    });
    parsed.filter(|value| value.get("plugins").is_some()).collect()
}

/// A node with the devices that the README's lists name.
fn node() -> Node {
    let node = Node::heddle();
    node.sh("ip link add eth0 type veth peer name far0; ip link set far0 up; ip link set eth0 up");
    node.sh("ip link add ens5 type veth peer name far1; ip addr add 192.0.2.1/24 dev eth0");
    node.sh("ip route add default via 192.0.2.254");
    node
}

/// Files go into the test's folder instead of the usual places.
fn keep_here(list: &mut Value, folder: &Path) {
    for plugin in list["plugins"].as_array_mut().unwrap() {
        if matches!(plugin["type"].as_str(), Some("tuning" | "firewall")) {
            plugin["dataDir"] = json!(folder.join("data"));
        }
        if plugin["type"] == "overlay" {
            let lease = folder.join("subnet.env");
            fs::write(&lease, lease_of_the_readme()).unwrap();
            plugin["subnetFile"] = json!(lease);
            plugin["dataDir"] = json!(folder.join("overlay"));
            plugin["ipam"]["dataDir"] = json!(folder.join("leases"));
        }
        if plugin["ipam"]["type"] == "host-local" {
            plugin["ipam"]["dataDir"] = json!(folder.join("leases"));
        }
    }
}

/// The lease of the section about `overlay`, with its comments.
fn lease_of_the_readme() -> String {
    let fences = readme();
    let lease = fences.split("```\n").find(|text| text.starts_with("HEDDLE_NETWORK="));
    lease.expect("a lease").to_owned()
}

fn types(list: &Value) -> Vec<String> {
    let plugins = list["plugins"].as_array().unwrap().iter();
    let types = plugins.flat_map(|plugin| [&plugin["type"], &plugin["ipam"]["type"]]);
    types.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

/// What a runtime would pass to plugins that declare it.
fn attachment(netns: &Path) -> Attachment {
    let mut attachment = Attachment::new("readme", Some(netns.to_owned()), "eth0");
    attachment.args = vec![("IgnoreUnknown".to_owned(), "1".to_owned())];
    let given = json!({
        "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": 1_000_000, "ingressBurst": 1_000_000 },
    });
    attachment.capabilities.clone_from(given.as_object().unwrap());
    attachment
}

fn try_list(list: &Value) -> Result<(), RuntimeError> {
    let (node, mut list) = (node(), list.clone());
    let pod = node.pod("readme");
    keep_here(&mut list, node.dir.path());
    let file = node.dir.path().join("list.conflist");
    fs::write(&file, list.to_string()).unwrap();
    let list = NetworkList::load(&file).unwrap();
    let runtime = Runtime::new(vec![node.bin_dir().to_owned()], node.dir.path().join("cache"));
    let attachment = attachment(pod.ns.ns().path());
    node.ns.run(|| {
        runtime.status(&list)?;
        runtime.add(&list, &attachment)?;
        runtime.check(&list, &attachment)?;
        runtime.del(Some(&list), &attachment)
    })
}

/// Why a kernel may not have what a list takes.
fn need(list: &Value) -> Option<&'static str> {
    let types = types(list);
    let found = KINDS.into_iter().find(|(name, _)| types.iter().any(|own| own == name));
    found.map(|(_, why)| why)
}

#[test]
fn every_list_works_as_it_stands() {
    let lists = lists();
    assert!(lists.len() >= 18, "{} lists", lists.len());
    let mut wrong = Vec::new();
    for list in lists.iter().filter(|list| need(list).is_none()) {
        let types = types(list);
        match try_list(list) {
            Ok(()) => {}
            Err(error)
                if error.code() == Some(ErrorCode::NotAvailable)
                    && types.iter().any(|name| name == "dhcp") =>
            {
                println!("not proven here: dhcp: no DHCP daemon runs");
            }
            Err(error) => wrong.push(format!("{types:?}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_list_of_a_kind_that_a_kernel_may_lack() {
    let mut tried = 0;
    let mut wrong = Vec::new();
    for list in lists() {
        let Some(why) = need(&list) else { continue };
        tried += 1;
        match try_list(&list) {
            Ok(()) => {}
            Err(error) if error.code() == Some(ErrorCode::NotAvailable) => {
                println!("not proven on this kernel: {:?}: {why}", types(&list));
            }
            Err(error) => wrong.push(format!("{:?}: {error}", types(&list))),
        }
    }
    assert!(tried >= KINDS.len(), "{tried} lists");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_plugin_has_a_section_with_a_list() {
    let named: Vec<_> = lists().iter().flat_map(types).collect();
    for plugin in cni_plugins::suite::PLUGINS {
        assert!(named.iter().any(|name| name == plugin.name()), "{}", plugin.name());
    }
}
