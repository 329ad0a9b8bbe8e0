//! What the workers of all pods share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::record::Records;
use super::status::StatusBoard;
use crate::network::Network;
use crate::runtime::PodRef;

/// How many pods may be in the hands of CNI plugins at a time. More gain nothing on a node's few processors; fewer, and
/// some that hang until their time-out would hold up the others.
const NETWORK_CALLS: usize = 16;

/// What all workers share.
#[derive(Debug)]
pub struct Context<R, N> {
    /// Where containers run.
    pub runtime: R,
    /// What is on disk.
    pub records: Records,
    /// The folder of logs.
    pub logs: PathBuf,
    /// Where statuses are written.
    pub board: StatusBoard,
    /// This boot.
    pub boot_id: String,
    /// Seconds between SIGTERM and SIGKILL for pods that do not say.
    pub default_grace: u64,
    network: Arc<N>,
    network_calls: Arc<Semaphore>,
}

impl<R, N: Network> Context<R, N> {
    /// Puts a context together. `state` is the folder for what must outlive the agent.
    pub fn new(runtime: R, network: Arc<N>, state: &Path, logs: PathBuf, boot_id: String) -> Self {
        Self {
            runtime,
            records: Records::new(state),
            logs,
            board: StatusBoard::default(),
            boot_id,
            default_grace: 30,
            network,
            network_calls: Arc::new(Semaphore::new(NETWORK_CALLS)),
        }
    }

    /// Calls the network on a blocking thread. Namespaces are entered and plugins waited for there, never on a thread that
    /// serves others.
    pub async fn with_network<T: Send + 'static>(
        &self,
        call: impl FnOnce(&N) -> T + Send + 'static,
    ) -> io::Result<T> {
        let permit = self.network_calls.clone().acquire_owned().await.map_err(io::Error::other)?;
        let network = self.network.clone();
        let called = spawn_blocking(move || {
            // held as long as the call lasts, also when its worker is gone
            let _permit = permit;
            call(&network)
        });
        called.await.map_err(io::Error::other)
    }

    /// Works on files, on a blocking thread: `fsync` takes as long as the disk likes.
    pub async fn with_records<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Records) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let records = self.records.clone();
        spawn_blocking(move || call(&records)).await.map_err(io::Error::other)?
    }
}

/// The unique id of a container. containerd wants at most 76 bytes, and single dashes between letters and digits; so names
/// are cut and smoothed, and a digest tells them apart.
pub fn container_id(pod: &PodRef, container: &str, attempt: u32) -> String {
    let digest = Sha256::digest(format!("{}/{container}", pod.uid));
    let digest = &data_encoding::HEXLOWER.encode(&digest)[..10];
    let [pod, container] = [&pod.name, container].map(smooth);
    format!("{pod}-{container}-{digest}-{attempt}")
}

fn smooth(name: &str) -> String {
    let cut = &name[..name.floor_char_boundary(20)];
    let words = cut.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// The folder of a pod's logs, as the kubelet names it.
pub fn log_folder(logs: &Path, pod: &PodRef) -> PathBuf {
    logs.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_short_and_unique() {
        let pod = PodRef { namespace: "n".into(), name: "p".repeat(253), uid: "u".into() };
        let id = container_id(&pod, &"c".repeat(63), 4_000_000_000);
        assert!(id.len() <= 76, "{id}");
        // containerd refuses two separators in a row
        let pod = PodRef { name: "a--b.-c-aaaaaaaaaaaa-z".into(), ..pod };
        assert!(container_id(&pod, "x--y", 0).starts_with("a-b-c-aaaaaaaaaaaa-x-y-"));
        assert_ne!(
            container_id(&pod, &format!("{}a", "c".repeat(30)), 0),
            container_id(&pod, &format!("{}b", "c".repeat(30)), 0)
        );
    }
}
