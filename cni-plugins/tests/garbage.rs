//! GC and STATUS of `bridge` and `ptp`: what is collected, what is left alone, and what keeps an ADD from succeeding.

mod node;

use std::time::{Duration, Instant};

use node::{Answer, Node, Pod, Suite, with_prev};
use serde_json::{Value, json};

const PLUGINS: [&str; 2] = ["bridge", "ptp"];

fn conf(node: &Node, plugin: &str, name: &str, subnets: &[&str]) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": name, "type": plugin, "bridge": format!("br-{name}"),
        "isGateway": true, "ipMasq": true, "ipam": node.ipam(subnets),
    })
}

fn gc(node: &Node, conf: &Value, valid: &[&Pod]) -> Answer {
    let list = valid.iter().map(|pod| json!({ "containerID": pod.id, "ifname": pod.ifname }));
    let mut conf = conf.clone();
    conf["cni.dev/valid-attachments"] = list.collect();
    let any = node.pod("any");
    node.call_with(
        conf["type"].as_str().unwrap(),
        "GC",
        &any,
        &conf,
        &[("CNI_CONTAINERID", ""), ("CNI_IFNAME", ""), ("CNI_NETNS", "")],
    )
}

fn veths(node: &Node) -> usize {
    node.sh("ip -o link show type veth").lines().count()
}

fn rules(node: &Node) -> usize {
    let all = node.sh("iptables-save -t nat; ip6tables-save -t nat");
    all.lines().filter(|line| line.starts_with("-A")).count()
}

#[test]
fn links_rules_and_leases_of_what_is_not_valid_any_more() {
    for plugin in PLUGINS {
        let node = Node::heddle();
        let conf = conf(&node, plugin, "net1", &["10.88.0.0/24", "fd88::/64"]);
        let other = self::conf(&node, plugin, "net2", &["10.89.0.0/24"]);
        let (a, b, c) = (node.pod("a"), node.pod("b"), node.pod("c"));
        let result = node.add(plugin, &a, &conf);
        node.add(plugin, &b, &conf);
        // The same container id in another network.
        let mut second = node.pod("b");
        second.ifname = "net2".into();
        node.add(plugin, &second, &other);
        // Somebody else's link, with words that are no tag, and one with none.
        node.sh(
            "ip link add mine type veth peer name yours && ip link set mine alias 'cni of net1'",
        );
        assert_eq!((veths(&node), rules(&node)), (5, 15), "{plugin}");

        assert!(gc(&node, &conf, &[&a, &b]).ok);
        assert_eq!((veths(&node), rules(&node), node.leases("net1").len()), (5, 15, 4), "{plugin}");
        assert!(gc(&node, &conf, &[&a, &c]).ok);
        assert_eq!((veths(&node), rules(&node), node.leases("net1").len()), (4, 9, 2), "{plugin}");
        assert!(node.call(plugin, "CHECK", &a, &with_prev(&conf, &result)).ok, "{plugin}");
        let mut wrong_ifname = node.pod("a");
        wrong_ifname.ifname = "eth1".into();
        assert!(gc(&node, &conf, &[&wrong_ifname]).ok);
        // The rules of a container stay while it has any valid interface.
        assert_eq!((veths(&node), rules(&node), node.leases("net1").len()), (3, 9, 0), "{plugin}");
        assert!(gc(&node, &conf, &[]).ok);
        assert_eq!((veths(&node), rules(&node)), (3, 3), "{plugin}");
        assert_eq!(node.leases("net2").len(), 1, "the other network is whole");
        assert!(gc(&node, &conf, &[]).ok, "again");
        // What was collected can be deleted, and attached again.
        node.del(plugin, &b, &conf);
        node.add(plugin, &b, &conf);
    }
}

/// The reference leaves no tag: nothing says whose its links are, so they stay; its rules and leases say it.
#[test]
fn what_the_reference_made() {
    for plugin in PLUGINS {
        let node = Node::new(Suite::Reference);
        let mut conf = conf(&node, plugin, "net1", &["10.88.0.0/24"]);
        conf["cniVersion"] = json!("1.0.0");
        let pod = node.pod("theirs");
        node.add(plugin, &pod, &conf);
        let node = node.with_suite(Suite::Heddle);
        conf["cniVersion"] = json!("1.1.0");
        assert!(gc(&node, &conf, &[]).ok);
        assert_eq!((veths(&node), rules(&node)), (1, 0), "{plugin}");
        assert_eq!(node.leases("net1"), [""; 0]);
        node.del(plugin, &pod, &conf);
        assert_eq!(veths(&node), 0);
    }
}

