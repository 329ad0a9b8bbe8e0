//! A network in memory, for tests of everything above it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Attached, Network, NetworkError, PortMapping};
use crate::runtime::PodRef;

/// The fake.
#[derive(Debug, Default)]
pub struct FakeNetwork {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    attached: BTreeMap<String, Attached>,
    set_up_failures: u32,
    tear_down_failures: u32,
    held: BTreeSet<String>,
    set_ups: Vec<String>,
    next: u8,
}

impl FakeNetwork {
    /// The next set-ups fail.
    pub fn fail_set_up(&self, times: u32) {
        self.lock().set_up_failures = times;
    }

    /// The next teardowns fail.
    pub fn fail_tear_down(&self, times: u32) {
        self.lock().tear_down_failures = times;
    }

    /// Set-ups of pods of this name (`collect`: collections) hang, as plugins do, until [`FakeNetwork::release`].
    pub fn hold(&self, name: &str) {
        self.lock().held.insert(name.to_owned());
    }

    /// Whatever hangs goes on.
    pub fn release(&self) {
        self.lock().held.clear();
        self.released.notify_all();
    }

    /// Names of the pods that were set up, in order.
    pub fn set_ups(&self) -> Vec<String> {
        self.lock().set_ups.clone()
    }

    fn wait(&self, name: &str) -> MutexGuard<'_, State> {
        let held = |state: &mut State| state.held.contains(name);
        self.released.wait_while(self.lock(), held).unwrap_or_else(PoisonError::into_inner)
    }

    /// As after a reboot: no namespace is left.
    pub fn reboot(&self) {
        self.lock().attached.clear();
    }

    /// Uids of the pods that are attached.
    pub fn uids(&self) -> Vec<String> {
        self.lock().attached.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network for FakeNetwork {
    fn set_up(&self, pod: &PodRef, _: &[PortMapping]) -> Result<Attached, NetworkError> {
        let mut state = self.wait(&pod.name);
        state.set_ups.push(pod.name.clone());
        if state.set_up_failures > 0 {
            state.set_up_failures -= 1;
            return Err(NetworkError::Plugin("told to fail".to_owned()));
        }
        state.next = state.next.wrapping_add(1).max(1);
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, state.next));
        let attached =
            Attached { netns: "/run/netns/fake".into(), ips: vec![ip], resolv_conf: String::new() };
        state.attached.insert(pod.uid.clone(), attached.clone());
        Ok(attached)
    }

    fn current(&self, pod: &PodRef) -> Option<Attached> {
        self.lock().attached.get(&pod.uid).cloned()
    }

    fn tear_down(&self, pod: &PodRef) -> Result<(), NetworkError> {
        let mut state = self.lock();
        if state.tear_down_failures > 0 {
            state.tear_down_failures -= 1;
            return Err(NetworkError::Plugin("told to fail".to_owned()));
        }
        state.attached.remove(&pod.uid);
        Ok(())
    }

    fn collect(&self, pods: &[PodRef]) -> Result<(), NetworkError> {
        self.wait("collect").attached.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        Ok(())
    }
}
