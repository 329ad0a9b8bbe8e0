//! What is taken, as far as this server has seen.

use std::collections::HashMap;
use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Family;
use crate::store::{Condition, Operation, Record, Revision, Write};

/// Before the address in the key of an `IPAddress` object, as kube-apiserver lays them out.
pub const ADDRESSES: &str = "/registry/ipaddresses/";
/// Before the number in the key of a node port.
pub const PORTS: &str = "/registry/ranges/servicenodeports/";

/// Whose something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The Service, `namespace/name`.
    pub owner: String,
    /// When the key was last written.
    pub revision: Revision,
}

/// The keys that are taken. It may be behind the store: what it proposes is put under conditions.
#[derive(Clone, Debug, Default)]
pub struct Ledger(HashMap<String, Holding>);

impl Ledger {
    /// A key holds this, or nothing. Older news than what is known is passed over.
    pub fn observe(&mut self, key: &str, record: Option<&Record>) {
        match record {
            Some(record) => self.hold(key, owner_in(key, &record.value), record.modified),
            None => drop(self.0.remove(key)),
        }
    }

    /// A watch saw that a key was written, or deleted.
    pub fn changed(&mut self, key: &str, value: Option<&[u8]>, revision: Revision) {
        match value {
            Some(value) => self.hold(key, owner_in(key, value), revision),
            None if self.0.get(key).is_some_and(|held| held.revision <= revision) => {
                self.0.remove(key);
            }
            None => {}
        }
    }

    /// A transaction with these operations took place.
    pub fn committed(&mut self, operations: &[Operation], revision: Revision) {
        for Operation { key, write, .. } in operations {
            let ours = key.starts_with(ADDRESSES) || key.starts_with(PORTS);
            match write {
                Write::Put(value) if ours => self.changed(key, Some(value), revision),
                Write::Delete if ours => self.changed(key, None, revision),
                _ => {}
            }
        }
    }

    /// Whose a key is.
    pub fn holding(&self, key: &str) -> Option<&Holding> {
        self.0.get(key)
    }

    /// Every key that is taken.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Holding)> {
        self.0.iter().map(|(key, holding)| (key.as_str(), holding))
    }

    fn hold(&mut self, key: &str, owner: String, revision: Revision) {
        let known = self.0.get(key);
        if known.is_none_or(|known| known.revision <= revision) {
            self.0.insert(key.to_owned(), Holding { owner, revision });
        }
    }
}

/// The key of an address.
pub(super) fn address_key(address: IpAddr) -> String {
    format!("{ADDRESSES}{address}")
}

/// The key of a node port.
pub(super) fn port_key(port: u16) -> String {
    format!("{PORTS}{port}")
}

/// Takes a key for a Service.
pub(super) fn take(key: String, condition: Condition, owner: &str, now: Timestamp) -> Operation {
    let value = match key.strip_prefix(ADDRESSES).and_then(|text| text.parse().ok()) {
        Some(address) => address_object(address, owner, now),
        None => json!({"service": owner}),
    };
    Operation { key, condition, write: Write::Put(Bytes::from(value.to_string())) }
}

/// The `IPAddress` object that says that an address is a Service's.
fn address_object(address: IpAddr, owner: &str, now: Timestamp) -> Value {
    let (namespace, name) = owner.split_once('/').unwrap_or(("", owner));
    let created = Timestamp::from_second(now.as_second()).unwrap_or(now);
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": created.to_string(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": Family::of(address).as_str(),
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    })
}

/// The Service that a record names; empty when it names none, which no Service is called.
fn owner_in(key: &str, value: &[u8]) -> String {
    let value: Value = serde_json::from_slice(value).unwrap_or_default();
    if !key.starts_with(ADDRESSES) {
        return value["service"].as_str().unwrap_or_default().to_owned();
    }
    let parent = &value["spec"]["parentRef"];
    match (parent["namespace"].as_str(), parent["name"].as_str()) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => String::new(),
    }
}
