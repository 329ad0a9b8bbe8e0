//! The program `netns`, as its users call it.

use std::process::{Command, Output, Stdio};

use netns_tools::testing::{End, TestNetns, unique_name, veth_pair};
use netns_tools::{Bridge, NetNs};
use serde_json::Value;

fn netns(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netns")).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = netns(args);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The entry of a list whose field `name` is `name`.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|entry| entry["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list:#}"))
}

/// Removes a name when the test ends, however it ends.
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        let _ = NetNs::delete(&self.0);
    }
}

#[test]
fn add_and_delete() {
    let name = Name(unique_name("cli"));
    assert_eq!(code(&netns(&["add", &name.0])), 0);
    NetNs::named(&name.0).unwrap();
    let again = netns(&["add", &name.0]);
    assert_eq!(code(&again), 1);
    assert!(stderr(&again).starts_with("netns: /run/netns/"), "{}", stderr(&again));
    assert!(stderr(&again).contains("exists already"), "{}", stderr(&again));

    let deleted = netns(&["del", &name.0]);
    assert_eq!((code(&deleted), stdout(&deleted)), (0, ""));
    let again = netns(&["del", &name.0]);
    assert_eq!(code(&again), 0);
    assert_eq!(stdout(&again), format!("there was no network namespace {}\n", name.0));
}

#[test]
fn list_counts_links_and_processes() {
    let ns = TestNetns::new("list");
    ns.netlink().add_bridge(&Bridge { name: "br0", ..Bridge::default() }).unwrap();
    let mut child = ns.command("sleep").arg("60").spawn().unwrap();
    let (listed, text) = (json(&["list", "-o", "json"]), netns(&["list"]));
    child.kill().unwrap();
    child.wait().unwrap();
    let entry = named(&listed["namespaces"], ns.name());
    assert_eq!(entry["links"], 2);
    assert_eq!(entry["processes"], serde_json::json!([child.id()]));
    assert_eq!(entry["id"], ns.ns().id().ino);
    assert_eq!(entry["path"], format!("/run/netns/{}", ns.name()));
    let line = stdout(&text).lines().find(|line| line.starts_with(ns.name())).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words, [ns.name(), &ns.ns().id().ino.to_string(), "2", "1"]);
}

#[test]
fn exec_runs_inside_and_passes_the_exit_code_on() {
    let ns = TestNetns::new("exec");
    let link = netns(&["exec", ns.name(), "--", "readlink", "/proc/self/ns/net"]);
    assert_eq!(stdout(&link).trim(), ns.ns().id().to_string());
    // A path does as well, and `--` may be left out.
    let path = ns.ns().path().to_str().unwrap();
    let link = netns(&["exec", path, "readlink", "/proc/self/ns/net"]);
    assert_eq!(stdout(&link).trim(), ns.ns().id().to_string());

    for (script, want) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
        assert_eq!(code(&netns(&["exec", ns.name(), "--", "sh", "-c", script])), want);
    }
    let missing = netns(&["exec", ns.name(), "--", "no-such-command"]);
    assert_eq!(code(&missing), 127);
    assert!(stderr(&missing).contains("cannot run no-such-command"), "{}", stderr(&missing));
    assert_eq!(code(&netns(&["exec", ns.name(), "--", "/etc/passwd"])), 126);
    assert_eq!(code(&netns(&["exec", "heddle-no-such-namespace", "--", "true"])), 1);
}

#[test]
fn exec_shows_the_namespaces_links_in_sys_when_asked() {
    let ns = TestNetns::new("sysfs");
    ns.netlink().add_bridge(&Bridge { name: "br0", ..Bridge::default() }).unwrap();
    let inside = netns(&["exec", "--sysfs", ns.name(), "--", "ls", "/sys/class/net"]);
    assert_eq!((code(&inside), stdout(&inside)), (0, "br0\nlo\n"), "{}", stderr(&inside));
    let without = netns(&["exec", ns.name(), "--", "ls", "/sys/class/net"]);
    assert!(!stdout(&without).contains("br0"));
    // Outside, nothing has changed.
    assert!(!std::path::Path::new("/sys/class/net/br0").exists());
}

#[test]
fn show_draws_who_is_connected_to_whom() {
    let (node, pod) = (TestNetns::new("node"), TestNetns::new("pod"));
    let mut netlink = node.netlink();
    netlink.add_bridge(&Bridge { name: "cni0", ..Bridge::default() }).unwrap();
    node.configure("cni0", &["10.9.0.1/24"]);
    veth_pair(End(&node, "veth0", &[]), End(&pod, "eth0", &["10.9.0.2/24"]));
    netlink.set_master(node.link("veth0").index, Some(node.link("cni0").index)).unwrap();

    let all = json(&["show", "-o", "json"]);
    let eth0 = named(&named(&all["namespaces"], pod.name())["links"], "eth0");
    assert_eq!(eth0["kind"], "veth");
    assert_eq!(eth0["addresses"][0], "10.9.0.2/24");
    assert_eq!(eth0["peer"]["namespace"], node.name());
    assert_eq!(eth0["peer"]["name"], "veth0");
    let veth0 = named(&named(&all["namespaces"], node.name())["links"], "veth0");
    assert_eq!((&veth0["master"], &veth0["peer"]["name"]), (&"cni0".into(), &"eth0".into()));
    assert_eq!(all["namespaces"][0]["name"], "host");

    // What `ip` says of the addresses.
    let shown = pod.json(&["ip", "-j", "address", "show", "eth0"]);
    assert_eq!(shown[0]["addr_info"][0]["local"], "10.9.0.2");

    let one = netns(&["show", pod.name()]);
    assert_eq!(code(&one), 0, "{}", stderr(&one));
    let drawn = stdout(&one);
    assert!(
        drawn.starts_with(&format!("{}  net:[{}]\n", pod.name(), pod.ns().id().ino)),
        "{drawn}"
    );
    assert_eq!(drawn.lines().count(), 3, "{drawn}");
    assert!(drawn.contains(&format!("<-> veth0 @ {}", node.name())), "{drawn}");
    let by_path = netns(&["show", node.ns().path().to_str().unwrap()]);
    let port = stdout(&by_path).lines().find(|line| line.contains("veth0")).unwrap();
    assert!(port.starts_with("  └─ veth0"), "{port}");
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [&[][..], &["nonsense"], &["add"], &["exec", "x"], &["list", "-o", "xml"]] {
        assert_eq!(code(&netns(args)), 2, "{args:?}");
    }
    let help = netns(&["--help"]);
    assert_eq!(code(&help), 0);
    assert!(stdout(&help).contains("Exit codes:"));
    for name in ["", "..", "a/b"] {
        assert_eq!(code(&netns(&["add", name])), 1, "{name}");
        assert_eq!(code(&netns(&["del", name])), 1, "{name}");
    }
    assert_eq!(code(&netns(&["show", "/etc/passwd"])), 1);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    // The reading end is closed before the program writes.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_netns"))
        .arg("show")
        .stdout(writer)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
