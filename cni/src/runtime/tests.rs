//! The chain against small shell plugins that record what they are given and do what the test tells them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::error::ErrorCode;

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A plugin that appends a line of `command name container` to `log`, keeps its last input, then runs `script`.
    fn plugin(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        let here = self.directory.path().display();
        let text = format!(
            "#!/bin/sh\ncat >{here}/{name}.$CNI_COMMAND\n\
             echo \"$CNI_COMMAND {name} $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $CNI_ARGS\" >>{here}/log\n{script}\n"
        );
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn runtime(&self) -> Runtime {
        Runtime::new(vec![self.path("none"), self.path("bin")], self.path("cache"))
            .with_timeout(Duration::from_secs(20))
    }

    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        fs::remove_file(self.path("log")).ok();
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    fn input(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }
}

const ANSWER: &str = r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.5/24"}]}'; exit 0"#;

fn list(version: &str) -> NetworkList {
    let text = json!({"cniVersion": version, "name": "net", "plugins": [
        {"type": "first", "key": 1, "capabilities": {"portMappings": true}}, {"type": "second"}]});
    NetworkList::parse(text.to_string().as_bytes(), Path::new("/none/10-net.conflist")).unwrap()
}

fn attachment() -> Attachment {
    let mut attachment = Attachment::new("c1", Some("/run/netns/x".into()), "eth0");
    attachment.args.push(("K8S_POD_NAME".into(), "web".into()));
    attachment.capabilities.insert("portMappings".into(), json!([{"hostPort": 80}]));
    attachment.capabilities.insert("bandwidth".into(), json!({}));
    attachment
}

#[test]
fn add_hands_results_on_and_del_goes_back() {
    let bench = Bench::new();
    bench.plugin("first", ANSWER);
    bench.plugin("second", ANSWER);
    let runtime = bench.runtime();
    let result = runtime.add(&list("1.1.0"), &attachment()).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.0.0.5/24");
    let line = |command, name| format!("{command} {name} c1 eth0 /run/netns/x K8S_POD_NAME=web");
    assert_eq!(bench.log(), [line("ADD", "first"), line("ADD", "second")]);
    let first = bench.input("first.ADD");
    assert_eq!(
        (&first["name"], &first["cniVersion"], &first["key"]),
        (&json!("net"), &json!("1.1.0"), &json!(1))
    );
    assert_eq!(first["runtimeConfig"], json!({"portMappings": [{"hostPort": 80}]}));
    assert_eq!(bench.input("second.ADD")["prevResult"]["ips"][0]["address"], "10.0.0.5/24");
    assert_eq!(bench.input("second.ADD").get("runtimeConfig"), None);

    runtime.check(&list("1.1.0"), &attachment()).unwrap();
    assert_eq!(bench.log(), [line("CHECK", "first"), line("CHECK", "second")]);
    // the list is gone, the caller forgot the arguments: the cache has both
    runtime.del(None, &Attachment::new("c1", Some("/run/netns/x".into()), "eth0")).unwrap();
    assert_eq!(bench.log(), [line("DEL", "second"), line("DEL", "first")]);
    assert_eq!(bench.input("first.DEL")["prevResult"]["ips"][0]["address"], "10.0.0.5/24");
    assert!(runtime.cached_all().0.is_empty());
}

#[test]
fn the_cache_file_is_libcnis() {
    let bench = Bench::new();
    bench.plugin("first", ANSWER);
    bench.plugin("second", ANSWER);
    bench.runtime().add(&list("1.1.0"), &attachment()).unwrap();
    let file: Value = bench.input("cache/results/net-c1-eth0");
    assert_eq!(file["kind"], "cniCacheV1");
    assert_eq!(
        (&file["containerId"], &file["ifName"], &file["networkName"]),
        (&json!("c1"), &json!("eth0"), &json!("net"))
    );
    assert_eq!(file["cniArgs"], json!([["K8S_POD_NAME", "web"]]));
    assert_eq!(file["netns"], "/run/netns/x");
    // as libcni writes it: null for absent arguments
    let theirs = json!({"kind": "cniCacheV1", "containerId": "c2", "config": file["config"], "ifName": "eth0",
        "networkName": "net", "cniArgs": null, "capabilityArgs": null, "result": {"cniVersion": "1.0.0"}});
    fs::write(bench.path("cache/results/net-c2-eth0"), theirs.to_string()).unwrap();
    bench.log();
    bench.runtime().del(None, &Attachment::new("c2", None, "eth0")).unwrap();
    assert_eq!(bench.log(), ["DEL second c2 eth0", "DEL first c2 eth0"]);
}

#[test]
fn del_goes_on_after_a_failure_and_can_be_repeated() {
    let bench = Bench::new();
    bench.plugin("first", ANSWER);
    bench.plugin("second", r#"[ $CNI_COMMAND = ADD ] && echo '{}' && exit 0; echo '{"code": 11, "msg": "busy"}'; exit 1"#);
    let runtime = bench.runtime();
    runtime.add(&list("1.0.0"), &attachment()).unwrap();
    bench.log();
    let error = runtime.del(Some(&list("1.0.0")), &attachment()).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TryAgainLater));
    assert!(
        error.to_string().contains("DEL of plugin") && error.to_string().contains("busy"),
        "{error}"
    );
    assert_eq!(bench.log().len(), 2);
    assert_eq!(runtime.cached_all().0.len(), 1);
    bench.plugin("second", "exit 0");
    runtime.del(Some(&list("1.0.0")), &attachment()).unwrap();
    assert!(runtime.cached_all().0.is_empty());
    // and once more, with nothing left
    runtime.del(Some(&list("1.0.0")), &attachment()).unwrap();
}

