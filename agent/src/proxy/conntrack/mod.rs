//! Flows that go on to where a service no longer leads.
//!
//! The kernel translates a flow's first packet by the rules and all others as the first. A TCP connection ends by itself when its
//! endpoint is gone. A UDP flow goes on for as long as packets come, so a client that keeps its socket goes on talking to an
//! endpoint that is gone, or to nobody. So after the rules have changed the flows that they would no longer make so are forgotten,
//! and their next packet is a first one again. SCTP is treated the same.
//!
//! Which flows are stale is decided without the kernel (`stale`):
//!
//! * **diverted** ones (destination NAT) whose original destination is, or was, a frontend of a changed port and whose endpoint is
//!   one that this frontend had and that does not serve it any more. Where a flow goes to an endpoint that the port never had,
//!   another program sent it there (a `hostPort` with the number of a node port, say), and it is left alone;
//! * **direct** ones, that nobody translated, to a frontend that had no endpoint and has one now.
//!
//! An endpoint that still serves keeps its flows though new ones go elsewhere, because it terminates or because a policy or the
//! topology prefers others: as kube-proxy does, and as TCP connections behave. What is local to which policy does not matter: pods
//! and this node reach every endpoint by a service's external addresses even under `externalTrafficPolicy: Local`.
//!
//! After a start, or when rules were lost meanwhile, nobody knows what was before. [`reconcile`] then compares all flows with what
//! holds now, and where a foreign program could have made a flow it rather keeps one too many: see `Doubts::of_ports` in `stale`.

#[cfg(test)]
pub mod fake;
mod flows;
mod frontend;
mod stale;

use std::collections::HashMap;
use std::net::IpAddr;

use netns_tools::NetlinkError;
use netns_tools::conntrack::Flow;
use netns_tools::iptables::Family;

pub use flows::{Flows, KernelFlows};
pub use frontend::Frontend;

use super::model::{Changed, Ports, ServicePort};
use super::options::{NodePortAddresses, RuleOptions};
use stale::{Doubts, Verdict};

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Flows that were forgotten.
    pub deleted: usize,
    /// How often the kernel was asked for flows. 0: nothing could be stale.
    pub listings: usize,
}

/// Some stale flows may still be there; they end when no packet comes for some time. The rules are not affected.
#[derive(Debug, thiserror::Error)]
#[error(
    "stale connections may remain until they time out ({deleted} were forgotten, {failed} could not be)"
)]
pub struct ForgetError {
    /// Flows that were forgotten all the same.
    pub deleted: usize,
    /// Flows that could not be. 0: they could not be listed.
    pub failed: usize,
    /// The first failure.
    pub source: NetlinkError,
}

/// Forgets the flows that a change made stale. To be called when the new rules are in force: what is forgotten before could be
/// made again by the old ones. Blocking.
///
/// `changed` tells what the ports were in the rules that were in force before, `ports` what they are now.
pub fn forget_stale(
    family: Family,
    changed: &Changed,
    ports: &Ports,
    options: &RuleOptions,
    flows: &mut dyn Flows,
) -> Result<Report, ForgetError> {
    let doubts = Doubts::of_changes(changed, ports);
    forget(family, &doubts, ports, options, flows)
}

/// Forgets the flows that do not agree with the rules in force, without knowing what was before: after the first sync of a start,
/// after each full one (rules that were lost for a moment let flows through untranslated), and after a failure of
/// [`forget_stale`]. Lists the UDP and SCTP flows once; forgets nothing that the rules would make so today. Blocking.
pub fn reconcile(
    family: Family,
    ports: &Ports,
    options: &RuleOptions,
    flows: &mut dyn Flows,
) -> Result<Report, ForgetError> {
    let doubts = Doubts::of_ports(ports);
    forget(family, &doubts, ports, options, flows)
}

fn forget(
    family: Family,
    doubts: &Doubts<'_>,
    ports: &Ports,
    options: &RuleOptions,
    flows: &mut dyn Flows,
) -> Result<Report, ForgetError> {
    let mut tally = Tally::default();
    let mut nodes = NodeAddresses { ports, options, known: HashMap::new() };
    for filter in doubts.filters(family) {
        tally.report.listings += 1;
        let suspects = flows.list(&filter, &|flow| doubts.judge(flow) != Verdict::Keep);
        for flow in tally.note(suspects, 0).unwrap_or_default() {
            let is_stale = match doubts.judge(&flow) {
                Verdict::Keep => Ok(false),
                Verdict::Stale => Ok(true),
                Verdict::StaleAtNode => nodes.serve_at(&flow, flows),
            };
            if tally.note(is_stale, 1) == Some(true) {
                let deleted = flows.delete(&flow);
                tally.report.deleted += usize::from(tally.note(deleted, 1) == Some(true));
            }
        }
    }
    tally.into_result()
}

/// What was done and what failed: one flow does not keep the others.
#[derive(Default)]
struct Tally {
    report: Report,
    failed: usize,
    first: Option<NetlinkError>,
}

impl Tally {
    /// `flows`: how many stay if it failed.
    fn note<T>(&mut self, done: Result<T, NetlinkError>, flows: usize) -> Option<T> {
        done.map_err(|error| {
            self.failed += flows;
            self.first.get_or_insert(error);
        })
        .ok()
    }

    fn into_result(self) -> Result<Report, ForgetError> {
        let Self { report, failed, first } = self;
        match first {
            None => Ok(report),
            Some(source) => Err(ForgetError { deleted: report.deleted, failed, source }),
        }
    }
}

/// Where node ports answer.
struct NodeAddresses<'a> {
    ports: &'a Ports,
    options: &'a RuleOptions,
    known: HashMap<IpAddr, bool>,
}

impl NodeAddresses<'_> {
    /// Whether the rules take a flow for one to a node port, if it was sent to the number of one.
    fn serve_at(&mut self, flow: &Flow, flows: &mut dyn Flows) -> Result<bool, NetlinkError> {
        let to = flow.original.destination;
        let known = self.known.get(&to.ip()).copied();
        let at_node = known.map_or_else(|| self.answer_at(to.ip(), flows), Ok)?;
        self.known.insert(to.ip(), at_node);
        let is_service = |port: &ServicePort| {
            port.id.protocol.number() == flow.protocol && frontend::is_at(port, to)
        };
        Ok(at_node && !self.ports.values().any(|port| is_service(port)))
    }

    fn answer_at(&self, address: IpAddr, flows: &mut dyn Flows) -> Result<bool, NetlinkError> {
        let at_localhost = address.is_ipv4() && self.options.localhost_node_ports;
        if address.is_loopback() && !at_localhost {
            return Ok(false);
        }
        match &self.options.node_ports {
            NodePortAddresses::Any => flows.is_local(address),
            NodePortAddresses::Listed(listed) => Ok(listed.contains(&address)),
        }
    }
}

#[cfg(test)]
mod tests;