/// An ADD was killed at each of its steps and nobody called DEL: GC finds everything.
#[test]
fn gc_after_a_killed_add() {
    for plugin in PLUGINS {
        for number in 0..20 {
            let node = Node::heddle();
            let conf = conf(&node, plugin, "net1", &["10.88.0.0/24"]);
            let pod = node.pod("pod");
            let fault = format!("{number}:after:die");
            let answer = node.call_with(plugin, "ADD", &pod, &conf, &[("HEDDLE_FAULT", &fault)]);
            if answer.ok {
                assert!(number > 3, "{plugin} has steps");
                break;
            }
            let collected = gc(&node, &conf, &[]);
            assert!(collected.ok, "{collected:#?}");
            assert_eq!((veths(&node), rules(&node)), (0, 0), "{plugin} {fault}");
            assert_eq!(node.leases("net1"), [""; 0], "{plugin} {fault}");
        }
    }
}

/// A container may give its interface another name; DEL takes the pair by its other end.
#[test]
fn del_of_an_interface_that_was_renamed() {
    for plugin in PLUGINS {
        let node = Node::heddle();
        let mut conf = conf(&node, plugin, "net1", &["10.88.0.0/24"]);
        let (pod, other) = (node.pod("pod"), node.pod("other"));
        node.add(plugin, &pod, &conf);
        node.add(plugin, &other, &conf);
        pod.sh("ip link set eth0 down && ip link set eth0 name gone");
        // With keys that ADD would refuse, too.
        conf["mtu"] = json!(-1);
        conf["bridge"] = json!(7);
        node.del(plugin, &pod, &conf);
        assert_eq!((veths(&node), rules(&node), node.leases("net1").len()), (1, 3, 1), "{plugin}");
    }
}

/// Each part is tried even if another fails.
#[test]
fn gc_goes_on_after_a_failure() {
    for plugin in PLUGINS {
        let node = Node::heddle();
        let mut conf = conf(&node, plugin, "net1", &["10.88.0.0/24"]);
        node.add(plugin, &node.pod("a"), &conf);
        conf["ipam"]["type"] = json!("none-such");
        assert!(gc(&node, &conf, &[]).error().1.contains("none-such"));
        assert_eq!((veths(&node), rules(&node)), (0, 0), "{plugin}");
    }
}

#[test]
fn status_of_bridge() {
    let node = Node::heddle();
    let pod = node.pod("pod");
    let conf = conf(&node, "bridge", "net1", &["10.88.0.0/30"]);
    let status = |conf: &Value, env| node.call_with("bridge", "STATUS", &pod, conf, env);
    let took = Instant::now();
    let good = status(&conf, &[]);
    assert!(good.ok, "{good:#?}");
    println!("STATUS took {:?} with the start of the program and of iptables", took.elapsed());
    let hidden = [(node::HIDE_SBIN, "1")];
    assert!(status(&conf, &hidden).ok, "nftables serves where there is no iptables");
    let mut only = conf.clone();
    only["ipMasqBackend"] = json!("iptables");
    assert_eq!(
        status(&only, &hidden).error(),
        (50, "cannot set up ipMasq: no usable iptables found".into())
    );
    let mut plain = conf.clone();
    plain["ipMasq"] = json!(false);
    assert!(status(&plain, &hidden).ok);
    node.sh("ip link add br-net1 type veth peer name x");
    assert_eq!(
        status(&conf, &[]).error(),
        (50, "\"br-net1\" already exists but is not a bridge".into())
    );
    node.sh("ip link del br-net1");
    node.add("bridge", &pod, &conf);
    let full = status(&conf, &[]).error();
    assert_eq!(full, (50, "no IP addresses available in range set: 10.88.0.1-10.88.0.2".into()));
}

