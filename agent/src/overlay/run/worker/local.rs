//! This node's side of the plan.

use std::collections::BTreeMap;

use netns_tools::MacAddr;
use netns_tools::cause::one_line;

use super::Options;
use crate::overlay::cluster;
use crate::overlay::node::{NodeRecord, derived_mac};
use crate::overlay::plan::{Local, Plan, Underlay};
use crate::overlay::run::host::Host;
use crate::overlay::run::nodes::Nodes;
use crate::overlay::state::Store;
use crate::overlay::underlay::{Underlays, Wanted};

/// Why nothing can be planned.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Something must come from outside.
    Waiting(String),
    /// It is to be tried again.
    Failed(String),
}

/// This node as the source told it, if it can be planned for.
fn own_of<'a>(nodes: &'a Nodes, options: &Options) -> Result<&'a NodeRecord, Trouble> {
    let name = &options.name;
    let own = nodes.own().ok_or_else(|| {
        let remedy = if options.written_down {
            "write a manifest of it into paths.manifests, with spec.podCIDRs and its InternalIP"
        } else {
            "the kubelet registers it; node_name must be its name"
        };
        Trouble::Waiting(format!("there is no Node {name} yet: {remedy}"))
    })?;
    if own.pod_cidrs.is_empty() {
        let mistakes = match own.mistakes.join("; ") {
            none if none.is_empty() => none,
            all => format!(" ({all})"),
        };
        return Err(Trouble::Waiting(format!(
            "Node {name} has no pod CIDR yet{mistakes}: the cluster's controller manager gives one (--allocate-node-cidrs), or the Node's \
             spec.podCIDRs"
        )));
    }
    Ok(own)
}

/// This node's side of the plan, with what this host now is.
pub(super) fn local_of(
    host: &mut dyn Host,
    nodes: &Nodes,
    options: &Options,
    kept: Option<MacAddr>,
) -> Result<(Local, Underlays), Trouble> {
    let own = own_of(nodes, options)?;
    let wanted = Wanted {
        interface: &options.interface,
        internal_ips: &own.internal_ips,
        pods: &options.pods,
    };
    let failed = |error: &(dyn std::error::Error + 'static)| Trouble::Failed(one_line(error));
    let found = host.underlay(&wanted).map_err(|error| failed(&error))?;
    let underlays = found.iter().map(|one| Underlay {
        link: one.link,
        name: one.name.clone(),
        address: one.address,
        mtu: one.mtu,
        gateway: one.gateway,
    });
    let underlays: Vec<_> = underlays.collect();
    let mac = mac_of(own, options, kept);
    let local = Local::new(options.settings.clone(), own, mac, &underlays);
    Ok((local.map_err(|error| failed(&error))?, found))
}

/// Written down: what others compute. Otherwise the one that was kept, else the announced one, so that peers need not change theirs.
fn mac_of(own: &NodeRecord, options: &Options, kept: Option<MacAddr>) -> MacAddr {
    let announced = own.announced.iter().flat_map(|announced| &announced.vteps).next();
    let kept = kept.filter(|_| !options.written_down);
    kept.or(announced.map(|vtep| vtep.mac)).unwrap_or_else(|| derived_mac(&own.name))
}

/// What a fresh start would plan, of these nodes. Changes nothing.
pub fn preview(
    host: &mut dyn Host,
    store: &Store,
    options: Options,
    event: cluster::Event,
) -> Result<Plan, String> {
    let mut nodes = Nodes::new(&options.name, options.written_down);
    nodes.take(vec![event]);
    let planned = local_of(host, &nodes, &options, store.load().mac);
    let (local, _) = planned.map_err(|trouble| match trouble {
        Trouble::Waiting(reason) | Trouble::Failed(reason) => reason,
    })?;
    nodes.assume_like(&local.announcement());
    Ok(Plan::new(local, nodes.cluster(), BTreeMap::new()))
}
