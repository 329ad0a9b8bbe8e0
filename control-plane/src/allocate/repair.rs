//! Services and what is taken for them, brought together again: after another program wrote to the store, a restore, or a change of the
//! ranges. Pure; in a store that only this program writes there is nothing to do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::ledger::take;
use super::plan::{keys, owner_of};
use super::{Claims, Family, Ledger, Ranges};
use crate::store::{Condition, Operation, Write};

/// Something that only a person can put right; told as an Event of type Warning about the Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// The Service, `namespace/name`.
    pub service: String,
    /// The Event's reason, as kube-apiserver's.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What has to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Each to be committed by itself; one that is refused was overtaken by a change and needs nothing.
    pub operations: Vec<Operation>,
    /// What cannot be done.
    pub troubles: Vec<Trouble>,
}

/// Compares all Services with all that is taken. Both must be read after each other in this order, the ledger first: a Service that is made
/// in between then has keys that the ledger does not know, which are put under conditions.
pub fn plan(ranges: &Ranges, ledger: &Ledger, services: &[Value], now: Timestamp) -> Repair {
    let (mut repair, mut claimed) = (Repair::default(), BTreeMap::new());
    let known: BTreeSet<(String, String)> = services
        .iter()
        .flat_map(|service| {
            let owner = owner_of(service);
            keys(&Claims::of(service)).into_iter().map(move |key| (key, owner.clone()))
        })
        .collect();
    let rightful = |key: &str| {
        let owner = ledger.holding(key).map(|held| held.owner.clone())?;
        known.contains(&(key.to_owned(), owner.clone())).then_some(owner)
    };
    for service in by_age(services) {
        let (owner, claims) = (owner_of(service), Claims::of(service));
        repair.troubles.extend(outside(ranges, &owner, &claims));
        for key in keys(&claims) {
            let first = claimed
                .entry(key.clone())
                .or_insert_with(|| rightful(&key).unwrap_or_else(|| owner.clone()));
            if *first != owner {
                repair.troubles.push(doubled(&owner, &key));
                continue;
            }
            let condition = match ledger.holding(&key) {
                Some(held) if held.owner == owner => continue,
                Some(held) => Condition::At(held.revision),
                None => Condition::Absent,
            };
            repair.operations.push(take(key, condition, &owner, now));
        }
    }
    let mut left: Vec<_> = ledger.iter().filter(|(key, _)| !claimed.contains_key(*key)).collect();
    left.sort_by_key(|(key, _)| *key);
    repair.operations.extend(left.into_iter().map(|(key, held)| Operation {
        key: key.to_owned(),
        condition: Condition::At(held.revision),
        write: Write::Delete,
    }));
    repair
}

/// The older of two Services keeps what both claim.
fn by_age(services: &[Value]) -> Vec<&Value> {
    let mut sorted: Vec<_> = services.iter().collect();
    sorted.sort_by_cached_key(|service| {
        let created = service["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
        (created.to_owned(), owner_of(service))
    });
    sorted
}

fn outside(ranges: &Ranges, owner: &str, claims: &Claims) -> Vec<Trouble> {
    let trouble = |reason, message| Trouble { service: owner.to_owned(), reason, message };
    let networks: Vec<_> = ranges.services.iter().map(ToString::to_string).collect();
    let addresses = claims.addresses.iter().filter(|address| !ranges.holds(**address)).map(|address| {
        let (networks, family) = (networks.join(","), Family::of(*address).as_str());
        let message = format!("Cluster IP [{family}]:{address} is not within any configured Service CIDR {networks}; please recreate service");
        trouble("ClusterIPOutOfRange", message)
    });
    let (first, last) = (ranges.node_ports.start(), ranges.node_ports.end());
    let ports = claims.ports.iter().filter(|port| !ranges.node_ports.contains(port)).map(|port| {
        let message = format!(
            "Port {port} is not within the port range {first}-{last}; please recreate service"
        );
        trouble("PortOutOfRange", message)
    });
    addresses.chain(ports).collect()
}

fn doubled(owner: &str, key: &str) -> Trouble {
    let what = key.rsplit('/').next().unwrap_or_default();
    let (reason, what) = match what.parse().map(Family::of) {
        Ok(family) => {
            ("ClusterIPAlreadyAllocated", format!("Cluster IP [{}]:{what}", family.as_str()))
        }
        Err(_) => ("PortAlreadyAllocated", format!("Port {what}")),
    };
    let message = format!("{what} was assigned to multiple services; please recreate service");
    Trouble { service: owner.to_owned(), reason, message }
}
