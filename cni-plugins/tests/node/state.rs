//! What the kernel says about a node and a pod, in a form in which two nodes can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use netns_tools::{Address, Link, OperState, sysctl};
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

/// Sysctls of each interface that plugins set.
const SYSCTLS: [(&str, &[&str]); 2] = [
    ("ipv4/conf", &["arp_notify"]),
    (
        "ipv6/conf",
        &["accept_ra", "accept_dad", "disable_ipv6", "keep_addr_on_down", "enhanced_dad"],
    ),
];

/// How long the kernel may take to bring its own link-local addresses and routes into order.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything about a namespace: links, addresses, routes, rules, and the sysctls that plugins set; as soon as the kernel has
/// come to rest, which it does behind the back of whoever changes a link.
pub fn of(ns: &TestNetns) -> BTreeMap<String, Value> {
    come_to_rest(ns);
    look(ns)
}

/// Waits until the kernel leaves its addresses and routes alone, with a limit. Programs are for looking, once that is over: they
/// take long in some kernels.
pub fn come_to_rest(ns: &TestNetns) {
    let mut net = ns.netlink();
    let mut seen = || (net.links().unwrap(), net.addresses(None).unwrap(), net.routes().unwrap());
    let start = Instant::now();
    let mut last = seen();
    while start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(60));
        let now = seen();
        if now == last && is_settled(ns, &now.0, &now.1) {
            return;
        }
        last = now;
    }
}

/// Whether no address is tentative, every link that is up, and may have one, has its link-local address, and every link knows
/// whether it is up: the kernel looks at carriers, and at the links below, a little later (`net/core/link_watch.c`).
fn is_settled(ns: &TestNetns, links: &[Link], addresses: &[Address]) -> bool {
    let has_own = |link: &Link| {
        let mut own = addresses.iter().filter(|address| address.index == link.index);
        own.any(|address| matches!(address.net.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()))
    };
    let is_without = |link: &Link| {
        let key = format!("net/ipv6/conf/{}/disable_ipv6", link.name);
        ns.run(|| sysctl::read(&key)).is_ok_and(|value| value == "1")
    };
    let waits = |link: &Link| match link.oper_state {
        OperState::Up => !has_own(link) && !is_without(link),
        OperState::Unknown => link.kind.as_deref() == Some("vlan"),
        _ => link.up && link.carrier,
    };
    !addresses.iter().any(Address::is_tentative) && !links.iter().any(waits)
}

/// The same at this moment, whatever the kernel is still about to do.
pub fn look(ns: &TestNetns) -> BTreeMap<String, Value> {
    let mut names = Names::default();
    let mut state = BTreeMap::new();
    for what in ["-d link", "addr", "-4 route show table all", "-6 route show table all"] {
        let words: Vec<_> = ["ip", "-j"].into_iter().chain(what.split(' ')).collect();
        let mut json = ns.json(&words);
        names.normalise(&mut json);
        sort_routes(&mut json);
        state.insert(what.to_owned(), json);
    }
    let ruleset = ns.json(&["nft", "-s", "-j", "list", "ruleset"]);
    let has_rules = has_tables(ns, &ruleset);
    for program in ["iptables-save", "ip6tables-save"] {
        let rules = if has_rules { iptables(ns, program) } else { Vec::new() };
        state.insert(program.to_owned(), rules.into());
    }
    state.insert("nftables".to_owned(), nftables(&ruleset, &names));
    state.insert("sysctl".to_owned(), sysctls(ns, &names));
    state
}

/// Whether iptables of either kind may have anything to tell.
fn has_tables(ns: &TestNetns, ruleset: &Value) -> bool {
    let names = |file: &str| fs::read_to_string(Path::new("/proc/thread-self/net").join(file));
    let legacy = ["ip_tables_names", "ip6_tables_names"]
        .map(|file| ns.run(|| names(file)).is_ok_and(|text| !text.trim().is_empty()));
    let list = ruleset["nftables"].as_array().unwrap();
    legacy.contains(&true) || list.iter().any(|object| object.get("metainfo").is_none())
}

fn iptables(ns: &TestNetns, program: &str) -> Vec<Value> {
    let text = String::from_utf8(ns.output(&[program]).stdout).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| Value::from(line.split(" [").next().unwrap_or_default()))
        .collect()
}

/// Tables, chains, rules and sets, but not those that are iptables' own.
fn nftables(ruleset: &Value, names: &Names) -> Value {
    let list = ruleset["nftables"].as_array().unwrap().iter().flat_map(|o| o.as_object().unwrap());
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

/// Those that the bridge plugin touches, per interface and for the namespace: `ipv4/conf/eth0/arp_notify:0`.
fn sysctls(ns: &TestNetns, names: &Names) -> Value {
    let mut lines = ns.run(|| {
        let mut lines = Vec::new();
        for (folder, keys) in SYSCTLS {
            for interface in fs::read_dir(Path::new("/proc/sys/net").join(folder)).unwrap() {
                let name = interface.unwrap().file_name().into_string().unwrap();
                lines.extend(
                    keys.iter().filter_map(|key| sysctl(&format!("{folder}/{name}/{key}"))),
                );
            }
        }
        lines
            .extend(["ipv4/ip_forward", "ipv6/conf/all/forwarding"].into_iter().filter_map(sysctl));
        lines
    });
    for line in &mut lines {
        *line = names.in_text(line);
    }
    lines.sort();
    lines.into()
}

/// `None`: there is no such one, or its interface went away meanwhile.
fn sysctl(key: &str) -> Option<String> {
    let value = fs::read_to_string(Path::new("/proc/sys/net").join(key)).ok()?;
    Some(format!("{key}:{}", value.trim_end()))
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
