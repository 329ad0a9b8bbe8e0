//! A runtime in memory, for tests of everything above it: it refuses what containerd refuses and fails on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::{
    ContainerInfo, ContainerSpec, ContainerState, Runtime, RuntimeError, RuntimeEvent, labels_of,
};
use crate::image::{self, ImageInfo};

/// The fake; clones share their state, as several agents share one containerd. Prints itself as a line for each container.
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
        fake.lock().images.extend(images.iter().map(|image| image::normalise(image)));
        fake
    }

    /// Makes an image present.
    pub fn add_image(&self, reference: &str) {
        self.lock().images.insert(image::normalise(reference));
    }

    /// Makes an image absent; containers of it stay.
    pub fn remove_image(&self, reference: &str) {
        self.lock().images.remove(&image::normalise(reference));
    }

    /// The next `times` calls of an operation (`version`, `image`, `create`, `start`, `signal`, `remove`, `list`, `events`) fail.
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

    /// The stream of events breaks and comes back, as when containerd restarts: subscribers are told to list again.
    pub fn resync(&self) {
        self.lock().publish(&RuntimeEvent::Resync);
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
        let mut state = self.lock();
        state.call("image", reference)?;
        let reference = image::normalise(reference);
        let present = state.images.contains(&reference);
        Ok(present.then(|| ImageInfo { reference, ..ImageInfo::default() }))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let mut state = self.lock();
        state.call("create", &spec.id)?;
        let reference = image::normalise(&spec.image);
        if !state.images.contains(&reference) {
            return Err(RuntimeError::ImageNotPresent { reference, namespace: "fake".to_owned() });
        }
        let refuse =
            |reason: &str| RuntimeError::Spec { id: spec.id.clone(), reason: reason.to_owned() };
        if !is_identifier(&spec.id) {
            return Err(refuse("it is not an identifier of containerd"));
        }
        let old = state.containers.get(&spec.id).map(|container| &container.state);
        if matches!(old, Some(ContainerState::Running { .. })) {
            return Err(refuse("it runs already; remove it first"));
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
        state.call("events", "")?;
        sender.try_send(RuntimeEvent::Resync).ok();
        state.subscribers.push(sender);
        Ok(receiver)
    }
}

impl fmt::Display for FakeRuntime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for container in self.lock().containers.values() {
            let ContainerInfo { id, pod, container, attempt, state, .. } = container;
            writeln!(out, "{id}: {}/{} {container} #{attempt} {state:?}", pod.namespace, pod.name)?;
        }
        Ok(())
    }
}