/// Only where there are services does it matter whether bridged packets pass iptables.
#[test]
fn status_tells_of_services_that_bridged_packets_miss() {
    let node = Node::heddle();
    let pod = node.pod("pod");
    let mut conf = conf(&node, "bridge", "net1", &["10.88.0.0/24"]);
    let status = |conf: &Value| node.call("bridge", "STATUS", &pod, conf);
    let bridged = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let can_switch = std::path::Path::new(bridged).exists();
    if can_switch {
        node.sh(&format!("echo 0 > {bridged}"));
    } else {
        println!("not proven on this kernel: br_netfilter is not there to be switched off");
    }
    assert!(status(&conf).ok, "there are no services");
    node.sh("iptables -t nat -N KUBE-SERVICES");
    let (code, msg) = status(&conf).error();
    assert_eq!(code, 51);
    assert!(msg.contains("cannot reach each other through services"), "{msg}");
    // A switch of no subnet carries no service's packets.
    conf["isGateway"] = json!(false);
    assert!(status(&conf).ok);
    conf["isGateway"] = json!(true);
    if can_switch {
        node.sh(&format!("echo 1 > {bridged}"));
        assert!(status(&conf).ok);
    }
}

/// Attachments: the container, the configuration, and variables that replace the usual ones.
type Calls<'a> = [(&'a Pod, &'a Value, &'a [(&'a str, &'a str)])];

/// The same for many, eight at a time.
fn in_turns(node: &Node, command: &str, calls: &Calls<'_>) -> Vec<Answer> {
    calls
        .chunks(8)
        .flat_map(|chunk| {
            let prepared: Vec<_> = chunk
                .iter()
                .map(|(pod, conf, env)| {
                    node.prepare(conf["type"].as_str().unwrap(), command, pod, conf, env)
                })
                .collect();
            std::thread::scope(|scope| {
                let threads: Vec<_> =
                    prepared.into_iter().map(|call| scope.spawn(|| call.run())).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            })
        })
        .collect()
}

fn all_ok(answers: &[Answer]) {
    let failed: Vec<_> = answers.iter().filter(|answer| !answer.ok).collect();
    assert!(failed.is_empty(), "{} of {}: {:#?}", failed.len(), answers.len(), failed[0]);
}

fn addresses(answers: &[Answer]) -> std::collections::BTreeSet<String> {
    let address = |answer: &Answer| answer.json()["ips"][0]["address"].as_str().unwrap().to_owned();
    answers.iter().map(address).collect()
}

/// Ends with nothing but the bridge.
fn assert_empty(node: &Node, network: &str) {
    assert_eq!(node.leases(network), [""; 0]);
    let start = Instant::now();
    while veths(node) > 0 && start.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(node.sh("ip -o link show type veth"), "");
    assert_eq!(rules(node), 0);
    assert_eq!(node.sh("iptables-save -t nat").matches("CNI-").count(), 0);
    let boots = node.data_dir().join(network).join(".heddle-boot");
    let remembered = std::fs::read_dir(boots)
        .unwrap()
        .map(|boot| std::fs::read_dir(boot.unwrap().path()).unwrap().count());
    assert_eq!(remembered.sum::<usize>(), 0, "second names of leases");
}

#[test]
fn two_hundred_at_once() {
    const MANY: usize = 200;
    let node = Node::heddle();
    let conf = conf(&node, "bridge", "net1", &["10.88.0.0/24"]);
    let pods: Vec<_> = (0..MANY).map(|n| node.pod(&format!("pod{n}"))).collect();
    let calls: Vec<_> = pods.iter().map(|pod| (pod, &conf, &[][..])).collect();
    let start = Instant::now();
    let added = in_turns(&node, "ADD", &calls);
    all_ok(&added);
    println!("{MANY} ADDs, 8 at a time: {:?}", start.elapsed());
    assert_eq!(addresses(&added).len(), MANY);
    assert_eq!(node.leases("net1").len(), MANY);
    assert_eq!(node.sh("ip -o link show master br-net1").lines().count(), MANY);
    // A few are only collected.
    let (left, deleted) = calls.split_at(10);
    let start = Instant::now();
    all_ok(&in_turns(&node, "DEL", deleted));
    println!("{} DELs: {:?}", deleted.len(), start.elapsed());
    assert_eq!((veths(&node), node.leases("net1").len()), (left.len(), left.len()));
    assert!(gc(&node, &conf, &[]).ok);
    assert_empty(&node, "net1");
}

