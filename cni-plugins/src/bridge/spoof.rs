//! `macspoofchk`: frames from the container must carry its interface's MAC address.
//!
//! Table, chains and comments are the reference's, so that either suite removes what the other added:
//!
//! ```text
//! table bridge nat {
//!     chain PREROUTING {
//!         type filter hook prerouting priority -300; policy accept;
//!         iifname "veth0a1b2c3d" jump cni-br-iface-c1-eth0 comment "macspoofchk-c1-eth0"
//!     }
//!     chain cni-br-iface-c1-eth0 { jump cni-br-iface-c1-eth0-mac comment "macspoofchk-c1-eth0" }
//!     chain cni-br-iface-c1-eth0-mac {
//!         ether saddr 0a:58:0a:01:00:02 return comment "macspoofchk-c1-eth0"
//!         drop comment "macspoofchk-c1-eth0"
//!     }
//! }
//! ```
//!
//! The reference makes them in two steps and leaves the jump of an earlier attempt; we make them in one, which replaces it.

use std::collections::BTreeSet;

use cni::plugin::Call;
use cni::{Error, ErrorCode};
use netns_tools::nftables::{
    Batch, COMMENT_MAX, Chain, ChainKind, Expr, Family, Hook, ListedRule, NftError, Nftables,
    Policy, Rule, Table, Value, priority,
};
use netns_tools::{MacAddr, Netlink};

use crate::code;
use crate::interface::kernel_error;
use crate::nft::{failed, open};

const TABLE: Table<'static> = Table::new(Family::Bridge, "nat");
const BASE: &str = "PREROUTING";
const COMMENT: &str = "macspoofchk-";
const CHAIN: &str = "cni-br-iface-";
/// How often rules are looked for again when others change them meanwhile.
const TRIES: usize = 20;

/// The rules of one attachment.
pub struct SpoofCheck {
    comment: String,
    chain: String,
}

impl SpoofCheck {
    /// The rules of this call's attachment.
    pub fn of(call: &Call<'_>) -> Self {
        Self::new(&call.container_id, &call.ifname)
    }

    fn new(container_id: &str, ifname: &str) -> Self {
        let id = format!("{container_id}-{ifname}");
        Self { comment: format!("{COMMENT}{id}"), chain: format!("{CHAIN}{id}") }
    }

    /// Lets only frames with this MAC address in by the port `host`.
    pub fn set_up(&self, host: &str, mac: Option<MacAddr>) -> Result<(), Error> {
        let mac = mac.ok_or_else(|| {
            Error::new(code::KERNEL, "the container's interface has no MAC address to check")
        })?;
        let can = change(|nft| {
            let mut batch = Batch::new();
            self.remove(nft, &mut batch)?;
            self.add(host, mac, &mut batch);
            Ok(batch)
        })?;
        if can { Ok(()) } else { Err(unsupported()) }
    }

    /// Removes the rules. The table and the base chain stay: others may use them.
    pub fn tear_down(&self) -> Result<(), Error> {
        change(|nft| {
            let mut batch = Batch::new();
            self.remove(nft, &mut batch)?;
            Ok(batch)
        })
        .map(drop)
    }

    /// Whether the rules are there.
    pub fn is_complete(&self, host: &str, mac: Option<MacAddr>) -> Result<bool, Error> {
        let (Some(mac), Some(mut nft)) = (mac, open()?) else { return Ok(false) };
        let mut listed = |chain| nft.rules(TABLE, Some(chain)).map_err(|e| failed(&e));
        let [jump, to_mac, own, drop] = self.rules(host, mac);
        let base = listed(BASE)?;
        let between = listed(&self.chain)?;
        let last = listed(&self.mac_chain())?;
        Ok(base.iter().any(|rule| rule.does(&jump))
            && between.first().is_some_and(|rule| rule.does(&to_mac))
            && matches!(&last[..], [first, second] if first.does(&own) && second.does(&drop)))
    }

    fn mac_chain(&self) -> String {
        format!("{}-mac", self.chain)
    }

    fn rules(&self, host: &str, mac: MacAddr) -> [Rule; 4] {
        let rule = || TABLE.rule().comment(&self.comment);
        [
            rule().iifname_eq(host).jump(&self.chain),
            rule().jump(&self.mac_chain()),
            rule().ether_saddr_eq(mac).return_(),
            rule().drop(),
        ]
    }

    fn add(&self, host: &str, mac: MacAddr, batch: &mut Batch) {
        let base = Chain::base(BASE, ChainKind::Filter, Hook::Prerouting, priority::BRIDGE_DSTNAT);
        batch.add_table(TABLE).add_chain(TABLE, &base.with_policy(Policy::Accept));
        let mac_chain = self.mac_chain();
        batch.add_chain(TABLE, &Chain::new(&self.chain)).add_chain(TABLE, &Chain::new(&mac_chain));
        let [jump, to_mac, own, drop] = self.rules(host, mac);
        batch.add_rule(TABLE, &mac_chain, &own).add_rule(TABLE, &mac_chain, &drop);
        batch.add_rule(TABLE, &self.chain, &to_mac).add_rule(TABLE, BASE, &jump);
    }

