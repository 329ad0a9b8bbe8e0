//! The containerd runtime against a real containerd, which each test starts for itself.

mod support;

use std::fs;

use heddle_agent::runtime::{
    BindMount, ContainerSpec, ContainerState, Resources, Runtime, RuntimeError, RuntimeEvent,
    UserSpec,
};
use netns_tools::testing::TestNetns;
use nix::sys::signal::{Signal, kill};
use support::{Daemon, PATIENCE, code, exited, run, running, state, until};

/// A script that ends only when it is killed.
const DEAF: &str = "trap '' TERM; echo ready; while :; do sleep 3600; done";

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
    let told = |event: &RuntimeEvent| matches!(event, RuntimeEvent::Exited { id, code: 7, .. } if id == "c1");
    assert!(seen.last().is_some_and(told), "{seen:?}");
    daemon.until_logged("c1", " stdout F ba /tmp 1000:50 host-of-pod 1 ba\n");
    daemon.until_logged("c1", " stderr F oh\n");
    for line in daemon.log("c1").lines() {
        let time = line.split(' ').next().unwrap_or_default();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
    }
    runtime.remove("c1").await.unwrap();
    daemon.nothing_is_left();
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
    daemon.until_logged("client", "stdout F hello");
    // containerd collects garbage when a lease is deleted; what create unpacked is not garbage
    let before = daemon.listed(&["snapshots", "ls"]);
    daemon.listed(&["leases", "create", "--id", "collect"]);
    daemon.listed(&["leases", "delete", "--sync", "collect"]);
    assert_eq!(daemon.listed(&["snapshots", "ls"]), before);
    for id in ["client", "server"] {
        runtime.remove(id).await.unwrap();
    }
    daemon.nothing_is_left();
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
    let for_memory =
        |state: &ContainerState| matches!(state, ContainerState::Exited { oom: true, .. });
    until(&runtime, "eater", for_memory).await;

    // a kill that is seen is noted, so that it is known to an agent that comes later
    let mut events = runtime.events().await.unwrap();
    assert_eq!(events.recv().await, Some(RuntimeEvent::Resync));
    let late = ContainerSpec {
        command: vec!["sh".into(), "-c".into(), "sleep 1; exec tail /dev/zero".into()],
        id: "late".into(),
        ..spec
    };
    run(&runtime, &late).await;
    let end = async { while !matches!(events.recv().await, Some(RuntimeEvent::Exited { .. })) {} };
    tokio::time::timeout(PATIENCE, end).await.expect("its end is told");
    let info = until(&daemon.runtime(), "late", for_memory).await;
    assert_eq!(code(&info), 137);
    run(&runtime, &daemon.spec("killed", &netns, DEAF)).await;
    runtime.signal("killed", 9).await.unwrap();
    let info = until(&runtime, "killed", exited).await;
    assert!(matches!(info.state, ContainerState::Exited { code: 137, oom: false, .. }), "{info:?}");
    for id in ["eater", "late", "killed"] {
        runtime.remove(id).await.unwrap();
    }
    daemon.nothing_is_left();
}

