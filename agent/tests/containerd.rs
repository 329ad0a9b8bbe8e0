//! The containerd runtime against a real containerd, which each test starts for itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heddle_agent::cgroup;
use heddle_agent::runtime::containerd::ContainerdOptions;
use heddle_agent::runtime::{
    BindMount, ContainerInfo, ContainerSpec, ContainerState, Containerd, PodRef, Resources,
    Runtime, RuntimeError, RuntimeEvent, UserSpec,
};
use netns_tools::testing::TestNetns;

const IMAGE: &str = "heddle.dev/demo/busybox:1";
const PATIENCE: Duration = Duration::from_mins(1);

/// A containerd with its own folders, ended with everything that it started when this goes out of scope.
struct Daemon {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Daemon {
    fn start() -> Self {
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

    fn launch(&mut self) {
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
        let start = Instant::now();
        while !self.ctr(&["version"]).status.success() {
            assert!(start.elapsed() < PATIENCE, "containerd does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ctr(&self, args: &[&str]) -> std::process::Output {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.path("containerd.sock"))
            .args(["--namespace", &self.namespace()])
            .args(args);
        command.output().expect("ctr is installed")
    }

    /// Imports the demo's image, as a user does; `more` are further options.
    fn import(&self, more: &[&str]) {
        let archive = self.path("image.tar");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/image");
        let built = Command::new(script).arg(&archive).output().expect("ci/image runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let archive = archive.display().to_string();
        let imported = self.ctr(&[&["images", "import"], more, &[archive.as_str()]].concat());
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    }

    fn runtime(&self) -> Containerd {
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
    fn spec(&self, id: &str, netns: &TestNetns, script: &str) -> ContainerSpec {
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

    fn log(&self, id: &str) -> String {
        fs::read_to_string(self.path("logs").join(id).join("0.log")).unwrap_or_default()
    }

    /// Processes of shims that belong to this containerd, by its address in their arguments.
    fn shims(&self) -> Vec<i32> {
        let address = self.path("containerd.sock").display().to_string();
        let is_shim =
            |command: &str| command.contains("containerd-shim") && command.contains(&address);
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok())
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|command| is_shim(&command))
            })
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            for id in String::from_utf8_lossy(&self.ctr(&["containers", "ls", "-q"]).stdout).lines()
            {
                self.ctr(&["tasks", "kill", "-s", "9", "-a", id]);
                self.ctr(&["tasks", "rm", "-f", id]);
                self.ctr(&["containers", "rm", id]);
            }
        }
        self.kill();
        for pid in self.shims() {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            )
            .ok();
        }
        let inside = self.folder.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|at| at.starts_with(&inside))
        {
            Command::new("umount").args(["-l", mount]).status().ok();
        }
        cgroup::remove(&cgroup::pod_parent(&self.uid())).ok();
        let runc = Path::new("/run/containerd/runc").join(self.namespace());
        for state in fs::read_dir(&runc).into_iter().flatten().flatten() {
            Command::new("runc")
                .arg("--root")
                .arg(&runc)
                .args(["delete", "--force"])
                .arg(state.file_name())
                .status()
                .ok();
        }
        fs::remove_dir_all(runc).ok();
    }
}

async fn state(runtime: &Containerd, id: &str) -> Option<ContainerInfo> {
    runtime.list().await.ok()?.into_iter().find(|info| info.id == id)
}

/// Waits until a container is in a state that the test wants.
async fn until(
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
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn exited(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Exited { .. })
}

fn running(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Running { .. })
}

fn code(info: &ContainerInfo) -> u32 {
    match info.state {
        ContainerState::Exited { code, .. } => code,
        ref other => panic!("{} is {other:?}", info.id),
    }
}

async fn run(runtime: &Containerd, spec: &ContainerSpec) {
    runtime.create(spec).await.unwrap();
    runtime.start(&spec.id).await.unwrap();
}

