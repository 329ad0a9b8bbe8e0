//! The worker of one pod: it feeds the state machine with what happens and does what the machine says.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::context::{Context, container_id, log_folder};
use super::machine::{Action, Event, Exit, Machine, Slot, SlotState, Stage};
use super::plan::{ContainerPlan, PodPlan, RestartPolicy};
use super::record::{Progress, Record};
use super::status::{Outside, describe};
use crate::cgroup;
use crate::network::{Attached, Network};
use crate::runtime::{
    BindMount, ContainerInfo, ContainerSpec, ContainerState, Runtime, RuntimeError,
};

/// How long to wait before a runtime that does not answer is asked again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// The exit code of a container that vanished without one, as the kubelet gives it.
const LOST: Exit = Exit { code: 137, oom: false };

/// What the runtime has, as it was when somebody looked last.
pub type Observed = Arc<Vec<ContainerInfo>>;

/// What a worker is told.
#[derive(Debug)]
pub struct Inbox {
    /// Sent once: the pod is not wanted any more. Dropped: the agent ends, and everything stays as it is.
    pub delete: oneshot::Receiver<()>,
    /// What the runtime has. Only the latest counts.
    pub observed: watch::Receiver<Observed>,
    /// Dropped once it is known, and told, what there is of the pod already.
    pub settling: Option<mpsc::Sender<Infallible>>,
}

/// What an earlier agent left of a pod.
struct Found {
    containers: Vec<ContainerInfo>,
    progress: BTreeMap<String, Progress>,
    attached: Option<Attached>,
}

/// One pod's worker.
pub struct Worker<R, N> {
    context: Arc<Context<R, N>>,
    plan: PodPlan,
    machine: Machine,
    outside: Outside,
    attached: Option<Attached>,
    deleting: bool,
    /// What was told of each thing that failed: a retry that fails in the same way is no news.
    told: BTreeMap<String, String>,
    started: Instant,
}

impl<R: Runtime, N: Network> Worker<R, N> {
    /// A worker for a pod. `source` is where its manifest is.
    pub fn new(context: Arc<Context<R, N>>, plan: PodPlan, source: String) -> Self {
        let slots = plan.containers.iter().map(|container| Slot::fresh(&container.name, 0));
        let grace = Duration::from_secs(plan.grace_seconds);
        let machine = Machine::new(slots.collect(), plan.restart, grace);
        let outside = Outside { source, ..Outside::default() };
        let (told, started) = (BTreeMap::new(), Instant::now());
        let (attached, deleting) = (None, false);
        Self { context, plan, machine, outside, attached, deleting, told, started }
    }

    /// Works until nothing is left of the pod, or the agent ends. What an earlier agent left of it is adopted.
    pub async fn run(mut self, mut inbox: Inbox) {
        self.publish();
        let found = self.look().await;
        self.deleting = inbox.delete.try_recv().is_ok();
        self.adopt(&found);
        self.publish();
        // what was taken as running may have ended while no agent looked
        self.observe(&found.containers).await;
        drop(inbox.settling.take());
        self.handle(if self.deleting { Event::Delete } else { Event::Begin }).await;
        while self.machine.stage != Stage::Gone {
            let timer = self.machine.deadline().map(|at| self.started + at);
            tokio::select! {
                delete = &mut inbox.delete, if !self.deleting => match delete {
                    Ok(()) => {
                        self.deleting = true;
                        self.handle(Event::Delete).await;
                    }
                    Err(_) => return,
                },
                changed = inbox.observed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let containers = inbox.observed.borrow_and_update().clone();
                    self.observe(&containers).await;
                }
                () = due(timer) => self.handle(Event::Timer).await,
            }
        }
        self.context.board.remove(&self.plan.pod.uid);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn title(&self) -> String {
        format!("{}/{}", self.plan.pod.namespace, self.plan.pod.name)
    }

