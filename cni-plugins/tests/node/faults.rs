//! Proof that an ADD is all or nothing: every step of it is made to fail, and the process made to die there.
//!
//! The steps are those of `cni_plugins::step`, found out one by one: the proof ends with the first number that no step has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Node, Pod, Suite, state};

/// How long the kernel may take to finish what it does in the background.
const PATIENCE: Duration = Duration::from_secs(20);
/// No plugin takes as many steps.
const MANY: usize = 100;

/// One line for each thing that there is.
type Inventory = BTreeSet<String>;

/// A scene to try an ADD in: a fresh node, a pod, the configuration, and what stays by design.
pub struct Scene {
    pub node: Node,
    pub pod: Pod,
    pub conf: Value,
}

/// Tries every fault of an ADD of `plugin`. `scene` makes a fresh scene; `shared` says of a difference (a line such as
/// `addr: … is missing`) that it is what all attachments of a node share, and stays as after any DEL: a bridge, a chain that is
/// jumped to.
pub fn prove(plugin: &str, scene: impl Fn() -> Scene, shared: impl Fn(&str) -> bool) {
    prove_but(plugin, scene, shared, |_| false);
}

/// The same. `lost` says of a difference that nobody knows any more what was there when the process has died.
pub fn prove_but(
    plugin: &str,
    scene: impl Fn() -> Scene,
    shared: impl Fn(&str) -> bool,
    lost: impl Fn(&str) -> bool,
) {
    let mut steps = 0;
    while try_step(plugin, &scene, &shared, &lost, steps) {
        steps += 1;
        assert!(steps < MANY, "{plugin} has no last step");
    }
    assert!(steps > 0, "{plugin} takes no step: is it written as steps, and is this a test build?");
    println!("{plugin}: {steps} steps, each failed and died before and after");
}

/// `false`: there is no such step.
fn try_step(
    plugin: &str,
    scene: &impl Fn() -> Scene,
    shared: &impl Fn(&str) -> bool,
    lost: &impl Fn(&str) -> bool,
    number: usize,
) -> bool {
    for side in ["before", "after"] {
        for how in ["fail", "die"] {
            let fault = format!("{number}:{side}:{how}");
            let Scene { node, pod, conf } = scene();
            let before = at_rest(&node, &pod);
            let env = [("HEDDLE_FAULT", fault.as_str())];
            let answer = node.call_with(plugin, "ADD", &pod, &conf, &env);
            if answer.ok {
                // The process ended without meeting the step.
                return false;
            }
            if how == "fail" {
                let (_, msg) = answer.error();
                assert!(
                    msg.contains(&format!("HEDDLE_FAULT struck {side}")),
                    "{fault}: {answer:#?}"
                );
                same(plugin, &fault, &before, &node, &pod, shared);
                continue;
            }
            assert_eq!(answer.code, None, "{fault}: {answer:#?}");
            // What a runtime does after a failed ADD.
            node.del(plugin, &pod, &conf);
            let meant = |line: &str| shared(line) || lost(line);
            same(plugin, &fault, &before, &node, &pod, &meant);
            // And the container can be attached after all.
            node.add(plugin, &pod, &conf);
        }
    }
    true
}

fn same(
    plugin: &str,
    fault: &str,
    before: &Inventory,
    node: &Node,
    pod: &Pod,
    shared: &impl Fn(&str) -> bool,
) {
    let start = Instant::now();
    loop {
        let after = inventory(node, pod);
        let left: Vec<_> =
            before.symmetric_difference(&after).filter(|line| !shared(line)).collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{plugin}, {fault}, leaves or takes: {left:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The inventory as soon as the kernel has done what it does in the background after a scene was made.
fn at_rest(node: &Node, pod: &Pod) -> Inventory {
    // Either's rest may need the other's.
    state::come_to_rest(&node.ns);
    state::come_to_rest(&pod.ns);
    inventory(node, pod)
}

/// Links, addresses, routes, rules and sysctls of node and pod, and the files of the node's folder.
fn inventory(node: &Node, pod: &Pod) -> Inventory {
    let mut all = Inventory::new();
    for (place, ns) in [("node", &node.ns), ("pod", &pod.ns)] {
        for (kind, things) in state::look(ns) {
            let things = things.as_array().cloned().unwrap_or_default().into_iter();
            all.extend(things.filter(is_lasting).map(|thing| format!("{place} {kind}: {thing}")));
        }
    }
    list(node.dir.path(), &mut all);
    all
}

/// Not the tables and policies that looking at rules makes, and not that the node forwards, which others may rely on by then.
fn is_lasting(thing: &Value) -> bool {
    let text = thing.as_str().unwrap_or_default();
    let frame = text.starts_with('*') || text == "COMMIT";
    let policy = text.starts_with(':') && !text.ends_with(" -");
    let forwarding = text.contains("/ip_forward:") || text.contains("/forwarding:");
    !(frame || policy || forwarding)
}

/// What a network keeps though nobody is attached: its lock, where the round robin stands, and in which order addresses were
/// given back.
fn is_bookkeeping(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name == "lock"
        || name == ".heddle-freed"
        || name.starts_with("last_reserved_ip.")
        || file.parent().is_some_and(|folder| folder.ends_with("bin"))
}

fn list(folder: &Path, into: &mut Inventory) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, into);
        } else if !is_bookkeeping(&path) {
            into.insert(format!("file {}", path.display()));
        }
    }
}

/// A scene on Heddle's own plugins.
pub fn scene(conf: impl Fn(&Node) -> Value) -> Scene {
    let node = Node::new(Suite::Heddle);
    let pod = node.pod("c1");
    let conf = conf(&node);
    Scene { node, pod, conf }
}
