//! The loop that ties everything together: what should run, what does run, who sends traffic to it.

mod services;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc;

pub use services::{PortStatus, ServiceBoard, ServiceStatus, Services};

use crate::network::Network;
use crate::pod::plan::{self, PodPlan};
use crate::pod::worker::{Context, Message, Worker};
use crate::runtime::{ContainerInfo, PodRef, Runtime, RuntimeEvent};
use crate::source::{Directory, Objects, SourceError};

/// How many messages may wait for a worker; an observation that finds no room is followed by another.
const BACKLOG: usize = 64;
/// How often the runtime is asked without being told, in case an event was lost.
const RECHECK: std::time::Duration = std::time::Duration::from_mins(1);

/// Mistakes in the manifests, by path. One writer, many readers.
pub type ErrorBoard = Arc<RwLock<Vec<SourceError>>>;

/// One node.
pub struct Node<R, N> {
    context: Arc<Context<R, N>>,
    directory: Directory,
    services: Services,
    errors: ErrorBoard,
    objects: Option<Objects>,
    workers: BTreeMap<String, Handle>,
    ended: (mpsc::Sender<String>, mpsc::Receiver<String>),
}

struct Handle {
    pod: PodRef,
    sender: mpsc::Sender<Message>,
    deleting: bool,
}

/// What the outside world tells a node.
pub struct Signals {
    /// The manifests may have changed.
    pub manifests: mpsc::Receiver<()>,
    /// Read the manifests at once.
    pub reload: mpsc::Receiver<()>,
    /// End, leaving everything as it is.
    pub stop: tokio::sync::oneshot::Receiver<()>,
}

impl<R: Runtime, N: Network> Node<R, N> {
    /// A node that has not looked at anything yet.
    pub fn new(
        context: Context<R, N>,
        manifests: PathBuf,
        services: Services,
        errors: ErrorBoard,
    ) -> Self {
        Self {
            context: Arc::new(context),
            directory: Directory::new(manifests),
            services,
            errors,
            objects: None,
            workers: BTreeMap::new(),
            ended: mpsc::channel(BACKLOG),
        }
    }

    /// Runs until told to stop. Pods, rules and addresses stay.
    pub async fn run(mut self, mut signals: Signals) {
        let known = self.wait_for_runtime(&mut signals.stop).await;
        let Some((known, mut events)) = known else { return };
        self.read_manifests();
        self.adopt(&known).await;
        loop {
            self.reconcile(&known);
            tokio::select! {
                Some(()) = signals.manifests.recv() => self.read_manifests(),
                Some(()) = signals.reload.recv() => self.read_manifests(),
                Some(uid) = self.ended.1.recv() => drop(self.workers.remove(&uid)),
                event = events.recv() => match event {
                    Some(event) => self.observe(Some(&event)).await,
                    None => match self.context.runtime.events().await {
                        Ok(again) => events = again,
                        Err(error) => tracing::warn!(%error, "cannot listen to the runtime"),
                    },
                },
                () = tokio::time::sleep(RECHECK) => self.observe(None).await,
                _ = &mut signals.stop => return,
            }
        }
    }

    /// Nothing is decided before the runtime has told what runs: it may be what should.
    async fn wait_for_runtime(
        &self,
        stop: &mut tokio::sync::oneshot::Receiver<()>,
    ) -> Option<(Vec<ContainerInfo>, mpsc::Receiver<RuntimeEvent>)> {
        let mut pause = std::time::Duration::from_millis(250);
        loop {
            let known = self.context.runtime.list().await;
            match (known, self.context.runtime.events().await) {
                (Ok(known), Ok(events)) => return Some((known, events)),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(%error, "waiting for the container runtime");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = &mut *stop => return None,
            }
            pause = (pause * 2).min(std::time::Duration::from_secs(10));
        }
    }

    fn read_manifests(&mut self) {
        match self.directory.read() {
            Ok(objects) => {
                self.write_errors(objects.errors.clone());
                self.services.want(objects.services.clone());
                self.objects = Some(objects);
            }
            // what should run is not known, which is not the same as nothing
            Err(error) => {
                tracing::warn!(path = %error.path.display(), reason = error.reason, "manifests cannot be read");
                self.write_errors(vec![error]);
            }
        }
    }

    fn write_errors(&self, errors: Vec<SourceError>) {
        let mut board = self.errors.write().unwrap_or_else(PoisonError::into_inner);
        for error in errors.iter().filter(|error| !board.contains(error)) {
            tracing::warn!(path = %error.path.display(), object = error.object, reason = error.reason, "manifest is not right");
        }
        *board = errors;
    }

