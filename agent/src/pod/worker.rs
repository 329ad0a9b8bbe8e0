//! The worker of one pod: it feeds the state machine with what happens and does what the machine says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::machine::{Action, Event, Exit, Machine, SlotState, Stage};
use super::plan::{ContainerPlan, PodPlan};
use super::record::{Record, Records, write_durably};
use super::status::{Outside, StatusBoard, describe};
use crate::cgroup;
use crate::network::{Attached, Network};
use crate::runtime::{
    BindMount, ContainerInfo, ContainerSpec, ContainerState, PodRef, Runtime, RuntimeError,
};

/// What a worker is told.
#[derive(Clone, Debug)]
pub enum Message {
    /// The pod is not wanted any more.
    Delete,
    /// The runtime's containers, as they are now.
    Observed(Arc<Vec<ContainerInfo>>),
}

/// What all workers share.
#[derive(Debug)]
pub struct Context<R, N> {
    /// Where containers run.
    pub runtime: R,
    /// Where they are connected.
    pub network: Arc<N>,
    /// What is on disk.
    pub records: Records,
    /// The folder of logs.
    pub logs: PathBuf,
    /// Where statuses are written.
    pub board: StatusBoard,
    /// This boot.
    pub boot_id: String,
}

/// The unique id of a container. At most 76 bytes are allowed, so names are cut and a digest tells them apart.
pub fn container_id(pod: &PodRef, container: &str, attempt: u32) -> String {
    let cut = |name: &str| name.chars().take(20).collect::<String>();
    let digest = Sha256::digest(format!("{}/{container}", pod.uid));
    let digest = &data_encoding::HEXLOWER.encode(&digest)[..10];
    format!("{}-{}-{digest}-{attempt}", cut(&pod.name), cut(container))
}

/// The folder of a pod's logs, as the kubelet names it.
pub fn log_folder(logs: &Path, pod: &PodRef) -> PathBuf {
    logs.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
}

/// One pod's worker.
pub struct Worker<R, N> {
    context: Arc<Context<R, N>>,
    plan: PodPlan,
    machine: Machine,
    outside: Outside,
    attached: Option<Attached>,
    messages: mpsc::Receiver<Message>,
    started: Instant,
}

impl<R: Runtime, N: Network> Worker<R, N> {
    /// A worker for a pod that has nothing, or, with `known` containers and its network, goes on where another agent ended.
    pub fn new(
        context: Arc<Context<R, N>>,
        plan: PodPlan,
        source: String,
        attached: Option<Attached>,
        known: &[ContainerInfo],
        messages: mpsc::Receiver<Message>,
    ) -> Self {
        let grace = Duration::from_secs(plan.grace_seconds);
        let newest = |name: &str| {
            let own =
                known.iter().filter(|info| info.pod.uid == plan.pod.uid && info.container == name);
            own.max_by_key(|info| info.attempt)
        };
        let names = plan.containers.iter().map(|container| container.name.clone());
        let machine = if attached.is_some() {
            // one that has ended is taken as running until the first observation says how it ended
            let slots = names.map(|name| match newest(&name) {
                Some(ContainerInfo {
                    state: ContainerState::Running { .. } | ContainerState::Exited { .. },
                    attempt,
                    ..
                }) => (name, *attempt, Some(Duration::ZERO)),
                other => (name, other.map_or(0, |info| info.attempt), None),
            });
            Machine::adopt(slots, plan.restart, grace)
        } else {
            let slots = names.map(|name| {
                let attempt = newest(&name).map_or(0, |info| info.attempt + 1);
                (name, attempt)
            });
            Machine::new(slots, plan.restart, grace)
        };
        let ips = attached.as_ref().map(|attached| attached.ips.clone()).unwrap_or_default();
        let outside = Outside { ips, failure: None, source };
        Self { context, plan, machine, outside, attached, messages, started: Instant::now() }
    }