/// A node comes up again: the runtime deletes what was (its namespaces are gone, and the files of some are left as plain files) and
/// adds what shall be, all together; the leases on the disk are of the boot before.
#[test]
fn a_reboot_storm() {
    const MANY: usize = 100;
    for plugin in PLUGINS {
        let node = Node::heddle();
        // No room for those of before and those of now together.
        let conf = conf(&node, plugin, "net1", &["10.88.0.0/25"]);
        let before: Vec<_> = (0..MANY).map(|n| node.pod(&format!("old{n}"))).collect();
        let calls: Vec<_> = before.iter().map(|pod| (pod, &conf, &[][..])).collect();
        all_ok(&in_turns(&node, "ADD", &calls));
        reboot(&node, "net1");
        let plain_file = node.dir.path().join("netns");
        std::fs::write(&plain_file, "").unwrap();
        let gone = [("CNI_NETNS", "/run/netns/no-such-namespace")];
        let file = [("CNI_NETNS", plain_file.to_str().unwrap())];
        let after: Vec<_> = (0..MANY).map(|n| node.pod(&format!("new{n}"))).collect();
        let adds: Vec<_> = after.iter().map(|pod| (pod, &conf, &[][..])).collect();
        let dels: Vec<_> = before
            .iter()
            .enumerate()
            .map(|(n, pod)| (pod, &conf, if n % 2 == 0 { &gone[..] } else { &file[..] }))
            .collect();
        let (added, deleted) = storm(&node, &adds, &dels);
        all_ok(&deleted);
        all_ok(&added);
        assert_eq!(addresses(&added).len(), MANY, "{plugin}");
        assert_eq!(node.leases("net1").len(), MANY, "{plugin}");
        let valid: Vec<_> = after.iter().collect();
        assert!(gc(&node, &conf, &valid).ok);
        assert_eq!((veths(&node), node.leases("net1").len()), (MANY, MANY), "{plugin}");
        assert!(gc(&node, &conf, &[]).ok);
        assert_empty(&node, "net1");
    }
}

/// ADDs and DELs mixed, eight at a time.
fn storm(node: &Node, adds: &Calls<'_>, dels: &Calls<'_>) -> (Vec<Answer>, Vec<Answer>) {
    let (mut added, mut deleted) = (Vec::new(), Vec::new());
    for (adds, dels) in adds.chunks(4).zip(dels.chunks(4)) {
        let prepare = |command, calls: &Calls<'_>| -> Vec<_> {
            let plugin = |conf: &Value| conf["type"].as_str().unwrap().to_owned();
            calls.iter().map(|(p, c, e)| node.prepare(&plugin(c), command, p, c, e)).collect()
        };
        let (adds, dels) = (prepare("ADD", adds), prepare("DEL", dels));
        std::thread::scope(|scope| {
            let adds: Vec<_> = adds.into_iter().map(|c| scope.spawn(|| c.run())).collect();
            let dels: Vec<_> = dels.into_iter().map(|c| scope.spawn(|| c.run())).collect();
            added.extend(adds.into_iter().map(|thread| thread.join().unwrap()));
            deleted.extend(dels.into_iter().map(|thread| thread.join().unwrap()));
        });
    }
    (added, deleted)
}

/// Every link and rule goes with the kernel; the disk stays, and what was of this boot is of an earlier one.
fn reboot(node: &Node, network: &str) {
    node.sh(
        "ip -o link show type veth | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/' | while read link; do ip link del $link; done; \
         ip -o link show type bridge | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/' | while read link; do ip link del $link; done; \
         iptables -t nat -F; iptables -t nat -X",
    );
    assert_eq!(veths(node), 0);
    let boots = node.data_dir().join(network).join(".heddle-boot");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let earlier = boots.join("00000000-0000-4000-8000-000000000000");
    std::fs::rename(boots.join(boot.trim()), earlier).unwrap();
}
