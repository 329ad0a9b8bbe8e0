//! containerd's native API: containers, tasks and snapshots in a containerd namespace of our own.
//!
//! Works with 1.6 and newer: neither the transfer nor the sandbox service is used.

mod event;
mod image;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use containerd_client::services::v1::container::Runtime as RuntimeName;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{PrepareSnapshotRequest, RemoveSnapshotRequest};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateNamespaceRequest, CreateTaskRequest,
    DeleteContainerRequest, DeleteTaskRequest, KillRequest, ListContainersRequest,
    ListTasksRequest, Namespace, StartRequest, WaitRequest,
};
use containerd_client::types::v1::{Process, Status as TaskStatus};
use hyper_util::rt::TokioIo;
use prost_types::{Any, Timestamp};
use tokio::net::UnixStream;
use tokio::sync::{OnceCell, mpsc};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::cgroup;

use super::{
    ContainerInfo, ContainerSpec, ContainerState, Runtime, RuntimeError, RuntimeEvent, identity,
    label, labels_of, oci,
};
use crate::image::ImageInfo;

/// The shim that runs containers with runc.
const RUNC: &str = "io.containerd.runc.v2";
/// How long a single call may take: a shim that is stuck must not hold up everything else.
const CALL_LIMIT: Duration = Duration::from_mins(1);
/// The exit code of a process that was ended by SIGKILL.
const KILLED: u32 = 137;
/// How long a killed process may take to be reaped.
const REAP_LIMIT: Duration = Duration::from_secs(20);

/// How to use containerd.
#[derive(Clone, Debug)]
pub struct ContainerdOptions {
    /// The program that writes a container's output to its log: the agent itself.
    pub log_binary: PathBuf,
    /// The snapshotter.
    pub snapshotter: String,
}

/// A connection to containerd, made when it is first needed and again whenever it breaks.
#[derive(Clone, Debug)]
pub struct Containerd {
    channel: Channel,
    socket: String,
    namespace: String,
    header: MetadataValue<Ascii>,
    options: ContainerdOptions,
    namespace_made: std::sync::Arc<OnceCell<()>>,
}

impl Containerd {
    /// Prepares a connection; containerd need not run yet.
    pub fn connect(
        socket: &Path,
        namespace: &str,
        options: ContainerdOptions,
    ) -> Result<Self, RuntimeError> {
        let unusable = |reason: String| RuntimeError::Unavailable {
            socket: socket.display().to_string(),
            reason,
        };
        let header = namespace
            .parse()
            .map_err(|_| unusable(format!("{namespace:?} is not a containerd namespace")))?;
        // the address is never used: the connector knows the socket
        let endpoint =
            Endpoint::try_from("http://containerd").map_err(|error| unusable(error.to_string()))?;
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Ok(Self {
            channel: endpoint.timeout(CALL_LIMIT).connect_with_connector_lazy(connector),
            socket: socket.display().to_string(),
            namespace: namespace.to_owned(),
            header,
            options,
            namespace_made: std::sync::Arc::default(),
        })
    }

