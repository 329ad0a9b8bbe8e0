//! What is told of a pod: one writer (its worker), many readers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::machine::{Machine, Slot, SlotState, Stage};
use super::plan::{PodPlan, RestartPolicy};

/// A pod as `heddle-agent status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Kubernetes' phase (`Pending`, `Running`, `Succeeded`, `Failed`), or `Terminating`.
    pub phase: String,
    /// First address; empty as long as there is none.
    pub ip: String,
    /// All addresses.
    pub ips: Vec<IpAddr>,
    /// Why it is not running, in a word.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// Where its manifest is.
    pub source: String,
    /// Its containers.
    pub containers: Vec<ContainerStatus>,
}

/// A container as `heddle-agent status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Name in the pod.
    pub name: String,
    /// `waiting`, `running` or `terminated`.
    pub state: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Of the last one that ended.
    pub exit_code: Option<u32>,
    /// Why it waits or how it ended, in a word.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
}

impl PodStatus {
    /// Whether all containers run, so that services may send traffic to it.
    pub fn is_ready(&self) -> bool {
        self.phase == "Running" && self.is_serving()
    }

    /// Whether all containers run, though the pod may be on its way out.
    pub fn is_serving(&self) -> bool {
        matches!(self.phase.as_str(), "Running" | "Terminating")
            && self.containers.iter().all(|container| container.state == "running")
    }

    /// Whether it is on its way out.
    pub fn is_terminating(&self) -> bool {
        self.phase == "Terminating"
    }

    /// Whether its containers have ended for good.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }
}

/// What a worker knows besides the machine's state.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// What failed last, in a word and a sentence.
    pub failure: Option<(String, String)>,
    /// The manifest's path.
    pub source: String,
}

/// Puts a status together.
pub fn describe(plan: &PodPlan, machine: &Machine, outside: &Outside) -> PodStatus {
    let (mut reason, mut message) = outside.failure.clone().unwrap_or_default();
    let waiting = machine.slots.iter().find_map(|slot| match &slot.state {
        SlotState::Waiting { reason, message, .. } => Some((reason.clone(), message.clone())),
        _ => None,
    });
    if machine.stage == Stage::Running {
        (reason, message) = waiting.unwrap_or_default();
    } else if reason.is_empty() && matches!(machine.stage, Stage::Sandbox { .. }) {
        "ContainerCreating".clone_into(&mut reason);
    }
    PodStatus {
        namespace: plan.pod.namespace.clone(),
        name: plan.pod.name.clone(),
        uid: plan.pod.uid.clone(),
        phase: phase(machine, plan.restart).to_owned(),
        ip: outside.ips.first().map(IpAddr::to_string).unwrap_or_default(),
        ips: outside.ips.clone(),
        reason,
        message,
        source: outside.source.clone(),
        containers: machine.slots.iter().map(|slot| container(slot, &machine.stage)).collect(),
    }
}

/// The phase by Kubernetes' rules (Pod Lifecycle).
fn phase(machine: &Machine, restart: RestartPolicy) -> &'static str {
    match machine.stage {
        Stage::Sandbox { .. } => return "Pending",
        Stage::Stopping { .. } | Stage::Teardown { .. } | Stage::Gone => return "Terminating",
        Stage::Running => {}
    }
    let all_ended = machine.slots.iter().all(|slot| slot.state == SlotState::Ended);
    if all_ended && restart != RestartPolicy::Always {
        let failed = machine
            .slots
            .iter()
            .any(|slot| slot.last_exit.as_ref().is_some_and(|exit| exit.code != 0));
        return if failed { "Failed" } else { "Succeeded" };
    }
    let never_ran = |slot: &Slot| {
        slot.attempt == 0
            && slot.last_exit.is_none()
            && matches!(slot.state, SlotState::Starting | SlotState::Waiting { .. })
    };
    if machine.slots.iter().any(never_ran) { "Pending" } else { "Running" }
}

fn container(slot: &Slot, stage: &Stage) -> ContainerStatus {
    let creating = || ("waiting", "ContainerCreating".to_owned(), String::new());
    let (word, reason, message) = match &slot.state {
        _ if matches!(stage, Stage::Sandbox { .. }) => creating(),
        SlotState::Starting => creating(),
        SlotState::Waiting { reason, message, .. } => ("waiting", reason.clone(), message.clone()),
        SlotState::Running { .. } => ("running", String::new(), String::new()),
        SlotState::Ended => {
            let reason = slot.last_exit.as_ref().map_or("Completed", |exit| exit.reason());
            ("terminated", reason.to_owned(), String::new())
        }
    };
    ContainerStatus {
        name: slot.name.clone(),
        state: word.to_owned(),
        restarts: slot.attempt,
        exit_code: slot.last_exit.as_ref().map(|exit| exit.code),
        reason,
        message,
    }
}

/// The statuses of all pods, by uid.
#[derive(Clone, Debug, Default)]
pub struct StatusBoard {
    pods: Arc<RwLock<BTreeMap<String, (PodPlan, PodStatus)>>>,
    changed: Arc<Notify>,
}

impl StatusBoard {
    /// Writes a pod's status; tells readers if it is another one.
    pub fn set(&self, plan: &PodPlan, status: PodStatus) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        let entry = (plan.clone(), status);
        if pods.get(&plan.pod.uid) != Some(&entry) {
            pods.insert(plan.pod.uid.clone(), entry);
            self.changed.notify_one();
        }
    }

    /// Forgets a pod.
    pub fn remove(&self, uid: &str) {
        self.pods.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.changed.notify_one();
    }

    /// A snapshot.
    pub fn all(&self) -> Vec<(PodPlan, PodStatus)> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Returns once something changed since the last call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
