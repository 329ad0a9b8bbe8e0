//! The blocking work: nodes are taken in, planned, and the kernel, the lease and the board made to follow.
//!
//! Every piece goes as far as it can, whatever becomes of the others: a rule that cannot be written does not keep routes from being
//! written, nor pods from getting their addresses. What failed is a problem on the board, and all of it is done anew after a pause.

mod devices;
mod filters;
mod lease;
mod local;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conf::lease::Lease;
use ipnetwork::IpNetwork;
use netns_tools::MacAddr;
use netns_tools::cause::one_line;

use self::filters::{Filters, Followed};
pub(super) use self::lease::is_within;
pub use self::local::preview;
use self::local::{Trouble, local_of};
use super::Mtu;
use super::host::Host;
use super::nodes::{Nodes, Taken};
use super::pace::Compare;
use super::probing::{self, Here, Targets};
use super::senders::Askers;
use crate::overlay::cluster;
use crate::overlay::desired::{Change, Desired};
use crate::overlay::kernel::{Report, SyncError};
use crate::overlay::node::{Announcement, NodeRecord};
use crate::overlay::plan::{Plan, Settings};
use crate::overlay::probe::Switch;
use crate::overlay::rules::NodeRules;
use crate::overlay::state::{Kept, Store};
use crate::overlay::status::{Board, Origin};

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
    pub mtus: Vec<Mtu>,
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
    /// Events were lost: only a list of all nodes makes up for them.
    pub lost: bool,
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
    /// How long it took to look at rules.
    pub rules_looked: Duration,
    /// The same with what was written for it.
    pub rules_took: Duration,
    /// How long all of it took.
    pub took: Duration,
}

/// The state that the work needs.
#[expect(clippy::struct_excessive_bools, reason = "what is known of it: each by itself")]
pub struct Worker {
    host: Box<dyn Host>,
    filters: Filters,
    store: Store,
    options: Options,
    board: Board,
    nodes: Nodes,
    mac: Option<MacAddr>,
    /// The links to other nodes.
    links: BTreeSet<String>,
    /// By node: of this many bytes packets are known to arrive there, where that is less than all that are sent.
    mtus: BTreeMap<String, u32>,
    plan: Option<Plan>,
    /// Events are being taken in: where that is so after a panic, some are lost.
    taking: bool,
    /// Nodes about which something changed that the plan has not heard of, as none could be made.
    missed: BTreeSet<String>,
    /// What could not be done when everything was compared last.
    failed: Vec<String>,
    /// Nothing could be planned when it was tried last.
    troubled: bool,
    /// What nobody told of was removed from the kernel, since all nodes were told.
    cleared: bool,
    /// How often the carriers of the links to other nodes changed, by index.
    carriers: BTreeMap<u32, u32>,
    /// They did since probes were told.
    carriers_changed: bool,
    /// The names of those of the plan's devices that are not there; `None`: that is not known yet.
    missing: Option<Vec<String>>,
    /// The lease from before a restart, until this node's lease is settled or cannot be.
    kept_lease: Option<Lease>,
}

impl Worker {
    /// A worker that knows what was kept. Problems of files are on the board. A kept lease is where the plugin looks for it, at once or, if
    /// there are nodes to begin with, when the first task is done: what a pod sends before there are routes is lost.
    pub fn new(
        host: Box<dyn Host>,
        rules: Box<dyn NodeRules>,
        store: Store,
        options: Options,
        board: Board,
    ) -> Box<Self> {
        let Kept { mac, lease, nodes: kept, problems } = store.load();
        board.complain(Origin::State, problems);
        let mut nodes = Nodes::new(&options.name, options.written_down);
        if !kept.is_empty() {
            tracing::info!(nodes = kept.len(), "beginning with the nodes from before the restart");
        }
        let missed = nodes.remember(kept);
        board.facts().status.from_kept_state = nodes.are_kept();
        let filters = Filters::new(rules, options.settings.backend, &options.pods);
        let mut worker = Box::new(Self {
            host,
            filters,
            store,
            options,
            board,
            nodes,
            mac,
            links: BTreeSet::new(),
            mtus: BTreeMap::new(),
            plan: None,
            taking: false,
            missed,
            failed: Vec::new(),
            troubled: false,
            cleared: false,
            carriers: BTreeMap::new(),
            carriers_changed: false,
            missing: None,
            kept_lease: lease,
        });
        if !worker.has_kept() {
            worker.grant_kept_lease();
        }
        worker
    }

    /// Whether there are nodes from before a restart to begin with.
    pub fn has_kept(&self) -> bool {
        self.nodes.are_kept()
    }

    /// Where state is kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All nodes, to be kept.
    pub fn to_keep(&self) -> Vec<Arc<NodeRecord>> {
        self.nodes.to_keep()
    }

