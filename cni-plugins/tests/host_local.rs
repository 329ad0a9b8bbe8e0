//! `host-local` as a process: its answers, its files, its races, and the reference on the same files.

mod node;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

const REFERENCE: &str = "/usr/lib/cni/host-local";

/// A directory with our binary as `host-local`, and leases beside it. Needs no namespace.
struct Host {
    dir: TempDir,
}

struct Answer {
    ok: bool,
    json: Value,
}

impl Host {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let link = dir.path().join("host-local");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_heddle-cni"), link).unwrap();
        Self { dir }
    }

    fn ours(&self) -> String {
        self.dir.path().join("host-local").display().to_string()
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("leases")
    }

    fn conf(&self, ipam: &Value) -> Value {
        let mut ipam = ipam.clone();
        ipam["type"] = json!("host-local");
        ipam["dataDir"] = json!(self.data());
        json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": ipam })
    }

    fn spawn(&self, program: &str, command: &str, id: &str, conf: &Value, args: &str) -> Child {
        use std::io::Write;
        let mut child = Command::new(program)
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", "/run/netns/not-looked-at")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.dir.path())
            .env("CNI_ARGS", args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(conf.to_string().as_bytes());
        child
    }

    fn run(&self, program: &str, command: &str, id: &str, conf: &Value, args: &str) -> Answer {
        let output = self.spawn(program, command, id, conf, args).wait_with_output().unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Answer { ok: output.status.success(), json }
    }

    fn call(&self, command: &str, id: &str, conf: &Value) -> Answer {
        self.run(&self.ours(), command, id, conf, "")
    }

    fn leases(&self) -> BTreeSet<String> {
        address_files(&self.data().join("net"))
    }
}

fn address_files(dir: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeSet::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
}

fn subnet(subnet: &str) -> Value {
    json!({ "ranges": [[{ "subnet": subnet }]] })
}

fn message(answer: &Answer) -> &str {
    assert!(!answer.ok, "{}", answer.json);
    answer.json["msg"].as_str().unwrap()
}

