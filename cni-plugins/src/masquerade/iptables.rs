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
use netns_tools::iptables::{
    Batch, Family, Iptables, IptablesError, Rules, Table, quote, split_words,
};
use sha2::{Digest, Sha512};

use crate::code;

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
        for family in [Family::V4, Family::V6] {
            let addresses = of_family(addresses, family);
            if addresses.is_empty() {
                continue;
            }
            let mut rules = open(family)?.ok_or_else(|| missing(family))?;
            let table = rules.save(TABLE).map_err(|e| failed(&e))?;
            all.push(Found { rules, table, addresses });
        }
        Ok(all)
    }

    /// Makes what is missing: one commit per address family.
    pub fn set_up(&self, found: Vec<Found>) -> Result<(), Error> {
        for Found { mut rules, table, addresses } in found {
            let batch = self.additions(&table, &addresses);
            if !batch.is_empty() {
                rules.commit(&batch).map_err(|e| failed(&e))?;
            }
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
        for family in [Family::V4, Family::V6] {
            let of_family = of_family(addresses, family);
            if !addresses.is_empty() && of_family.is_empty() {
                continue;
            }
            result = result.and(self.tear_down_family(family, &of_family));
        }
        result
    }

    fn tear_down_family(&self, family: Family, addresses: &[IpNetwork]) -> Result<(), Error> {
        let Some(mut rules) = open(family)? else { return Ok(()) };
        let table = rules.save(TABLE).map_err(|e| failed(&e))?;
        let batch = self.removals(&table, addresses);
        if batch.is_empty() { Ok(()) } else { rules.commit(&batch).map_err(|e| failed(&e)) }
    }

    /// What is missing in `table`. Addresses are of one family.
    fn additions(&self, table: &Table, addresses: &[IpNetwork]) -> Batch {
        let mut batch = Batch::default();
        if !table.chains.contains_key(&self.chain) {
            batch.declare_chain(TABLE, &self.chain);
        }
        let mut add = |chain: &str, rule: String| {
            if !table.contains_rule(chain, &rule) {
                batch.append(TABLE, chain, &rule);
            }
        };
        let comment = format!("-m comment --comment {}", quote(&self.comment));
        // Every network's exception comes before the rule for the rest of the world.
        for net in addresses {
            let (network, prefix) = (net.network(), net.prefix());
            add(&self.chain, format!("-d {network}/{prefix} {comment} -j ACCEPT"));
        }
        let multicast = if addresses[0].is_ipv4() { "224.0.0.0/4" } else { "ff00::/8" };
        add(&self.chain, format!("! -d {multicast} {comment} -j MASQUERADE"));
        for net in addresses {
            let host = IpNetwork::from(net.ip());
            add(HOOK, format!("-s {host} {comment} -j {}", self.chain));
        }
        batch
    }

    /// What is there in `table` and belongs to `addresses`, all of one family; to everybody if there are none.
    fn removals(&self, table: &Table, addresses: &[IpNetwork]) -> Batch {
        let mut batch = Batch::default();
        let mut others = false;
        for rule in table.rules(HOOK) {
            let words = split_words(&rule);
            if value_of(&words, "-j") != Some(&self.chain) {
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

fn value_of<'a>(words: &'a [String], option: &str) -> Option<&'a String> {
    let at = words.iter().position(|word| word == option)?;
    words.get(at + 1)
}

fn of_family(addresses: &[IpNetwork], family: Family) -> Vec<IpNetwork> {
    let wanted = matches!(family, Family::V4);
    addresses.iter().filter(|net| net.is_ipv4() == wanted).copied().collect()
}

fn open(family: Family) -> Result<Option<Iptables>, Error> {
    Iptables::detect(family).map_err(|e| failed(&e))
}

fn missing(family: Family) -> Error {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let msg = format!("cannot set up ipMasq: no usable {program} found");
    let details = format!(
        "install {program} (with {program}-restore and {program}-save) in the PATH of the container runtime, or set ipMasq to false"
    );
    Error::new(code::RULES, msg).with_details(details)
}

fn failed(error: &IptablesError) -> Error {
    Error::from_source(code::RULES, error)
}
