//! DEL and GC of `portmap`: mappings go, and with them the UDP flows that they made.

use std::cell::RefCell;
use std::collections::BTreeSet;

use cni::Error;
use cni::plugin::Call;
use netns_tools::iptables::{Batch, Family, Table};

use super::chains::{Names, TABLE, abandoned, removals, removals_of, udp_ports};
use super::conf::readable_mappings;
use super::flows::{self, Stale};
use crate::rules::{self, FAMILIES};
use crate::step::step;

/// Removes a container's mappings, whatever the configuration says of them by now.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let names = Names::new(&call.conf.name, &call.container_id);
    let mappings = readable_mappings(&call.conf);
    remove(flows::of_mappings(&mappings, &FAMILIES), |table| {
        let chains = vec![names.chain.clone()];
        (chains, removals(table, &names))
    })
}

/// Removes the mappings of this network's containers that are not among the valid ones.
pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let network = &call.conf.name;
    let valid: BTreeSet<_> = call
        .valid_attachments
        .iter()
        .map(|attachment| Names::new(network, &attachment.container_id).chain)
        .collect();
    remove(Vec::new(), |table| {
        let chains = abandoned(table, network, &valid);
        let batch = removals_of(table, &chains);
        (chains, batch)
    })
}

/// Removes, from both families, what `plan` says of a table, and forgets the UDP flows to the ports of the chains that it names
/// and to those that are `known`. What fails in one family does not keep the other.
fn remove(known: Vec<Stale>, plan: impl Fn(&Table) -> (Vec<String>, Batch)) -> Result<(), Error> {
    let stale = RefCell::new(known);
    let mut result = Ok(());
    for family in FAMILIES {
        let name = match family {
            Family::V4 => "remove what is mapped over IPv4",
            Family::V6 => "remove what is mapped over IPv6",
        };
        let removed = step(name, || {
            rules::remove(family, TABLE, |table| {
                let (chains, batch) = plan(table);
                note(&stale, family, table, &chains);
                Ok(batch)
            })
        });
        result = result.and(removed);
    }
    let stale = stale.into_inner();
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
