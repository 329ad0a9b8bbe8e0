//! A network in memory, for tests of everything above it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Attached, Network, NetworkError};
use crate::runtime::PodRef;

/// The fake.
#[derive(Debug, Default)]
pub struct FakeNetwork {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    attached: BTreeMap<String, Attached>,
    set_up_failures: u32,
    tear_down_failures: u32,
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
    fn set_up(&self, pod: &PodRef) -> Result<Attached, NetworkError> {
        let mut state = self.lock();
        if state.set_up_failures > 0 {
            state.set_up_failures -= 1;
            return Err(NetworkError::Plugin("told to fail".to_owned()));
        }
        state.next += 1;
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
        self.lock().attached.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        Ok(())
    }
}
