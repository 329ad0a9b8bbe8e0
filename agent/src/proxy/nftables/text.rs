//! Changes, rules and elements in the words of nft(8).

mod rules;

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use netns_tools::iptables::Family;
use netns_tools::nftables::{ChainKind, Data, Field, Hook, Key, MapOf, Set, Type, Verdict};

use super::layout::{self, COMMENT, SetName, TABLE};
use super::transaction::{Change, Transaction};
pub use rules::rule;

/// A transaction, one change a line.
pub fn transaction(family: Family, transaction: &Transaction) -> String {
    let mut text = String::new();
    for change in &transaction.changes {
        // writing to a string cannot fail
        let _ = writeln!(text, "{}", self::change(family, change));
    }
    text
}

fn change(family: Family, change: &Change) -> String {
    let table = format!("{} {TABLE}", layout::packets(family).name());
    match change {
        Change::AddTable => format!("add table {table} {{ comment \"{COMMENT}\"; }}"),
        Change::DeleteTable => format!("delete table {table}"),
        Change::AddSet(set) => add_set(&set.definition(family), &table),
        Change::AddClients { name, timeout } => {
            add_set(&layout::clients(name, *timeout, family), &table)
        }
        Change::DeleteSet(name) => format!("delete set {table} {name}"),
        Change::AddChain { name, base: None } => format!("add chain {table} {name}"),
        Change::AddChain { name, base: Some(base) } => {
            let (kind, hook) = (kind(base.kind), hook(base.hook));
            let place = format!("type {kind} hook {hook} priority {}", base.priority);
            format!("add chain {table} {name} {{ {place}; }}")
        }
        Change::AddRule { chain, rule } => {
            format!("add rule {table} {chain} {}", self::rule(family, rule))
        }
        Change::FlushChain(chain) => format!("flush chain {table} {chain}"),
        Change::DeleteChain(chain) => format!("delete chain {table} {chain}"),
        Change::AddElement { set, key, data } => {
            let element = element(family, *set, key, data.as_ref());
            format!("add element {table} {} {{ {element} }}", set.name())
        }
        Change::DeleteElement { set, key } => {
            let element = element(family, *set, key, None);
            format!("delete element {table} {} {{ {element} }}", set.name())
        }
    }
}

fn add_set(set: &Set<'_>, table: &str) -> String {
    let (kind, text) = definition(set);
    format!("add {kind} {table} {} {text}", set.name)
}

/// A set as nft reads it: `set NAME { type … }`.
pub fn set(set: &Set<'_>) -> String {
    let (kind, text) = definition(set);
    format!("{kind} {} {text}", set.name)
}

fn definition(set: &Set<'_>) -> (&'static str, String) {
    let kind = if set.map.is_some() { "map" } else { "set" };
    let mut text = match (set.shown_as, set.map) {
        (Some((key, data)), _) => format!("typeof {} : {}", shown(key), shown(data)),
        (None, None) => format!("type {}", types(set.key)),
        (None, Some(MapOf::Verdicts)) => format!("type {} : verdict", types(set.key)),
        (None, Some(MapOf::Data(data))) => format!("type {} : {}", types(set.key), types(data)),
    };
    text.push(';');
    if set.dynamic {
        text.push_str(" flags dynamic,timeout;");
    }
    if let Some(timeout) = set.default_timeout {
        // writing to a string cannot fail
        let _ = write!(text, " timeout {}s;", timeout.as_secs());
    }
    (kind, format!("{{ {text} }}"))
}

fn shown(fields: &[Field]) -> String {
    let words = fields.iter().map(|field| match field {
        Field::IpDaddr => "ip daddr".to_owned(),
        Field::Ip6Daddr => "ip6 daddr".to_owned(),
        Field::L4Proto => "meta l4proto".to_owned(),
        Field::Dport => "th dport".to_owned(),
        Field::Random(modulus) => format!("numgen random mod {modulus}"),
        other => format!("{other:?}"),
    });
    words.collect::<Vec<_>>().join(" . ")
}

fn types(fields: &[Type]) -> String {
    fields.iter().map(|field| type_name(*field)).collect::<Vec<_>>().join(" . ")
}

const fn type_name(field: Type) -> &'static str {
    match field {
        Type::Ipv4Addr => "ipv4_addr",
        Type::Ipv6Addr => "ipv6_addr",
        Type::EtherAddr => "ether_addr",
        Type::InetProto => "inet_proto",
        Type::InetService => "inet_service",
        Type::Mark => "mark",
        Type::IfName => "ifname",
    }
}

const fn kind(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    }
}

const fn hook(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
    }
}

/// `10.96.0.1 . tcp . 80 : goto x`
pub fn element(family: Family, set: SetName, key: &Key, data: Option<&Data>) -> String {
    let key = fields(set.key(family), key.as_slice());
    match (data, set.map(family)) {
        (Some(Data::Verdict(verdict)), _) => format!("{key} : {}", verdict_words(verdict)),
        (Some(Data::Value(value)), Some(MapOf::Data(types))) => {
            format!("{key} : {}", fields(types, value.as_slice()))
        }
        _ => key,
    }
}

fn fields(types: &[Type], bytes: &[u8]) -> String {
    let mut rest = bytes;
    let mut words = Vec::new();
    for field in types {
        let len = (field.size() as usize).min(rest.len());
        words.push(value(*field, &rest[..len]));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    words.join(" . ")
}

/// A value of a type. Bytes that do not fit it are shown as such.
fn value(field: Type, bytes: &[u8]) -> String {
    match (field, bytes) {
        (Type::Ipv4Addr | Type::Ipv6Addr, _) => address(bytes),
        (Type::InetProto, [number]) => protocol(*number),
        (Type::InetService, [high, low]) => u16::from_be_bytes([*high, *low]).to_string(),
        (Type::Mark, [a, b, c, d]) => format!("{:#010x}", u32::from_ne_bytes([*a, *b, *c, *d])),
        _ => bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

fn address(bytes: &[u8]) -> String {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        Ipv4Addr::from(bytes).to_string()
    } else if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        Ipv6Addr::from(bytes).to_string()
    } else {
        bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }
}

fn protocol(number: u8) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

fn verdict_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}
