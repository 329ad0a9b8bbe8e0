//! The blocking work: nodes are taken in, planned, and the kernel, the lease and the board made to follow.
//!
//! Every piece goes as far as it can, whatever becomes of the others: a rule that cannot be written does not keep routes from being
//! written, nor pods from getting their addresses. What failed is a problem on the board, and all of it is done anew after a pause.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use conf::lease::Lease;
use ipnetwork::IpNetwork;
use netns_tools::MacAddr;
use netns_tools::cause::one_line;

use super::host::Host;
use super::nodes::Nodes;
use super::pace::Compare;
use super::probing::Targets;
use super::repairs::Repairs;
use super::senders::Senders;
use crate::overlay::cluster::{self, Claim, Cluster};
use crate::overlay::desired::Change;
use crate::overlay::kernel::{Failed, Report, SyncError};
use crate::overlay::node::{Announcement, NodeRecord, derived_mac};
use crate::overlay::plan::{Local, Plan, Settings, Underlay};
use crate::overlay::probe::Switch;
use crate::overlay::rules::{NodeRules, RuleError, RuleInput, Tunnel};
use crate::overlay::state::{Kept, Store};
use crate::overlay::status::{Board, DeviceStatus, LeaseStatus, Origin, moment};
use crate::overlay::underlay::{Underlays, Wanted};

/// Of what could not be written to the kernel so many are told one by one.
const FAILED_TOLD: usize = 5;

/// What the controller is set up with.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node.
    pub name: String,
    /// What the plan depends on.
    pub settings: Settings,
    /// `overlay.interface`; empty: to be found.
    pub interface: String,
    /// All pods: `network.pod_cidr`.
    pub pods: Vec<IpNetwork>,
    /// Whether pods speak to the world by this node's address.
    pub masquerade: bool,
    /// To these they do not.
    pub no_masquerade: Vec<IpNetwork>,
    /// The file for the CNI plugin.
    pub lease: PathBuf,
    /// Nodes are written down in manifests, and announce nothing.
    pub written_down: bool,
}

/// One piece of work.
#[derive(Debug, Default)]
pub struct Task {
    /// What happened to nodes.
    pub events: Vec<cluster::Event>,
    /// Of this many bytes packets are known to arrive at a node; `None`: all that are sent.
    pub mtus: Vec<(String, Option<u32>)>,
    /// Devices whose checksums are to be computed elsewhere.
    pub switches: Vec<Switch>,
    /// What is compared with the kernel.
    pub compare: Compare,
    /// Hand out all nodes.
    pub save: bool,
}

/// How it went.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what happened: each by itself")]
pub struct Outcome {
    /// Whether all of it was done.
    pub well: bool,
    /// Whether this node is connected: its kernel has what it should.
    pub connected: bool,
    /// Whether everything was compared.
    pub full: bool,
    /// Whether anything was written to the kernel.
    pub wrote: bool,
    /// Whether nodes are others than before.
    pub nodes: bool,
    /// All nodes, to be kept, if they were asked for.
    pub saved: Option<Vec<Arc<NodeRecord>>>,
    /// What this node is to announce; `None`: it is not known.
    pub announcement: Option<Announcement>,
    /// What probes are to be about, if that may have changed.
    pub targets: Option<Targets>,
    /// The links whose entries are the overlay's, by index, if they were looked at.
    pub links: Option<Vec<u32>>,
    /// So long from now rules are to be looked at again: somebody keeps changing them.
    pub rules_again: Option<Duration>,
    /// How long it took.
    pub took: Duration,
}

/// Why nothing can be planned.
#[derive(Debug)]
enum Trouble {
    /// Something must come from outside.
    Waiting(String),
    /// It is to be tried again.
    Failed(String),
}

/// The state that the work needs.
pub struct Worker {
    host: Box<dyn Host>,
    rules: Box<dyn NodeRules>,
    store: Store,
    options: Options,
    board: Board,
    nodes: Nodes,
    mac: Option<MacAddr>,
    /// The links to other nodes.
    links: BTreeSet<String>,
    mtus: BTreeMap<String, u32>,
    plan: Option<Plan>,
    /// Nodes that changed while nothing could be planned.
    missed: BTreeSet<String>,
    /// What the rules need of all nodes.
    senders: Senders,
    /// What the rules follow beside [`Self::senders`]; `None`: that is not known.
    ruled: Option<RuleInput>,
    repairs: Repairs,
    /// How often the carriers of the links to other nodes changed, by index.
    carriers: BTreeMap<u32, u32>,
    /// They did since probes were told.
    carriers_changed: bool,
    /// Whether there are all devices that peers would send to.
    stands: bool,
}