#[test]
fn every_key_that_shapes_the_result() {
    let host = Host::new();
    let resolv = host.dir.path().join("resolv.conf");
    fs::write(&resolv, "nameserver 10.96.0.10\nsearch a.example b.example\noptions ndots:5\n")
        .unwrap();
    let mut conf = host.conf(&json!({
        "subnet": "10.2.0.0/24", "rangeStart": "10.2.0.50", "rangeEnd": "10.2.0.60", "gateway": "10.2.0.254",
        "ranges": [[{ "subnet": "fd00::/64" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "10.0.0.0/8", "gw": "10.2.0.9", "mtu": 1400, "priority": 7 }],
        "resolvConf": resolv,
    }));
    conf["runtimeConfig"] =
        json!({ "ipRanges": [[{ "subnet": "10.1.0.0/24" }]], "ips": ["fd00::77/64"] });
    conf["args"] = json!({ "cni": { "ips": ["10.2.0.55"] } });
    let answer =
        host.run(&host.ours(), "ADD", "c", &conf, "IP=10.1.0.9;IgnoreUnknown=1;K8S_POD_NAME=x");
    assert_eq!(
        answer.json,
        json!({
            "cniVersion": "1.1.0",
            "ips": [
                { "address": "10.1.0.9/24", "gateway": "10.1.0.1" },
                { "address": "10.2.0.55/24", "gateway": "10.2.0.254" },
                { "address": "fd00::77/64", "gateway": "fd00::1" },
            ],
            "routes": [
                { "dst": "0.0.0.0/0" },
                { "dst": "10.0.0.0/8", "gw": "10.2.0.9", "mtu": 1400, "priority": 7 },
            ],
            "dns": { "nameservers": ["10.96.0.10"], "search": ["a.example", "b.example"], "options": ["ndots:5"] },
        })
    );
    assert!(host.call("CHECK", "c", &conf).ok);
    assert!(host.call("DEL", "c", &conf).ok);
    assert!(host.call("DEL", "c", &conf).ok);
    assert_eq!(
        message(&host.call("CHECK", "c", &conf)),
        "host-local: Failed to find address added by container c"
    );
    assert_eq!(host.leases().len(), 0);
}

#[test]
fn status_tells_a_full_range_and_gc_empties_it() {
    let host = Host::new();
    let conf = host.conf(&subnet("10.1.0.0/29"));
    assert!(host.call("STATUS", "", &conf).ok);
    assert!(!host.data().exists(), "STATUS makes nothing");
    for n in 2..=6 {
        let added = host.call("ADD", &format!("c{n}"), &conf);
        assert_eq!(added.json["ips"][0]["address"], format!("10.1.0.{n}/29"));
    }
    let full = host.call("STATUS", "", &conf);
    assert_eq!(message(&full), "no IP addresses available in range set: 10.1.0.1-10.1.0.6");
    assert_eq!(full.json["code"], 50);
    let late = host.call("ADD", "late", &conf);
    assert_eq!(
        message(&late),
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.0.1-10.1.0.6"
    );
    assert_eq!(late.json["code"], 101);

    let mut valid = conf.clone();
    valid["cni.dev/valid-attachments"] = json!([{ "containerID": "c3", "ifname": "eth0" }, { "containerID": "c4", "ifname": "eth9" }]);
    assert!(host.call("GC", "", &valid).ok);
    assert_eq!(host.leases(), BTreeSet::from(["10.1.0.3".to_owned()]));
    assert!(host.call("STATUS", "", &conf).ok);
}

#[test]
fn wrong_configurations_cost_nothing_and_say_what_is_wrong() {
    let host = Host::new();
    let cases = [
        (json!({}), 7, "no IP ranges specified"),
        (json!({ "ranges": [] }), 7, "no IP ranges specified"),
        (
            subnet("10.1.0.0/31"),
            7,
            "invalid range set 0: Network 10.1.0.0/31 too small to allocate from",
        ),
        (json!({ "ranges": [[]] }), 7, "invalid range set 0: empty range set"),
        (
            json!({ "subnet": "10.1.0.0/24", "ranges": [[{ "subnet": "10.1.0.0/16" }]] }),
            7,
            "range set 0 overlaps with 1",
        ),
        (
            json!({ "subnet": "10.1.0.0/24", "resolvConf": "/no/such/file" }),
            5,
            "cannot read resolvConf /no/such/file",
        ),
        (json!({ "subnet": 5 }), 6, "ipam"),
        (json!({ "subnet": "10.1.0.0/24", "routes": [{ "dst": "x" }] }), 6, "ipam"),
    ];
    for (ipam, code, msg) in cases {
        let answer = host.call("ADD", "c", &host.conf(&ipam));
        assert!(message(&answer).contains(msg), "{ipam}: {}", answer.json);
        assert_eq!(answer.json["code"], code, "{ipam}: {}", answer.json);
        assert!(!host.data().exists(), "{ipam} left something");
    }
    let mut conf = host.conf(&subnet("10.1.0.0/24"));
    conf["args"] = json!({ "cni": { "ips": ["10.1.0.300"] } });
    assert!(message(&host.call("ADD", "c", &conf)).contains("\"10.1.0.300\" is not an IP address"));
    conf = host
        .conf(&json!({ "ranges": [[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "10.2.0.0/24" }]] }));
    conf["cniVersion"] = json!("0.2.0");
    assert_eq!(
        message(&host.call("ADD", "c", &conf)),
        "CNI version 0.2.0 does not support more than 1 address per family"
    );
    let mut conf = host.conf(&json!({}));
    conf.as_object_mut().unwrap().remove("ipam");
    assert_eq!(message(&host.call("ADD", "c", &conf)), "IPAM config missing 'ipam' key");
}

/// DEL and GC need the place only: ranges that are wrong by now keep nobody from giving back addresses.
#[test]
fn del_works_with_ranges_that_are_wrong_by_now() {
    let host = Host::new();
    let conf = host.conf(&subnet("10.1.0.0/24"));
    assert!(host.call("ADD", "c", &conf).ok);
    assert!(host.call("DEL", "c", &host.conf(&subnet("10.1.0.5/24"))).ok);
    assert_eq!(host.leases().len(), 0);
}

/// The same sequence on each program, and on both in turn over the same files.
#[test]
fn the_reference_gives_the_same_answers_and_takes_over() {
    let hosts = [Host::new(), Host::new(), Host::new()];
    let transcripts: Vec<Vec<String>> = hosts
        .iter()
        .enumerate()
        .map(|(n, host)| {
            let mut turn = 0;
            let mut program = || {
                turn += 1;
                match n {
                    0 => host.ours(),
                    1 => REFERENCE.to_owned(),
                    _ if turn % 2 == 0 => host.ours(),
                    _ => REFERENCE.to_owned(),
                }
            };
            transcript(host, &mut program)
        })
        .collect();
    assert_eq!(transcripts[0], transcripts[1], "ours, then the reference");
    assert_eq!(transcripts[2], transcripts[1], "both in turn, then the reference");
}