    /// Does the task. A panic is a failure like any other: the next task plans and compares everything. Events that it hit are lost.
    pub fn run(mut self: Box<Self>, task: Task) -> (Box<Self>, Outcome) {
        let (start, full) = (Instant::now(), task.compare >= Compare::Look);
        let done = catch_unwind(AssertUnwindSafe(|| self.execute(task)));
        let mut outcome = done.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            self.plan = None;
            self.filters.forget(self.options.settings.backend, &self.options.pods);
            self.board.complain(Origin::Sync, vec![format!("a mistake in this program: {text}")]);
            Outcome { nodes: true, full, lost: self.taking, ..Outcome::default() }
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
        let mut names = std::mem::take(&mut self.missed);
        for (name, mtu) in task.mtus {
            match mtu {
                Some(mtu) => self.mtus.insert(name.clone(), mtu),
                None => self.mtus.remove(&name),
            };
            names.insert(name);
        }
        let taken = self.take(task.events, task.switches);
        outcome.nodes = taken.own || !taken.changed.is_empty();
        self.board.complain(Origin::Nodes, self.nodes.problems());
        self.board.facts().status.from_kept_state = self.nodes.are_kept();
        names.extend(taken.changed);
        let anew = outcome.full || self.plan.is_none() || taken.own || self.troubled;
        let planned = if anew { self.plan_anew(&mut names) } else { Ok(false) };
        self.troubled = planned.is_err();
        match planned {
            Ok(fresh) => {
                let problems = self.follow(fresh, compare, &names, &mut outcome);
                outcome.connected = problems.is_empty();
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
        self.grant_kept_lease();
        if task.save {
            outcome.saved = Some(self.to_keep());
        }
        outcome
    }

    fn take(&mut self, events: Vec<cluster::Event>, switches: Vec<Switch>) -> Taken {
        if std::mem::replace(&mut self.taking, true) {
            self.nodes.mend();
        }
        self.switch(switches);
        let taken = self.nodes.take(events);
        self.taking = false;
        taken
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
        let own = self.nodes.own().into_iter().flat_map(|own| own.mistakes.iter().cloned());
        self.board.complain(Origin::Local, own.chain(local.problems()).collect());
        let local = local.without(self.missing.as_deref().unwrap_or_default());
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

    /// Makes everything follow the plan; what could not be done, now or when everything was compared.
    fn follow(
        &mut self,
        mut fresh: bool,
        compare: Compare,
        names: &BTreeSet<String>,
        outcome: &mut Outcome,
    ) -> Vec<String> {
        let cluster = self.nodes.cluster();
        self.filters.count(cluster, names);
        let Some(plan) = &mut self.plan else { return Vec::new() };
        for name in names {
            plan.know_mtu(name, self.mtus.get(name).copied());
        }
        let changes = plan.update(cluster, names);
        // what is not of any node is removed as soon as all nodes are known
        let all = fresh || outcome.full || self.cleared != self.nodes.are_all();
        let mut problems = self.write(&changes, all, outcome);
        if all && self.look_at_devices(outcome) {
            fresh = true;
            problems = self.write(&[], true, outcome);
        }
        let compare = if fresh { Compare::All } else { compare };
        if let Some(input) = self.rule_input() {
            let Followed { failed, again, looked, took } =
                self.filters.follow(input, compare, &self.board);
            problems.extend(failed);
            outcome.rules_again = again;
            (outcome.rules_looked, outcome.rules_took) = (looked, took);
        }
        problems.extend(self.follow_lease().err());
        if all {
            outcome.well = problems.is_empty();
            self.failed.clone_from(&problems);
        } else {
            problems.retain(|problem| !self.failed.contains(problem));
            outcome.well = problems.is_empty();
            // that others could be followed does not mend these
            problems.splice(0..0, self.failed.iter().cloned());
        }
        self.tell(fresh, names, outcome.wrote, problems.is_empty());
        if all || !names.is_empty() {
            outcome.targets = self.targets(fresh, all, names);
        }
        problems
    }

    /// Devices, routes, neighbours and forwarding entries: the changes alone, or with `all` everything compared. What could not be done.
    fn write(&mut self, changes: &[Change], all: bool, outcome: &mut Outcome) -> Vec<String> {
        match self.write_to_host(changes, all) {
            Ok(report) => {
                outcome.wrote |= report.put + report.removed + report.devices.len() > 0;
                for device in &report.devices {
                    tracing::info!("{device}");
                }
                told::shortened(&report.failed)
            }
            Err(error) => vec![one_line(&error)],
        }
    }

    fn write_to_host(&mut self, changes: &[Change], all: bool) -> Result<Report, SyncError> {
        let Some(plan) = &self.plan else { return Ok(Report::default()) };
        if !all {
            if changes.is_empty() {
                return Ok(Report::default());
            }
            match self.host.update(changes) {
                Err(SyncError::NotSynced) => {}
                done => return done,
            }
        }
        let is_all = self.nodes.are_all();
        let report = self.host.sync(&Desired { partial: !is_all, ..plan.desired() })?;
        self.cleared = is_all;
        Ok(report)
    }

    fn switch(&mut self, switches: Vec<Switch>) {
        for Switch { command, done } in switches {
            let set = self.host.set_checksum_offload(&command.device, command.on);
            // a prober that is gone does not want to know
            done.send(set.map_err(|error| one_line(&error))).ok();
        }
    }

    /// What probes are to be about: of a `fresh` plan all, otherwise these nodes, and with `all` also this node's devices as they are now.
    fn targets(&mut self, fresh: bool, all: bool, names: &BTreeSet<String>) -> Option<Targets> {
        let plan = self.plan.as_ref()?;
        let (cluster, senders) = (self.nodes.cluster(), &mut self.filters.senders);
        let host = &mut self.host;
        let here = (fresh || all).then(|| {
            Here::of(plan.local(), |device| host.checksum_offload(device).unwrap_or(true))
        });
        let (peers, askers) = if fresh {
            let came = senders.take_all_askers();
            let names = plan.peers().keys().map(|name| &**name);
            (probing::ways(plan, cluster, names), Askers { came, ..Askers::default() })
        } else {
            let others = names.iter().map(String::as_str).filter(|name| *name != self.options.name);
            (probing::ways(plan, cluster, others), senders.take_askers())
        };
        let anew = std::mem::take(&mut self.carriers_changed) || fresh;
        Some(Targets { peers, askers, whole: fresh, here, anew })
    }
}
