//! Cluster addresses and node ports of Services.
//!
//! What is taken is in the store, a key for each: an `IPAddress` object (networking.k8s.io/v1, as since Kubernetes 1.33) or a node port.
//! The keys are written and deleted in the *same* transaction as the Service that they belong to, on the condition that they
//! are free. So the store itself rules out that two Services get the same, whoever races or dies where; the
//! [`Ledger`] in memory only proposes what is likely to be free.
//!
//! ```text
//! loop {
//!     let plan = plan::create(&ranges, &ledger, &service, &mut dice, now)?;      // 422 or 500 on error
//!     operations = plan.operations + [Operation { key of the Service, Put(plan.service) }]
//!     match store.commit(operations).await? {
//!         Committed(revision) => break ledger.committed(&operations, revision),
//!         Refused(index, record) if index < plan.operations.len() => ledger.observe(&operations[index].key, record.as_ref()),
//!         Refused(..) => the Service itself: 409 or AlreadyExists
//!     }
//! }
//! ```
//! At the start, and after a lost watch: `Ledger::observe` every record below [`ADDRESSES`] and [`PORTS`], then list the Services and
//! do what [`repair::plan`] says. With several servers on one store also every few minutes: a server whose ledger is behind may
//! leave a key behind, which is a loss of one address and never a double use.

pub mod change;
mod families;
mod ledger;
pub mod plan;
mod range;
pub mod repair;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::meta::field_error::FieldError;

pub use families::Family;
pub use ledger::{ADDRESSES, Holding, Ledger, PORTS};
pub use range::{Dice, Ranges};

/// A Service that cannot have what it asks for, or ranges that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AllocateError {
    /// 422: fields that cannot be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Invalid(Vec<FieldError>),
    /// 500: no address is left.
    #[error(
        "failed to allocate a serviceIP: range is full ({0}); delete services, or add a ServiceCIDR"
    )]
    AddressesFull(&'static str),
    /// 500: no port is left.
    #[error(
        "failed to allocate a nodePort: range is full ({0}-{1}); delete services, or choose a larger range"
    )]
    PortsFull(u16, u16),
    /// The ranges of services and of pods have addresses in common.
    #[error(
        "the service range {service} and the pod range {pod} overlap; choose another for one of them"
    )]
    Overlap {
        /// The one of services.
        service: IpNetwork,
        /// The one of pods.
        pod: IpNetwork,
    },
    /// A range with which no cluster can work.
    #[error("the service range {0} cannot be used: {1}")]
    Range(IpNetwork, &'static str),
}

/// What a Service has, or asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `spec.clusterIPs` without `None`.
    pub addresses: Vec<IpAddr>,
    /// The node ports, each once, that of the health check among them.
    pub ports: Vec<u16>,
}

impl Claims {
    /// From a Service.
    pub fn of(service: &Value) -> Self {
        let spec = &service["spec"];
        if spec["type"] == "ExternalName" {
            return Self::default();
        }
        let listed = spec["clusterIPs"].as_array().into_iter().flatten();
        let single = Some(&spec["clusterIP"]).filter(|_| !spec["clusterIPs"].is_array());
        let texts = listed.chain(single).filter_map(Value::as_str);
        let addresses = texts.filter_map(|text| text.parse().ok()).collect();
        let listed = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
        let mut ports = Vec::new();
        for port in listed.chain([&spec["healthCheckNodePort"]]) {
            let number = port.as_u64().and_then(|number| u16::try_from(number).ok());
            ports.extend(number.filter(|number| *number != 0 && !ports.contains(number)));
        }
        Self { addresses, ports }
    }
}