    /// What is there of this attachment, whoever made it.
    fn remove(&self, nft: &mut Nftables, batch: &mut Batch) -> Result<(), NftError> {
        for rule in nft.rules(TABLE, Some(BASE))? {
            if rule.comment.as_deref() == Some(&self.comment) {
                batch.delete_rule(TABLE, BASE, rule.handle);
            }
        }
        remove_chains(nft, &self.chain, batch)
    }
}

/// A chain goes when nothing leads to it: the second after the first.
fn remove_chains(nft: &mut Nftables, chain: &str, batch: &mut Batch) -> Result<(), NftError> {
    for chain in [chain.to_owned(), format!("{chain}-mac")] {
        if nft.has_chain(TABLE, &chain)? {
            batch.flush_chain(TABLE, &chain).delete_chain(TABLE, &chain);
        }
    }
    Ok(())
}

/// The kernel's and nft's limits, before anything is done.
pub fn check_names(container_id: &str, ifname: &str) -> Result<(), Error> {
    let length = SpoofCheck::new(container_id, ifname).comment.len();
    if length <= COMMENT_MAX {
        return Ok(());
    }
    let msg = format!("container ID {container_id:?} is too long for macspoofchk");
    let details = format!(
        "the rules' comment would have {length} bytes, and nftables takes {COMMENT_MAX}; use shorter IDs, or remove macspoofchk"
    );
    Err(Error::new(ErrorCode::InvalidEnvironment, msg).with_details(details))
}

/// Whether this kernel can do it.
pub fn check_supported() -> Result<(), Error> {
    open()?.map(drop).ok_or_else(unsupported)
}

/// GC: removes the rules about interfaces that are gone.
///
/// The rules say whose they are, but not in which network; an interface that is gone is in none. Links of attachments that are
/// not valid have been removed by now.
pub fn collect_garbage() -> Result<(), Error> {
    let mut net = Netlink::open().map_err(|e| kernel_error("cannot open netlink", &e))?;
    change(|nft| {
        // The rules first: a link that is made after they were read has none of them.
        let rules = nft.rules(TABLE, Some(BASE))?;
        let links = net.links().unwrap_or_default();
        let mut batch = Batch::new();
        if links.is_empty() {
            // There is `lo` at least: they could not be read.
            return Ok(batch);
        }
        let names: BTreeSet<_> = links.iter().map(|link| Value::interface(&link.name)).collect();
        let (stale, live): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| is_stale(rule, &names));
        let live: BTreeSet<_> = live.iter().filter_map(|rule| rule.target()).collect();
        let mut chains = BTreeSet::new();
        for rule in stale {
            batch.delete_rule(TABLE, BASE, rule.handle);
            let chain = rule.target().filter(|name| name.starts_with(CHAIN));
            chains.extend(chain.filter(|name| !live.contains(name)));
        }
        for chain in chains {
            remove_chains(nft, chain, &mut batch)?;
        }
        Ok(batch)
    })
    .map(drop)
}

fn is_stale(rule: &ListedRule, names: &BTreeSet<Value>) -> bool {
    let ours = rule.comment.as_deref().is_some_and(|comment| comment.starts_with(COMMENT));
    let interface = rule.expressions.iter().find_map(|expression| match expression {
        Expr::Cmp { value, .. } => Some(*value),
        _ => None,
    });
    ours && interface.is_some_and(|name| !names.contains(&name))
}

/// Makes the changes that follow from what there is; looks again when that has changed meanwhile. `false`: this kernel has no
/// nftables, and so nothing to remove either.
fn change(mut plan: impl FnMut(&mut Nftables) -> Result<Batch, NftError>) -> Result<bool, Error> {
    let Some(mut nft) = open()? else { return Ok(false) };
    let mut left = TRIES;
    loop {
        left -= 1;
        match plan(&mut nft).and_then(|batch| nft.commit(&batch)) {
            Err(error) if error.is_not_found() && left > 0 => {}
            done => return done.map(|()| true).map_err(|e| failed(&e)),
        }
    }
}

fn unsupported() -> Error {
    let details = "this kernel has no nf_tables for bridges (CONFIG_NF_TABLES, CONFIG_NF_TABLES_BRIDGE; `modprobe nf_tables`): remove macspoofchk, or use another kernel";
    Error::new(code::RULES, "cannot set up macspoofchk: nftables cannot be used")
        .with_details(details)
}