    /// What there is of the pod already. Nothing is decided before the runtime has answered.
    async fn look(&mut self) -> Found {
        let mut pause = FIRST_PAUSE;
        let containers = loop {
            match self.context.containers_of(&self.plan.pod).await {
                Ok(containers) => break containers,
                Err(error) => {
                    self.outside.failure = Some(("RuntimeNotReady".to_owned(), error.to_string()));
                    self.publish();
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        };
        self.outside.failure = None;
        let uid = self.plan.pod.uid.clone();
        let record = self.context.with_records(move |records| Ok(records.read(&uid))).await;
        let record = record.ok().flatten();
        let mut attached = None;
        // a sandbox of another boot is gone, whatever the files say
        if record.as_ref().is_some_and(|record| record.boot_id == self.context.boot_id) {
            let pod = self.plan.pod.clone();
            let current = self.context.with_network(move |network| network.current(&pod)).await;
            attached = current.ok().flatten();
        }
        let progress = record.map(|record| record.progress).unwrap_or_default();
        Found { containers, progress, attached }
    }

    /// Begins where an earlier agent ended.
    fn adopt(&mut self, found: &Found) {
        // what is not wanted any more is told to end even if its network is lost
        let goes_on = found.attached.is_some() || self.deleting;
        let slot = |container: &ContainerPlan| {
            let same = found.containers.iter().filter(|info| info.container == container.name);
            let newest = same.max_by_key(|info| info.attempt);
            let progress = found.progress.get(&container.name);
            slot(&container.name, newest, progress, self.plan.restart, goes_on)
        };
        let slots = self.plan.containers.iter().map(slot).collect();
        let grace = Duration::from_secs(self.plan.grace_seconds);
        self.machine = if goes_on {
            Machine::adopt(slots, self.plan.restart, grace)
        } else {
            Machine::new(slots, self.plan.restart, grace)
        };
        self.attached.clone_from(&found.attached);
        if let Some(attached) = &self.attached {
            self.outside.ips.clone_from(&attached.ips);
            if !self.deleting {
                tracing::info!(pod = %self.title(), ips = ?attached.ips, "pod adopted");
            }
        }
    }

    /// Feeds an event and everything that follows from it.
    async fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
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
            let outcome = match outcome(containers, &id) {
                // the list may be older than the container: only a fresh one is believed
                None => match self.context.runtime.list().await {
                    Err(_) => continue,
                    // without a process it vanished without a word, as after a shim was killed
                    Ok(fresh) => outcome(&fresh, &id).unwrap_or(Some(LOST)),
                },
                Some(outcome) => outcome,
            };
            if let Some(exit) = outcome {
                tracing::info!(pod = %self.title(), container = name, code = exit.code, reason = exit.reason(), "container ended");
                self.handle(Event::Exited { name, attempt, exit }).await;
            }
        }
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
            Action::Remember => {
                let record = self.record();
                let written =
                    self.context.with_records(move |records| records.write(&record)).await;
                if let Err(error) = written {
                    tracing::warn!(pod = %self.title(), %error, "cannot write down how a container ended");
                }
                None
            }
            Action::TearDown => Some(self.tear_down().await),
        }
    }

    fn record(&self) -> Record {
        let mut record =
            Record::new(&self.plan.pod, &self.context.boot_id, self.plan.grace_seconds);
        for slot in &self.machine.slots {
            let exit = match slot.state {
                SlotState::Ended => slot.last_exit,
                SlotState::Running { .. } if self.plan.restart == RestartPolicy::Never => None,
                _ => continue,
            };
            record.progress.insert(slot.name.clone(), Progress { attempt: slot.attempt, exit });
        }
        record
    }

    async fn set_up(&mut self) -> Event {
        match self.context.set_up(&self.plan, self.record()).await {
            Ok(attached) => {
                tracing::info!(pod = %self.title(), ips = ?attached.ips, "pod has its network");
                self.outside.ips.clone_from(&attached.ips);
                self.outside.failure = None;
                self.attached = Some(attached);
                Event::SandboxReady
            }
            Err((reason, message)) => {
                self.complain("pod has no network yet", &reason, &message);
                self.outside.failure = Some((reason, message));
                Event::SandboxFailed
            }
        }
    }

    async fn tear_down(&mut self) -> Event {
        match self.context.tear_down(&self.plan.pod).await {
            Ok(()) => {
                tracing::info!(pod = %self.title(), "pod removed");
                Event::TornDown
            }
            Err(message) => {
                self.complain("pod cannot be removed yet", "FailedKillPod", &message);
                self.outside.failure = Some(("FailedKillPod".to_owned(), message));
                Event::TeardownFailed
            }
        }
    }

    async fn start(&mut self, name: String, attempt: u32) -> Event {
        let planned = self.plan.containers.iter().find(|container| container.name == name);
        let (Some(attached), Some(container)) = (&self.attached, planned) else {
            let message = "the pod has no network".to_owned();
            return Event::StartFailed { name, reason: "CreateContainerError".to_owned(), message };
        };
        let spec = self.spec(container, attempt, attached);
        match self.try_start(&spec).await {
            Ok(()) => {
                tracing::info!(pod = %self.title(), container = name, attempt, "container started");
                self.told.clear();
                Event::Started { name }
            }
            Err(error) => {
                let (reason, message) = (reason(&error).to_owned(), error.to_string());
                self.complain(&format!("container {name} cannot start"), &reason, &message);
                Event::StartFailed { name, reason, message }
            }
        }
    }

    fn complain(&mut self, what: &str, reason: &str, message: &str) {
        let text = format!("{reason}: {message}");
        if self.told.get(what) == Some(&text) {
            tracing::debug!(pod = %self.title(), reason, message, "{what}, still");
        } else {
            tracing::warn!(pod = %self.title(), reason, message, "{what}");
            self.told.insert(what.to_owned(), text);
        }
    }

    async fn try_start(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        for info in self.context.containers_of(&self.plan.pod).await? {
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
        let files = self.context.records.etc(&pod.uid);
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
            labels: BTreeMap::new(),
        }
    }
}

