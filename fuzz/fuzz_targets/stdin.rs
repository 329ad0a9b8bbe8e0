//! A plugin's standard input: whatever it is, a plugin answers with one JSON document, and its exit code agrees with that.
//!
//! Plugins are called in process with ADD and a network namespace that does not exist: they read and check everything, and stop
//! before the first side effect. Only plugins of which that is known are called. The thread is in a network namespace of its own all
//! the same.
#![no_main]

use std::sync::OnceLock;

use cni::plugin::{Call, Io, NoSuite, Plugin, serve};
use cni::{CniResult, Error};
use libfuzzer_sys::fuzz_target;
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

const CALLED: [&str; 4] = ["bandwidth", "bridge", "loopback", "sbr"];

/// What no plugin of the suite reads: keys by path, of other types than they have.
struct Probe;

impl Plugin for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn about(&self) -> String {
        String::new()
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        for path in ["ipam.ranges", "args.cni.ips", "runtimeConfig.ips", "name.type", "a.b.c"] {
            call.conf.get::<Vec<Vec<String>>>(path).ok();
            call.conf.text(path).ok();
            call.conf.is_on(path).ok();
        }
        Ok(call.conf.prev_result.clone().unwrap_or_default())
    }

    fn check(&self, _: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn del(&self, _: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }
}

fn answer(plugin: &dyn Plugin, command: &str, stdin: &[u8]) {
    let variables = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/nonexistent/netns"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/nonexistent"),
    ];
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = serve(
        plugin,
        &NoSuite,
        &mut Io {
            variables: variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            stdin: Box::new(stdin),
            stdout: Box::new(&mut stdout),
            stderr: Box::new(&mut stderr),
        },
    );
    if code == 0 && stdout.is_empty() {
        assert_ne!(command, "ADD", "an ADD that succeeds has a result");
        return;
    }
    let document: Value = serde_json::from_slice(&stdout).expect("one JSON document");
    let is_error = document.get("code").is_some_and(Value::is_u64);
    assert_eq!(is_error, code == 1, "{document}");
    assert!(!is_error || document["msg"].as_str().is_some_and(|msg| !msg.is_empty()));
}

fuzz_target!(|stdin: &[u8]| {
    static INSIDE: OnceLock<()> = OnceLock::new();
    INSIDE.get_or_init(|| unshare(CloneFlags::CLONE_NEWNET).expect("run it as root"));
    for command in ["ADD", "CHECK", "DEL", "GC", "STATUS"] {
        answer(&Probe, command, stdin);
    }
    for name in CALLED {
        answer(cni_plugins::suite::find(name).expect("it is in the suite"), "ADD", stdin);
    }
});
