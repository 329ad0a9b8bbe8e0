//! DEL and GC of `portmap`: mappings go, and with them the UDP flows that they made.

use std::cell::RefCell;
use std::collections::BTreeSet;

use cni::Error;
use cni::plugin::Call;
use ipnetwork::IpNetwork;
use netns_tools::iptables::{Batch, Family, Iptables, Table};

use super::chains::{Names, TABLE, abandoned, removals, removals_of, udp_ports};
use super::conf::{containers, family_of, readable_mappings};
use super::flows::{self, Stale};
use super::nftables;
use crate::rules::{self, FAMILIES};
use crate::step::step;

/// Removes a container's mappings, whatever the configuration says of them, and of the backend, by now.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let (network, id) = (&call.conf.name, &call.container_id);
    let (names, nft_names) = (Names::new(network, id), nftables::Names::new(network, id));
    let mappings = readable_mappings(&call.conf);
    let addresses = containers(call.conf.prev_result.as_ref(), &call.ifname);
    remove(
        flows::of_mappings(&mappings, &FAMILIES),
        |table| (vec![names.chain.clone()], removals(table, &names)),
        |family| Iptables::may_have_chain(family, TABLE, names.chains()),
        |family, stale| {
            let own = addresses.iter().map(IpNetwork::ip).find(|ip| family_of(*ip) == family);
            nftables::tear_down(family, &nft_names, own, stale)
        },
    )
}

/// Removes the mappings of this network's containers that are not among the valid ones.
pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let network = &call.conf.name;
    let ids = || call.valid_attachments.iter().map(|attachment| &attachment.container_id);
    let valid: BTreeSet<_> = ids().map(|id| Names::new(network, id).chain).collect();
    let nft_valid: Vec<_> = ids().map(|id| nftables::Names::new(network, id)).collect();
    remove(
        Vec::new(),
        |table| {
            let chains = abandoned(table, network, &valid);
            let batch = removals_of(table, &chains);
            (chains, batch)
        },
        |_| true,
        |family, stale| nftables::collect_garbage(family, network, &nft_valid, stale),
    )
}

/// Removes, from both families and with both backends, what the plans say, and forgets the UDP flows to the ports that led there
/// and to those that are `known`. `plan` says which chains of iptables go, and how; `may_be_there` whether there is any need to
/// look. What fails does not keep the rest.
fn remove(
    known: Vec<Stale>,
    plan: impl Fn(&Table) -> (Vec<String>, Batch),
    may_be_there: impl Fn(Family) -> bool,
    in_nftables: impl Fn(Family, &mut Vec<Stale>) -> Result<(), Error>,
) -> Result<(), Error> {
    let stale = RefCell::new(known);
    let mut result = Ok(());
    for family in FAMILIES {
        let name = match family {
            Family::V4 => "remove what is mapped over IPv4",
            Family::V6 => "remove what is mapped over IPv6",
        };
        let removed = step(name, || {
            let nft = in_nftables(family, &mut stale.borrow_mut());
            if !may_be_there(family) {
                return nft;
            }
            let iptables = rules::remove(family, TABLE, |table| {
                let (chains, batch) = plan(table);
                note(&stale, family, table, &chains);
                Ok(batch)
            });
            nft.and(iptables)
        });
        result = result.and(removed);
    }
    let stale = stale.into_inner();
    if stale.is_empty() {
        return result;
    }
    let forgotten = step("forget stale UDP flows", || {
        flows::forget(&stale);
        Ok(())
    });
    result.and(forgotten)
}

fn note(stale: &RefCell<Vec<Stale>>, family: Family, table: &Table, chains: &[String]) {
    let mut stale = stale.borrow_mut();
    for (to, port) in chains.iter().flat_map(|chain| udp_ports(table, chain)) {
        let one = Stale { family, to, port };
        if !stale.contains(&one) {
            stale.push(one);
        }
    }
}