/// Not in it: a requested address that is in no range set. Both refuse it in the same words, but the reference allocates first
/// and gives back, which moves `last_reserved_ip`; we refuse it before anything is taken.
fn transcript(host: &Host, program: &mut dyn FnMut() -> String) -> Vec<String> {
    let dual = json!({ "ranges": [[{ "subnet": "10.1.0.0/29" }], [{ "subnet": "fd00::/126", "gateway": "fd00::2" }]] });
    let steps = [
        ("ADD", "a", subnet("10.1.0.0/29"), ""),
        ("ADD", "b", dual.clone(), ""),
        ("ADD", "a", subnet("10.1.0.0/29"), ""),
        ("CHECK", "a", subnet("10.1.0.0/29"), ""),
        ("CHECK", "nobody", subnet("10.1.0.0/29"), ""),
        ("ADD", "c", subnet("10.1.0.0/29"), "IP=10.1.0.6"),
        ("ADD", "d", subnet("10.1.0.0/29"), "IP=10.1.0.6"),
        ("ADD", "d", subnet("10.1.0.0/29"), "IP=10.1.0.1"),
        ("ADD", "d", dual.clone(), ""),
        ("ADD", "e", dual.clone(), ""),
        ("DEL", "b", dual.clone(), ""),
        ("DEL", "b", dual.clone(), ""),
        // With two addresses free, which of them comes next is the one difference that is meant; see below.
        ("ADD", "f", subnet("10.1.0.0/29"), "IP=10.1.0.5"),
        ("ADD", "g", subnet("10.1.0.0/29"), ""),
        ("ADD", "h", subnet("10.1.0.0/29"), ""),
        ("ADD", "i", subnet("10.1.0.0/29"), ""),
        ("ADD", "j", subnet("10.1.0.0/31"), ""),
        ("ADD", "j", subnet("10.1.0.1/24"), ""),
        ("ADD", "j", json!({ "subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1" }), ""),
        ("DEL", "a", subnet("10.1.0.0/29"), ""),
        ("DEL", "c", subnet("10.1.0.0/29"), ""),
    ];
    let mut lines = Vec::new();
    for (command, id, ipam, args) in steps {
        let mut conf = host.conf(&ipam);
        conf["cniVersion"] = json!("1.0.0");
        let answer = host.run(&program(), command, id, &conf, args);
        let mut json = answer.json;
        if let Some(map) = json.as_object_mut() {
            // The reference 1.1.1 prints an empty dns, has one code for everything, no details for these errors and
            // no version in them.
            if map.get("dns") == Some(&json!({})) {
                map.remove("dns");
            }
            for key in ["code", "details", "cniVersion"] {
                map.remove(key);
            }
        }
        let files: Vec<_> = host
            .leases()
            .into_iter()
            .map(|name| {
                let content = fs::read_to_string(host.data().join("net").join(&name)).unwrap();
                format!("{name}={content:?}")
            })
            .collect();
        let last =
            fs::read_to_string(host.data().join("net/last_reserved_ip.0")).unwrap_or_default();
        lines.push(format!("{command} {id} {args}: {} {json} {files:?} {last}", answer.ok));
    }
    lines
}

/// The one difference in what is handed out: the reference takes the next address after the last one, though it was given back
/// a moment ago; ours takes the one that has rested longest.
#[test]
fn an_address_given_back_rests_as_long_as_it_can() {
    for (program, expected) in [(None, "10.1.0.4/29"), (Some(REFERENCE), "10.1.0.3/29")] {
        let host = Host::new();
        let program = program.map_or_else(|| host.ours(), str::to_owned);
        let conf = host.conf(&subnet("10.1.0.0/29"));
        let mut conf = conf.clone();
        conf["cniVersion"] = json!("1.0.0");
        let run = |command, id, args| host.run(&program, command, id, &conf, args);
        assert!(run("ADD", "b", "IP=10.1.0.3").ok);
        assert!(run("ADD", "a", "IP=10.1.0.2").ok);
        assert!(run("DEL", "b", "").ok);
        assert_eq!(run("ADD", "next", "").json["ips"][0]["address"], expected, "{program}");
    }
}