/// The kubelet's word for a container that cannot start.
fn reason(error: &RuntimeError) -> &'static str {
    match error {
        RuntimeError::ImageNotPresent { .. } => "ErrImageNeverPull",
        RuntimeError::Image { .. } => "ImageInspectError",
        RuntimeError::Unavailable { .. } => "RuntimeNotReady",
        RuntimeError::Call { operation: "start", .. } => "RunContainerError",
        RuntimeError::Spec { .. } | RuntimeError::Call { .. } => "CreateContainerError",
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// `None`: the list knows of no process. `Some(None)`: it runs. `Some(Some(_))`: so it ended.
#[expect(clippy::option_option, reason = "not known, still running and ended are three answers")]
fn outcome(containers: &[ContainerInfo], id: &str) -> Option<Option<Exit>> {
    match containers.iter().find(|info| info.id == id)?.state {
        ContainerState::Running { .. } => Some(None),
        ContainerState::Exited { code, oom, .. } => Some(Some(Exit { code, oom })),
        ContainerState::Created | ContainerState::Unknown => None,
    }
}

/// What a container begins as, from what is left of it: the newest one in the runtime, and what was written down.
/// `goes_on`: its sandbox is there.
fn slot(
    name: &str,
    newest: Option<&ContainerInfo>,
    progress: Option<&Progress>,
    restart: RestartPolicy,
    goes_on: bool,
) -> Slot {
    if let Some(Progress { attempt, exit: Some(exit) }) = progress.copied()
        && newest.is_none_or(|info| info.attempt <= attempt)
    {
        return Slot::ended(name, attempt, exit);
    }
    let started = |attempt| {
        restart == RestartPolicy::Never && progress.is_some_and(|known| known.attempt == attempt)
    };
    let Some(info) = newest else {
        return if started(0) { Slot::ended(name, 0, LOST) } else { Slot::fresh(name, 0) };
    };
    let (attempt, next) = (info.attempt, info.attempt.saturating_add(1));
    match info.state {
        // taken as running until the first look says how it ended
        ContainerState::Running { .. } | ContainerState::Exited { .. } if goes_on => {
            Slot::running(name, attempt, Duration::ZERO)
        }
        ContainerState::Exited { code, oom, .. } if !restart.applies(code) => {
            Slot::ended(name, attempt, Exit { code, oom })
        }
        // it ran before a reboot; how it ended nobody knows
        ContainerState::Unknown if started(attempt) => Slot::ended(name, attempt, LOST),
        // the agent was killed while it made it, or between that and the start
        ContainerState::Unknown if restart == RestartPolicy::Never => Slot::fresh(name, attempt),
        ContainerState::Created => Slot::fresh(name, attempt),
        _ => Slot::fresh(name, next),
    }
}

#[cfg(test)]
#[path = "worker/tests.rs"]
mod tests;
