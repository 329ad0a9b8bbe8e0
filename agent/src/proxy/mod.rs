//! The service proxy: Services and their endpoints become rules of the kernel, in kube-proxy's own shape.
//!
//! Desired state is a snapshot; the rules that follow from it are computed purely ([`rules`]); the difference to what was
//! committed is one transaction ([`changes`]). After any error the next sync reads the kernel anew.

pub mod allocate;
pub mod backend;
pub mod chain;
pub mod changes;
pub mod command;
pub mod config;
pub mod conntrack;
pub mod host;
pub mod iptables;
pub mod kube;
pub mod manifests;
pub mod model;
pub mod nftables;
pub mod ops;
pub mod options;
pub mod pods;
pub mod rules;
pub mod run;
pub mod validate;

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Service;
use netns_tools::iptables::{Batch, IptablesError, Rules};
use netns_tools::sysctl;

use changes::Committed;
use pods::PodEndpoint;

/// What should hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Services with their cluster addresses and node ports.
    pub services: Vec<Service>,
    /// The pods that they may select.
    pub pods: Vec<PodEndpoint>,
}

/// What the rules depend on besides the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Sources outside of this range are masqueraded when they use a cluster address.
    pub cluster_cidr: Option<IpNetwork>,
    /// The bit of the packet mark that asks for masquerading.
    pub masquerade_bit: u8,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self { cluster_cidr: None, masquerade_bit: 14 }
    }
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Chains that were written, of all tables.
    pub written: usize,
    /// Chains that were deleted.
    pub deleted: usize,
}

/// A sync that failed. The rules in force are the old ones.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Reading or committing rules failed.
    #[error("service rules are not up to date")]
    Rules(#[from] IptablesError),
}

/// The proxy: one writer of one set of chains.
pub struct Proxy {
    config: ProxyConfig,
    rules: Box<dyn Rules>,
    committed: Option<Committed>,
}

impl Proxy {
    /// A proxy that has not looked at the kernel yet.
    pub fn new(config: ProxyConfig, rules: Box<dyn Rules>) -> Self {
        Self { config, rules, committed: None }
    }

    /// Makes the rules what they should be. Blocking.
    pub fn sync(&mut self, desired: &Desired) -> Result<SyncReport, ProxyError> {
        let ports = pods::service_ports(&desired.services, &desired.pods);
        let wanted = rules::generate(&self.config, &ports);
        let before = match self.committed.take() {
            Some(known) => known,
            None => Committed::read(self.rules.as_mut())?,
        };
        let (batch, report) = changes::difference(&before, &wanted);
        // nothing is remembered of a commit that failed: the next sync looks at the kernel
        self.rules.commit(&batch)?;
        self.committed = Some(Committed::of(&wanted));
        Ok(report)
    }

    /// Forgets what was committed, so that the next sync compares with the kernel.
    pub fn distrust(&mut self) {
        self.committed = None;
    }

    /// Removes every rule and chain of a proxy and nothing else. Blocking.
    pub fn cleanup(&mut self) -> Result<(), ProxyError> {
        self.committed = None;
        let before = Committed::read(self.rules.as_mut())?;
        let batch: Batch = changes::removal(&before);
        Ok(self.rules.commit(&batch)?)
    }
}

/// Sets the kernel parameters that services need. What cannot be set is returned in words.
pub fn prepare_node() -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = sysctl::ensure("net/ipv4/ip_forward", "1") {
        problems.push(error.to_string());
    }
    match sysctl::ensure("net/bridge/bridge-nf-call-iptables", "1") {
        Err(error) if error.is_not_found() => problems.push(
            "net/bridge/bridge-nf-call-iptables is missing, so a service whose backend is on the same bridge will fail; \
             load it with `modprobe br_netfilter`"
                .to_owned(),
        ),
        Err(error) => problems.push(error.to_string()),
        Ok(_) => {}
    }
    problems
}

/// Rules by chain, in order.
pub type Chains = BTreeMap<String, Vec<String>>;

#[cfg(test)]
mod tests;