    /// Works until nothing is left of the pod, or the agent ends.
    pub async fn run(mut self) {
        self.handle(Event::Begin).await;
        while self.machine.stage != Stage::Gone {
            let pause = self.machine.deadline().map(|at| at.saturating_sub(self.now()));
            let timer = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(Message::Delete) => self.handle(Event::Delete).await,
                    Some(Message::Observed(containers)) => self.observe(&containers).await,
                    // the agent ends: everything stays as it is
                    None => return,
                },
                () = timer => self.handle(Event::Timer).await,
            }
        }
        self.context.board.remove(&self.plan.pod.uid);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Feeds an event and everything that follows from it.
    async fn handle(&mut self, event: Event) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.machine.step(&event, self.now());
            self.publish();
            for action in actions {
                events.extend(self.execute(action).await);
            }
        }
        self.publish();
    }

    fn publish(&self) {
        if self.machine.stage != Stage::Gone {
            self.context.board.set(&self.plan, describe(&self.plan, &self.machine, &self.outside));
        }
    }

    /// Compares what runs with what should.
    async fn observe(&mut self, containers: &[ContainerInfo]) {
        let running: Vec<_> = self
            .machine
            .slots
            .iter()
            .filter(|slot| matches!(slot.state, SlotState::Running { .. }))
            .map(|slot| (slot.name.clone(), slot.attempt))
            .collect();
        for (name, attempt) in running {
            let id = container_id(&self.plan.pod, &name, attempt);
            let state = |list: &[ContainerInfo]| {
                list.iter().find(|info| info.id == id).map(|info| info.state.clone())
            };
            let exit = match state(containers) {
                Some(ContainerState::Running { .. }) => None,
                Some(ContainerState::Exited { code, oom, .. }) => Some(Exit { code, oom }),
                // the list may be older than the container: only a fresh one is believed
                _ => match self.context.runtime.list().await {
                    Err(_) => None,
                    Ok(fresh) => match state(&fresh) {
                        Some(ContainerState::Running { .. }) => None,
                        Some(ContainerState::Exited { code, oom, .. }) => Some(Exit { code, oom }),
                        // its process vanished without a word, as after a shim was killed
                        _ => Some(Exit { code: 137, oom: false }),
                    },
                },
            };
            if let Some(exit) = exit {
                tracing::info!(pod = %self.title(), container = name, code = exit.code, reason = exit.reason(), "container ended");
                self.handle(Event::Exited { name, attempt, exit }).await;
            }
        }
    }

    fn title(&self) -> String {
        format!("{}/{}", self.plan.pod.namespace, self.plan.pod.name)
    }

    async fn execute(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::SetUpSandbox => Some(self.set_up().await),
            Action::Start { name, attempt } => Some(self.start(name, attempt).await),
            Action::Signal { name, attempt, signal } => {
                let id = container_id(&self.plan.pod, &name, attempt);
                if let Err(error) = self.context.runtime.signal(&id, signal).await {
                    tracing::warn!(pod = %self.title(), container = name, %error, "cannot signal");
                }
                None
            }
            Action::TearDown => Some(self.tear_down().await),
        }
    }

    async fn set_up(&mut self) -> Event {
        match self.try_set_up().await {
            Ok(attached) => {
                self.outside = Outside {
                    ips: attached.ips.clone(),
                    failure: None,
                    source: self.outside.source.clone(),
                };
                tracing::info!(pod = %self.title(), ips = ?attached.ips, "pod has its network");
                self.attached = Some(attached);
                Event::SandboxReady
            }
            Err((reason, message)) => {
                tracing::warn!(pod = %self.title(), reason, message, "pod has no network yet");
                self.outside.failure = Some((reason, message));
                Event::SandboxFailed
            }
        }
    }

    async fn try_set_up(&self) -> Result<Attached, (String, String)> {
        let pod = self.plan.pod.clone();
        let record = Record {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            boot_id: self.context.boot_id.clone(),
            grace_seconds: self.plan.grace_seconds,
        };
        let sandbox = |error: String| ("FailedCreatePodSandBox".to_owned(), error);
        self.context
            .records
            .write(&record)
            .map_err(|error| sandbox(format!("cannot write the pod's record: {error}")))?;
        // containers of a sandbox that is gone cannot run in a new one
        self.remove_containers().await.map_err(|error| sandbox(error.to_string()))?;
        let network = self.context.network.clone();
        let attached = tokio::task::spawn_blocking(move || network.set_up(&pod)).await;
        let attached = attached
            .map_err(|error| sandbox(error.to_string()))?
            .map_err(|error| (error.reason(), error.to_string()))?;
        self.write_files(&attached)
            .map_err(|error| sandbox(format!("cannot write the pod's /etc files: {error}")))?;
        Ok(attached)
    }

    /// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, which all containers of the pod see.
    fn write_files(&self, attached: &Attached) -> std::io::Result<()> {
        let folder = self.context.records.folder(&self.plan.pod.uid).join("etc");
        let name = &self.plan.hostname;
        let mut hosts = "# Written by heddle-agent.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
        for ip in &attached.ips {
            hosts.push_str(&format!("{ip}\t{name}\n"));
        }
        write_durably(&folder.join("hosts"), hosts.as_bytes())?;
        write_durably(&folder.join("hostname"), format!("{name}\n").as_bytes())?;
        write_durably(&folder.join("resolv.conf"), attached.resolv_conf.as_bytes())
    }

    async fn start(&mut self, name: String, attempt: u32) -> Event {
        let failed = |name: String, reason: &str, message: String| {
            tracing::warn!(container = name, reason, message, "container cannot start");
            Event::StartFailed { name, reason: reason.to_owned(), message }
        };
        let Some(attached) = &self.attached else {
            return failed(name, "CreateContainerError", "the pod has no network".to_owned());
        };
        let Some(container) = self.plan.containers.iter().find(|container| container.name == name)
        else {
            return failed(
                name,
                "CreateContainerError",
                "the pod has no such container".to_owned(),
            );
        };
        let spec = self.spec(container, attempt, attached);
        match self.try_start(&spec).await {
            Ok(()) => {
                tracing::info!(pod = %self.title(), container = name, attempt, "container started");
                Event::Started { name }
            }
            Err(error) => {
                let reason = match &error {
                    RuntimeError::ImageNotPresent { .. } => "ErrImageNeverPull",
                    RuntimeError::Image { .. } => "ImageInspectError",
                    RuntimeError::Call { operation: "start", .. } => "RunContainerError",
                    _ => "CreateContainerError",
                };
                failed(name, reason, error.to_string())
            }
        }
    }

    async fn try_start(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        for info in self.own_containers().await? {
            if info.container == spec.container && info.id != spec.id {
                self.context.runtime.remove(&info.id).await?;
            }
        }
        self.context.runtime.create(spec).await?;
        let started = self.context.runtime.start(&spec.id).await;
        if started.is_err() {
            self.context.runtime.remove(&spec.id).await.ok();
        }
        started
    }

    fn spec(&self, container: &ContainerPlan, attempt: u32, attached: &Attached) -> ContainerSpec {
        let pod = &self.plan.pod;
        let files = self.context.records.folder(&pod.uid).join("etc");
        let mount = |name: &str| BindMount {
            host: files.join(name),
            container: format!("/etc/{name}"),
            read_only: false,
        };
        ContainerSpec {
            id: container_id(pod, &container.name, attempt),
            pod: pod.clone(),
            container: container.name.clone(),
            attempt,
            image: container.image.clone(),
            command: container.command.clone(),
            args: container.args.clone(),
            env: container.env.clone(),
            working_dir: container.working_dir.clone(),
            user: container.user.clone(),
            resources: container.resources.clone(),
            netns: attached.netns.clone(),
            hostname: self.plan.hostname.clone(),
            log_path: log_folder(&self.context.logs, pod)
                .join(&container.name)
                .join(format!("{attempt}.log")),
            cgroup_parent: cgroup::pod_parent(&pod.uid),
            mounts: ["hosts", "hostname", "resolv.conf"].map(mount).into(),
            privileged: container.privileged,
            labels: std::collections::BTreeMap::new(),
        }
    }

    async fn own_containers(&self) -> Result<Vec<ContainerInfo>, RuntimeError> {
        let mut all = self.context.runtime.list().await?;
        all.retain(|info| info.pod.uid == self.plan.pod.uid);
        Ok(all)
    }

    async fn remove_containers(&self) -> Result<(), RuntimeError> {
        for info in self.own_containers().await? {
            self.context.runtime.remove(&info.id).await?;
        }
        Ok(())
    }

    async fn tear_down(&mut self) -> Event {
        match self.try_tear_down().await {
            Ok(()) => {
                tracing::info!(pod = %self.title(), "pod removed");
                Event::TornDown
            }
            Err(message) => {
                tracing::warn!(pod = %self.title(), message, "pod cannot be removed yet");
                self.outside.failure = Some(("FailedKillPod".to_owned(), message));
                Event::TeardownFailed
            }
        }
    }

    /// Containers, network, cgroup, logs, and the record last: it is what a restarted agent finds the rest by.
    async fn try_tear_down(&self) -> Result<(), String> {
        self.remove_containers().await.map_err(|error| error.to_string())?;
        let (pod, network) = (self.plan.pod.clone(), self.context.network.clone());
        let torn = tokio::task::spawn_blocking(move || network.tear_down(&pod)).await;
        torn.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let uid = &self.plan.pod.uid;
        cgroup::remove(&cgroup::pod_parent(uid))
            .map_err(|error| format!("cannot remove the pod's cgroup: {error}"))?;
        match std::fs::remove_dir_all(log_folder(&self.context.logs, &self.plan.pod)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("cannot remove the pod's logs: {error}"));
            }
            _ => {}
        }
        self.context
            .records
            .remove(uid)
            .map_err(|error| format!("cannot remove the pod's record: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_short_and_unique() {
        let pod = PodRef { namespace: "n".into(), name: "p".repeat(253), uid: "u".into() };
        let id = container_id(&pod, &"c".repeat(63), 4_000_000_000);
        assert!(id.len() <= 76 && cni::args::is_identifier(&id), "{id}");
        assert_ne!(
            container_id(&pod, &format!("{}a", "c".repeat(30)), 0),
            container_id(&pod, &format!("{}b", "c".repeat(30)), 0)
        );
    }
}