/// A file that only the reference reads must not look like a lease to it: a container may be named like anything.
#[test]
fn the_reference_takes_none_of_our_files_for_a_lease() {
    let host = Host::new();
    let conf = |ipam: Value| {
        let mut conf = host.conf(&ipam);
        conf["cniVersion"] = json!("1.0.0");
        conf
    };
    let conf = conf(subnet("10.1.0.0/29"));
    assert!(host.call("ADD", "a", &conf).ok);
    assert!(host.call("ADD", "b", &conf).ok);
    assert!(host.call("DEL", "b", &conf).ok);
    let files = |host: &Host| {
        let list = Command::new("find").arg(host.data()).arg("-type").arg("f").output().unwrap();
        let text = String::from_utf8(list.stdout).unwrap();
        text.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let before = files(&host);
    for file in &before {
        let name = file.rsplit('/').next().unwrap();
        let text = fs::read_to_string(file).unwrap();
        for id in [name, text.trim(), text.lines().next().unwrap_or_default().trim()] {
            if id != "a" && is_identifier(id) {
                let answer = host.run(REFERENCE, "DEL", id, &conf, "");
                assert!(answer.ok, "{id}: {}", answer.json);
            }
        }
    }
    let without_order: BTreeSet<_> =
        before.into_iter().filter(|f| !f.contains("last_reserved")).collect();
    assert!(files(&host).is_superset(&without_order), "{:?} of {without_order:?}", files(&host));
    // And what it releases, it releases with everything that we put beside it.
    assert!(host.run(REFERENCE, "DEL", "a", &conf, "").ok);
    assert!(!files(&host).iter().any(|file| file.contains("lease-")), "{:?}", files(&host));
    assert_eq!(host.leases(), BTreeSet::new());
}

/// What a container may be called.
fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// The machine lost its power: nobody called DEL, the range is full of the dead, and the same containers come again.
#[test]
fn after_a_reboot_every_address_is_there_again() {
    let host = Host::new();
    let conf = host.conf(&subnet("10.1.0.0/29"));
    let ids = ["a", "b", "c", "d", "e"];
    for id in ids {
        assert!(host.call("ADD", id, &conf).ok);
    }
    assert!(!host.call("STATUS", "", &conf).ok);
    // What is of this boot is of an earlier one.
    let boots = host.data().join("net/.heddle-boot");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let earlier = "00000000-0000-4000-8000-000000000000";
    fs::rename(boots.join(boot.trim()), boots.join(earlier)).unwrap();
    assert!(host.call("STATUS", "", &conf).ok, "there is room for an ADD");
    assert!(!host.call("CHECK", "a", &conf).ok, "its container is dead");
    // DEL for the dead is as ever, whether their leases are there or not.
    assert!(host.call("DEL", "a", &conf).ok);
    for id in ids {
        assert!(host.call("ADD", id, &conf).ok, "{id}");
        assert!(host.call("DEL", "gone", &conf).ok);
    }
    assert_eq!(host.leases().len(), 5);
    assert!(!boots.join(earlier).exists());
}

/// 24 processes fight for 13 addresses; some are killed wherever they happen to be. Nobody ever shares an
/// address, and after DEL of everybody all of them are there again.
#[test]
fn racing_and_killed_processes_never_share_nor_lose_an_address() {
    let host = Host::new();
    let conf = host.conf(&subnet("10.1.0.0/28"));
    let ours = host.ours();
    for round in 0..6 {
        let mut children: Vec<_> = (0..24)
            .map(|n| (n, host.spawn(&ours, "ADD", &format!("r{round}c{n}"), &conf, "")))
            .collect();
        for (n, child) in &mut children {
            if *n % 3 == 0 {
                std::thread::sleep(Duration::from_micros(150 * (round + 1)));
                child.kill().unwrap();
            }
        }
        let mut held = BTreeSet::new();
        for (n, child) in children {
            let output = child.wait_with_output().unwrap();
            if !output.status.success() {
                continue;
            }
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            let address =
                json["ips"][0]["address"].as_str().unwrap().trim_end_matches("/28").to_owned();
            let content = fs::read_to_string(host.data().join("net").join(&address)).unwrap();
            assert_eq!(content, format!("r{round}c{n}\r\neth0"));
            assert!(held.insert(address.clone()), "{address} twice");
        }
        assert!(!host.leases().contains("10.1.0.1"), "the gateway was given away");
        for file in host.leases() {
            let content = fs::read_to_string(host.data().join("net").join(&file)).unwrap();
            assert!(content.ends_with("\r\neth0"), "half a file: {content:?}");
        }
        for n in 0..24 {
            assert!(host.call("DEL", &format!("r{round}c{n}"), &conf).ok);
        }
        assert_eq!(host.leases(), BTreeSet::new(), "round {round}");
    }
    for n in 0..13 {
        assert!(host.call("ADD", &format!("c{n}"), &conf).ok, "address {n} is lost");
    }
    assert!(!host.call("ADD", "one-too-many", &conf).ok);
}
