//! What the kernel says about a node and a pod, in a form in which two nodes can be compared.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use serde_json::Value;

/// Fields of `ip -j -d` that differ between two runs of the same program, or tick.
const VOLATILE: [&str; 20] = [
    "ifindex",
    "link_index",
    "link_netnsid",
    "link",
    "bridge_id",
    "root_id",
    "designated_bridge",
    "root_port",
    "tcn_timer",
    "topology_change_timer",
    "gc_timer",
    "hello_timer",
    "message_age_timer",
    "forward_delay_timer",
    "hold_timer",
    "topology_change",
    "topology_change_detected",
    "valid_life_time",
    "preferred_life_time",
    "no",
];

/// How long the kernel may take to bring its own link-local addresses and routes into order.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything about a namespace: links, addresses, routes, rules, and the sysctls that plugins set; as soon as the kernel has
/// come to rest, which it does behind the back of whoever changes a link.
pub fn of(ns: &TestNetns) -> BTreeMap<String, Value> {
    let start = Instant::now();
    let mut last = look(ns);
    loop {
        std::thread::sleep(Duration::from_millis(60));
        let now = look(ns);
        let at_rest = now == last && is_settled(&now);
        if at_rest || start.elapsed() > PATIENCE {
            return now;
        }
        last = now;
    }
}

/// Whether no address is tentative and every link that is up, and may have one, has its link-local address.
fn is_settled(state: &BTreeMap<String, Value>) -> bool {
    let sysctls = state["sysctl"].as_array().unwrap();
    state["addr"].as_array().unwrap().iter().all(|link| {
        let addresses = link["addr_info"].as_array().unwrap();
        let has_own = addresses.iter().any(|address| address["local"] == "LINK-LOCAL");
        let name = link["ifname"].as_str().unwrap_or_default();
        let without = Value::from(format!("ipv6/conf/{name}/disable_ipv6:1"));
        addresses.iter().all(|address| address.get("tentative").is_none())
            && (link["operstate"] != "UP" || has_own || sysctls.contains(&without))
    })
}

/// The same at this moment, whatever the kernel is still about to do.
pub fn look(ns: &TestNetns) -> BTreeMap<String, Value> {
    let mut names = Names::default();
    let mut state = BTreeMap::new();
    for what in ["-d link", "addr", "-4 route show table all", "-6 route show table all"] {
        let text = super::sh(ns, &format!("ip -j {what}"));
        let text = if text.trim().is_empty() { "[]".to_owned() } else { text };
        let mut json: Value = serde_json::from_str(&text).unwrap();
        names.normalise(&mut json);
        sort_routes(&mut json);
        state.insert(what.to_owned(), json);
    }
    for program in ["iptables-save", "ip6tables-save"] {
        let text = super::sh(ns, &format!("{program} 2>/dev/null"));
        let rules: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| Value::from(line.split(" [").next().unwrap_or_default()))
            .collect();
        state.insert(program.to_owned(), rules.into());
    }
    state.insert("nftables".to_owned(), nftables(ns, &names));
    state.insert("sysctl".to_owned(), sysctls(ns, &names));
    state
}

/// Tables, chains, rules and sets, but not those that are iptables' own.
fn nftables(ns: &TestNetns, names: &Names) -> Value {
    let json = ns.json(&["nft", "-s", "-j", "list", "ruleset"]);
    let list = json["nftables"].as_array().unwrap().iter().flat_map(|o| o.as_object().unwrap());
    let kept = list.filter(|(kind, object)| {
        let table = if *kind == "table" { &object["name"] } else { &object["table"] };
        let of_iptables = matches!(object["family"].as_str(), Some("ip" | "ip6"))
            && matches!(table.as_str(), Some("filter" | "mangle" | "nat" | "raw" | "security"));
        *kind != "metainfo" && !of_iptables
    });
    let lines = kept.map(|(kind, object)| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("handle");
        }
        Value::from(names.in_text(&format!("{kind} {object}")))
    });
    lines.collect()
}

