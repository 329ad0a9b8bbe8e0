//! Masquerading with nftables, over netlink.
//!
//! Table, chains, rules and comments are the reference's, so that either suite removes what the other added:
//!
//! ```text
//! table inet cni_plugins_masquerade {
//!     chain masq_checks {
//!         ip saddr 10.1.0.2 ip daddr != 10.1.0.0/24 masquerade comment "<hash>-<hash>, net: net, if: eth0, id: c1"
//!     }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ip daddr 224.0.0.0/4 return
//!         ip6 daddr ff00::/8 return
//!         goto masq_checks
//!     }
//! }
//! ```
//!
//! Each change is one transaction. A DEL that meets another one's finds a rule gone that it wanted to remove: it looks again.

use cni::Error;
use cni::plugin::ValidAttachment;
use ipnetwork::IpNetwork;
use netns_tools::nftables::{
    Batch, COMMENT_MAX, Chain, ChainKind, Family, Hook, ListedRule, Rule, Table, priority,
};

use crate::code;
use crate::nft::{failed, hash, open};

const TABLE: Table<'static> = Table::new(Family::Inet, "cni_plugins_masquerade");
const CHECKS: &str = "masq_checks";
const POSTROUTING: &str = "postrouting";
/// How often rules are looked for again when others change them meanwhile.
const TRIES: usize = 20;

/// The rules of one attachment.
pub struct Masquerade {
    comment: String,
    prefix: String,
}

impl Masquerade {
    /// The rules of a container's interface in a network.
    pub fn new(network: &str, ifname: &str, container_id: &str) -> Self {
        let prefix =
            format!("{}{}", of_network(network), hash(&format!("{ifname}:{container_id}")));
        let bare = |name: &str| name.replace('"', "");
        let mut comment = format!(
            "{prefix}, net: {}, if: {}, id: {}",
            bare(network),
            bare(ifname),
            bare(container_id)
        );
        let end = (0..=COMMENT_MAX).rev().find(|end| comment.is_char_boundary(*end));
        comment.truncate(end.unwrap_or(0));
        Self { comment, prefix }
    }

    /// Makes the rules for `addresses`, and removes those that an earlier attempt left.
    pub fn set_up(&self, addresses: &[IpNetwork]) -> Result<(), Error> {
        change(|found| {
            let mut batch = Batch::new();
            add_base(&mut batch);
            for rule in found.iter().filter(|rule| says(rule, &self.prefix)) {
                batch.delete_rule(TABLE, CHECKS, rule.handle);
            }
            for rule in self.rules(addresses) {
                batch.add_rule(TABLE, CHECKS, &rule);
            }
            batch
        })
        .map(drop)
    }

    /// Removes the rules. Says whether there were any; a host without nftables has none.
    pub fn tear_down(&self) -> Result<bool, Error> {
        remove(|rule| says(rule, &self.prefix))
    }

    /// Whether everything is there.
    pub fn is_complete(&self, addresses: &[IpNetwork]) -> Result<bool, Error> {
        let Some(mut nft) = open()? else { return Ok(false) };
        let mut listed = |chain| nft.rules(TABLE, Some(chain)).map_err(|e| failed(&e));
        let own: Vec<_> =
            listed(CHECKS)?.into_iter().filter(|rule| says(rule, &self.prefix)).collect();
        let base = listed(POSTROUTING)?;
        let (wanted, wanted_base) = (self.rules(addresses), postrouting());
        Ok(wanted.iter().all(|rule| is_in(&own, rule))
            && wanted_base.iter().all(|rule| is_in(&base, rule)))
    }

    fn rules(&self, addresses: &[IpNetwork]) -> Vec<Rule> {
        let rule = |net: &IpNetwork| {
            TABLE.rule().saddr_eq(net.ip()).daddr_ne(*net).masquerade().comment(&self.comment)
        };
        addresses.iter().map(rule).collect()
    }
}

