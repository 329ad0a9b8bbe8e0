//! The chains of iptables as the kernel has them: read and written by iptables' own programs, looked at over netlink.

use netns_tools::iptables::{Backend, Family, Glance, Iptables, IptablesError, Rules};
use netns_tools::nftables::{self, Expr, ListedRule, NftError, Nftables, Verdict};

use super::accepts::{self, Accepts, Before, CHAINS, TABLE};

/// How often a batch is made anew as somebody else changed the table meanwhile.
const ATTEMPTS: usize = 4;

/// The variants of iptables that have a table `filter`, without which nothing is dropped.
pub fn variants(find: fn(Family) -> Vec<Iptables>, family: Family) -> Vec<Iptables> {
    let mut all = find(family);
    all.retain(|variant| variant.has_table(TABLE));
    all
}

/// `iptables-nft (IPv4)`
pub fn name(backend: Backend, family: Family) -> String {
    let program = match backend {
        Backend::Nft => "iptables-nft",
        Backend::Legacy => "iptables-legacy",
    };
    format!("{program} ({})", crate::proxy::ops::family_name(family))
}

/// What became of one variant's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was right.
    Right,
    /// It was written.
    Written,
    /// iptables cannot read it.
    Unreadable,
}

/// Makes the chains of one variant right.
pub fn settle(rules: &mut dyn Rules, desired: &[Accepts]) -> Result<Settled, IptablesError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let table = rules.save(TABLE)?;
        if table.chains.is_empty() {
            return Ok(Settled::Unreadable);
        }
        let batch = accepts::difference(desired, &table);
        if batch.is_empty() {
            return Ok(Settled::Right);
        }
        match rules.commit(&batch) {
            Ok(()) => return Ok(Settled::Written),
            // a rule to delete is gone, or a position is past the end by now
            Err(IptablesError::Failed { .. }) if attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

/// Of what is desired, what the kernel has a place for: iptables-nft makes each chain of the kernel when it is first used, and one that is
/// not there drops nothing.
pub fn placeable(
    kernel: &mut Nftables,
    family: Family,
    mut desired: [Accepts; 2],
) -> Result<[Accepts; 2], NftError> {
    for accepts in &mut desired {
        if !kernel.has_chain(nft_table(family), accepts.hook)? {
            accepts.rules.clear();
        }
    }
    Ok(desired)
}

/// Removes our chains from one variant; answers which were there.
pub fn remove(rules: &mut dyn Rules) -> Result<Vec<&'static str>, IptablesError> {
    let table = rules.save(TABLE)?;
    let there = CHAINS.iter().filter(|(chain, _)| table.chains.contains_key(*chain));
    let there: Vec<_> = there.map(|(chain, _)| *chain).collect();
    let gone = CHAINS.map(|(chain, hook)| Accepts { chain, hook, rules: Vec::new() });
    rules.commit(&accepts::difference(&gone, &table))?;
    Ok(there)
}

/// What the legacy variant's table looks like from outside: see [`netns_tools::iptables::BulkRules::glance`].
pub fn glance(variant: &mut Iptables) -> Result<Glance, IptablesError> {
    netns_tools::iptables::BulkRules::glance(variant, &[(TABLE, "FORWARD")])
}

/// The table of iptables-nft as nf_tables knows it.
pub const fn nft_table(family: Family) -> nftables::Table<'static> {
    let family = match family {
        Family::V4 => nftables::Family::Ip,
        Family::V6 => nftables::Family::Ip6,
    };
    nftables::Table::new(family, TABLE)
}

/// Whether the chains of iptables-nft are as they should be, without starting a program. What cannot be recognised counts as wrong.
pub fn is_in_place(
    kernel: &mut Nftables,
    family: Family,
    desired: &[Accepts],
) -> Result<bool, NftError> {
    let table = nft_table(family);
    for Accepts { chain, hook, rules } in desired {
        if rules.is_empty() {
            if kernel.has_chain(table, chain)? {
                return Ok(false);
            }
            continue;
        }
        let there = kernel.rules(table, Some(hook))?;
        let there: Vec<Before> =
            there.iter().map(|rule| accepts::before(target(rule).as_deref(), chain)).collect();
        if !accepts::is_in_place(&there) || kernel.rules(table, Some(chain))?.len() != rules.len() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What iptables calls the target of a rule; `None`: it has none.
fn target(rule: &ListedRule) -> Option<String> {
    rule.expressions.iter().find_map(|expression| {
        Some(match expression {
            Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => chain.to_string(),
            Expr::Verdict(Verdict::Accept) => "ACCEPT".to_owned(),
            Expr::Verdict(Verdict::Return) => "RETURN".to_owned(),
            Expr::Verdict(_) => "DROP".to_owned(),
            Expr::Reject(_) => "REJECT".to_owned(),
            Expr::Other { name, data } if &**name == "target" => xt_name(data),
            Expr::Other { name, .. } if &**name == "queue" => "NFQUEUE".to_owned(),
            _ => return None,
        })
    })
}

/// `NFTA_TARGET_NAME` (`linux/netfilter/nf_tables_compat.h`), the first attribute. One that cannot be read has no name, which is none that
/// is known as harmless.
fn xt_name(data: &[u8]) -> String {
    let [low, high, _, _, rest @ ..] = data else { return String::new() };
    let length = usize::from(u16::from_ne_bytes([*low, *high])).saturating_sub(4);
    let name = rest.get(..length).unwrap_or_default();
    String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()
}