    /// Pods of an earlier agent: those that are still wanted go on, the others are removed.
    async fn adopt(&mut self, known: &[ContainerInfo]) {
        let (records, broken) = self.context.records.all();
        for (path, reason) in broken {
            tracing::warn!(path = %path.display(), reason, "a pod's record cannot be read; its containers are removed by their labels");
        }
        let wanted: Vec<_> = self.wanted().into_iter().map(|(plan, _)| plan.pod.uid).collect();
        let mut forgotten: BTreeMap<String, PodPlan> = BTreeMap::new();
        for record in &records {
            let plan = PodPlan {
                pod: record.pod(),
                grace_seconds: record.grace_seconds,
                ..PodPlan::default()
            };
            forgotten.insert(record.uid.clone(), plan);
        }
        for info in known.iter().filter(|info| !info.pod.uid.is_empty()) {
            let plan = forgotten.entry(info.pod.uid.clone()).or_insert_with(|| PodPlan {
                pod: info.pod.clone(),
                grace_seconds: 30,
                ..PodPlan::default()
            });
            if !plan.containers.iter().any(|container| container.name == info.container) {
                plan.containers.push(plan::ContainerPlan {
                    name: info.container.clone(),
                    ..plan::ContainerPlan::default()
                });
            }
        }
        forgotten.retain(|uid, _| !wanted.contains(uid));
        self.collect_networks(&forgotten).await;
        // without its manifest nothing is known of what should run again, so it ends here
        for plan in forgotten.into_values() {
            tracing::info!(
                pod = plan.pod.name,
                namespace = plan.pod.namespace,
                "pod has no manifest any more"
            );
            let uid = plan.pod.uid.clone();
            self.start(plan, String::new(), known);
            self.delete(&uid);
        }
    }

    /// Addresses of pods that nobody knows any more, as after a crash between two steps.
    async fn collect_networks(&self, forgotten: &BTreeMap<String, PodPlan>) {
        let mut pods: Vec<_> = forgotten.values().map(|plan| plan.pod.clone()).collect();
        pods.extend(self.wanted().into_iter().map(|(plan, _)| plan.pod));
        let network = self.context.network.clone();
        let collected = tokio::task::spawn_blocking(move || network.collect(&pods)).await;
        if let Ok(Err(error)) = collected {
            tracing::warn!(%error, "cannot collect networks that nobody uses");
        }
    }

    fn wanted(&self) -> Vec<(PodPlan, String)> {
        let pods = self.objects.iter().flat_map(|objects| &objects.pods);
        pods.map(|pod| (plan::plan(&pod.object), pod.path.display().to_string())).collect()
    }

    /// Starts what should run and does not, ends what runs and should not. A pod of another uid but the same name waits for
    /// the old one's end.
    fn reconcile(&mut self, known: &[ContainerInfo]) {
        if self.objects.is_none() {
            return;
        }
        let wanted = self.wanted();
        let unwanted: Vec<_> = self
            .workers
            .iter()
            .filter(|(uid, handle)| {
                !handle.deleting && !wanted.iter().any(|(plan, _)| plan.pod.uid == **uid)
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in unwanted {
            self.delete(&uid);
        }
        for (plan, source) in wanted {
            let same = |handle: &Handle| {
                handle.pod.namespace == plan.pod.namespace && handle.pod.name == plan.pod.name
            };
            if !self.workers.values().any(same) {
                self.start(plan, source, known);
            }
        }
    }

    fn start(&mut self, plan: PodPlan, source: String, known: &[ContainerInfo]) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let (pod, uid) = (plan.pod.clone(), plan.pod.uid.clone());
        let (records, _) = self.context.records.all();
        // a sandbox of another boot is gone, whatever the files say
        let is_ours = records
            .iter()
            .any(|record| record.uid == uid && record.boot_id == self.context.boot_id);
        let attached = if is_ours { self.context.network.current(&pod) } else { None };
        let worker = Worker::new(self.context.clone(), plan, source, attached, known, receiver);
        let ended = self.ended.0.clone();
        let name = uid.clone();
        tokio::spawn(async move {
            worker.run().await;
            ended.send(name).await.ok();
        });
        // an adopted container may have ended while no agent looked
        sender.try_send(Message::Observed(Arc::new(known.to_vec()))).ok();
        self.workers.insert(uid, Handle { pod, sender, deleting: false });
    }

    fn delete(&mut self, uid: &str) {
        if let Some(handle) = self.workers.get_mut(uid) {
            // a full queue is tried again at the next turn
            handle.deleting = handle.sender.try_send(Message::Delete).is_ok();
        }
    }

    /// Tells the workers what the runtime has. Level, not edge: an event only says that it is time to look.
    async fn observe(&self, event: Option<&RuntimeEvent>) {
        tracing::debug!(?event, "looking at the runtime");
        match self.context.runtime.list().await {
            Ok(containers) => {
                let containers = Arc::new(containers);
                for handle in self.workers.values() {
                    handle.sender.try_send(Message::Observed(containers.clone())).ok();
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look at the runtime"),
        }
    }
}