/// containerd's rule for ids: up to 76 letters, digits and `-_.`, the first and last a letter or digit.
fn is_identifier(id: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    id.len() <= 76 && ends(id.chars().next()) && ends(id.chars().last()) && id.chars().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            container: "c".into(),
            image: "busybox".into(),
            ..ContainerSpec::default()
        }
    }

    async fn state(fake: &FakeRuntime, id: &str) -> Option<ContainerState> {
        fake.list().await.unwrap().into_iter().find(|info| info.id == id).map(|info| info.state)
    }

    #[tokio::test]
    async fn a_life() {
        let fake = FakeRuntime::with_images(&["busybox"]);
        let mut events = fake.events().await.unwrap();
        assert_eq!(events.recv().await, Some(RuntimeEvent::Resync));
        fake.create(&spec("a")).await.unwrap();
        assert_eq!(state(&fake, "a").await, Some(ContainerState::Created));
        fake.create(&spec("a")).await.expect("what never started is replaced");
        fake.start("a").await.unwrap();
        assert_eq!(fake.to_string(), "a: / c #0 Running { pid: 1 }\n");
        fake.exit("a", 3);
        let Some(ContainerState::Exited { code: 3, at, oom: false }) = state(&fake, "a").await
        else {
            panic!("{fake}")
        };
        assert_eq!(events.recv().await, Some(RuntimeEvent::Exited { id: "a".into(), code: 3, at }));
        fake.remove("a").await.unwrap();
        fake.remove("a").await.expect("removal is idempotent");
        assert_eq!(state(&fake, "a").await, None);
    }

    #[tokio::test]
    async fn it_refuses_what_containerd_refuses() {
        let fake = FakeRuntime::with_images(&["docker.io/library/busybox:latest"]);
        assert!(fake.start("a").await.is_err(), "there is no such container");
        fake.create(&spec("a")).await.unwrap();
        fake.start("a").await.unwrap();
        assert!(fake.start("a").await.is_err(), "it was started before");
        assert!(fake.create(&spec("a")).await.unwrap_err().to_string().contains("runs already"));
        fake.exit("a", 0);
        assert!(fake.start("a").await.is_err(), "a process starts once");
        for id in ["", "-a", "a/b", &"a".repeat(77)] {
            assert!(fake.create(&spec(id)).await.is_err(), "{id}");
        }
        fake.remove_image("busybox");
        let error = fake.create(&spec("b")).await.unwrap_err();
        assert!(matches!(error, RuntimeError::ImageNotPresent { .. }), "{error}");
        assert_eq!(fake.image("busybox").await.unwrap(), None);
    }

    #[tokio::test]
    async fn failures_are_told_and_used_up() {
        let fake = FakeRuntime::with_images(&["busybox"]);
        for operation in
            ["version", "image", "create", "start", "signal", "remove", "list", "events"]
        {
            fake.fail(operation, 1);
        }
        assert!(fake.version().await.is_err() && fake.version().await.is_ok());
        assert!(fake.image("x").await.is_err() && fake.image("x").await.is_ok());
        assert!(fake.create(&spec("a")).await.is_err() && fake.create(&spec("a")).await.is_ok());
        assert!(fake.start("a").await.is_err() && fake.start("a").await.is_ok());
        assert!(fake.list().await.is_err() && fake.list().await.is_ok());
        assert!(fake.events().await.is_err() && fake.events().await.is_ok());
        assert!(fake.signal("a", 15).await.is_err());
        assert!(matches!(state(&fake, "a").await, Some(ContainerState::Running { .. })));
        assert!(fake.remove("a").await.is_err() && fake.remove("a").await.is_ok());
        let starts = fake.calls().into_iter().filter(|call| call == "start a").count();
        assert_eq!(starts, 2);
    }

    #[tokio::test]
    async fn signals_memory_and_reboots() {
        let fake = FakeRuntime::with_images(&["busybox"]);
        let mut events = fake.events().await.unwrap();
        for id in ["polite", "deaf", "eater", "lost"] {
            fake.create(&ContainerSpec { container: id.into(), ..spec(id) }).await.unwrap();
            fake.start(id).await.unwrap();
        }
        fake.ignore_sigterm("deaf");
        fake.signal("polite", 15).await.unwrap();
        fake.signal("polite", 15).await.expect("it has ended");
        fake.signal("never-was", 9).await.expect("it is gone");
        fake.signal("deaf", 15).await.unwrap();
        let exited = |state: Option<ContainerState>| match state {
            Some(ContainerState::Exited { code, oom, .. }) => Some((code, oom)),
            _ => None,
        };
        assert_eq!(exited(state(&fake, "polite").await), Some((143, false)));
        assert_eq!(exited(state(&fake, "deaf").await), None);
        fake.signal("deaf", 9).await.unwrap();
        assert_eq!(exited(state(&fake, "deaf").await), Some((137, false)));
        fake.oom_kill("eater");
        assert_eq!(exited(state(&fake, "eater").await), Some((137, true)));
        fake.resync();
        let mut kinds = Vec::new();
        while let Ok(event) = events.try_recv() {
            kinds.push(match event {
                RuntimeEvent::Resync => "resync",
                RuntimeEvent::Oom { .. } => "oom",
                RuntimeEvent::Exited { .. } => "exited",
            });
        }
        assert_eq!(kinds, ["resync", "exited", "exited", "oom", "exited", "resync"]);
        fake.reboot();
        assert_eq!(state(&fake, "lost").await, Some(ContainerState::Unknown));
        assert!(fake.start("lost").await.is_err(), "it has no process that could start");
        fake.create(&spec("lost")).await.expect("what does not run is replaced");
    }
}