    /// A request in our namespace.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.header.clone());
        request
    }

    fn failed(&self, operation: &'static str, object: &str, status: &Status) -> RuntimeError {
        // a connection that breaks under a call is an error of this side, with a cause and no code that would tell it
        let broken = std::error::Error::source(status).is_some();
        if broken
            || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
        {
            let reason = root_cause(status);
            return RuntimeError::Unavailable { socket: self.socket.clone(), reason };
        }
        RuntimeError::Call {
            operation,
            object: object.to_owned(),
            reason: status.message().to_owned(),
        }
    }

    /// containerd refuses images and containers in a namespace that nobody has made.
    async fn ensure_namespace(&self) -> Result<(), RuntimeError> {
        let make = async {
            let namespace = Namespace { name: self.namespace.clone(), labels: HashMap::new() };
            let request = self.request(CreateNamespaceRequest { namespace: Some(namespace) });
            match NamespacesClient::new(self.channel.clone()).create(request).await {
                Ok(_) => Ok(()),
                Err(status) if status.code() == Code::AlreadyExists => Ok(()),
                Err(status) => {
                    Err(self.failed("create containerd namespace", &self.namespace, &status))
                }
            }
        };
        self.namespace_made.get_or_try_init(|| make).await.map(drop)
    }

    async fn create_container(
        &self,
        spec: &ContainerSpec,
        image: &ImageInfo,
    ) -> Result<(), RuntimeError> {
        let refuse = |reason: String| RuntimeError::Spec { id: spec.id.clone(), reason };
        let oci = oci::spec(spec, image).map_err(refuse)?;
        let value = serde_json::to_vec(&oci).map_err(|error| refuse(error.to_string()))?;
        let container = Container {
            id: spec.id.clone(),
            labels: labels_of(spec).into_iter().collect(),
            image: image.reference.clone(),
            runtime: Some(RuntimeName { name: RUNC.to_owned(), options: None }),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
                value,
            }),
            snapshotter: self.options.snapshotter.clone(),
            snapshot_key: spec.id.clone(),
            ..Container::default()
        };
        let request = self.request(CreateContainerRequest { container: Some(container) });
        let made = ContainersClient::new(self.channel.clone()).create(request).await;
        made.map(drop).map_err(|status| self.failed("create container", &spec.id, &status))
    }

    async fn create_task(
        &self,
        spec: &ContainerSpec,
        image: &ImageInfo,
    ) -> Result<(), RuntimeError> {
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.options.snapshotter.clone(),
            key: spec.id.clone(),
            parent: image.chain_id.clone(),
            labels: HashMap::new(),
        };
        let prepared =
            SnapshotsClient::new(self.channel.clone()).prepare(self.request(prepare)).await;
        let mounts = prepared
            .map_err(|status| self.failed("prepare the file system of", &spec.id, &status))?;
        let log = log_uri(&self.options.log_binary, &spec.log_path);
        let task = CreateTaskRequest {
            container_id: spec.id.clone(),
            rootfs: mounts.into_inner().mounts,
            // both, always: a shim of 1.6 dies if one of them is empty
            stdout: log.clone(),
            stderr: log,
            ..CreateTaskRequest::default()
        };
        let made = TasksClient::new(self.channel.clone()).create(self.request(task)).await;
        made.map(drop).map_err(|status| self.failed("create the process of", &spec.id, &status))
    }

    /// Kills a task and waits until it is reaped, then deletes it.
    async fn remove_task(&self, id: &str) -> Result<(), RuntimeError> {
        let mut tasks = TasksClient::new(self.channel.clone());
        self.signal(id, 9).await?;
        let wait =
            self.request(WaitRequest { container_id: id.to_owned(), exec_id: String::new() });
        // a task that was never started has nothing to wait for; deleting tells whether it is gone
        tokio::time::timeout(REAP_LIMIT, tasks.wait(wait)).await.ok();
        let delete = self.request(DeleteTaskRequest { container_id: id.to_owned() });
        absent_is_fine(tasks.delete(delete).await)
            .map_err(|status| self.failed("delete the process of", id, &status))
    }

    async fn remove_snapshot(&self, id: &str) -> Result<(), RuntimeError> {
        let remove = RemoveSnapshotRequest {
            snapshotter: self.options.snapshotter.clone(),
            key: id.to_owned(),
        };
        let removed = SnapshotsClient::new(self.channel.clone()).remove(self.request(remove)).await;
        absent_is_fine(removed)
            .map_err(|status| self.failed("remove the file system of", id, &status))
    }
}

impl Runtime for Containerd {
    async fn version(&self) -> Result<String, RuntimeError> {
        let answer = VersionClient::new(self.channel.clone()).version(self.request(())).await;
        Ok(answer
            .map_err(|status| self.failed("ask for the version of", "containerd", &status))?
            .into_inner()
            .version)
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        self.ensure_namespace().await?;
        self.find_image(reference).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let image =
            self.image(&spec.image).await?.ok_or_else(|| RuntimeError::ImageNotPresent {
                reference: crate::image::normalise(&spec.image),
                namespace: self.namespace.clone(),
            })?;
        self.unpack(&image).await?;
        self.remove(&spec.id).await?;
        self.create_container(spec, &image).await?;
        let made = self.create_task(spec, &image).await;
        if made.is_err() {
            self.remove(&spec.id).await.ok();
        }
        made
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let request =
            self.request(StartRequest { container_id: id.to_owned(), exec_id: String::new() });
        let started = TasksClient::new(self.channel.clone()).start(request).await;
        started.map(drop).map_err(|status| self.failed("start", id, &status))
    }

    async fn signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        let kill = KillRequest {
            container_id: id.to_owned(),
            exec_id: String::new(),
            signal: signal.unsigned_abs(),
            // SIGKILL to everything in the container; a polite signal to its first process, whose business the others are
            all: signal == 9,
        };
        let sent = TasksClient::new(self.channel.clone()).kill(self.request(kill)).await;
        absent_is_fine(sent).map_err(|status| self.failed("signal", id, &status))
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        self.remove_task(id).await?;
        let delete = self.request(DeleteContainerRequest { id: id.to_owned() });
        let deleted = ContainersClient::new(self.channel.clone()).delete(delete).await;
        absent_is_fine(deleted).map_err(|status| self.failed("delete container", id, &status))?;
        self.remove_snapshot(id).await
    }

    async fn list(&self) -> Result<Vec<ContainerInfo>, RuntimeError> {
        let request = self.request(ListContainersRequest { filters: Vec::new() });
        let containers = ContainersClient::new(self.channel.clone()).list(request).await;
        let containers = containers
            .map_err(|status| self.failed("list", "containers", &status))?
            .into_inner()
            .containers;
        let request = self.request(ListTasksRequest { filter: String::new() });
        let tasks = TasksClient::new(self.channel.clone()).list(request).await;
        let tasks =
            tasks.map_err(|status| self.failed("list", "tasks", &status))?.into_inner().tasks;
        let tasks: BTreeMap<_, _> = tasks.into_iter().map(|task| (task.id.clone(), task)).collect();
        let info = |container: Container| {
            let task = tasks.get(&container.id);
            container_info(container, task)
        };
        Ok(containers.into_iter().map(info).collect())
    }

    async fn events(&self) -> Result<mpsc::Receiver<RuntimeEvent>, RuntimeError> {
        Ok(self.subscribe())
    }
}

