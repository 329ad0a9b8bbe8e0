//! Whole lives of an agent, with a runtime and a network in memory: start, crash, adopt, change, delete, fail.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use netns_tools::iptables::{
    Batch, BulkRules, FakeRules, Family, Glance, IptablesError, Rules, Table,
};
use tokio::sync::{oneshot, watch};

use super::*;
use crate::network::fake::FakeNetwork;
use crate::pod::record::boot_id;
use crate::pod::status::{PodStatus, StatusBoard};
use crate::proxy::allocate::ServiceAllocator;
use crate::proxy::conntrack::fake::FakeFlows;
use crate::proxy::iptables::IptablesBackend;
use crate::proxy::model;
use crate::proxy::options::{Pace, RuleOptions};
use crate::proxy::run::{FamilyParts, Parts, Runner};
use crate::runtime::{ContainerState, FakeRuntime};
use crate::source;

mod recovery;

const IMAGE: &str = "image";

/// The world around an agent: what survives it.
struct World {
    folder: tempfile::TempDir,
    runtime: FakeRuntime,
    network: Arc<FakeNetwork>,
    rules: SharedRules,
    boot_id: String,
}

/// Rules of a kernel that outlives agents.
#[derive(Clone)]
struct SharedRules {
    kernel: Arc<Mutex<FakeRules>>,
    /// All rules after each commit.
    history: Arc<Mutex<Vec<String>>>,
}

impl Rules for SharedRules {
    fn family(&self) -> Family {
        Family::V4
    }

    fn save(&mut self, table: &str) -> Result<Table, IptablesError> {
        self.kernel.lock().unwrap().save(table)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), IptablesError> {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.commit(batch)?;
        self.history.lock().unwrap().push(kernel.to_string());
        Ok(())
    }
}

impl BulkRules for SharedRules {
    fn each_line(&mut self, line: &mut dyn FnMut(&str)) -> Result<(), IptablesError> {
        self.kernel.lock().unwrap().each_line(line)
    }

    fn restore(&mut self, input: &dyn std::fmt::Display) -> Result<(), IptablesError> {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.restore(input)?;
        self.history.lock().unwrap().push(kernel.to_string());
        Ok(())
    }

    fn check(&mut self, input: &dyn std::fmt::Display) -> Result<(), IptablesError> {
        self.kernel.lock().unwrap().check(input)
    }

    fn glance(&mut self, chains: &[(&str, &str)]) -> Result<Glance, IptablesError> {
        self.kernel.lock().unwrap().glance(chains)
    }
}

/// A running agent. Dropping it is what SIGKILL is to a real one: nothing is tidied up.
struct Agent {
    board: StatusBoard,
    errors: ErrorBoard,
    services: ServiceBoard,
    tasks: [tokio::task::JoinHandle<()>; 3],
    stop: Option<oneshot::Sender<()>>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // a thread that hangs would keep a failed test from ending
        self.network.release();
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("manifests")).unwrap();
        let runtime = FakeRuntime::with_images(&[IMAGE]);
        let kernel = Arc::new(Mutex::new(FakeRules::new(Family::V4)));
        let rules = SharedRules { kernel, history: Arc::default() };
        Self { folder, runtime, network: Arc::default(), rules, boot_id: boot_id().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn agent(&self) -> Agent {
        let (state, logs) = (self.path("state"), self.path("logs"));
        let (runtime, network) = (self.runtime.clone(), self.network.clone());
        let context = Context::new(runtime, network, &state, logs, self.boot_id.clone());
        let (board, errors) = (context.board.clone(), ErrorBoard::default());
        let (services, service_board) = (Services::default(), ServiceBoard::default());
        let directory =
            Directory::new(self.path("manifests"), "node").remembering(manifest_memory(&state));
        let (events, received) = mpsc::channel(64);
        let (options, current) = watch::channel(RuleOptions::default());
        let allocations = state.join("services.json");
        let cidrs = vec!["10.96.0.0/16".parse().unwrap()];
        let follow = services.clone().follow(Follow {
            node: "node".to_owned(),
            pods: board.clone(),
            board: service_board.clone(),
            allocator: ServiceAllocator::open(&allocations, cidrs, 30000..=32767).unwrap(),
            events,
            options,
            prepare: None,
        });
        let proxy = Runner::new(Parts {
            events: received,
            options: current,
            node: Some(model::Node::named("node")),
            families: vec![self.family()],
            pace: Pace { least: Duration::ZERO, resync: Duration::from_mins(1) },
            observer: Arc::new(service_board.clone()),
            alarm: None,
        });
        let node = Node::new(context, directory, services, errors.clone());
        let (stop_sender, stop) = oneshot::channel();
        let (_, reload) = mpsc::channel(1);
        let signals = Signals { manifests: source::watch(self.path("manifests")), reload, stop };
        let tasks =
            [tokio::spawn(node.run(signals)), tokio::spawn(follow), tokio::spawn(proxy.run())];
        Agent { board, errors, services: service_board, tasks, stop: Some(stop_sender) }
    }

    fn family(&self) -> FamilyParts {
        FamilyParts {
            backend: Box::new(IptablesBackend::new(Box::new(self.rules.clone()))),
            flows: Box::new(FakeFlows::default()),
            predecessors: Vec::new(),
        }
    }

    fn write(&self, file: &str, name: &str, extra: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n{extra}\
             \x20 containers:\n  - {{name: c, image: {IMAGE}}}\n"
        );
        fs::write(self.path("manifests").join(file), text).unwrap();
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.path("manifests").join(file)).unwrap();
    }

    /// Whether nothing is left of any pod.
    fn is_empty(&self) -> bool {
        let records = fs::read_dir(self.path("state/pods")).map_or(0, Iterator::count);
        let logs = fs::read_dir(self.path("logs")).map_or(0, Iterator::count);
        self.runtime.containers().is_empty()
            && self.network.uids().is_empty()
            && records == 0
            && logs == 0
    }
}