#[tokio::test]
async fn signals_and_removal_in_every_state() {
    let (daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    daemon.import(&[]);
    let runtime = daemon.runtime();
    let waits = "trap 'exit 5' TERM; echo ready; while :; do sleep 3600 & wait; done";
    run(&runtime, &daemon.spec("polite", &netns, waits)).await;
    daemon.until_logged("polite", "ready");
    runtime.signal("polite", 15).await.unwrap();
    assert_eq!(code(&until(&runtime, "polite", exited).await), 5);
    runtime.signal("polite", 15).await.unwrap();
    runtime.signal("never-was", 9).await.unwrap();

    let created = daemon.spec("created", &netns, waits);
    runtime.create(&created).await.unwrap();
    runtime.create(&created).await.expect("a leftover of the same id is replaced");
    run(&runtime, &daemon.spec("deaf", &netns, DEAF)).await;
    daemon.until_logged("deaf", "ready");
    runtime.signal("deaf", 15).await.unwrap();
    assert!(running(&state(&runtime, "deaf").await.unwrap().state), "it ignores SIGTERM");
    runtime.signal("deaf", 9).await.unwrap();
    assert_eq!(code(&until(&runtime, "deaf", exited).await), 137);
    run(&runtime, &daemon.spec("runs", &netns, DEAF)).await;
    for id in ["polite", "created", "deaf", "runs", "never-was", "deaf", "runs"] {
        runtime.remove(id).await.unwrap();
    }
    assert_eq!(runtime.list().await.unwrap(), []);
    daemon.nothing_is_left();
}

#[tokio::test]
async fn a_leftover_is_replaced_whatever_is_left_of_it() {
    let (mut daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    daemon.import(&[]);
    let runtime = daemon.runtime();
    let spec = daemon.spec("again", &netns, DEAF);
    run(&runtime, &spec).await;
    // what runs is nobody's leftover
    let error = runtime.create(&spec).await.unwrap_err();
    assert!(error.to_string().contains("it runs already"), "{error}");
    assert!(running(&state(&runtime, "again").await.unwrap().state));
    // no process any more
    daemon.listed(&["tasks", "rm", "-f", "again"]);
    assert_eq!(state(&runtime, "again").await.unwrap().state, ContainerState::Unknown);
    runtime.signal("again", 15).await.unwrap();
    run(&runtime, &spec).await;
    // nothing but its file system
    daemon.listed(&["tasks", "rm", "-f", "again"]);
    daemon.listed(&["containers", "rm", "--keep-snapshot", "again"]);
    run(&runtime, &spec).await;
    // its shim died while containerd was away, so that nobody watches it
    daemon.kill();
    for pid in daemon.shims() {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    daemon.launch();
    until(&runtime, "again", |state| !running(state)).await;
    run(&runtime, &spec).await;
    until(&runtime, "again", running).await;
    // ended
    runtime.signal("again", 9).await.unwrap();
    until(&runtime, "again", exited).await;
    run(&runtime, &spec).await;
    until(&runtime, "again", running).await;
    runtime.remove("again").await.unwrap();
    daemon.nothing_is_left();
}

#[tokio::test]
async fn a_container_that_cannot_be_made_leaves_nothing() {
    let (daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    daemon.import(&[]);
    let runtime = daemon.runtime();
    let no_such_command =
        ContainerSpec { command: vec!["/no/such".into()], ..daemon.spec("c", &netns, "") };
    let mount =
        BindMount { host: daemon.path("missing"), container: "/etc/hosts".into(), read_only: true };
    let no_such_file = ContainerSpec { mounts: vec![mount], ..daemon.spec("m", &netns, "") };
    for (spec, words) in [(no_such_command, "/no/such"), (no_such_file, "missing")] {
        let made = match runtime.create(&spec).await {
            Ok(()) => runtime.start(&spec.id).await,
            refused => refused,
        };
        let error = made.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(runtime.list().await.unwrap(), []);
    daemon.nothing_is_left();
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
    // its output is written without containerd, too
    daemon.until_logged("short", "still writing");
    daemon.launch();
    assert_eq!(code(&until(&runtime, "short", exited).await), 9);
    assert_eq!(until(&runtime, "long", running).await.state, pid);
    let again = async { while events.recv().await != Some(RuntimeEvent::Resync) {} };
    tokio::time::timeout(PATIENCE, again).await.expect("events come again");
    for id in ["short", "long"] {
        runtime.remove(id).await.unwrap();
    }
    daemon.nothing_is_left();
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named() {
    let (daemon, netns) = (Daemon::start(), TestNetns::new("ctd"));
    let runtime = daemon.runtime();
    assert_eq!(runtime.image("nothing").await.unwrap(), None);
    let error = runtime.create(&daemon.spec("c", &netns, "")).await.unwrap_err();
    assert!(matches!(error, RuntimeError::ImageNotPresent { .. }), "{error}");
    assert!(error.to_string().contains("images import"), "{error}");
    daemon.nothing_is_left();
}
