//! The loop that ties everything together: what should run, what does run, who sends traffic to it.

mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinSet};
use tokio::time::MissedTickBehavior;

pub use services::{
    Follow, PortStatus, Prepare, ProxyStatus, ServiceBoard, ServiceStatus, Services,
};

use crate::network::Network;
use crate::pod::context::Context;
use crate::pod::plan::{self, ContainerPlan, PodPlan};
use crate::pod::record::Record;
use crate::pod::worker::{Inbox, Observed, Worker};
use crate::runtime::{ContainerInfo, PodRef, Runtime, RuntimeEvent};
use crate::source::{Directory, Objects, SourceError};

/// How often the runtime is asked without being told, in case an event was lost.
const RECHECK: Duration = Duration::from_mins(1);
/// How long to wait before a runtime that does not answer is asked again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Mistakes in the manifests, by path. One writer, many readers.
pub type ErrorBoard = Arc<RwLock<Vec<SourceError>>>;

/// One node.
pub struct Node<R, N> {
    context: Arc<Context<R, N>>,
    directory: Option<Directory>,
    services: Services,
    errors: ErrorBoard,
    objects: Option<Objects>,
    adopted: bool,
    settling: Settling,
    workers: BTreeMap<String, Handle>,
    // dropped with the node, and the workers with it
    tasks: JoinSet<String>,
    collecting: Collecting,
    observed: watch::Sender<Observed>,
}

/// Rules of an earlier agent stay as they are until it is known which of its pods go on: without endpoints they would
/// refuse traffic that is being served.
struct Settling {
    /// Workers of the first turn hold clones of it until they know what there is of their pods.
    guard: Option<mpsc::Sender<Infallible>>,
    done: mpsc::Receiver<Infallible>,
    settled: bool,
}

/// The networks of pods that nobody knows are being collected.
#[derive(Default)]
struct Collecting {
    task: JoinSet<()>,
    /// Pods that are spared. Others, known since, wait until it is over.
    spared: BTreeSet<String>,
}

struct Handle {
    pod: PodRef,
    task: task::Id,
    /// `None` once it was told to end.
    delete: Option<oneshot::Sender<()>>,
}

/// What the outside world tells a node.
#[derive(Debug)]
pub struct Signals {
    /// The manifests may have changed.
    pub manifests: mpsc::Receiver<()>,
    /// Read the manifests at once.
    pub reload: mpsc::Receiver<()>,
    /// End, leaving everything as it is.
    pub stop: oneshot::Receiver<()>,
}

impl<R: Runtime, N: Network> Node<R, N> {
    /// A node that has not looked at anything yet.
    pub fn new(
        context: Context<R, N>,
        directory: Directory,
        services: Services,
        errors: ErrorBoard,
    ) -> Self {
        let (guard, done) = mpsc::channel(1);
        Self {
            context: Arc::new(context),
            directory: Some(directory),
            services,
            errors,
            objects: None,
            adopted: false,
            settling: Settling { guard: Some(guard), done, settled: false },
            workers: BTreeMap::new(),
            tasks: JoinSet::new(),
            collecting: Collecting::default(),
            observed: watch::channel(Observed::default()).0,
        }
    }

    /// Runs until told to stop. Pods, rules and addresses stay.
    pub async fn run(self, signals: Signals) {
        let Signals { manifests, reload, stop } = signals;
        // wherever the work is: everything can be left at any moment
        tokio::select! {
            () = self.work(manifests, reload) => {}
            _ = stop => {}
        }
    }