impl Agent {
    fn pods(&self) -> Vec<PodStatus> {
        self.board.all().into_iter().map(|(_, status)| status).collect()
    }

    async fn running(&self, name: &str) -> PodStatus {
        eventually(&format!("{name} to run"), || {
            self.pods().into_iter().find(|pod| pod.name == name && pod.is_ready())
        })
        .await
    }
}

/// Tries for ten minutes: several failures in a row add their back-offs. Where the clock is paused that takes no time; where
/// it is not, the test runner ends a test that hangs much earlier.
async fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..60_000 {
        if let Some(answer) = attempt() {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited ten minutes for {what}")
}

fn starts(world: &World) -> usize {
    world.runtime.calls().iter().filter(|call| call.starts_with("start ")).count()
}

#[tokio::test]
async fn a_pod_lives_and_leaves_nothing() {
    let world = World::new();
    let agent = world.agent();
    world.write("a.yaml", "web", "");
    let pod = agent.running("web").await;
    assert_eq!(pod.ip, "10.0.0.1");
    assert!(world.path("state/pods").join(&pod.uid).join("etc/hosts").exists());
    world.remove("a.yaml");
    eventually("nothing to be left", || {
        (agent.pods().is_empty() && world.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_agent_is_followed_by_one_that_adopts() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    world.write("b.yaml", "other", "");
    let first = world.agent();
    let before = first.running("web").await;
    let other = first.running("other").await;
    drop(first);
    // while nobody looks one manifest goes
    world.remove("b.yaml");
    let second = world.agent();
    assert_eq!(second.running("web").await, before);
    eventually("the other to be removed", || {
        (!world.network.uids().contains(&other.uid)).then_some(())
    })
    .await;
    assert_eq!(starts(&world), 2, "nothing was started again");
}

#[tokio::test]
async fn an_exit_that_nobody_saw_is_found() {
    let world = World::new();
    world.write("a.yaml", "web", "  restartPolicy: Never\n");
    let first = world.agent();
    first.running("web").await;
    drop(first);
    world.runtime.exit(&world.runtime.containers()[0].id, 4);
    let second = world.agent();
    let failed =
        eventually("the failure", || second.pods().into_iter().find(|pod| pod.phase == "Failed"))
            .await;
    assert_eq!(failed.containers[0].exit_code, Some(4));
}

#[tokio::test]
async fn a_reboot_rebuilds_the_sandbox_and_counts_on() {
    let mut world = World::new();
    world.write("a.yaml", "web", "");
    let first = world.agent();
    let before = first.running("web").await;
    drop(first);
    world.runtime.reboot();
    world.network.reboot();
    world.boot_id = "another boot".to_owned();
    let second = world.agent();
    let after = second.running("web").await;
    assert_ne!(before.ips, after.ips);
    assert_eq!(after.containers[0].restarts, 1);
    assert_eq!(world.runtime.containers().len(), 1);
}

#[tokio::test]
async fn a_changed_manifest_replaces_the_pod_in_order() {
    let world = World::new();
    let agent = world.agent();
    world.write("a.yaml", "web", "");
    let old = agent.running("web").await;
    world.write("a.yaml", "web", "  hostname: changed\n");
    let new = eventually("the new pod", || {
        agent.pods().into_iter().find(|pod| pod.uid != old.uid && pod.is_ready())
    })
    .await;
    assert_eq!(world.network.uids(), [new.uid]);
    assert_eq!(world.runtime.containers().len(), 1);
}

#[tokio::test]
async fn a_network_that_fails_is_waited_for() {
    let world = World::new();
    world.network.fail_set_up(1);
    world.write("a.yaml", "web", "");
    let agent = world.agent();
    let waiting =
        eventually("the reason", || agent.pods().into_iter().find(|pod| !pod.message.is_empty()))
            .await;
    assert_eq!(
        (waiting.phase.as_str(), waiting.reason.as_str()),
        ("Pending", "FailedCreatePodSandBox")
    );
    agent.running("web").await;
}

#[tokio::test]
async fn an_image_that_comes_later_is_found() {
    let world = World::new();
    fs::write(
        world.path("manifests/a.yaml"),
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: later}]}\n",
    )
    .unwrap();
    let agent = world.agent();
    eventually("the reason", || {
        agent.pods().into_iter().find(|pod| pod.reason == "ErrImageNeverPull")
    })
    .await;
    world.runtime.add_image("later");
    agent.running("web").await;
}

#[tokio::test]
async fn a_runtime_that_fails_is_tried_again_and_one_pod_does_not_block_another() {
    let world = World::new();
    world.runtime.fail("start", 2);
    world.write("a.yaml", "one", "");
    world.write("b.yaml", "two", "");
    let agent = world.agent();
    agent.running("one").await;
    agent.running("two").await;
    assert_eq!(world.runtime.containers().len(), 2);
}

#[tokio::test]
async fn a_teardown_that_fails_is_made_up_for() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let agent = world.agent();
    agent.running("web").await;
    world.network.fail_tear_down(1);
    world.remove("a.yaml");
    let stuck = eventually("the reason", || {
        agent.pods().into_iter().find(|pod| pod.reason == "FailedKillPod")
    })
    .await;
    assert_eq!(stuck.phase, "Terminating");
    eventually("nothing to be left", || world.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_process_that_does_not_listen_is_killed() {
    let world = World::new();
    world.runtime.ignore_sigterm("c");
    world.write("a.yaml", "web", "");
    let agent = world.agent();
    agent.running("web").await;
    world.remove("a.yaml");
    eventually("nothing to be left", || world.is_empty().then_some(())).await;
    let signals: Vec<_> =
        world.runtime.calls().into_iter().filter(|call| call.starts_with("signal")).collect();
    assert!(signals[0].ends_with(" 15") && signals[1].ends_with(" 9"), "{signals:?}");
}

#[tokio::test]
async fn a_container_without_enough_memory_says_so() {
    let world = World::new();
    world.write("a.yaml", "web", "  restartPolicy: Never\n");
    let agent = world.agent();
    agent.running("web").await;
    world.runtime.oom_kill(&world.runtime.containers()[0].id);
    let pod =
        eventually("the end", || agent.pods().into_iter().find(|pod| pod.phase == "Failed")).await;
    assert_eq!(
        (pod.containers[0].reason.as_str(), pod.containers[0].exit_code),
        ("OOMKilled", Some(137))
    );
}

#[tokio::test]
async fn a_broken_record_does_not_stop_the_agent_and_its_containers_go() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let first = world.agent();
    let pod = first.running("web").await;
    drop(first);
    fs::write(world.path("state/pods").join(&pod.uid).join("record.json"), "{").unwrap();
    world.remove("a.yaml");
    let second = world.agent();
    eventually("its containers to go", || world.runtime.containers().is_empty().then_some(()))
        .await;
    world.write("b.yaml", "other", "");
    second.running("other").await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_stops_no_pod() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let agent = world.agent();
    agent.running("web").await;
    let aside = world.path("aside");
    fs::rename(world.path("manifests"), &aside).unwrap();
    fs::write(world.path("manifests"), "a file where the folder was").unwrap();
    eventually("the error", || (!agent.errors.read().unwrap().is_empty()).then_some(())).await;
    let state = world.runtime.containers()[0].state.clone();
    assert!(matches!(state, ContainerState::Running { .. }), "{state:?}");
    assert!(Path::new(&aside).exists());
}
