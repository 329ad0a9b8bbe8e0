//! Which services have endpoints, but none here, under the policy Local: what comes to them here is dropped.

use std::collections::BTreeSet;

use crate::proxy::model::{Changed, PortId, Ports, Reach, ServicePort};

/// The ports of such services in one family, kept up to date change by change.
#[derive(Debug, Default)]
pub(super) struct NoLocalEndpoints {
    internal: BTreeSet<PortId>,
    external: BTreeSet<PortId>,
}

impl NoLocalEndpoints {
    /// Takes in what changed.
    pub(super) fn apply(&mut self, ports: &Ports, changed: &Changed) {
        for id in changed.keys() {
            let port = ports.get(id).map(AsRef::as_ref);
            put(&mut self.internal, id, port.is_some_and(drops_internal));
            put(&mut self.external, id, port.is_some_and(drops_external));
        }
    }

    /// How many services: for traffic from inside, and from outside.
    pub(super) fn counts(&self) -> (usize, usize) {
        (services(&self.internal), services(&self.external))
    }
}

fn put(set: &mut BTreeSet<PortId>, id: &PortId, wanted: bool) {
    if wanted {
        set.insert(id.clone());
    } else {
        set.remove(id);
    }
}

fn drops_internal(port: &ServicePort) -> bool {
    port.internal_local && port.internal() == Reach::Drop
}

fn drops_external(port: &ServicePort) -> bool {
    port.external_local && port.is_externally_accessible() && port.external() == Reach::Drop
}

/// The ports of a service are next to each other.
fn services(ports: &BTreeSet<PortId>) -> usize {
    let mut names: Vec<_> = ports.iter().map(|id| &id.service).collect();
    names.dedup();
    names.len()
}
