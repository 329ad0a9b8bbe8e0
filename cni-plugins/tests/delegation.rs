//! An IPAM plugin that is this same program is called in process, any other file is executed: nobody can tell which.

mod node;

use std::fs;
use std::path::Path;

use node::{Answer, Node, state};
use serde_json::{Value, json};

/// What a bridge does with this IPAM configuration when `host-local` is the same program or a copy of it: the answer to each
/// command, and what the kernel says after ADD.
fn story(copied: bool, ipam: &Value) -> Vec<String> {
    let node = Node::heddle();
    if copied {
        let file = node.bin_dir().join("host-local");
        fs::remove_file(&file).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_heddle-cni"), &file).unwrap();
    }
    let mut ipam = ipam.clone();
    ipam["type"] = json!("host-local");
    ipam["dataDir"] = json!(node.data_dir());
    let conf = json!({
        "cniVersion": "1.1.0", "name": "testnet", "type": "bridge", "bridge": "br0", "isDefaultGateway": true, "ipam": ipam,
    });
    let pod = node.pod("aaa");
    let (mut told, mut added) = (Vec::new(), Value::Null);
    for command in ["STATUS", "ADD", "CHECK", "DEL"] {
        let mut conf = conf.clone();
        if command == "CHECK" {
            conf["prevResult"] = added.clone();
        }
        let answer = node.call("bridge", command, &pod, &conf);
        told.push(words(&answer, node.dir.path()));
        if command == "ADD" {
            told.push(json!(state::of(&pod.ns)).to_string());
            if !answer.ok {
                continue;
            }
            added = answer.json();
        }
    }
    told
}

/// An answer without what differs from node to node.
fn words(answer: &Answer, folder: &Path) -> String {
    answer.stdout.replace(&folder.display().to_string(), "FOLDER")
}

#[test]
fn the_outcome_is_the_same() {
    let cases = [
        ("an address", json!({ "ranges": [[{ "subnet": "10.88.0.0/24" }]] })),
        (
            "two families",
            json!({ "ranges": [[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd00:88::/64" }]] }),
        ),
        ("a wrong range", json!({ "ranges": [[{ "subnet": "10.88.0.1/24" }]] })),
        ("no range", json!({ "ranges": [] })),
        (
            "a range without room",
            json!({ "ranges": [[{ "subnet": "10.88.0.0/29", "rangeStart": "10.88.0.1", "rangeEnd": "10.88.0.1" }]] }),
        ),
    ];
    for (name, ipam) in cases {
        let normal = |story: Vec<String>| -> Vec<Value> {
            let mut names = state::Names::default();
            let parse = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
            let mut all: Vec<Value> = story.iter().map(parse).collect();
            for value in &mut all {
                names.normalise(value);
            }
            all
        };
        let (inside, executed) = (normal(story(false, &ipam)), normal(story(true, &ipam)));
        assert_eq!(inside, executed, "{name}");
    }
}
