//! Running containers: what the agent asks of a container runtime, whatever it is.

pub mod containerd;
pub mod device;
pub mod fake;
pub mod oci;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::SystemTime;

use tokio::sync::mpsc;

pub use containerd::Containerd;
pub use fake::FakeRuntime;

use crate::image::ImageInfo;

/// Labels that tie a container to its pod; together with the exit that containerd keeps they are all that a restart needs.
pub mod label {
    /// Namespace of the pod.
    pub const POD_NAMESPACE: &str = "heddle.dev/pod-namespace";
    /// Name of the pod.
    pub const POD_NAME: &str = "heddle.dev/pod-name";
    /// Uid of the pod.
    pub const POD_UID: &str = "heddle.dev/pod-uid";
    /// Name of the container in its pod.
    pub const CONTAINER: &str = "heddle.dev/container";
    /// How many containers of that name came before, in decimal.
    pub const ATTEMPT: &str = "heddle.dev/attempt";
    /// `true` once the kernel killed a process of it for want of memory.
    pub const OOM: &str = "heddle.dev/oom-killed";
    /// The cgroup that the container's own is below.
    pub const CGROUP_PARENT: &str = "heddle.dev/cgroup-parent";
}

/// Which pod a container belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

/// Who runs a container's process. `None` leaves it to the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSpec {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Supplemental groups.
    pub groups: Vec<u32>,
}

/// Limits of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Relative weight; 1024 is one CPU.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time in each period.
    pub cpu_quota: Option<i64>,
    /// The period, in microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<i64>,
}

/// A file or folder of the node that appears in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    /// Path on the node.
    pub host: PathBuf,
    /// Path in the container.
    pub container: String,
    /// Whether the container may not write.
    pub read_only: bool,
}

/// Everything that is needed to create a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Unique id in the runtime.
    pub id: String,
    /// The pod.
    pub pod: PodRef,
    /// The container's name in the pod.
    pub container: String,
    /// How many containers of that name came before.
    pub attempt: u32,
    /// Image reference, as written.
    pub image: String,
    /// Replaces the image's entrypoint, if not empty.
    pub command: Vec<String>,
    /// Replaces the image's command, if not empty.
    pub args: Vec<String>,
    /// Environment, on top of the image's.
    pub env: Vec<(String, String)>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Replaces the image's user.
    pub user: UserSpec,
    /// Limits.
    pub resources: Resources,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// The pod's host name.
    pub hostname: String,
    /// The file that output goes to, in the CRI log format.
    pub log_path: PathBuf,
    /// The pod's cgroup, below which the container gets its own.
    pub cgroup_parent: String,
    /// Files of the pod (`/etc/hosts` and such).
    pub mounts: Vec<BindMount>,
    /// All capabilities and devices.
    pub privileged: bool,
    /// More labels, besides those of [`label`].
    pub labels: BTreeMap<String, String>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running {
        /// Process id on the node.
        pid: u32,
    },
    /// Ended.
    Exited {
        /// Exit code; 128 + the signal's number if it was killed.
        code: u32,
        /// When.
        at: SystemTime,
        /// Whether for want of memory.
        oom: bool,
    },
    /// It has no process that the runtime knows of: for instance after a reboot.
    Unknown,
}

/// One container as the runtime knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Unique id.
    pub id: String,
    /// The pod.
    pub pod: PodRef,
    /// Its name in the pod.
    pub container: String,
    /// How many came before.
    pub attempt: u32,
    /// Image reference.
    pub image: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Option<SystemTime>,
}

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// Its process ended.
    Exited {
        /// The container.
        id: String,
        /// Exit code.
        code: u32,
        /// When.
        at: SystemTime,
    },
    /// The kernel killed one of its processes for want of memory. An `Exited` follows if that was the first.
    Oom {
        /// The container.
        id: String,
    },
    /// The stream of events was (re-)established: whatever happened before is to be read with `list`.
    Resync,
}

/// A request to the runtime that failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RuntimeError {
    /// Nobody answers.
    #[error("containerd at {socket} does not answer: {reason}; start it, or set containerd.socket")]
    Unavailable {
        /// The socket.
        socket: String,
        /// Why.
        reason: String,
    },
    /// The image is not in the runtime's store.
    #[error(
        "image {reference} is not present in containerd's namespace {namespace}; import it: ctr -n {namespace} images import FILE"
    )]
    ImageNotPresent {
        /// The reference, normalised.
        reference: String,
        /// The namespace.
        namespace: String,
    },
    /// The image cannot be used.
    #[error("image {reference}: {reason}")]
    Image {
        /// The reference.
        reference: String,
        /// What is wrong.
        reason: String,
    },
    /// The container cannot be described to the runtime.
    #[error("container {id}: {reason}")]
    Spec {
        /// The container.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The runtime refused.
    #[error("cannot {operation} {object}: {reason}")]
    Call {
        /// What was tried.
        operation: &'static str,
        /// The object.
        object: String,
        /// The runtime's words.
        reason: String,
    },
}

/// A container runtime. Every method may be called again after a failure.
pub trait Runtime: Send + Sync + 'static {
    /// The runtime's version; also a proof that it answers.
    fn version(&self) -> impl Future<Output = Result<String, RuntimeError>> + Send;
    /// Looks an image up. `None`: it is not present.
    fn image(
        &self,
        reference: &str,
    ) -> impl Future<Output = Result<Option<ImageInfo>, RuntimeError>> + Send;
    /// Makes a container, ready to start. A leftover of the same id that does not run is replaced; one that runs is an error.
    fn create(&self, spec: &ContainerSpec)
    -> impl Future<Output = Result<(), RuntimeError>> + Send;
    /// Starts a container that was made.
    fn start(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;
    /// Sends a signal to all of a container's processes; to one that has ended it does nothing.
    fn signal(
        &self,
        id: &str,
        signal: i32,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;
    /// Removes a container and all that it has, killing it if it runs. Idempotent.
    fn remove(&self, id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;
    /// All containers of our namespace.
    fn list(&self) -> impl Future<Output = Result<Vec<ContainerInfo>, RuntimeError>> + Send;
    /// Subscribes to events. The first is `Resync`.
    fn events(
        &self,
    ) -> impl Future<Output = Result<mpsc::Receiver<RuntimeEvent>, RuntimeError>> + Send;
}

/// The labels of a container.
pub fn labels_of(spec: &ContainerSpec) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    labels.extend(
        [
            (label::POD_NAMESPACE, spec.pod.namespace.clone()),
            (label::POD_NAME, spec.pod.name.clone()),
            (label::POD_UID, spec.pod.uid.clone()),
            (label::CONTAINER, spec.container.clone()),
            (label::ATTEMPT, spec.attempt.to_string()),
            (label::CGROUP_PARENT, spec.cgroup_parent.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    labels
}

/// The pod, name and attempt that a container's labels tell.
pub fn identity(labels: &BTreeMap<String, String>) -> (PodRef, String, u32) {
    let get = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let pod = PodRef {
        namespace: get(label::POD_NAMESPACE),
        name: get(label::POD_NAME),
        uid: get(label::POD_UID),
    };
    (pod, get(label::CONTAINER), get(label::ATTEMPT).parse().unwrap_or(0))
}
