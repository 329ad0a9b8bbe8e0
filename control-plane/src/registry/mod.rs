//! The kinds: a file per kind says what it defaults, what is valid, what may change and which columns `kubectl get` shows.
//!
//! [`Kind`] is data and [`Strategy`] is behaviour; `api` is generic over both, so that a custom resource is one more `Kind`.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

pub mod address;
pub mod amount;
mod claim;
mod claim_spec;
mod claim_status;
pub mod column;
pub mod configmap;
pub mod controllerrevision;
pub mod cronjob;
pub mod custom;
pub mod customresourcedefinition;
pub mod daemonset;
pub mod defaults;
mod definition_version;
pub mod deployment;
pub mod disruptionbudget;
pub mod endpoints;
pub mod endpointslice;
pub mod event;
pub mod ingress;
mod ingress_class;
pub mod job;
mod job_indexes;
pub mod job_spec;
mod job_status;
mod job_update;
pub mod jsonpath;
pub mod kind;
pub mod lease;
mod limit_spec;
#[cfg(test)]
mod mutation_tests;
pub mod namespace;
pub mod networkpolicy;
pub mod node;
pub mod node_label;
pub mod pod;
pub mod pod_row;
mod pod_status;
pub mod podspec;
pub mod priorityclass;
pub mod quota;
mod quota_spec;
pub mod rbac;
pub mod replicaset;
pub mod replicationcontroller;
mod schedule;
pub mod secret;
pub mod service;
pub mod service_account;
pub mod service_spec;
mod service_warnings;
pub mod servicecidr;
pub mod statefulset;
pub mod storage;
mod storage_class;
pub mod strategy;
mod template;
mod tls_pair;
mod volume;
mod volume_source;

pub use kind::{Kind, Selectable, Subresource};
pub use strategy::Strategy;

/// The kinds that are served, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Registry {
    kinds: RwLock<Kinds>,
}

#[derive(Debug, Default)]
struct Kinds {
    ordered: Vec<Arc<Kind>>,
    by_path: BTreeMap<(String, String, String), Arc<Kind>>,
    generation: u64,
}

/// The kinds that are built in, in the order in which discovery lists them.
fn built_in() -> Vec<Kind> {
    vec![
        namespace::kind(),
        node::kind(),
        pod::kind(),
        configmap::kind(),
        replicationcontroller::kind(),
        secret::kind(),
        service_account::kind(),
        service::kind(),
        endpoints::kind(),
        event::kind(),
        controllerrevision::kind(),
        daemonset::kind(),
        deployment::kind(),
        replicaset::kind(),
        statefulset::kind(),
        // after `apps`, as kube-apiserver has its groups
        event::regarding(),
        job::kind(),
        cronjob::kind(),
        endpointslice::kind(),
        lease::kind(),
        disruptionbudget::kind(),
        networkpolicy::kind(),
        priorityclass::kind(),
        customresourcedefinition::kind(),
    ]
    .into_iter()
    .chain(quota::kinds())
    .chain(storage::kinds())
    .chain(ingress::kinds())
    .chain(servicecidr::kinds())
    .chain(rbac::kinds())
    .chain(crate::http::review::kinds())
    .collect()
}

impl Registry {
    /// Every kind that is built in.
    pub fn built_in() -> Self {
        let registry = Self::default();
        for kind in built_in() {
            registry.add(kind);
        }
        registry
    }

    /// Serves a kind from now on; one of the same group, version and plural is replaced.
    pub fn add(&self, kind: Kind) {
        let kind = Arc::new(kind);
        let mut kinds = self.kinds.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let path = (kind.group.to_string(), kind.version.to_string(), kind.plural.to_string());
        if let Some(old) = kinds.by_path.insert(path, kind.clone()) {
            kinds.ordered.retain(|other| !Arc::ptr_eq(other, &old));
        }
        kinds.ordered.push(kind);
        kinds.generation += 1;
    }

    /// No longer serves a kind.
    pub fn remove(&self, group: &str, version: &str, plural: &str) {
        let mut kinds = self.kinds.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let path = (group.to_owned(), version.to_owned(), plural.to_owned());
        if let Some(old) = kinds.by_path.remove(&path) {
            kinds.ordered.retain(|other| !Arc::ptr_eq(other, &old));
            kinds.generation += 1;
        }
    }

    /// The kind that is served at a path.
    pub fn at(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let kinds = self.kinds.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        kinds.by_path.get(&(group.to_owned(), version.to_owned(), plural.to_owned())).cloned()
    }

    /// Every kind, in the order in which they were added.
    pub fn all(&self) -> Vec<Arc<Kind>> {
        self.kinds.read().unwrap_or_else(std::sync::PoisonError::into_inner).ordered.clone()
    }

    /// Moves with every change of the set of kinds: what is derived from it can be kept as long as this stays.
    pub fn generation(&self) -> u64 {
        self.kinds.read().unwrap_or_else(std::sync::PoisonError::into_inner).generation
    }
}
