//! Masquerading with iptables.
//!
//! Chains, rules and comments are the reference's, so that either suite removes what the other added:
//!
//! ```text
//! -A POSTROUTING -s 10.1.0.2/32 -m comment --comment "name: \"net\" id: \"c1\"" -j CNI-7c0d…
//! -A CNI-7c0d… -d 10.1.0.0/24 -m comment --comment … -j ACCEPT
//! -A CNI-7c0d… ! -d 224.0.0.0/4 -m comment --comment … -j MASQUERADE
//! ```

pub mod garbage;
#[cfg(test)]
mod tests;

use cni::Error;
use data_encoding::HEXLOWER;
use ipnetwork::IpNetwork;
use netns_tools::iptables::{Batch, Family, Iptables, Table, quote, split_words};
use sha2::{Digest, Sha512};

use crate::rules::{self, FAMILIES, Missing, value_of};

const TABLE: &str = "nat";
const HOOK: &str = "POSTROUTING";
/// What the kernel takes for a chain's name, less the final zero byte.
const MAX_CHAIN: usize = 28;
/// What the kernel takes for a comment, less the final zero byte.
const MAX_COMMENT: usize = 255;

/// The rules of one address family, and whose they are to be.
pub struct Found {
    rules: Iptables,
    table: Table,
    addresses: Vec<IpNetwork>,
}

/// The rules of one attachment. (The reference does not put the interface's name into the hash, so
/// two interfaces of a container in one network share a chain.)
pub struct Masquerade {
    chain: String,
    comment: String,
}

impl Masquerade {
    /// The rules of a container in a network.
    pub fn new(network: &str, container_id: &str) -> Self {
        let hash = Sha512::digest(format!("{network}{container_id}"));
        let mut chain = format!("CNI-{}", HEXLOWER.encode(&hash));
        chain.truncate(MAX_CHAIN);
        let mut comment = format!("name: \"{network}\" id: \"{container_id}\"");
        // Both names are ASCII by the protocol's rules, so every byte is a character's boundary.
        comment.truncate(MAX_COMMENT);
        Self { chain, comment }
    }

    /// The chain's name.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Reads what there is, for every family that `addresses` has: if that works, iptables can be used.
    pub fn look(addresses: &[IpNetwork]) -> Result<Vec<Found>, Error> {
        let mut all = Vec::new();
        for family in FAMILIES {
            let addresses = of_family(addresses, family);
            if addresses.is_empty() {
                continue;
            }
            let found = rules::look(family, TABLE)?;
            let (rules, table) = found.ok_or_else(|| missing(family))?;
            all.push(Found { rules, table, addresses });
        }
        Ok(all)
    }

    /// Makes what is missing: one commit per address family.
    pub fn set_up(&self, found: Vec<Found>) -> Result<(), Error> {
        for Found { mut rules, table, addresses } in found {
            rules::commit(&mut rules, &self.additions(&table, &addresses))?;
        }
        Ok(())
    }

    /// Whether everything is there.
    pub fn is_complete(&self, found: &[Found]) -> bool {
        found.iter().all(|found| self.additions(&found.table, &found.addresses).is_empty())
    }

    /// Removes the rules for `addresses`, and the chain when nothing leads to it any more. Without addresses
    /// (the container's interface is gone and nobody remembers) everything of the container goes.
    ///
    /// A host without iptables has no rules to remove.
    pub fn tear_down(&self, addresses: &[IpNetwork]) -> Result<(), Error> {
        let mut result = Ok(());
        for family in FAMILIES {
            let of_family = of_family(addresses, family);
            if !addresses.is_empty() && of_family.is_empty() {
                continue;
            }
            result = result.and(self.tear_down_family(family, &of_family));
        }
        result
    }

    fn tear_down_family(&self, family: Family, addresses: &[IpNetwork]) -> Result<(), Error> {
        let Some((mut rules, table)) = rules::look(family, TABLE)? else { return Ok(()) };
        rules::commit(&mut rules, &self.removals(&table, addresses))
    }

    /// What is missing in `table`. Addresses are of one family.
    fn additions(&self, table: &Table, addresses: &[IpNetwork]) -> Batch {
        let mut missing = Missing::new(TABLE, table);
        missing.own_chain(&self.chain);
        let comment = format!("-m comment --comment {}", quote(&self.comment));
        // Every network's exception comes before the rule for the rest of the world.
        for net in addresses {
            let (network, prefix) = (net.network(), net.prefix());
            missing.last(&self.chain, &format!("-d {network}/{prefix} {comment} -j ACCEPT"));
        }
        let multicast = if addresses[0].is_ipv4() { "224.0.0.0/4" } else { "ff00::/8" };
        missing.last(&self.chain, &format!("! -d {multicast} {comment} -j MASQUERADE"));
        for net in addresses {
            let host = IpNetwork::from(net.ip());
            missing.last(HOOK, &format!("-s {host} {comment} -j {}", self.chain));
        }
        missing.batch
    }

    /// What is there in `table` and belongs to `addresses`, all of one family; to everybody if there are none.
    fn removals(&self, table: &Table, addresses: &[IpNetwork]) -> Batch {
        let mut batch = Batch::default();
        let mut others = false;
        for rule in table.rules(HOOK) {
            let words = split_words(&rule);
            if value_of(&words, "-j") != Some(self.chain.as_str()) {
                continue;
            }
            // Old versions of the reference wrote the address with its network's prefix length.
            let source = value_of(&words, "-s").and_then(|s| s.parse::<IpNetwork>().ok());
            let mine = |net: IpNetwork| addresses.iter().any(|own| net.contains(own.ip()));
            if addresses.is_empty() || source.is_none_or(mine) {
                batch.delete(TABLE, HOOK, &rule);
            } else {
                others = true;
            }
        }
        if !others && table.chains.contains_key(&self.chain) {
            // Declared, it is emptied: only so can it be deleted.
            batch.declare_chain(TABLE, &self.chain);
            batch.delete_chain(TABLE, &self.chain);
        }
        batch
    }
}

fn of_family(addresses: &[IpNetwork], family: Family) -> Vec<IpNetwork> {
    let wanted = matches!(family, Family::V4);
    addresses.iter().filter(|net| net.is_ipv4() == wanted).copied().collect()
}

/// The error of a host without iptables.
pub fn missing(family: Family) -> Error {
    let mut error = rules::missing(family, "set up ipMasq");
    error.details.push_str(", or set ipMasq to false");
    error
}
