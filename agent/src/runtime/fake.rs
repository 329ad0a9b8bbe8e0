//! A runtime in memory, for tests of everything above it: it refuses what containerd refuses and fails on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::{
    ContainerInfo, ContainerSpec, ContainerState, Runtime, RuntimeError, RuntimeEvent, labels_of,
};
use crate::image::ImageInfo;

/// The fake; clones share their state, as several agents share one containerd.
#[derive(Clone, Debug, Default)]
pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeSet<String>,
    containers: BTreeMap<String, ContainerInfo>,
    failures: BTreeMap<String, u32>,
    calls: Vec<String>,
    subscribers: Vec<mpsc::Sender<RuntimeEvent>>,
    ignores_sigterm: BTreeSet<String>,
    next_pid: u32,
}

impl FakeRuntime {
    /// A runtime with some images.
    pub fn with_images(images: &[&str]) -> Self {
        let fake = Self::default();
        fake.lock().images.extend(images.iter().map(|image| (*image).to_owned()));
        fake
    }

    /// Makes an image present.
    pub fn add_image(&self, reference: &str) {
        self.lock().images.insert(reference.to_owned());
    }

    /// The next `times` calls of an operation (`create`, `start`, `signal`, `remove`, `list`) fail.
    pub fn fail(&self, operation: &str, times: u32) {
        self.lock().failures.insert(operation.to_owned(), times);
    }

    /// Containers of this name do not end on SIGTERM.
    pub fn ignore_sigterm(&self, container: &str) {
        self.lock().ignores_sigterm.insert(container.to_owned());
    }

    /// Ends a container's process.
    pub fn exit(&self, id: &str, code: u32) {
        self.lock().exit(id, code, false);
    }

    /// Ends a container's process for want of memory.
    pub fn oom_kill(&self, id: &str) {
        let mut state = self.lock();
        state.publish(&RuntimeEvent::Oom { id: id.to_owned() });
        state.exit(id, 137, true);
    }

    /// As after a reboot: containers without processes.
    pub fn reboot(&self) {
        let mut state = self.lock();
        state
            .containers
            .values_mut()
            .for_each(|container| container.state = ContainerState::Unknown);
        state.subscribers.clear();
    }

    /// What was called, as `operation object`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// The containers, by id.
    pub fn containers(&self) -> Vec<ContainerInfo> {
        self.lock().containers.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn call(&mut self, operation: &'static str, object: &str) -> Result<(), RuntimeError> {
        self.calls.push(format!("{operation} {object}"));
        match self.failures.get_mut(operation) {
            Some(times) if *times > 0 => {
                *times -= 1;
                Err(RuntimeError::Call {
                    operation,
                    object: object.to_owned(),
                    reason: "told to fail".to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    fn exit(&mut self, id: &str, code: u32, oom: bool) {
        let at = SystemTime::now();
        let Some(container) = self.containers.get_mut(id) else { return };
        if !matches!(container.state, ContainerState::Running { .. }) {
            return;
        }
        container.state = ContainerState::Exited { code, at, oom };
        self.publish(&RuntimeEvent::Exited { id: id.to_owned(), code, at });
    }

    fn publish(&mut self, event: &RuntimeEvent) {
        self.subscribers.retain(|subscriber| subscriber.try_send(event.clone()).is_ok());
    }
}

impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<String, RuntimeError> {
        self.lock().call("version", "")?;
        Ok("fake".to_owned())
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        let present = self.lock().images.contains(reference);
        Ok(present.then(|| ImageInfo { reference: reference.to_owned(), ..ImageInfo::default() }))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let mut state = self.lock();
        state.call("create", &spec.id)?;
        if !state.images.contains(&spec.image) {
            let (reference, namespace) = (spec.image.clone(), "fake".to_owned());
            return Err(RuntimeError::ImageNotPresent { reference, namespace });
        }
        let info = ContainerInfo {
            id: spec.id.clone(),
            pod: spec.pod.clone(),
            container: spec.container.clone(),
            attempt: spec.attempt,
            image: spec.image.clone(),
            labels: labels_of(spec),
            state: ContainerState::Created,
            created_at: Some(SystemTime::now()),
        };
        state.containers.insert(spec.id.clone(), info);
        Ok(())
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let mut state = self.lock();
        state.call("start", id)?;
        state.next_pid += 1;
        let pid = state.next_pid;
        let refuse = |reason: &str| RuntimeError::Call {
            operation: "start",
            object: id.to_owned(),
            reason: reason.to_owned(),
        };
        let container = state.containers.get_mut(id).ok_or_else(|| refuse("no such container"))?;
        if container.state != ContainerState::Created {
            return Err(refuse("it was started before"));
        }
        container.state = ContainerState::Running { pid };
        Ok(())
    }

    async fn signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        let mut state = self.lock();
        state.call("signal", &format!("{id} {signal}"))?;
        let ignored = state
            .containers
            .get(id)
            .is_some_and(|container| state.ignores_sigterm.contains(&container.container));
        if signal == 9 || !ignored {
            let code = 128 + u32::try_from(signal).unwrap_or(0);
            state.exit(id, code, false);
        }
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let mut state = self.lock();
        state.call("remove", id)?;
        state.exit(id, 137, false);
        state.containers.remove(id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ContainerInfo>, RuntimeError> {
        let mut state = self.lock();
        state.call("list", "")?;
        Ok(state.containers.values().cloned().collect())
    }

    async fn events(&self) -> Result<mpsc::Receiver<RuntimeEvent>, RuntimeError> {
        let (sender, receiver) = mpsc::channel(1024);
        let mut state = self.lock();
        state.subscribers.push(sender);
        state.publish(&RuntimeEvent::Resync);
        Ok(receiver)
    }
}
