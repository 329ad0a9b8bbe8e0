//! What other programs' rules do to pods' traffic. They are only looked at.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;
use netns_tools::nftables::{
    self, Expr, Header, Hook, ListedChain, ListedRule, ListedTable, NftError, Nftables, Op, Policy,
    Table, Verdict,
};

use super::input::RuleInput;
use super::ranges;
use super::table::TABLE;

/// The firewall whose tables are written by a program of its own.
const FIREWALLD: &str = "firewalld";

/// Base chains of others that drop what no rule accepts and do not accept what pods need, each in words with the remedy. An accept of
/// iptables, or of a table of ours, does not help: a packet must pass all base chains of a hook (nft(8), "accept").
///
/// Whether such a chain accepts it is found out as far as rules name addresses and ports themselves; what sets and chains of it decide
/// is not followed. `left_out` are tables that iptables takes care of.
pub fn drops(
    kernel: &mut Nftables,
    input: &RuleInput,
    left_out: &[Table<'_>],
) -> Result<Vec<String>, NftError> {
    let mut problems = Vec::new();
    for table in kernel.tables()? {
        if table.id() == TABLE || left_out.contains(&table.id()) || families(&table).is_empty() {
            continue;
        }
        for chain in kernel.chains(table.id())? {
            let rules = kernel.rules(table.id(), Some(&chain.name))?;
            let Some((hook, how)) = drops_the_rest(&chain, &rules) else { continue };
            let all = kernel.rules(table.id(), None)?;
            let needs = match hook {
                Hook::Forward => forwarded(&table, input, &all),
                _ => received(kernel, &table, input, &all)?,
            };
            problems.extend((!needs.is_empty()).then(|| told(&table, &chain, how, hook, &needs)));
        }
    }
    Ok(problems)
}

/// What a chain must accept, and does not.
struct Need {
    /// Which packets, as nft writes it.
    what: String,
    /// How firewalld is told.
    firewalld: String,
}

fn families(table: &ListedTable) -> &'static [Family] {
    match table.family {
        nftables::Family::Inet => &[Family::V4, Family::V6],
        nftables::Family::Ip => &[Family::V4],
        nftables::Family::Ip6 => &[Family::V6],
        _ => &[],
    }
}

/// The hook of a chain that drops what no rule accepts, and by what.
fn drops_the_rest(chain: &ListedChain, rules: &[ListedRule]) -> Option<(Hook, &'static str)> {
    let base = chain.base?;
    if !matches!(base.hook, Hook::Forward | Hook::Input) {
        return None;
    }
    if base.policy == Some(Policy::Drop) {
        return Some((base.hook, "its policy is drop"));
    }
    let last = rules.last()?;
    let refuses = |e: &Expr| matches!(e, Expr::Verdict(Verdict::Drop) | Expr::Reject(_));
    let about = |e: &Expr| {
        matches!(e, Expr::Counter { .. })
            || matches!(e, Expr::Other { name, .. } if &**name == "log")
    };
    let all = last.expressions.iter().all(|e| refuses(e) || about(e));
    (all && last.expressions.iter().any(refuses))
        .then_some((base.hook, "its last rule drops the rest"))
}

fn forwarded(table: &ListedTable, input: &RuleInput, rules: &[ListedRule]) -> Vec<Need> {
    let mut needs = Vec::new();
    for family in families(table) {
        for range in ranges::covering(input.all_pods(), *family) {
            let ip = word(*family);
            let firewalld = format!("firewall-cmd --permanent --zone=trusted --add-source={range}");
            for (side, name) in [(Side::Source, "saddr"), (Side::Destination, "daddr")] {
                let accepted =
                    rules.iter().any(|rule| lets_pass(rule) && matches(rule, side, range));
                if !accepted {
                    let what = format!("{ip} {name} {range}");
                    needs.push(Need { what, firewalld: firewalld.clone() });
                }
            }
        }
    }
    needs
}

fn received(
    kernel: &mut Nftables,
    table: &ListedTable,
    input: &RuleInput,
    rules: &[ListedRule],
) -> Result<Vec<Need>, NftError> {
    let Some(tunnel) = &input.tunnel else { return Ok(Vec::new()) };
    for rule in rules.iter().filter(|rule| lets_pass(rule)) {
        if accepts_port(kernel, table, rule, tunnel.port)? {
            return Ok(Vec::new());
        }
    }
    let firewalld = format!("firewall-cmd --permanent --add-port={}/udp", tunnel.port);
    Ok(vec![Need { what: format!("udp dport {}", tunnel.port), firewalld }])
}

fn told(table: &ListedTable, chain: &ListedChain, how: &str, hook: Hook, needs: &[Need]) -> String {
    let (family, name, chain) = (table.family.name(), &table.name, &chain.name);
    let what = match hook {
        Hook::Forward => "pods' packets to and from other nodes",
        _ => "the tunnel's datagrams",
    };
    let remedy = if name == FIREWALLD {
        let mut commands: Vec<&str> = needs.iter().map(|need| need.firewalld.as_str()).collect();
        commands.dedup();
        format!("`{} && firewall-cmd --reload`", commands.join(" && "))
    } else {
        let insert =
            |need: &Need| format!("`nft insert rule {family} {name} {chain} {} accept`", need.what);
        needs.iter().map(insert).collect::<Vec<_>>().join(", ")
    };
    format!(
        "chain {chain} of table {family} {name} drops {what}: {how}, and what other tables or iptables accept does not change that; \
         accept them there: {remedy}"
    )
}

const fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// Accepts, or goes where firewalld accepts.
fn lets_pass(rule: &ListedRule) -> bool {
    rule.expressions.contains(&Expr::Verdict(Verdict::Accept))
        || rule.target().is_some_and(|chain| chain.ends_with("_trusted"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// Whether a rule is for all of a range.
fn matches(rule: &ListedRule, side: Side, range: IpNetwork) -> bool {
    compared(rule, side).is_some_and(|network| {
        network.is_ipv4() == range.is_ipv4()
            && network.prefix() <= range.prefix()
            && network.contains(range.ip())
    })
}

/// The network that a rule compares an address with.
fn compared(rule: &ListedRule, side: Side) -> Option<IpNetwork> {
    let place = rule.expressions.iter().position(|expression| {
        let offsets = if side == Side::Source { [12, 8] } else { [16, 24] };
        matches!(expression, Expr::Payload { base: Header::NETWORK, offset, .. } if offsets.contains(offset))
    })?;
    let Expr::Payload { offset, .. } = rule.expressions.get(place)? else { return None };
    let (mask, compare) = match rule.expressions.get(place + 1..)? {
        [Expr::Bitwise { mask, .. }, compare, ..] => (Some(mask), compare),
        [compare, ..] => (None, compare),
        [] => return None,
    };
    let Expr::Cmp { op: Op::EQ, value, .. } = compare else { return None };
    let bytes = value.as_slice();
    let full = |bytes: &[u8]| u8::try_from(bytes.len() * 8).ok();
    let prefix = match mask {
        Some(mask) => {
            mask.as_slice().iter().map(|byte| byte.leading_ones()).sum::<u32>().try_into().ok()?
        }
        None => full(bytes)?,
    };
    let address: IpAddr = if matches!(offset, 12 | 16) {
        padded::<4>(bytes)?.into()
    } else {
        padded::<16>(bytes)?.into()
    };
    IpNetwork::new(address, prefix).ok()
}

fn padded<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut all = [0; N];
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(all)
}

/// Whether a rule is for a port, by itself or by a set.
fn accepts_port(
    kernel: &mut Nftables,
    table: &ListedTable,
    rule: &ListedRule,
    port: u16,
) -> Result<bool, NftError> {
    let is_port =
        |e: &Expr| matches!(e, Expr::Payload { base: Header::TRANSPORT, offset: 2, len: 2, .. });
    let Some(place) = rule.expressions.iter().position(is_port) else { return Ok(false) };
    let wanted = port.to_be_bytes();
    Ok(match rule.expressions.get(place + 1) {
        Some(Expr::Cmp { op: Op::EQ, value, .. }) => value.as_slice() == wanted,
        Some(Expr::Range { op: Op::EQ, from, to, .. }) => {
            (from.as_slice()..=to.as_slice()).contains(&&wanted[..])
        }
        Some(Expr::Lookup { set, invert: false, .. }) => {
            let elements = kernel.elements(table.id(), set)?;
            elements.iter().any(|one| one.key.as_slice() == wanted && !one.ends_range)
        }
        _ => false,
    })
}

/// Rules of CNI plugins (`ipMasq`) that masquerade what pods of this node send, also to pods of other nodes, in words with the remedy.
pub fn masquerades(kernel: &mut Nftables, input: &RuleInput) -> Result<Option<String>, NftError> {
    if !input.masquerade {
        return Ok(None);
    }
    let own = |rule: &ListedRule| {
        compared(rule, Side::Source)
            .is_some_and(|source| input.local.iter().any(|range| range.contains(source.ip())))
    };
    let by_plugin = |rule: &ListedRule| {
        rule.expressions.iter().any(|e| matches!(e, Expr::Masquerade { .. }))
            || rule.target().and_then(|chain| chain.strip_prefix("CNI-")).is_some_and(is_digest)
    };
    let plugins = Table::new(nftables::Family::Inet, "cni_plugins_masquerade");
    let mut rules = kernel.rules(plugins, Some("masq_checks"))?;
    for family in [nftables::Family::Ip, nftables::Family::Ip6] {
        rules.extend(kernel.rules(Table::new(family, "nat"), Some("POSTROUTING"))?);
    }
    let count = rules.iter().filter(|rule| own(rule) && by_plugin(rule)).count();
    Ok((count > 0).then(|| {
        format!(
            "{count} rules of CNI plugins masquerade what pods of this node send, to pods of other nodes too, which see the node's address; \
             set ipMasq to false in the network configuration (the agent masquerades), and start those pods anew"
        )
    }))
}

/// The names of chains of single attachments: `CNI-` and 24 digits.
fn is_digest(name: &str) -> bool {
    name.len() == 24 && name.chars().all(|c| c.is_ascii_hexdigit())
}