    async fn work(mut self, mut manifests: mpsc::Receiver<()>, mut reload: mpsc::Receiver<()>) {
        self.read_manifests().await;
        let mut events = self.listen().await;
        let mut recheck = tokio::time::interval(RECHECK);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.reconcile().await;
            tokio::select! {
                Some(()) = manifests.recv() => self.read_manifests().await,
                Some(()) = reload.recv() => {
                    tracing::info!("manifests are read because of SIGHUP");
                    self.read_manifests().await;
                }
                Some(ended) = self.tasks.join_next_with_id() => self.forget(ended),
                Some(_) = self.collecting.task.join_next() => {}
                _ = self.settling.done.recv(), if self.adopted && !self.settling.settled => {
                    self.settling.settled = true;
                    self.want_services();
                }
                event = events.recv() => match event {
                    Some(event) => {
                        drain(&mut events);
                        self.observe(&event).await;
                    }
                    None => events = self.listen().await,
                },
                _ = recheck.tick() => self.observe(&RuntimeEvent::Resync).await,
            }
        }
    }

    /// Nothing is decided before the runtime answers: it may already run what should run.
    async fn listen(&self) -> mpsc::Receiver<RuntimeEvent> {
        let mut pause = FIRST_PAUSE;
        loop {
            let answers = self.context.runtime.version().await;
            match (answers, self.context.runtime.events().await) {
                (Ok(_), Ok(events)) => return events,
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(%error, "waiting for the container runtime");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn read_manifests(&mut self) {
        // lent to a blocking thread: the folder may be slow, or on a server that is away
        let Some(mut directory) = self.directory.take() else { return };
        let read = task::spawn_blocking(move || (directory.read(), directory)).await;
        let (objects, directory) = match read {
            Ok(read) => read,
            Err(error) => {
                // without it nothing changes any more; a new agent begins anew
                tracing::error!(%error, "reading the manifests broke");
                return;
            }
        };
        self.directory = Some(directory);
        match objects {
            Ok(objects) => {
                self.write_errors(objects.errors.clone());
                self.objects = Some(objects);
                self.want_services();
            }
            // what should run is not known, which is not the same as nothing
            Err(error) => self.write_errors(vec![error]),
        }
    }

    fn want_services(&self) {
        if let (true, Some(objects)) = (self.settling.settled, &self.objects) {
            self.services.want(objects.services.clone(), objects.slices.clone());
        }
    }

    fn write_errors(&self, errors: Vec<SourceError>) {
        let mut board = self.errors.write().unwrap_or_else(PoisonError::into_inner);
        for error in errors.iter().filter(|error| !board.contains(error)) {
            tracing::warn!("manifest is not right: {error}");
        }
        *board = errors;
    }

    fn wanted(&self) -> BTreeMap<String, (PodPlan, String)> {
        let pods = self.objects.iter().flat_map(|objects| &objects.pods);
        pods.map(|pod| {
            let plan = plan::plan(&pod.object, self.context.default_grace);
            (plan.pod.uid.clone(), (plan, pod.path.display().to_string()))
        })
        .collect()
    }

    /// Starts what should run and does not, ends what runs and should not. A pod of another uid but the same name waits for
    /// the old one's end.
    async fn reconcile(&mut self) {
        if self.objects.is_none() {
            return;
        }
        let wanted = self.wanted();
        if !self.adopted {
            self.adopted = self.adopt(&wanted).await;
        }
        if !self.adopted {
            return;
        }
        for (uid, handle) in &mut self.workers {
            if !wanted.contains_key(uid)
                && let Some(delete) = handle.delete.take()
            {
                // a worker that has ended needs not be told
                delete.send(()).ok();
            }
        }
        let collecting = !self.collecting.task.is_empty();
        for (uid, (plan, source)) in wanted {
            if collecting && !self.collecting.spared.contains(&uid) {
                continue;
            }
            let same = |handle: &Handle| {
                (&handle.pod.namespace, &handle.pod.name) == (&plan.pod.namespace, &plan.pod.name)
            };
            if !self.workers.values().any(same) {
                self.start(plan, source, true);
            }
        }
        self.settling.guard = None;
    }

    /// Finds what is left of pods that nobody wants any more, and has it removed: without its manifest nothing is known of
    /// what should run again. Says whether the runtime could be asked.
    async fn adopt(&mut self, wanted: &BTreeMap<String, (PodPlan, String)>) -> bool {
        let containers = match self.context.runtime.list().await {
            Ok(containers) => containers,
            Err(error) => {
                tracing::warn!(%error, "cannot look at the runtime");
                return false;
            }
        };
        let read = self.context.with_records(|records| Ok(records.all())).await;
        let (records, broken) = read.unwrap_or_default();
        let mut left = remains(&records, &containers, self.context.default_grace);
        for (folder, reason) in broken {
            tracing::warn!(folder = %folder.display(), reason, "a pod's record cannot be read");
            // its folder still names the pod
            let uid = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if cni::args::is_identifier(&uid) {
                let plan = left.entry(uid.clone()).or_default();
                plan.pod.uid = uid;
            }
        }
        left.retain(|uid, _| !wanted.contains_key(uid));
        self.collect_networks(wanted, &left);
        for plan in left.into_values() {
            let PodRef { namespace, name, uid } = &plan.pod;
            tracing::info!(namespace, name, uid, "pod has no manifest any more and is removed");
            self.start(plan, String::new(), false);
        }
        true
    }

    /// Addresses of pods that nobody knows any more, as after a crash between two steps. In the background: a plugin that
    /// hangs must not keep pods from being adopted.
    fn collect_networks(
        &mut self,
        wanted: &BTreeMap<String, (PodPlan, String)>,
        left: &BTreeMap<String, PodPlan>,
    ) {
        let mut pods: Vec<_> = wanted.values().map(|(plan, _)| plan.pod.clone()).collect();
        pods.extend(left.values().map(|plan| plan.pod.clone()));
        self.collecting.spared = pods.iter().map(|pod| pod.uid.clone()).collect();
        let context = self.context.clone();
        self.collecting.task.spawn(async move {
            let collected = context.with_network(move |network| network.collect(&pods)).await;
            if let Ok(Err(error)) = collected {
                tracing::warn!(%error, "cannot collect networks that nobody uses");
            }
        });
    }

    fn start(&mut self, plan: PodPlan, source: String, wanted: bool) {
        let (sender, delete) = oneshot::channel();
        let (pod, uid) = (plan.pod.clone(), plan.pod.uid.clone());
        let mut sender = Some(sender);
        if !wanted {
            // before the worker begins, so that it has nothing to begin with
            sender.take().map(|sender| sender.send(()).ok());
        }
        let settling = self.settling.guard.clone();
        let inbox = Inbox { delete, observed: self.observed.subscribe(), settling };
        let worker = Worker::new(self.context.clone(), plan, source);
        let name = uid.clone();
        let task = self.tasks.spawn(async move {
            worker.run(inbox).await;
            name
        });
        self.workers.insert(uid, Handle { pod, task: task.id(), delete: sender });
    }

    /// A worker has ended: its pod is gone. One that broke is begun anew by the next turn, if its pod is wanted.
    fn forget(&mut self, ended: Result<(task::Id, String), task::JoinError>) {
        let id = match ended {
            Ok((id, _)) => id,
            Err(error) => {
                tracing::error!(%error, "a pod's worker broke");
                error.id()
            }
        };
        self.workers.retain(|_, handle| handle.task != id);
    }

    /// Tells the workers what the runtime has. Level, not edge: an event only says that it is time to look.
    async fn observe(&self, event: &RuntimeEvent) {
        tracing::debug!(?event, "looking at the runtime");
        match self.context.runtime.list().await {
            Ok(containers) => drop(self.observed.send_replace(Arc::new(containers))),
            Err(error) => tracing::warn!(%error, "cannot look at the runtime"),
        }
    }
}

/// One look answers all events that have come so far.
fn drain(events: &mut mpsc::Receiver<RuntimeEvent>) {
    while events.try_recv().is_ok() {}
}

/// The pods that records and labels tell of, as far as is needed to end them.
fn remains(
    records: &[Record],
    containers: &[ContainerInfo],
    default_grace: u64,
) -> BTreeMap<String, PodPlan> {
    let mut left = BTreeMap::new();
    for record in records {
        let grace_seconds = record.grace_seconds;
        let plan = PodPlan { pod: record.pod(), grace_seconds, ..PodPlan::default() };
        left.insert(record.uid.clone(), plan);
    }
    for info in containers {
        if info.pod.uid.is_empty() {
            tracing::warn!(
                id = info.id,
                "a container in our containerd namespace is not ours and is left alone"
            );
            continue;
        }
        let plan = left.entry(info.pod.uid.clone()).or_insert_with(|| PodPlan {
            pod: info.pod.clone(),
            grace_seconds: default_grace,
            ..PodPlan::default()
        });
        if !plan.containers.iter().any(|container| container.name == info.container) {
            plan.containers
                .push(ContainerPlan { name: info.container.clone(), ..ContainerPlan::default() });
        }
    }
    left
}

/// Where the last good manifests are remembered below the state folder.
pub fn manifest_memory(state: &Path) -> PathBuf {
    state.join("manifests.json")
}