/// Those that the bridge plugin touches, per interface and for the namespace.
fn sysctls(ns: &TestNetns, names: &Names) -> Value {
    let line = "cd /proc/sys/net && grep -H . ipv4/ip_forward ipv6/conf/all/forwarding \
        ipv6/conf/*/accept_ra ipv6/conf/*/accept_dad ipv6/conf/*/disable_ipv6 \
        ipv6/conf/*/keep_addr_on_down ipv6/conf/*/enhanced_dad ipv4/conf/*/arp_notify";
    let mut lines: Vec<_> = super::sh(ns, line).lines().map(|line| names.in_text(line)).collect();
    lines.sort();
    lines.into()
}

fn sort_routes(json: &mut Value) {
    if let Some(list) = json.as_array_mut()
        && list.iter().all(|entry| entry.get("dst").is_some())
    {
        list.sort_by_key(ToString::to_string);
    }
}

/// Random names, numbered in the order in which they are met, and random addresses.
#[derive(Default)]
pub struct Names {
    seen: BTreeMap<String, String>,
}

impl Names {
    /// Replaces what is random and removes what is volatile.
    pub fn normalise(&mut self, json: &mut Value) {
        match json {
            Value::Object(map) => {
                for key in VOLATILE {
                    map.remove(key);
                }
                map.values_mut().for_each(|value| self.normalise(value));
            }
            Value::Array(list) => list.iter_mut().for_each(|value| self.normalise(value)),
            Value::String(text) => *text = self.replace(text),
            _ => {}
        }
    }

    fn replace(&mut self, text: &str) -> String {
        if is_mac(text) {
            return "MAC".to_owned();
        }
        if text.starts_with("fe80::") {
            return "LINK-LOCAL".to_owned();
        }
        let kind = if is_veth(text) {
            "VETH"
        } else if text.starts_with("/run/netns/") || text.starts_with("/var/run/netns/") {
            "NETNS"
        } else {
            return text.to_owned();
        };
        let number = self.seen.values().filter(|name| name.starts_with(kind)).count();
        self.seen.entry(text.to_owned()).or_insert_with(|| format!("{kind}{number}")).clone()
    }

    /// Replaces what was met before wherever it is in a text.
    fn in_text(&self, text: &str) -> String {
        let replaced = |text: String, (from, to): (&String, &String)| text.replace(from, to);
        self.seen.iter().fold(text.to_owned(), replaced)
    }
}

/// A random one; those that a configuration gives begin with `0a:58`.
fn is_mac(text: &str) -> bool {
    text.len() == 17
        && !text.starts_with("0a:58")
        && text.split(':').count() == 6
        && !matches!(text, "00:00:00:00:00:00" | "ff:ff:ff:ff:ff:ff")
}

/// The reference's and our random names are alike.
fn is_veth(text: &str) -> bool {
    text.strip_prefix("veth")
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Every difference between two states, one a line.
pub fn differences(path: &str, ours: &Value, theirs: &Value) -> Vec<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let at = |map: &serde_json::Map<String, Value>, key: &str| {
                map.get(key).cloned().unwrap_or(Value::Null)
            };
            keys.into_iter()
                .flat_map(|key| differences(&format!("{path}/{key}"), &at(a, key), &at(b, key)))
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .flat_map(|(n, (a, b))| differences(&format!("{path}/{n}"), a, b))
            .collect(),
        (a, b) if a == b => Vec::new(),
        (a, b) => vec![format!("{path}: ours {a}, reference {b}")],
    }
}

/// Nothing is left behind, and nothing is missing. In what is told, "reference" is before.
#[track_caller]
pub fn assert_same(before: &Value, after: &Value) {
    let found = differences("", after, before);
    assert!(found.is_empty(), "left behind (\"reference\" is before): {found:#?}");
}
