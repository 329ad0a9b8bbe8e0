//! Packet filter rules and kernel parameters of the overlay.
//!
//! | file | what |
//! | --- | --- |
//! | `input` | what the rules depend on |
//! | `ranges` | ranges of addresses, joined so that none overlaps another |
//! | `table` | the nftables table: masquerading, and who may send through the tunnel |
//! | `compared` | the same as the kernel has it, and what makes it right |
//! | `accepts` | the chains of iptables that accept what others' rules would drop, and where the jumps to them must stand |
//! | `chains` | the same as iptables has it |
//! | `foreign` | what other programs' rules do to pods' traffic |
//! | `parameters` | kernel parameters: which, why, and what could not be set |
//! | `api` | what the controller calls, as a trait |
//!
//! # nftables: `inet heddle-overlay`
//! ```text
//! chain postrouting { type nat hook postrouting priority srcnat + 10
//!     ip daddr 224.0.0.0/4 return
//!     ip saddr 10.244.1.0/24 ip daddr != @inside4 masquerade fully-random
//!     oifname "heddle.1" ip saddr != @inside4 ip daddr @inside4 masquerade fully-random
//! }
//! chain input { type filter hook input priority raw
//!     udp dport 8472 jump tunnel
//! }
//! chain tunnel { iifname "lo" counter drop; ip saddr @nodes4 return; ip6 saddr @nodes6 return; counter drop }
//! ```
//!
//! **Once means once**: the kernel asks the chains of one hook that translate addresses in the order of their priorities and stops at the
//! first one that does (`nf_nat_inet_fn` in `net/netfilter/nf_nat_core.c`), iptables' chains among them. Ours comes behind those of
//! iptables and of the proxy (`srcnat`), so that what `KUBE-POSTROUTING` or `ip heddle` masquerade they masquerade, and take their mark
//! off. For the same reason no rule here can keep another program from masquerading what pods send to pods: such rules are looked for
//! and told (`foreign`).
//!
//! **Into the tunnel** goes nothing under an address that is not a pod's: a process of the host that speaks to a service has chosen its
//! source before the service's address became that of a remote pod. The answer would come back past the tunnel. So it leaves under the
//! address of the device.
//!
//! **The guard** is in the hook `input`, not in `prerouting`: it sees what is delivered to this host and only that, by whatever
//! address (the kernel's VXLAN socket listens at all of them, broadcast too) and after others' DNAT. Packets of pods, which are
//! forwarded, cost nothing, and a cluster inside of pods may have a tunnel of its own. Its priority is below those of all rules that
//! accept, though none of them could undo a drop. A datagram that is dropped leaves no entry of connection tracking, as those are
//! confirmed at the end of this hook. Fragments have been put together: the table's nat chain makes the kernel do so.
//! What comes by `lo` is dropped whatever its source: no process of the host has to speak into the tunnel.
//!
//! VXLAN knows no authentication (RFC 7348, section 7). Who forges the address of a node on the underlay gets in, and so does a pod that
//! may forge addresses: that it does not is the affair of the plugin, and of `rp_filter` at its link.
//!
//! # iptables: `HEDDLE-FORWARD` and `HEDDLE-INPUT`
//! A drop of another base chain stands whatever ours accept, so where there are rules of iptables the accept must be among them, before
//! whatever drops. The jumps stand at the top, with one exception: rules of service proxies, of the firewall plugin and of network policies
//! (`KUBE-`, `CNI-`, `cali-`, …) may stand before them, as they must be able to refuse what pods send. A variant of iptables that has no
//! table `filter` drops nothing, and none is made.
//!
//! # Kernel parameters that are written
//! | parameter | value | why |
//! | --- | --- | --- |
//! | `net.ipv4.ip_forward` | 1 | pods of IPv4 |
//! | `net.ipv6.conf.all.forwarding` | 1 | pods of IPv6 |
//! | `net.ipv6.conf.UNDERLAY.accept_ra` | 2, if it is 1 and forwarding was off | a router ignores, and forgets, what it learned of other routers |
//! | `net.ipv4.conf.DEVICE.rp_filter` | 2, if it or `all` is 1 | the larger of the two counts, and strict filters drop what another way leads back to |
//! | `net.ipv6.conf.DEVICE.accept_dad` | 0 | addresses of the device are usable at once; nobody else can have them |
//! | `net.ipv6.conf.DEVICE.addr_gen_mode` | 1 | no link-local address, which nobody in a tunnel without multicast hears of |
//! | `net.ipv6.conf.DEVICE.accept_ra` | 0 | there are no routers in the tunnel |
//! | `net.bridge.bridge-nf-call-iptables`, `-ip6tables` | 1 | only where a bridge has an address of this node's pod CIDR |
//!
//! They stay as they are at cleanup: others may rely on them by then.