#[tokio::test]
async fn a_container_sees_what_it_was_given_and_its_end_is_told() {
    let (daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    daemon.import(&[]);
    let runtime = daemon.runtime();
    let mut events = runtime.events().await.unwrap();
    fs::write(daemon.path("hosts"), "127.0.0.1 of-the-pod\n").unwrap();
    let script = "echo $A $PWD $(id -u):$(id -g) $(hostname) $(grep -c of-the-pod /etc/hosts) $0; echo oh >&2; exit 7";
    let spec = ContainerSpec {
        args: vec!["$(A)".into()],
        env: vec![("B".into(), "b".into()), ("A".into(), "$(B)a".into())],
        working_dir: Some("/tmp".into()),
        user: UserSpec { uid: Some(1000), gid: Some(50), groups: vec![] },
        mounts: vec![BindMount {
            host: daemon.path("hosts"),
            container: "/etc/hosts".into(),
            read_only: true,
        }],
        ..daemon.spec("c1", &netns, script)
    };
    run(&runtime, &spec).await;
    let info = until(&runtime, "c1", exited).await;
    assert_eq!((code(&info), info.pod, info.container.as_str()), (7, spec.pod.clone(), "c1"));
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(RuntimeEvent::Exited { .. })) {
        seen.push(tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap());
    }
    assert_eq!(seen[0], RuntimeEvent::Resync);
    let start = Instant::now();
    while daemon.log("c1").lines().count() < 2 {
        assert!(start.elapsed() < PATIENCE, "the log is {:?}", daemon.log("c1"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = daemon.log("c1");
    assert!(
        log.contains(" stdout F ba /tmp 1000:50 host-of-pod 1 ba\n")
            && log.contains(" stderr F oh\n"),
        "{log}"
    );
}

#[tokio::test]
async fn containers_of_a_pod_share_localhost() {
    let (daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    // not unpacked on import: creating the first container does it
    daemon.import(&["--no-unpack"]);
    let lo = netns.link("lo");
    netns.netlink().set_up(lo.index).unwrap();
    let runtime = daemon.runtime();
    run(
        &runtime,
        &daemon.spec(
            "server",
            &netns,
            "echo hello >/www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www",
        ),
    )
    .await;
    let client = "until wget -qO- http://127.0.0.1:8080/; do sleep 0.1; done";
    run(&runtime, &daemon.spec("client", &netns, client)).await;
    assert_eq!(code(&until(&runtime, "client", exited).await), 0);
    assert!(daemon.log("client").contains("stdout F hello"));
}

#[tokio::test]
async fn memory_limits_are_kept_and_told() {
    let (daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    daemon.import(&[]);
    let runtime = daemon.runtime();
    let spec = ContainerSpec {
        resources: Resources { memory_limit: Some(16 << 20), ..Resources::default() },
        // tail keeps all of a line that never ends
        command: vec!["tail".into(), "/dev/zero".into()],
        ..daemon.spec("eater", &netns, "")
    };
    run(&runtime, &spec).await;
    let info = until(&runtime, "eater", exited).await;
    assert_eq!(code(&info), 137);
    // it died before anybody could watch, and is known all the same
    until(&runtime, "eater", |state| matches!(state, ContainerState::Exited { oom: true, .. }))
        .await;
}

#[tokio::test]
async fn signals_and_removal_in_every_state() {
    let (daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    daemon.import(&[]);
    let runtime = daemon.runtime();
    let waits = "trap 'exit 5' TERM; echo ready; while :; do sleep 3600 & wait; done";
    run(&runtime, &daemon.spec("polite", &netns, waits)).await;
    let start = Instant::now();
    while !daemon.log("polite").contains("ready") {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    runtime.signal("polite", 15).await.unwrap();
    assert_eq!(code(&until(&runtime, "polite", exited).await), 5);
    runtime.signal("polite", 15).await.unwrap();
    runtime.signal("never-was", 9).await.unwrap();

    let created = daemon.spec("created", &netns, waits);
    runtime.create(&created).await.unwrap();
    runtime.create(&created).await.expect("a leftover of the same id is replaced");
    run(&runtime, &daemon.spec("deaf", &netns, "trap '' TERM; while :; do sleep 3600; done")).await;
    for id in ["polite", "created", "deaf", "never-was", "deaf"] {
        runtime.remove(id).await.unwrap();
    }
    assert_eq!(runtime.list().await.unwrap(), []);
    let snapshots = String::from_utf8(daemon.ctr(&["snapshots", "ls"]).stdout).unwrap();
    assert!(!snapshots.contains("Active"), "{snapshots}");
    let start = Instant::now();
    while !daemon.shims().is_empty() {
        assert!(start.elapsed() < PATIENCE, "shims stay");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn containerd_may_die_and_come_back() {
    let (mut daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    daemon.import(&[]);
    let runtime = daemon.runtime();
    let mut events = runtime.events().await.unwrap();
    assert_eq!(events.recv().await, Some(RuntimeEvent::Resync));
    let mount =
        BindMount { host: daemon.path("shared"), container: "/shared".into(), read_only: true };
    fs::create_dir(daemon.path("shared")).unwrap();
    let waits = "until [ -e /shared/stop ]; do sleep 0.05; done; echo still writing; exit 9";
    let shared = ContainerSpec { mounts: vec![mount], ..daemon.spec("short", &netns, waits) };
    run(&runtime, &shared).await;
    run(&runtime, &daemon.spec("long", &netns, "while :; do sleep 3600; done")).await;
    until(&runtime, "short", running).await;
    let pid = until(&runtime, "long", running).await.state;

    daemon.kill();
    let error = runtime.list().await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unavailable { .. }), "{error}");
    fs::write(daemon.path("shared/stop"), "").unwrap();
    let start = Instant::now();
    while !daemon.log("short").contains("still writing") {
        assert!(start.elapsed() < PATIENCE, "its output is written without containerd, too");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.launch();
    assert_eq!(code(&until(&runtime, "short", exited).await), 9);
    assert_eq!(until(&runtime, "long", running).await.state, pid);
    let again = async { while events.recv().await != Some(RuntimeEvent::Resync) {} };
    tokio::time::timeout(PATIENCE, again).await.expect("events come again");
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named() {
    let (daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    let runtime = daemon.runtime();
    assert_eq!(runtime.image("nothing").await.unwrap(), None);
    let error = runtime.create(&daemon.spec("c", &netns, "")).await.unwrap_err();
    assert!(matches!(error, RuntimeError::ImageNotPresent { .. }), "{error}");
    assert!(error.to_string().contains("images import"), "{error}");
}