#[test]
fn a_broken_cache_file_does_not_stop_a_del() {
    let bench = Bench::new();
    bench.plugin("first", "exit 0");
    bench.plugin("second", "exit 0");
    fs::create_dir_all(bench.path("cache/results")).unwrap();
    fs::write(bench.path("cache/results/net-c1-eth0"), "{\"kind\": \"cniCa").unwrap();
    let runtime = bench.runtime();
    runtime.del(Some(&list("1.0.0")), &attachment()).unwrap();
    assert_eq!(bench.log().len(), 2);
    assert!(!bench.path("cache/results/net-c1-eth0").exists());
}

#[test]
fn gc_detaches_what_is_not_valid() {
    let bench = Bench::new();
    bench.plugin("first", ANSWER);
    bench.plugin("second", ANSWER);
    let runtime = bench.runtime();
    for id in ["c1", "c2"] {
        runtime.add(&list("1.1.0"), &Attachment::new(id, None, "eth0")).unwrap();
    }
    bench.log();
    runtime.gc(&list("1.1.0"), &[("c2".into(), "eth0".into())]).unwrap();
    assert_eq!(bench.log(), ["DEL second c1 eth0", "DEL first c1 eth0", "GC first", "GC second"]);
    let expected = json!([{"containerID": "c2", "ifname": "eth0"}]);
    assert_eq!(bench.input("first.GC")["cni.dev/valid-attachments"], expected);
    assert_eq!(runtime.cached_all().0.len(), 1);
    runtime.gc(&list("1.0.0"), &[("c2".into(), "eth0".into())]).unwrap();
    assert!(bench.log().is_empty());
}

#[test]
fn failures_name_plugin_command_and_network() {
    let bench = Bench::new();
    let runtime = bench.runtime().with_timeout(Duration::from_millis(500));
    let one = |name: &str| {
        let text = json!({"cniVersion": "1.0.0", "name": "net", "type": name}).to_string();
        NetworkList::parse(text.as_bytes(), Path::new("/none/x.conf")).unwrap()
    };
    bench.plugin("garbage", "echo garbage");
    bench.plugin("words", "echo something is wrong >&2; exit 7");
    bench.plugin("hangs", "sleep 600");
    let cases = [
        ("garbage", "not JSON"),
        ("words", "something is wrong"),
        ("hangs", "ADD of plugin"),
        ("absent", "failed to find plugin \"absent\""),
    ];
    for (name, expected) in cases {
        let error = runtime.add(&one(name), &attachment()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("network net"), "{error}");
    }
    assert!(runtime.cached_all().0.is_empty());
}

#[test]
fn names_never_leave_the_cache() {
    let bench = Bench::new();
    for (id, ifname) in [("../c", "eth0"), ("", "eth0"), ("c", "../x"), ("c", ""), ("c\0", "eth0")]
    {
        let error =
            bench.runtime().add(&list("1.0.0"), &Attachment::new(id, None, ifname)).unwrap_err();
        assert!(matches!(error, RuntimeError::InvalidAttachment(_)), "{error}");
    }
    assert!(matches!(
        bench.runtime().cached("../net", "c", "eth0"),
        Err(RuntimeError::InvalidAttachment(_))
    ));
}

#[test]
fn lists_are_validated_with_path_and_field() {
    let cases = [
        ("{", "EOF"),
        (r#"{"name": "../n", "plugins": [{"type": "a"}]}"#, "name:"),
        (r#"{"name": "n", "plugins": [{"type": "../a"}]}"#, "plugins[0]: type"),
        (r#"{"name": "n", "plugins": [{}]}"#, "plugins[0]: type"),
        (r#"{"name": "n", "plugins": []}"#, "plugins"),
        (r#"{"name": "n", "plugins": 5}"#, "plugins"),
        (r#"{"name": "n", "cniVersion": "7.0.0", "plugins": [{"type": "a"}]}"#, "cniVersion"),
        (r#"{"name": "n", "disableCheck": "perhaps", "plugins": [{"type": "a"}]}"#, "disableCheck"),
    ];
    for (text, expected) in cases {
        let error = NetworkList::parse(text.as_bytes(), Path::new("/d/x.conflist"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("/d/x.conflist: ") && error.contains(expected),
            "{text}: {error}"
        );
    }
    let newest = r#"{"name": "n", "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "9.0.0"], "plugins": [{"type": "a"}]}"#;
    assert_eq!(
        NetworkList::parse(newest.as_bytes(), Path::new("x")).unwrap().cni_version,
        Version::V1_1_0
    );
}

use crate::version::Version;

#[test]
fn the_first_usable_file_of_a_directory_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let error = NetworkList::load_first(directory.path()).unwrap_err().to_string();
    assert!(error.contains("no network list in"), "{error}");
    fs::write(directory.path().join("05-broken.conflist"), "{").unwrap();
    let error = NetworkList::load_first(directory.path()).unwrap_err().to_string();
    assert!(error.contains("05-broken.conflist"), "{error}");
    fs::write(directory.path().join("20-b.conf"), r#"{"name": "b", "type": "bridge"}"#).unwrap();
    fs::write(
        directory.path().join("10-a.conflist"),
        r#"{"name": "a", "plugins": [{"type": "bridge"}]}"#,
    )
    .unwrap();
    fs::write(directory.path().join("00-a.conflist.bak"), "{").unwrap();
    assert_eq!(NetworkList::load_first(directory.path()).unwrap().name, "a");
    // plugins in a folder of the network's name (1.1.0)
    fs::create_dir(directory.path().join("a")).unwrap();
    fs::write(directory.path().join("a/50-more.conf"), r#"{"type": "tuning"}"#).unwrap();
    assert_eq!(NetworkList::load_first(directory.path()).unwrap().plugins.len(), 2);
}