mod accepts;
mod api;
mod chains;
mod compared;
mod foreign;
mod input;
mod parameters;
mod ranges;
mod table;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::ControlFlow;

use netns_tools::iptables::{Backend, Family, Glance, Iptables};
use netns_tools::nftables::{Batch, NftError, Nftables};

pub use api::{NodeRules, RuleError, RuleReport};
pub use input::{RuleInput, Tunnel};
pub use parameters::prepare_device;
use table::{Desired, SetName, TABLE, Who};

/// How often a transaction is made anew because somebody else changed rules of theirs meanwhile.
const ATTEMPTS: usize = 5;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

type Result<T> = std::result::Result<T, RuleError>;

/// The rules in the kernel.
pub struct Rules {
    kernel: Nftables,
    /// Finds the variants of iptables that are installed.
    find: fn(Family) -> Vec<Iptables>,
    settled: Option<Settled>,
}

/// What is in force since the last sync.
struct Settled {
    input: RuleInput,
    desired: Desired,
    /// The table's number.
    handle: u64,
    /// The number of the kernel's rules when ours were last known to be right.
    generation: u32,
    /// What tables of iptables-legacy looked like, of the families that have one.
    legacy: BTreeMap<Who, Glance>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("synced", &self.settled.is_some()).finish_non_exhaustive()
    }
}

