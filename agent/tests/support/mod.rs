//! A containerd of a test's own, and what the tests ask of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use heddle_agent::cgroup;
use heddle_agent::runtime::containerd::ContainerdOptions;
use heddle_agent::runtime::{
    ContainerInfo, ContainerSpec, ContainerState, Containerd, PodRef, Runtime,
};
use netns_tools::testing::TestNetns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const IMAGE: &str = "heddle.dev/demo/busybox:1";
pub const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);

/// A containerd with its own folders, ended with everything that it started when this goes out of scope.
pub struct Daemon {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Daemon {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{at}/containerd.sock\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{at}/opt\"\n"
        );
        fs::write(folder.path().join("config.toml"), config).unwrap();
        let mut daemon = Self { folder, child: None };
        daemon.launch();
        daemon
    }

    pub fn launch(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("containerd.log"))
            .unwrap();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(self.path("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd is installed");
        self.child = Some(child);
        eventually("containerd answers", || {
            let answer = self.ctr(&["version"]);
            if answer.status.success() { Ok(()) } else { Err(text(&answer.stderr)) }
        });
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn ctr(&self, args: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.path("containerd.sock"))
            .args(["--namespace", &self.namespace()])
            .args(args);
        command.output().expect("ctr is installed")
    }

    /// Imports the demo's image, as a user does; `more` are further options.
    pub fn import(&self, more: &[&str]) {
        let archive = self.path("image.tar");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/image");
        let built = Command::new(script).arg(&archive).output().expect("ci/image runs");
        assert!(built.status.success(), "{}", text(&built.stderr));
        let archive = archive.display().to_string();
        let imported = self.ctr(&[&["images", "import"], more, &[archive.as_str()]].concat());
        assert!(imported.status.success(), "{}", text(&imported.stderr));
    }

    pub fn runtime(&self) -> Containerd {
        let options = ContainerdOptions {
            log_binary: env!("CARGO_BIN_EXE_heddle-agent").into(),
            snapshotter: "overlayfs".to_owned(),
        };
        Containerd::connect(&self.path("containerd.sock"), &self.namespace(), options).unwrap()
    }

    fn uid(&self) -> String {
        self.folder.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned()
    }

    /// runc's state is the machine's own, ordered by containerd's namespaces: one for each test.
    fn namespace(&self) -> String {
        format!("heddle-t-{}", self.uid())
    }

    /// A container that runs a shell script.
    pub fn spec(&self, id: &str, netns: &TestNetns, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.to_owned(),
            pod: PodRef { namespace: "default".into(), name: "pod".into(), uid: self.uid() },
            container: id.to_owned(),
            image: IMAGE.to_owned(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            netns: netns.ns().path().to_owned(),
            hostname: "host-of-pod".into(),
            log_path: self.path("logs").join(id).join("0.log"),
            cgroup_parent: cgroup::pod_parent(&self.uid()),
            ..ContainerSpec::default()
        }
    }

    pub fn log(&self, id: &str) -> String {
        fs::read_to_string(self.path("logs").join(id).join("0.log")).unwrap_or_default()
    }

    /// Waits until a container's log holds some words.
    pub fn until_logged(&self, id: &str, words: &str) {
        eventually(&format!("{id} logs {words:?}"), || match self.log(id) {
            log if log.contains(words) => Ok(()),
            log => Err(log),
        });
    }

    /// Processes of shims that belong to this containerd, by its address in their arguments.
    pub fn shims(&self) -> Vec<Pid> {
        let address = self.path("containerd.sock").display().to_string();
        processes(|args| args.contains("containerd-shim") && args.contains(&address))
    }

    /// Processes that write this test's logs.
    pub fn log_writers(&self) -> Vec<Pid> {
        let logs = self.path("logs").display().to_string();
        processes(|args| args.contains("container-log") && args.contains(&logs))
    }

    /// Mounts below the test's folder, the latest first.
    fn mounts(&self) -> Vec<String> {
        let inside = format!("{}/", self.folder.path().display());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
        points.filter(|at| at.starts_with(&inside)).map(str::to_owned).collect()
    }

    /// Folders of the test's pod in all cgroup hierarchies.
    fn cgroups(&self) -> Vec<PathBuf> {
        let below = cgroup::pod_parent(&self.uid()).trim_start_matches('/').to_owned();
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
        let roots = hierarchies.map(|entry| entry.path()).chain([root.to_owned()]);
        roots.map(|root| root.join(&below)).filter(|folder| folder.exists()).collect()
    }

    fn runc_state(&self) -> PathBuf {
        Path::new("/run/containerd/runc").join(self.namespace())
    }

    /// What `ctr` lists, without the heading.
    pub fn listed(&self, args: &[&str]) -> Vec<String> {
        let output = self.ctr(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// Everything that containers leave behind on the machine, described.
    fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(self.listed(&["containers", "ls", "-q"]));
        found.extend(self.listed(&["tasks", "ls", "-q"]));
        found.extend(self.listed(&["leases", "ls", "-q"]));
        let snapshots = self.listed(&["snapshots", "ls"]).into_iter();
        found.extend(snapshots.filter(|line| line.contains("Active")));
        found.extend(self.shims().iter().map(|pid| format!("shim {pid}")));
        found.extend(self.log_writers().iter().map(|pid| format!("log writer {pid}")));
        found.extend(self.mounts());
        let states = fs::read_dir(self.runc_state()).into_iter().flatten().flatten();
        found.extend(states.map(|entry| format!("state of runc: {}", entry.path().display())));
        found
    }

    /// Proves that nothing stays after the last container was removed; what ends by itself may take a moment.
    pub fn nothing_is_left(&self) {
        eventually("everything is gone", || match self.leftovers() {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{found:#?}")),
        });
        cgroup::remove(&cgroup::pod_parent(&self.uid())).unwrap();
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            for id in text(&self.ctr(&["containers", "ls", "-q"]).stdout).lines() {
                self.ctr(&["tasks", "rm", "-f", id]);
                self.ctr(&["containers", "rm", id]);
            }
        }
        self.kill();
        for pid in self.shims() {
            kill(pid, Signal::SIGKILL).ok();
        }
        // a killed shim leaves its container and its socket
        let runc = self.runc_state();
        for state in fs::read_dir(&runc).into_iter().flatten().flatten() {
            let mut delete = Command::new("runc");
            delete.arg("--root").arg(&runc).args(["delete", "--force"]).arg(state.file_name());
            delete.output().ok();
        }
        fs::remove_dir_all(runc).ok();
        let tasks = self.path("state/io.containerd.runtime.v2.task").join(self.namespace());
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            let address = fs::read_to_string(task.path().join("address")).unwrap_or_default();
            if let Some(socket) = address.trim().strip_prefix("unix://") {
                fs::remove_file(socket).ok();
            }
        }
        for mount in self.mounts() {
            Command::new("umount").args(["-l", &mount]).output().ok();
        }
        // the kernel takes a moment to empty the cgroup of what was killed
        let start = Instant::now();
        while cgroup::remove(&cgroup::pod_parent(&self.uid())).is_err()
            && start.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(PAUSE);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn processes(wanted: impl Fn(&str) -> bool) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    pids.filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|args| wanted(&args))
    })
    .map(Pid::from_raw)
    .collect()
}

/// Tries until it works; the last failure is the message.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) => assert!(start.elapsed() < PATIENCE, "waited until {what}: {reason}"),
        }
        std::thread::sleep(PAUSE);
    }
}

pub async fn state(runtime: &Containerd, id: &str) -> Option<ContainerInfo> {
    runtime.list().await.ok()?.into_iter().find(|info| info.id == id)
}

/// Waits until a container is in a state that the test wants.
pub async fn until(
    runtime: &Containerd,
    id: &str,
    wanted: impl Fn(&ContainerState) -> bool,
) -> ContainerInfo {
    let start = Instant::now();
    loop {
        let info = state(runtime, id).await;
        match info {
            Some(info) if wanted(&info.state) => return info,
            other => assert!(start.elapsed() < PATIENCE, "waited for {id}, which is {other:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

pub fn exited(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Exited { .. })
}

pub fn running(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Running { .. })
}

pub fn code(info: &ContainerInfo) -> u32 {
    match info.state {
        ContainerState::Exited { code, .. } => code,
        ref other => panic!("{} is {other:?}", info.id),
    }
}

pub async fn run(runtime: &Containerd, spec: &ContainerSpec) {
    runtime.create(spec).await.unwrap();
    runtime.start(&spec.id).await.unwrap();
}