impl Worker {
    /// A worker that knows what was kept. Problems of files are on the board; a kept lease is where the plugin looks for it.
    pub fn new(
        host: Box<dyn Host>,
        rules: Box<dyn NodeRules>,
        store: Store,
        options: Options,
        board: Board,
    ) -> (Box<Self>, Vec<NodeRecord>) {
        let Kept { mac, lease, nodes, mut problems } = store.load();
        if let Some(lease) = &lease {
            match put_lease(lease, &options.lease) {
                Ok(()) => board.facts().status.lease = Some(LeaseStatus::from(lease)),
                Err(problem) => problems.push(problem),
            }
        }
        board.complain(Origin::State, problems);
        let known = Nodes::new(&options.name, options.written_down);
        let senders = Senders::new(options.settings.backend, &options.pods);
        let worker = Self {
            host,
            rules,
            store,
            options,
            board,
            nodes: known,
            mac,
            links: BTreeSet::new(),
            mtus: BTreeMap::new(),
            plan: None,
            missed: BTreeSet::new(),
            senders,
            ruled: None,
            repairs: Repairs::default(),
            carriers: BTreeMap::new(),
            carriers_changed: false,
            stands: false,
        };
        (Box::new(worker), nodes)
    }

    /// Where state is kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All nodes, to be kept.
    pub fn to_keep(&self) -> Vec<Arc<NodeRecord>> {
        self.nodes.to_keep()
    }