impl Rules {
    /// Of the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Self::with(Iptables::installed)
    }

    fn with(find: fn(Family) -> Vec<Iptables>) -> Result<Self> {
        Ok(Self { kernel: Nftables::open()?, find, settled: None })
    }

    /// Commits the batch that `decide` makes of the kernel's rules as they are at a generation, unless it breaks off. When somebody else has
    /// changed rules meanwhile it decides anew.
    fn transact<T>(
        &mut self,
        mut decide: impl FnMut(&mut Nftables, u32) -> Result<ControlFlow<T, (Batch, T)>>,
    ) -> Result<T> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let generation = self.kernel.generation()?;
            let (batch, answer) = match decide(&mut self.kernel, generation)? {
                ControlFlow::Break(answer) => return Ok(answer),
                ControlFlow::Continue(decided) => decided,
            };
            match self.kernel.commit(&batch) {
                Err(NftError::Changed) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok(answer),
            }
        }
    }

    /// Makes the nftables table right; answers its number, and how many transactions that took. Where there may be more nodes than are known,
    /// `desired` gets those that the table has.
    fn sync_table(&mut self, desired: &mut Desired, partial: bool) -> Result<(u64, usize)> {
        let known = self.transact(|kernel, generation| {
            let actual = compared::look(kernel)?;
            if let Some(actual) = actual.as_ref().filter(|_| partial) {
                desired.admit(actual.nodes());
            }
            let batch = compared::difference(actual.as_ref(), desired, generation);
            Ok(match actual.filter(|_| batch.is_empty()) {
                Some(actual) => ControlFlow::Break(Some(actual.handle)),
                None => ControlFlow::Continue((batch, None)),
            })
        })?;
        match known {
            Some(handle) => Ok((handle, 0)),
            None => Ok((compared::handle(&mut self.kernel)?.unwrap_or(0), 1)),
        }
    }

    /// Makes the chains of all variants of iptables right, of all even if one fails.
    fn sync_chains(&mut self, input: &RuleInput, report: &mut RuleReport) -> Result<()> {
        for family in FAMILIES {
            let desired = accepts::desired(input, family);
            for mut variant in chains::variants(self.find, family) {
                let name = chains::name(variant.backend(), family);
                let mut desired = desired.clone();
                if variant.backend() == Backend::Nft {
                    desired = chains::placeable(&mut self.kernel, family, desired)?;
                }
                match chains::settle(&mut variant, &desired) {
                    Ok(chains::Settled::Right) => {}
                    Ok(chains::Settled::Written) => report.iptables_commits += 1,
                    Ok(chains::Settled::Unreadable) => {
                        report.problems.extend(unreadable(&mut self.kernel, family)?);
                    }
                    Err(source) => {
                        report.failed.push(RuleError::Accepts { variant: name, source });
                    }
                }
            }
        }
        Ok(())
    }

    /// What other programs' rules do.
    fn look_around(&mut self, input: &RuleInput) -> Result<Vec<String>> {
        let is_nft = |variant: &Iptables| variant.backend() == Backend::Nft;
        let families =
            FAMILIES.into_iter().filter(|family| (self.find)(*family).iter().any(is_nft));
        let served: Vec<_> = families.map(chains::nft_table).collect();
        let mut problems = foreign::drops(&mut self.kernel, input, &served)?;
        problems.extend(foreign::masquerades(&mut self.kernel, input)?);
        Ok(problems)
    }

    /// The tables of iptables-legacy, seen from outside.
    fn legacy(&self) -> BTreeMap<Who, Glance> {
        let look = |who: Who| {
            let variants = chains::variants(self.find, who.family());
            let mut legacy =
                variants.into_iter().find(|variant| variant.backend() == Backend::Legacy)?;
            Some((who, chains::glance(&mut legacy).unwrap_or_default()))
        };
        Who::ALL.into_iter().filter_map(look).collect()
    }

    /// Whether what nf_tables holds is as it was made.
    fn tables_are_right(&mut self, settled: &Settled) -> Result<bool> {
        if compared::handle(&mut self.kernel)? != Some(settled.handle)
            || !compared::is_as_made(&mut self.kernel, &settled.desired)?
        {
            return Ok(false);
        }
        for family in FAMILIES {
            let variants = chains::variants(self.find, family);
            if variants.iter().any(|variant| variant.backend() == Backend::Nft) {
                let desired = accepts::desired(&settled.input, family);
                let desired = chains::placeable(&mut self.kernel, family, desired)?;
                if !chains::is_in_place(&mut self.kernel, family, &desired)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// One transaction for nodes that came and went.
    fn change_nodes(&mut self, added: &[IpAddr], removed: &[IpAddr]) -> Result<()> {
        let (generation, is_change) = self.transact(|_, generation| {
            let mut batch = Batch::at_generation(generation);
            for who in Who::ALL {
                let set = SetName::Nodes(who);
                let of = |all: &[IpAddr]| -> Vec<_> {
                    let all = all.iter().filter(|address| Who::of(**address) == who);
                    all.map(|address| table::element(set, (*address, *address))).collect()
                };
                batch.delete_elements(TABLE, set.name(), &of(removed));
                batch.add_elements(TABLE, set.name(), &of(added));
            }
            let is_change = !batch.is_empty();
            Ok(ControlFlow::Continue((batch, (generation, is_change))))
        })?;
        // if somebody committed since we last looked, a look is still due
        if let Some(settled) = &mut self.settled
            && settled.generation == generation
            && is_change
        {
            // the kernel leaves 0 out
            settled.generation = generation.wrapping_add(1).max(1);
        }
        Ok(())
    }
}

/// A table of iptables-nft that iptables-nft cannot read.
fn unreadable(kernel: &mut Nftables, family: Family) -> Result<Option<String>> {
    let table = chains::nft_table(family);
    let hooks = ["FORWARD", "INPUT"].map(|chain| kernel.has_chain(table, chain));
    let [forward, input] = hooks;
    Ok((forward? || input?).then(|| {
        let name = format!("{} {}", table.family.name(), table.name);
        format!(
            "iptables-nft cannot read table {name}, as somebody has put rules into it that iptables does not know; what it drops of pods' packets \
             cannot be accepted there. Find them with `nft list table {name}` and remove them, or put them into a table of their own"
        )
    }))
}

impl NodeRules for Rules {
    fn sync(&mut self, input: &RuleInput) -> Result<RuleReport> {
        input.check()?;
        // what is taken out is put back only after all is in force, so whatever fails makes the next look say so
        let before = self.settled.take();
        let mut report = RuleReport { problems: input.refused_nodes(), ..RuleReport::default() };
        report.problems.extend(parameters::ensure(input));
        let mut desired = Desired::of(input);
        if let Some(before) = before.filter(|_| input.partial) {
            // also where somebody has deleted the table
            desired.admit(before.desired.nodes());
        }
        let before = self.kernel.generation()?;
        let (handle, commits) = self.sync_table(&mut desired, input.partial)?;
        report.nft_commits = commits;
        self.sync_chains(input, &mut report)?;
        report.problems.extend(self.look_around(input)?);
        if !report.failed.is_empty() {
            return Ok(report);
        }
        let generation = self.kernel.generation()?;
        let legacy = self.legacy();
        let mut input = input.clone();
        if input.partial {
            input.nodes.extend(desired.nodes());
        }
        let mut settled = Settled { input, desired, handle, generation, legacy };
        // not all of the transactions since may have been ours: see what became of it
        if generation != before && !self.tables_are_right(&settled)? {
            settled.generation = 0;
        }
        self.settled = Some(settled);
        Ok(report)
    }

    fn update_nodes(&mut self, added: &[IpAddr], removed: &[IpAddr]) -> Result<()> {
        let Some(settled) = &mut self.settled else { return Err(RuleError::NotSynced) };
        let known = |address: &IpAddr, desired: &Desired| {
            let set = desired.sets.get(&SetName::Nodes(Who::of(*address)));
            set.is_some_and(|set| set.contains(&(*address, *address)))
        };
        let wanted: BTreeSet<IpAddr> = added.iter().copied().filter_map(input::sender).collect();
        let gone: BTreeSet<IpAddr> = removed.iter().copied().filter_map(input::sender).collect();
        let gone: Vec<_> = gone.difference(&wanted).copied().collect();
        let gone: Vec<_> =
            gone.into_iter().filter(|address| known(address, &settled.desired)).collect();
        let new: Vec<_> =
            wanted.into_iter().filter(|address| !known(address, &settled.desired)).collect();
        for address in &gone {
            settled.input.nodes.remove(address);
            if let IpAddr::V4(v4) = address {
                settled.input.nodes.remove(&v4.to_ipv6_mapped().into());
            }
        }
        settled.input.nodes.extend(&new);
        for (addresses, comes) in [(&gone, false), (&new, true)] {
            for address in addresses {
                let set = SetName::Nodes(Who::of(*address));
                let content = settled.desired.sets.entry(set).or_default();
                let range = (*address, *address);
                if comes {
                    content.insert(range)
                } else {
                    content.remove(&range)
                };
            }
        }
        let Err(error) = self.change_nodes(&new, &gone) else { return Ok(()) };
        match (self.settled.take(), error) {
            // somebody has emptied the set, or deleted the table
            (Some(settled), RuleError::Table(error)) if error.is_not_found() => {
                let failed = self.sync(&settled.input)?.failed;
                failed.into_iter().next().map_or(Ok(()), Err)
            }
            (_, error) => Err(error),
        }
    }

    fn is_intact(&mut self) -> Result<bool> {
        let Some(mut settled) = self.settled.take() else { return Ok(false) };
        let generation = self.kernel.generation()?;
        let right = (generation == settled.generation || self.tables_are_right(&settled)?)
            && self.legacy() == settled.legacy
            && parameters::are_set(&settled.input);
        settled.generation = if right { generation } else { 0 };
        self.settled = Some(settled);
        Ok(right)
    }

    fn dropped(&mut self) -> Result<u64> {
        Ok(compared::dropped(&mut self.kernel)?)
    }

    fn cleanup(&mut self) -> Result<Vec<String>> {
        self.settled = None;
        let (mut removed, mut first_error) = (Vec::new(), None);
        for family in FAMILIES {
            for mut variant in chains::variants(self.find, family) {
                let variant_name = chains::name(variant.backend(), family);
                match chains::remove(&mut variant) {
                    Ok(there) => removed.extend(
                        there.into_iter().map(|chain| format!("chain {chain} of {variant_name}")),
                    ),
                    Err(source) => {
                        let error = RuleError::Accepts { variant: variant_name, source };
                        first_error.get_or_insert(error);
                    }
                }
            }
        }
        // last: what iptables accepts is guarded until it is gone
        if let Some(error) = first_error {
            return Err(error);
        }
        if compared::handle(&mut self.kernel)?.is_some() {
            let mut batch = Batch::new();
            // after this it is there, even if somebody was quicker than we
            batch.add_table(TABLE).delete_table(TABLE);
            self.kernel.commit(&batch)?;
            removed.push(format!("table {} {}", TABLE.family.name(), TABLE.name));
        }
        Ok(removed)
    }
}