fn container_info(container: Container, task: Option<&Process>) -> ContainerInfo {
    let labels: BTreeMap<String, String> = container.labels.into_iter().collect();
    let (pod, name, attempt) = identity(&labels);
    let killed = task.is_some_and(|task| task.exit_status == KILLED);
    let oom = labels.get(label::OOM).is_some_and(|value| value == "true")
        || (killed && cgroup::was_oom_killed(&cgroup::pod_parent(&pod.uid), &container.id));
    ContainerInfo {
        pod,
        container: name,
        attempt,
        image: container.image,
        state: task.map_or(ContainerState::Unknown, |task| task_state(task, oom)),
        created_at: container.created_at.map(system_time),
        labels,
        id: container.id,
    }
}

fn task_state(task: &Process, oom: bool) -> ContainerState {
    match TaskStatus::try_from(task.status) {
        Ok(TaskStatus::Created) => ContainerState::Created,
        Ok(TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing) => {
            ContainerState::Running { pid: task.pid }
        }
        Ok(TaskStatus::Stopped) => {
            let at = task.exited_at.map_or_else(SystemTime::now, system_time);
            ContainerState::Exited { code: task.exit_status, at, oom }
        }
        Ok(TaskStatus::Unknown) | Err(_) => ContainerState::Unknown,
    }
}

fn system_time(stamp: Timestamp) -> SystemTime {
    SystemTime::try_from(stamp).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// containerd starts the program with the query's keys and values as arguments.
fn log_uri(binary: &Path, log: &Path) -> String {
    let encode = |path: &Path| {
        let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        path.as_os_str().as_encoded_bytes().iter().fold(String::new(), |mut text, &byte| {
            if keep(byte) {
                text.push(char::from(byte));
            } else {
                write!(text, "%{byte:02X}").ok();
            }
            text
        })
    };
    format!("binary://{}?{}={}", encode(binary), crate::log::COMMAND, encode(log))
}

/// What is not there is removed. containerd gives many of its errors as code Unknown, so the text decides.
fn absent_is_fine<T>(answer: Result<T, Status>) -> Result<(), Status> {
    match answer {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => {
            let gone =
                ["not found", "no such process", "process already finished", "does not exist"];
            if gone.iter().any(|words| status.message().contains(words)) {
                Ok(())
            } else {
                Err(status)
            }
        }
    }
}

/// The innermost cause: "connection refused" rather than "transport error".
fn root_cause(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if std::ptr::eq(std::ptr::from_ref(cause).cast::<()>(), std::ptr::from_ref(status).cast::<()>())
    {
        return status.message().to_owned();
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_uris_keep_odd_paths() {
        let uri =
            log_uri(Path::new("/usr/bin/heddle-agent"), Path::new("/var/log/pods/a b&c/0.log"));
        assert_eq!(
            uri,
            "binary:///usr/bin/heddle-agent?container-log=/var/log/pods/a%20b%26c/0.log"
        );
    }

    #[test]
    fn what_is_gone_is_no_error() {
        assert!(absent_is_fine::<()>(Err(Status::not_found("x"))).is_ok());
        assert!(
            absent_is_fine::<()>(Err(Status::unknown("process already finished: not found")))
                .is_ok()
        );
        assert!(absent_is_fine::<()>(Err(Status::unknown("disk on fire"))).is_err());
    }

    #[tokio::test]
    async fn nobody_there_says_what_to_do() {
        let options =
            ContainerdOptions { log_binary: "/bin/true".into(), snapshotter: "overlayfs".into() };
        let socket = tempfile::tempdir().unwrap().path().join("none.sock");
        let containerd = Containerd::connect(&socket, "test", options).unwrap();
        let error = containerd.version().await.unwrap_err().to_string();
        assert!(
            error.contains("does not answer: ") && error.contains("set containerd.socket"),
            "{error}"
        );
        assert!(error.contains("No such file"), "{error}");
    }
}