    /// Does the task. A panic is a failure like any other: the next task plans and compares everything.
    pub fn run(mut self: Box<Self>, task: Task) -> (Box<Self>, Outcome) {
        let (start, full) = (Instant::now(), task.compare >= Compare::Look);
        let done = catch_unwind(AssertUnwindSafe(|| self.execute(task)));
        let mut outcome = done.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            self.plan = None;
            self.ruled = None;
            // in the midst of a change it may have been left half made
            self.senders = Senders::new(self.options.settings.backend, &self.options.pods);
            let cluster = self.nodes.cluster();
            let names = cluster.nodes().map(|node| node.name.clone()).collect();
            self.senders.update(cluster, &names);
            self.board.complain(Origin::Sync, vec![format!("a mistake in this program: {text}")]);
            Outcome { nodes: true, full, ..Outcome::default() }
        });
        if outcome.links.is_some() {
            // a comparison of everything needs several times what stays
            crate::memory::give_back();
        }
        outcome.took = start.elapsed();
        (self, outcome)
    }

    fn execute(&mut self, task: Task) -> Outcome {
        let compare = task.compare;
        let mut outcome = Outcome { full: compare >= Compare::Look, ..Outcome::default() };
        let taken = self.nodes.take(task.events);
        outcome.nodes = !taken.changed.is_empty();
        self.board.complain(Origin::Nodes, self.nodes.problems());
        let mut names = std::mem::take(&mut self.missed);
        names.extend(taken.changed);
        for (name, mtu) in &task.mtus {
            match mtu {
                Some(mtu) => self.mtus.insert(name.clone(), *mtu),
                None => self.mtus.remove(name),
            };
        }
        self.switch(task.switches);
        let anew = outcome.full || self.plan.is_none() || taken.own;
        let planned = if anew { self.plan_anew(&mut names) } else { Ok(false) };
        match planned {
            Ok(fresh) => {
                let problems = self.follow(fresh, compare, &names, &task.mtus, &mut outcome);
                outcome.well = problems.is_empty();
                outcome.connected = outcome.well;
                self.board.complain(Origin::Sync, problems);
                outcome.announcement = self.announcement();
            }
            Err(trouble) => {
                // the plan must hear of them once it can be made
                self.missed = names;
                outcome.well = matches!(trouble, Trouble::Waiting(_));
                let (Trouble::Waiting(reason) | Trouble::Failed(reason)) = trouble;
                self.board.complain(Origin::Sync, vec![reason]);
            }
        }
        if task.save {
            outcome.saved = Some(self.to_keep());
        }
        outcome
    }

    /// What peers are told. What was announced before, perhaps by flannel, whose device is in the way still, holds until there is
    /// something to send to.
    fn announcement(&self) -> Option<Announcement> {
        let local = self.plan.as_ref()?.local();
        self.stands.then(|| local.announcement())
    }

    /// Plans with what this host now is. Whether the plan is another than before, so that everything is to be compared; `names` get
    /// those of nodes that are assumed to be otherwise now.
    fn plan_anew(&mut self, names: &mut BTreeSet<String>) -> Result<bool, Trouble> {
        let (local, found) = local_of(self.host.as_mut(), &self.nodes, &self.options, self.mac)?;
        let mac = local.announcement().vteps.first().map(|vtep| vtep.mac);
        if let Some(mac) = mac.filter(|mac| !self.options.written_down && self.mac != Some(*mac)) {
            // before it is used: peers know this node by it
            self.store.keep_mac(mac).map_err(|error| Trouble::Failed(one_line(&error)))?;
            self.mac = Some(mac);
        }
        self.board.facts().status.underlay =
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        self.links = found.iter().map(|one| one.name.clone()).collect();
        let carriers = found.iter().map(|one| (one.link, one.carrier_changes)).collect();
        self.carriers_changed |= self.carriers != carriers;
        self.carriers = carriers;
        names.extend(self.nodes.assume_like(&local.announcement()));
        if self.plan.as_ref().is_some_and(|plan| *plan.local() == local) {
            return Ok(false);
        }
        if let Some(before) = &self.plan {
            tracing::info!(
                "this node's side of the overlay was {}, and is {local} now",
                before.local()
            );
        }
        self.plan = Some(Plan::new(local, self.nodes.cluster(), self.mtus.clone()));
        Ok(true)
    }

    /// Makes everything follow the plan; what could not be done.
    fn follow(
        &mut self,
        fresh: bool,
        compare: Compare,
        names: &BTreeSet<String>,
        mtus: &[(String, Option<u32>)],
        outcome: &mut Outcome,
    ) -> Vec<String> {
        let Some(plan) = &mut self.plan else { return Vec::new() };
        let cluster = self.nodes.cluster();
        self.senders.update(cluster, names);
        let mut changes = Vec::new();
        for (name, mtu) in mtus {
            changes.extend(plan.set_mtu(cluster, name, *mtu));
        }
        changes.extend(plan.update(cluster, names));
        let all = fresh || outcome.full;
        let mut problems = Vec::new();
        match write(self.host.as_mut(), plan, &changes, all) {
            Ok(report) => {
                outcome.wrote = report.put + report.removed + report.devices.len() > 0;
                for device in &report.devices {
                    tracing::info!("{device}");
                }
                problems.extend(shortened(&report.failed));
            }
            Err(error) => problems.push(one_line(&error)),
        }
        if all {
            let names: Vec<_> =
                plan.local().devices().into_iter().map(|device| device.name).collect();
            let links = self.host.links(&names);
            self.stands = links.len() == names.len();
            outcome.links = Some(links);
        }
        let compare = if fresh { Compare::All } else { compare };
        problems.extend(self.follow_rules(compare, outcome));
        problems.extend(self.follow_lease().err());
        self.tell(fresh, names, outcome.wrote, problems.is_empty());
        if all || !names.is_empty() {
            let anew = std::mem::take(&mut self.carriers_changed) || fresh;
            outcome.targets = self.targets(anew);
        }
        problems
    }

    fn switch(&mut self, switches: Vec<Switch>) {
        for Switch { command, done } in switches {
            let set = self.host.set_checksum_offload(&command.device, command.on);
            let (device, on) = (&command.device, command.on);
            match &set {
                Ok(()) => {
                    tracing::warn!(device, on, "checksum offload is switched: {}", command.reason);
                }
                Err(error) => tracing::warn!(
                    device,
                    on,
                    error = one_line(error),
                    "checksum offload cannot be switched"
                ),
            }
            // a prober that is gone does not want to know
            done.send(set.map_err(|error| one_line(&error))).ok();
        }
    }

    /// What probes are to be about.
    fn targets(&mut self, anew: bool) -> Option<Targets> {
        let plan = self.plan.as_ref()?;
        let names: Vec<_> = plan.local().devices().into_iter().map(|device| device.name).collect();
        let host = &mut self.host;
        let known: BTreeMap<_, _> = names
            .into_iter()
            .map(|name| {
                let on = host.checksum_offload(&name).unwrap_or(true);
                (name, on)
            })
            .collect();
        let offload = |name: &str| known.get(name).copied().unwrap_or(true);
        Some(Targets { anew, ..Targets::of(plan, self.nodes.cluster(), offload) })
    }

    /// Packet filters and kernel parameters; what could not be written.
    fn follow_rules(&mut self, compare: Compare, outcome: &mut Outcome) -> Vec<String> {
        let Some(input) = self.rule_input() else { return Vec::new() };
        // until all of it has succeeded nothing is known
        let before = self.ruled.take();
        let failed = match self.known_rules(before, compare, outcome) {
            Ok(Some(known)) if known == input => self.follow_senders(),
            Ok(_) => self.write_rules(&input),
            Err(error) => Err(error),
        };
        let failed = failed.unwrap_or_else(|error| vec![error]);
        if failed.is_empty() {
            self.senders.settle();
            self.ruled = Some(input);
        }
        self.board.complain(Origin::Repairs, self.repairs.problem().into_iter().collect());
        failed.iter().map(|error| one_line(error)).collect()
    }

    /// Only nodes may have changed.
    fn follow_senders(&mut self) -> Result<Vec<RuleError>, RuleError> {
        let (added, removed) = self.senders.changes();
        if !(added.is_empty() && removed.is_empty()) {
            self.rules.update_nodes(&added, &removed)?;
        }
        Ok(Vec::new())
    }

    fn write_rules(&mut self, input: &RuleInput) -> Result<Vec<RuleError>, RuleError> {
        let nodes = self.senders.addresses();
        let report = self.rules.sync(&RuleInput { nodes, ..input.clone() })?;
        self.board.complain(Origin::Rules, report.problems);
        Ok(report.failed)
    }

    /// What the rules follow; `None`: they are to be compared and written.
    fn known_rules(
        &mut self,
        before: Option<RuleInput>,
        compare: Compare,
        outcome: &mut Outcome,
    ) -> Result<Option<RuleInput>, RuleError> {
        let Some(known) = before.filter(|_| compare != Compare::All) else { return Ok(None) };
        if compare == Compare::Nothing {
            return Ok(Some(known));
        }
        let wait = self.repairs.wait(Instant::now());
        if !wait.is_zero() {
            // then it is looked at, whether anybody tells of it or not
            outcome.rules_again = Some(wait);
            return Ok(Some(known));
        }
        if self.rules.is_intact()? {
            return Ok(Some(known));
        }
        tracing::warn!("rules of the overlay were changed by somebody; writing them again");
        self.repairs.made(Instant::now());
        Ok(None)
    }

    /// All but the nodes' addresses.
    fn rule_input(&self) -> Option<RuleInput> {
        let (plan, options) = (self.plan.as_ref()?, &self.options);
        let local = plan.local();
        let cidrs = &self.nodes.own()?.pod_cidrs;
        let pods = options.pods.iter().copied().chain(self.senders.outside()).collect();
        let mixed = self.senders.is_mixed();
        let devices: Vec<_> = local.devices().into_iter().map(|device| device.name).collect();
        let Settings { backend, port, probe_port, .. } = options.settings;
        Some(RuleInput {
            local: cidrs.clone(),
            pods,
            not_masqueraded: options.no_masquerade.clone(),
            masquerade: options.masquerade,
            tunnel: (!devices.is_empty()).then_some(Tunnel { port, devices, probe_port }),
            nodes: BTreeSet::new(),
            underlay: self.links.iter().cloned().collect(),
            direct: mixed || (backend.routes() && backend.tunnels()),
        })
    }

    /// The file for the plugin, and the copy that is there at the next start before the API answers.
    fn follow_lease(&mut self) -> Result<(), String> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let Some(own) = self.nodes.own() else { return Ok(()) };
        let lease = lease(own, &self.options, plan.local().pod_mtu())?;
        put_lease(&lease, &self.options.lease)?;
        put_lease(&lease, &self.store.lease_file())?;
        let told = LeaseStatus::from(&lease);
        let before = self.board.facts().status.lease.replace(told.clone());
        if before.as_ref() != Some(&told) {
            tracing::info!(%lease, "this node's lease");
            if let Some(before) = before.filter(|before| before.subnets != told.subnets) {
                tracing::warn!(
                    was = before.subnets.join(", "),
                    is = told.subnets.join(", "),
                    "this node has another pod CIDR: pods that run keep their old addresses, which nobody finds any more; start them anew"
                );
            }
        }
        Ok(())
    }

    /// Tells the board what holds.
    fn tell(&self, fresh: bool, names: &BTreeSet<String>, wrote: bool, well: bool) {
        let Some(plan) = &self.plan else { return };
        let mut facts = self.board.facts();
        let now = moment(SystemTime::now());
        if wrote {
            facts.status.last_change.clone_from(&now);
        }
        if well {
            facts.status.last_sync = now;
        }
        if fresh {
            facts.status.devices = plan.local().devices().iter().map(DeviceStatus::from).collect();
            facts.peers.clone_from(plan.peers());
        }
        for name in names {
            match plan.peers().get_key_value(&**name) {
                Some((name, peer)) => facts.peers.insert(name.clone(), peer.clone()),
                None => facts.peers.remove(&**name),
            };
        }
        let cluster = self.nodes.cluster();
        for name in names {
            let refused = cluster.get(name).map(|record| refused(cluster, record));
            match refused.filter(|refused| !refused.is_empty()) {
                Some(refused) => facts.refused.insert(name.clone(), refused),
                None => facts.refused.remove(name),
            };
        }
    }
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
fn local_of(
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

fn write(
    host: &mut dyn Host,
    plan: &Plan,
    changes: &[Change],
    all: bool,
) -> Result<Report, SyncError> {
    if !all {
        if changes.is_empty() {
            return Ok(Report::default());
        }
        match host.update(changes) {
            Err(SyncError::NotSynced) => {}
            done => return done,
        }
    }
    host.sync(&plan.desired())
}

/// The first few, and how many more there are: thousands of routes mostly fail for one reason.
fn shortened(failed: &[Failed]) -> Vec<String> {
    let (first, rest) = failed.split_at(failed.len().min(FAILED_TOLD));
    let mut told: Vec<_> = first.iter().map(ToString::to_string).collect();
    if !rest.is_empty() {
        told.push(format!("and {} more could not be written", rest.len()));
    }
    told
}

/// What of a node's claims another one has.
fn refused(cluster: &Cluster, record: &NodeRecord) -> Vec<String> {
    let announced = record.announced.iter();
    let ends = announced
        .clone()
        .flat_map(|announced| &announced.vteps)
        .flat_map(|vtep| [Claim::Address(vtep.address), Claim::Mac(vtep.mac)]);
    let addresses = announced.flat_map(|announced| &announced.addresses).copied();
    let cidrs = record.pod_cidrs.iter().copied().map(Claim::PodCidr);
    let claims: BTreeSet<_> = cidrs.chain(addresses.map(Claim::Address)).chain(ends).collect();
    let refusals = claims.into_iter().filter_map(|claim| cluster.refusal(&record.name, claim));
    refusals.map(|refusal| refusal.to_string()).collect()
}

pub(super) fn is_within(inner: IpNetwork, outer: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

/// What the plugin is told. Every pod CIDR must be within the range of all pods, or the rules would take its pods for strangers.
fn lease(own: &NodeRecord, options: &Options, mtu: u32) -> Result<Lease, String> {
    let strange = own
        .pod_cidrs
        .iter()
        .find(|cidr| !options.pods.iter().any(|range| is_within(**cidr, *range)));
    if let Some(cidr) = strange {
        let ranges = options.pods.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        return Err(format!(
            "pod CIDR {cidr} of Node {} is not in network.pod_cidr {ranges}: set network.pod_cidr to the range of all pods \
             (--cluster-cidr of the controller manager)",
            own.name
        ));
    }
    let used =
        |range: &&IpNetwork| own.pod_cidrs.iter().any(|cidr| cidr.is_ipv4() == range.is_ipv4());
    let networks = options.pods.iter().filter(used).copied();
    Lease::new(networks, own.pod_cidrs.iter().copied(), mtu, options.masquerade)
        .map_err(|error| format!("no lease can be made: {}", one_line(&error)))
}

/// Writes a lease where it is not there already.
fn put_lease(lease: &Lease, path: &Path) -> Result<(), String> {
    if Lease::read(path).is_ok_and(|known| known == *lease) {
        return Ok(());
    }
    lease.write(path).map_err(|error| one_line(&error))
}
