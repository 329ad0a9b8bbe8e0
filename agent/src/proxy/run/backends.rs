//! What a runner writes rules with, by mode, and what other modes and proxies left.

use netns_tools::cause::one_line;
use netns_tools::iptables::{Family, Iptables};
use netns_tools::nftables::{self, Batch, Nftables, Table};

use super::ipvs::{IpvsChains, IpvsServers};
use super::{FamilyParts, Predecessor};
use crate::proxy::backend::{Backend, BackendError};
use crate::proxy::conntrack::KernelFlows;
use crate::proxy::iptables::IptablesBackend;
use crate::proxy::model::FAMILIES;
use crate::proxy::nftables::NftablesBackend;
use crate::proxy::ops::Mode;

/// Chains that iptables mode always has, and kube-proxy's.
const CHAINS: [(&str, &str); 3] =
    [("nat", "KUBE-SERVICES"), ("nat", "KUBE-POSTROUTING"), ("mangle", "KUBE-PROXY-CANARY")];
/// kube-proxy's table in nftables mode.
const KUBE_PROXY: &str = "kube-proxy";

/// What writes rules of both families in the calling thread's network namespace. A family that is not `required` is left out if it
/// cannot be had; why is told in words.
///
/// Once rules are in force others go: see [`predecessors`].
pub fn open(
    mode: Mode,
    required: &[Family],
    take_over: bool,
) -> Result<(Vec<FamilyParts>, Vec<String>), BackendError> {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for family in FAMILIES {
        match open_family(mode, family, take_over) {
            Ok(parts) => all.push(parts),
            Err(error) if required.contains(&family) => return Err(error),
            Err(error) => {
                let reason = one_line(&error);
                problems.push(format!("there are no service rules of {family:?}: {reason}"));
            }
        }
    }
    Ok((all, problems))
}

fn open_family(mode: Mode, family: Family, take_over: bool) -> Result<FamilyParts, BackendError> {
    let backend: Box<dyn Backend> = match mode {
        Mode::Iptables => Box::new(IptablesBackend::detect(family)?),
        Mode::Nftables => Box::new(NftablesBackend::open(family)?),
    };
    let predecessors = predecessors(mode, family, take_over);
    Ok(FamilyParts { backend, flows: Box::new(KernelFlows::new()), predecessors })
}

/// What goes once the rules of a mode are in force: those of the other mode, which cannot be told from kube-proxy's in iptables mode,
/// as both have the same names. With `take_over`, also what kube-proxy leaves of its modes nftables and IPVS.
pub fn predecessors(mode: Mode, family: Family, take_over: bool) -> Vec<Box<dyn Predecessor>> {
    let mut all = if take_over { of_kube_proxy(family) } else { Vec::new() };
    all.push(match mode {
        Mode::Iptables => Box::new(NftablesTable { family }),
        Mode::Nftables => Box::new(IptablesChains { family }),
    });
    all
}

/// What is kube-proxy's alone. The chains of IPVS mode lead to those of iptables mode, which can only go after them.
fn of_kube_proxy(family: Family) -> Vec<Box<dyn Predecessor>> {
    vec![
        Box::new(IpvsChains { family }),
        Box::new(IpvsServers { family }),
        Box::new(KubeProxyTable { family }),
    ]
}

/// Removes every rule of ours from the calling thread's network namespace: both modes, both families; with `take_over`, also what
/// kube-proxy left of its modes nftables and IPVS. What fails does not keep the rest; the first failure is returned.
pub fn cleanup(take_over: bool) -> Result<(), BackendError> {
    let mut first = Ok(());
    for family in FAMILIES {
        let mut all = if take_over { of_kube_proxy(family) } else { Vec::new() };
        all.push(Box::new(IptablesChains { family }));
        all.push(Box::new(NftablesTable { family }));
        for mut one in all {
            first = first.and(one.remove());
        }
    }
    first
}

/// The rules of iptables mode, by whichever variant they were written.
struct IptablesChains {
    family: Family,
}

impl Predecessor for IptablesChains {
    fn name(&self) -> &'static str {
        "the service rules of iptables mode"
    }

    fn remove(&mut self) -> Result<(), BackendError> {
        for variant in Iptables::holders(self.family, &CHAINS) {
            IptablesBackend::of(variant).cleanup()?;
        }
        Ok(())
    }
}

/// The rules of nftables mode.
struct NftablesTable {
    family: Family,
}

impl Predecessor for NftablesTable {
    fn name(&self) -> &'static str {
        "the service rules of nftables mode"
    }

    fn remove(&mut self) -> Result<(), BackendError> {
        match NftablesBackend::open(self.family) {
            Ok(mut backend) => none_without_nftables(backend.cleanup()),
            Err(error) => none_without_nftables(Err(error)),
        }
    }
}

/// The rules of kube-proxy's nftables mode.
struct KubeProxyTable {
    family: Family,
}

impl Predecessor for KubeProxyTable {
    fn name(&self) -> &'static str {
        "kube-proxy's table of nf_tables"
    }

    fn remove(&mut self) -> Result<(), BackendError> {
        let family = match self.family {
            Family::V4 => nftables::Family::Ip,
            Family::V6 => nftables::Family::Ip6,
        };
        none_without_nftables(remove_table(Table::new(family, KUBE_PROXY)).map_err(Into::into))
    }
}

fn remove_table(table: Table<'_>) -> nftables::Result<()> {
    let mut nft = Nftables::open()?;
    if !nft.has_table(table)? {
        return Ok(());
    }
    let mut batch = Batch::new();
    // after this it is there, even if somebody was quicker than we
    batch.add_table(table).delete_table(table);
    nft.commit(&batch)
}

/// A kernel without nf_tables has no rules there.
fn none_without_nftables(outcome: Result<(), BackendError>) -> Result<(), BackendError> {
    match outcome {
        Err(BackendError::Nftables(error)) if error.is_unsupported() => Ok(()),
        other => other,
    }
}
