//! What goes wrong around an agent, and that it recovers. The clock stands still and jumps from event to event.

use proptest::prelude::*;

use super::*;

fn service(world: &World) {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  selector: {app: web}\n  ports: [{port: 80, targetPort: 8080}]\n";
    fs::write(world.path("manifests/service.yaml"), text).unwrap();
}

fn labelled(world: &World) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{app: web}}}}\nspec:\n  containers: [{{name: c, image: {IMAGE}}}]\n"
    );
    fs::write(world.path("manifests/web.yaml"), text).unwrap();
}

impl World {
    fn history(&self) -> Vec<String> {
        self.rules.history.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_is_served_all_the_while_an_agent_is_replaced() {
    let world = World::new();
    service(&world);
    labelled(&world);
    let first = world.agent();
    let pod = first.running("web").await;
    let endpoint = format!("{}:8080", pod.ip);
    let serves = |rules: &String| rules.contains(&format!("--to-destination {endpoint}"));
    eventually("rules", || world.history().last().is_some_and(&serves).then_some(())).await;
    drop(first);
    let commits = world.history().len();
    world.runtime.fail("list", 5);
    let second = world.agent();
    second.running("web").await;
    eventually("the service", || {
        second.services.services().first().map(|service| service.ports[0].endpoints.clone())
    })
    .await;
    assert_eq!(second.services.services()[0].ports[0].endpoints, std::slice::from_ref(&endpoint));
    assert!(world.history()[commits..].iter().all(serves), "a sync without the endpoint");
}

#[tokio::test(start_paused = true)]
async fn rules_follow_a_pod_that_goes() {
    let world = World::new();
    service(&world);
    labelled(&world);
    let agent = world.agent();
    let pod = agent.running("web").await;
    world.remove("web.yaml");
    eventually("the endpoint to go", || {
        let rules = world.history().last().cloned().unwrap_or_default();
        (rules.contains("KUBE-SERVICES") && !rules.contains(&format!("{}:8080", pod.ip)))
            .then_some(())
    })
    .await;
    eventually("no endpoints to be told", || {
        let services = agent.services.services();
        services.first()?.ports[0].endpoints.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_read_at_the_start_stops_no_pod() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let first = world.agent();
    first.running("web").await;
    drop(first);
    fs::rename(world.path("manifests"), world.path("aside")).unwrap();
    fs::write(world.path("manifests"), "a file where the folder was").unwrap();
    let second = world.agent();
    eventually("the error", || (!second.errors.read().unwrap().is_empty()).then_some(())).await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(world.runtime.containers().len(), 1);
    fs::remove_file(world.path("manifests")).unwrap();
    fs::rename(world.path("aside"), world.path("manifests")).unwrap();
    second.running("web").await;
    assert_eq!(starts(&world), 1, "it was adopted");
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_broke_keeps_its_pod_over_a_restart() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let first = world.agent();
    let before = first.running("web").await;
    fs::write(world.path("manifests/a.yaml"), "kind: {").unwrap();
    drop(first);
    let second = world.agent();
    assert_eq!(second.running("web").await, before);
    let errors = second.errors.read().unwrap().clone();
    assert!(errors.iter().any(|error| error.to_string().contains("a.yaml:1")), "{errors:?}");
    world.remove("a.yaml");
    eventually("nothing to be left", || world.is_empty().then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn what_ran_to_its_end_is_not_run_again_after_a_reboot() {
    let mut world = World::new();
    world.write("a.yaml", "once", "  restartPolicy: Never\n");
    world.write("b.yaml", "until", "  restartPolicy: OnFailure\n");
    let first = world.agent();
    first.running("once").await;
    first.running("until").await;
    for container in world.runtime.containers() {
        world.runtime.exit(&container.id, 0);
    }
    let all_done = |agent: &Agent| {
        let done = agent.pods().iter().filter(|pod| pod.phase == "Succeeded").count();
        (done == 2).then_some(())
    };
    eventually("both ends", || all_done(&first)).await;
    let remembered = |uid: &String| {
        let record = fs::read_to_string(world.path("state/pods").join(uid).join("record.json"));
        record.is_ok_and(|text| text.contains("\"attempt\""))
    };
    eventually("both records", || world.network.uids().iter().all(&remembered).then_some(())).await;
    drop(first);
    world.runtime.reboot();
    world.network.reboot();
    world.boot_id = "another boot".to_owned();
    let second = world.agent();
    eventually("both ends again", || all_done(&second)).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(starts(&world), 2);
    assert_eq!(world.network.set_ups().len(), 2, "and needs no network");
    world.remove("a.yaml");
    world.remove("b.yaml");
    eventually("nothing to be left", || world.is_empty().then_some(())).await;
}

// a clock that jumps would wait for threads that hang
#[tokio::test]
async fn a_plugin_that_hangs_holds_up_its_own_pod_only() {
    let world = World::new();
    world.network.hold("stuck");
    world.write("a.yaml", "stuck", "");
    let agent = world.agent();
    eventually("the stuck pod", || agent.pods().into_iter().find(|pod| pod.name == "stuck")).await;
    for name in ["one", "two"] {
        world.write(&format!("{name}.yaml"), name, "");
    }
    agent.running("one").await;
    agent.running("two").await;
    // deleted while it is being made
    world.remove("a.yaml");
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.network.release();
    eventually("the stuck pod to be gone", || {
        (agent.pods().len() == 2 && world.network.uids().len() == 2).then_some(())
    })
    .await;
    assert_eq!(world.runtime.containers().len(), 2);
}

#[tokio::test]
async fn a_collection_that_hangs_keeps_no_pod_from_being_adopted() {
    let world = World::new();
    world.write("a.yaml", "known", "");
    let first = world.agent();
    first.running("known").await;
    drop(first);
    world.network.hold("collect");
    world.write("b.yaml", "also-known", "");
    let second = world.agent();
    second.running("known").await;
    second.running("also-known").await;
    // one that came later would look like one that nobody knows
    world.write("c.yaml", "later", "");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!world.network.set_ups().contains(&"later".to_owned()));
    world.network.release();
    second.running("later").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_is_removed_without_being_set_up() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let first = world.agent();
    first.running("web").await;
    drop(first);
    world.remove("a.yaml");
    // its network is lost, its container runs
    world.network.reboot();
    let second = world.agent();
    eventually("nothing to be left", || world.is_empty().then_some(())).await;
    assert_eq!((starts(&world), world.network.set_ups().len()), (1, 1));
    assert!(world.runtime.calls().iter().any(|call| call.ends_with(" 15")), "asked before killed");
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_still_names_a_pod() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let first = world.agent();
    let pod = first.running("web").await;
    let record = world.path("state/pods").join(&pod.uid).join("record.json");
    drop(first);
    // wanted: made anew; the old container ends with its sandbox
    fs::write(&record, "{").unwrap();
    let second = world.agent();
    second.running("web").await;
    assert!(fs::read_to_string(&record).unwrap().contains(&pod.uid));
    assert_eq!(world.runtime.containers().len(), 1);
    drop(second);
    // not wanted: removed by its folder's name alone
    fs::write(&record, "{").unwrap();
    world.remove("a.yaml");
    for container in world.runtime.containers() {
        world.runtime.remove(&container.id).await.unwrap();
    }
    let third = world.agent();
    eventually("its record and network to go", || {
        (!record.exists() && world.network.uids().is_empty()).then_some(())
    })
    .await;
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn there_and_back_again_is_the_same_pod() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let agent = world.agent();
    let first = agent.running("web").await;
    world.write("a.yaml", "web", "  hostname: changed\n");
    eventually("the change", || {
        agent.pods().into_iter().find(|pod| pod.uid != first.uid && pod.is_ready())
    })
    .await;
    world.write("a.yaml", "web", "");
    let last = eventually("the first again", || {
        agent.pods().into_iter().find(|pod| pod.uid == first.uid && pod.is_ready())
    })
    .await;
    assert_eq!(last.containers[0].restarts, 0, "what was removed does not count");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_slows_down_and_says_so() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let agent = world.agent();
    for attempt in 0..4 {
        let pod = eventually("a start", || {
            let pod = agent.pods().into_iter().find(PodStatus::is_ready)?;
            (pod.containers[0].restarts == attempt).then_some(pod)
        })
        .await;
        assert_eq!(pod.phase, "Running");
        world.runtime.exit(&world.runtime.containers()[0].id, 3);
    }
    let pod = eventually("the back-off", || {
        agent.pods().into_iter().find(|pod| pod.reason == "CrashLoopBackOff")
    })
    .await;
    let container = &pod.containers[0];
    assert_eq!((container.state.as_str(), container.exit_code), ("waiting", Some(3)));
    assert!(container.message.contains("40 s"), "{}", container.message);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_comes_late_is_waited_for_with_a_reason() {
    let world = World::new();
    world.runtime.fail("version", 10);
    world.runtime.fail("list", 3);
    world.write("a.yaml", "web", "");
    let agent = world.agent();
    agent.running("web").await;
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_leaves_everything() {
    let world = World::new();
    world.write("a.yaml", "web", "");
    let mut agent = world.agent();
    agent.running("web").await;
    agent.stop.take().unwrap().send(()).unwrap();
    (&mut agent.tasks[0]).await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let state = world.runtime.containers()[0].state.clone();
    assert!(matches!(state, ContainerState::Running { .. }), "{state:?}");
    assert_eq!(world.network.uids().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_pods_come_and_go() {
    let world = World::new();
    for number in 0..60 {
        world.write(&format!("{number}.yaml"), &format!("pod-{number}"), "");
    }
    let agent = world.agent();
    eventually("all to run", || {
        (agent.pods().iter().filter(|pod| pod.is_ready()).count() == 60).then_some(())
    })
    .await;
    (0..60).for_each(|number| world.remove(&format!("{number}.yaml")));
    eventually("nothing to be left", || world.is_empty().then_some(())).await;
}

/// Something that happens to a node.
#[derive(Clone, Debug)]
enum Mishap {
    Write(u8, u8),
    Remove(u8),
    Break(u8),
    Exit(u8, u32),
    Crash,
    Reboot,
    FailRuntime(&'static str, u32),
    FailNetwork(u32, u32),
    LoseRecord,
    Wait(u64),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let operation = prop_oneof![
        Just("create"),
        Just("start"),
        Just("signal"),
        Just("remove"),
        Just("list"),
        Just("version")
    ];
    prop_oneof![
        4 => (0u8..3, 0u8..3).prop_map(|(file, version)| Mishap::Write(file, version)),
        2 => (0u8..3).prop_map(Mishap::Remove),
        1 => (0u8..3).prop_map(Mishap::Break),
        2 => (0u8..4, 0u32..2).prop_map(|(index, code)| Mishap::Exit(index, code)),
        2 => Just(Mishap::Crash),
        1 => Just(Mishap::Reboot),
        2 => (operation, 1u32..4).prop_map(|(operation, times)| Mishap::FailRuntime(operation, times)),
        1 => (0u32..3, 0u32..3).prop_map(|(up, down)| Mishap::FailNetwork(up, down)),
        1 => Just(Mishap::LoseRecord),
        4 => (0u64..3000).prop_map(Mishap::Wait),
    ]
}

fn happen(world: &mut World, agent: &mut Option<Agent>, mishap: &Mishap) {
    let file = |number: u8| format!("{number}.yaml");
    match mishap {
        Mishap::Write(number, version) => {
            let policy = ["Always", "OnFailure", "Never"][usize::from(*version)];
            let extra = format!("  restartPolicy: {policy}\n");
            world.write(&file(*number), &format!("pod-{number}"), &extra);
        }
        Mishap::Remove(number) => {
            fs::remove_file(world.path("manifests").join(file(*number))).ok();
        }
        Mishap::Break(number) => {
            fs::write(world.path("manifests").join(file(*number)), "{").unwrap();
        }
        Mishap::Exit(index, code) => {
            if let Some(container) = world.runtime.containers().get(usize::from(*index)) {
                world.runtime.exit(&container.id, *code);
            }
        }
        Mishap::Crash => {
            agent.take();
            *agent = Some(world.agent());
        }
        Mishap::Reboot => {
            agent.take();
            world.runtime.reboot();
            world.network.reboot();
            world.boot_id.push('x');
            *agent = Some(world.agent());
        }
        Mishap::FailRuntime(operation, times) => world.runtime.fail(operation, *times),
        Mishap::FailNetwork(up, down) => {
            world.network.fail_set_up(*up);
            world.network.fail_tear_down(*down);
        }
        Mishap::LoseRecord => {
            for entry in fs::read_dir(world.path("state/pods")).into_iter().flatten().flatten() {
                fs::write(entry.path().join("record.json"), "lost").ok();
            }
        }
        Mishap::Wait(_) => {}
    }
}

/// Whatever happened: what is wanted runs at last, and when nothing is wanted nothing is left.
async fn survives(mishaps: Vec<Mishap>) {
    let mut world = World::new();
    let mut agent = Some(world.agent());
    for mishap in &mishaps {
        happen(&mut world, &mut agent, mishap);
        if let Mishap::Wait(milliseconds) = mishap {
            tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
        }
    }
    world.write("last.yaml", "last", "");
    let agent = agent.take().unwrap();
    agent.running("last").await;
    for entry in fs::read_dir(world.path("manifests")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    eventually("nothing to be left", || {
        (world.is_empty() && agent.pods().is_empty()).then_some(())
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_series_of_mishaps_is_survived(mishaps in proptest::collection::vec(mishap(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(survives(mishaps));
    }
}