/// GC: removes the rules of attachments to `network` that are not valid. Says whether there are any rules of the network.
pub fn collect_garbage(network: &str, valid: &[ValidAttachment]) -> Result<bool, Error> {
    let network_prefix = of_network(network);
    let valid: Vec<_> = valid
        .iter()
        .map(|one| Masquerade::new(network, &one.ifname, &one.container_id).prefix)
        .collect();
    let mut any = false;
    remove(|rule| {
        let ours = says(rule, &network_prefix);
        any |= ours;
        ours && !valid.iter().any(|prefix| says(rule, prefix))
    })?;
    Ok(any)
}

/// The table and its chains, whose own rules are written anew each time: whatever has become of them, they are right then.
fn add_base(batch: &mut Batch) {
    let about = "Masquerading for plugins from github.com/containernetworking/plugins";
    let checks =
        "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet";
    batch.add_table_with(TABLE, Some(about));
    batch.add_chain(TABLE, &Chain { comment: Some(checks), ..Chain::new(CHECKS) });
    let base = Chain::base(POSTROUTING, ChainKind::Nat, Hook::Postrouting, priority::SRCNAT);
    batch.add_chain(TABLE, &base);
    batch.flush_chain(TABLE, POSTROUTING);
    for rule in postrouting() {
        batch.add_rule(TABLE, POSTROUTING, &rule);
    }
}

fn postrouting() -> [Rule; 3] {
    let multicast = [([224, 0, 0, 0].into(), 4), ([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8)];
    // Both are networks, with prefixes that their families have.
    let [v4, v6] = multicast.map(|(address, prefix): (std::net::IpAddr, u8)| {
        IpNetwork::new(address, prefix).unwrap_or_else(|_| IpNetwork::from(address))
    });
    [
        TABLE.rule().daddr_eq(v4).return_(),
        TABLE.rule().daddr_eq(v6).return_(),
        TABLE.rule().goto(CHECKS),
    ]
}

fn remove(mut stale: impl FnMut(&ListedRule) -> bool) -> Result<bool, Error> {
    change(|found| {
        let mut batch = Batch::new();
        for rule in found.iter().filter(|rule| stale(rule)) {
            batch.delete_rule(TABLE, CHECKS, rule.handle);
        }
        batch
    })
}

/// Makes the changes that follow from what there is; looks again when that has changed meanwhile. Says whether there were any.
fn change(mut plan: impl FnMut(&[ListedRule]) -> Batch) -> Result<bool, Error> {
    let mut left = TRIES;
    loop {
        // Without nftables there is nothing to plan from; only a plan that wants changes fails.
        let Some(mut nft) = open()? else {
            let batch = plan(&[]);
            return if batch.is_empty() { Ok(false) } else { Err(unsupported()) };
        };
        let found = nft.rules(TABLE, Some(CHECKS)).map_err(|e| failed(&e))?;
        let batch = plan(&found);
        left -= 1;
        match nft.commit(&batch) {
            Err(error) if error.is_not_found() && left > 0 => {}
            done => return done.map(|()| !batch.is_empty()).map_err(|e| failed(&e)),
        }
    }
}

fn is_in(listed: &[ListedRule], rule: &Rule) -> bool {
    listed.iter().any(|listed| listed.does(rule))
}

fn says(rule: &ListedRule, prefix: &str) -> bool {
    rule.comment.as_deref().is_some_and(|comment| comment.starts_with(prefix))
}

/// How the comments of every attachment of a network begin.
fn of_network(network: &str) -> String {
    format!("{}-", hash(network))
}

fn unsupported() -> Error {
    let details = "this kernel has no nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET; `modprobe nf_tables`): set ipMasqBackend to \"iptables\", or ipMasq to false";
    Error::new(code::RULES, "cannot set up ipMasq: nftables cannot be used").with_details(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_the_reference_s() {
        // printf net | sha512sum, printf eth0:c1 | sha512sum
        let one = Masquerade::new("net", "eth0", "c1");
        assert_eq!(one.comment, format!("{}, net: net, if: eth0, id: c1", one.prefix));
        assert_eq!(one.prefix.len(), 33);
        assert!(one.prefix.starts_with(&of_network("net")));
        let long = Masquerade::new("net", "eth0", &"x".repeat(300));
        assert_eq!(long.comment.len(), COMMENT_MAX);
        assert!(long.comment.starts_with(&long.prefix));
    }
}
