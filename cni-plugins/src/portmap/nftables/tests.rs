use netns_tools::testing::TestNetns;
use serde_json::json;

use super::*;
use crate::testcall::with_call;

fn conf(extra: &serde_json::Value) -> Conf {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "portmap", "backend": "nftables",
        "runtimeConfig": { "portMappings": [
            { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
            { "hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "192.0.2.1" },
        ] },
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with_call("", &conf, Conf::parse).unwrap()
}

fn container() -> IpNetwork {
    "10.1.0.2/24".parse().unwrap()
}

fn listed(ns: &TestNetns) -> Vec<String> {
    let text = ns.cmd(&["nft", "-s", "list", "table", "ip", "cni_hostport"]);
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// As `nft` prints it.
#[test]
fn the_rules() {
    let ns = TestNetns::new("pmnft");
    let (conf, names) = (conf(&json!({})), Names::new("net", "c1"));
    let set_up = || ns.run(|| Wanted::new(&conf, container(), &names).set_up().unwrap());
    set_up();
    let once = listed(&ns);
    let owner = format!("chain {} {{", names.owner);
    let expected = [
        "table ip cni_hostport {",
        "comment \"CNI portmap plugin\"",
        "chain hostports {",
        "tcp dport 8080 dnat to 10.1.0.2:80 comment \"c1\"",
        "ip daddr 192.0.2.1 udp dport 53 dnat to 10.1.0.2:5353 comment \"c1\"",
        "}",
        "",
        "chain hostip_hostports {",
        "}",
        "",
        "chain hostports_all {",
        "jump hostip_hostports",
        "jump hostports",
        "}",
        "",
        "chain prerouting {",
        "type nat hook prerouting priority dstnat; policy accept;",
        "fib daddr type local jump hostports_all",
        "}",
        "",
        "chain output {",
        "type nat hook output priority -100; policy accept;",
        "fib daddr type local jump hostports_all",
        "}",
        "",
        "chain masquerading {",
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip saddr 10.1.0.2 ip daddr 10.1.0.2 masquerade comment \"c1\"",
        "ip saddr 127.0.0.1 ip daddr 10.1.0.2 masquerade comment \"c1\"",
        "}",
        "",
        &owner,
        "comment \"c1\"",
        "}",
        "}",
    ];
    assert_eq!(once, expected);
    set_up();
    assert_eq!(listed(&ns), once, "a second ADD changes nothing");
    ns.run(|| {
        let wanted = Wanted::new(&conf, container(), &names);
        assert_eq!(wanted.differences().unwrap(), [""; 0]);
        let mut stale = Vec::new();
        tear_down(iptables::Family::V4, &names, None, &mut stale).unwrap();
        let (family, to) = (iptables::Family::V4, None);
        assert_eq!(stale, [Stale { family, to, port: 53 }]);
        assert!(!wanted.differences().unwrap().is_empty());
        tear_down(iptables::Family::V4, &names, None, &mut stale).unwrap();
        tear_down(iptables::Family::V6, &names, None, &mut stale).unwrap();
        assert_eq!(stale.len(), 1, "nothing is there the second time");
    });
    assert!(!listed(&ns).join("\n").contains("c1"));
}

/// Rules as versions of the reference write them, and their chains: they are understood, replaced and removed.
#[test]
fn rules_of_the_reference() {
    const THEIRS: &str = "table ip cni_hostport {
        chain hostports {
            ip protocol tcp th dport 8080 dnat ip addr . port to 10.1.0.2 . 80 comment \"c1\"
            ip daddr 192.0.2.1 ip protocol udp th dport 53 dnat ip addr . port to 10.1.0.2 . 5353 comment \"c1\"
            ip protocol tcp th dport 9090 dnat ip addr . port to 10.1.0.9 . 80 comment \"c9\"
        }
        chain hostip_hostports { }
        chain hostports_all { jump hostip_hostports; jump hostports; }
        chain prerouting { type nat hook prerouting priority dstnat; ip saddr != 10.0.0.0/8 fib daddr type local jump hostports_all; }
        chain output { type nat hook output priority -100; fib daddr type local jump hostports_all; }
        chain masquerading {
            type nat hook postrouting priority srcnat
            ip saddr 10.1.0.2 ip daddr 10.1.0.2 masquerade comment \"c1\"
            ip saddr 127.0.0.1 ip daddr 10.1.0.2 masquerade comment \"c1\"
        }
    }";
    let ns = TestNetns::new("pmnft");
    ns.cmd(&["nft", THEIRS]);
    let (conf, names) = (conf(&json!({})), Names::new("net", "c1"));
    ns.run(|| {
        let found = Wanted::new(&conf, container(), &names).differences().unwrap();
        assert_eq!(
            found,
            ["chain prerouting does not lead to the mappings"],
            "but for the condition"
        );
        let mut stale = Vec::new();
        tear_down(iptables::Family::V4, &names, None, &mut stale).unwrap();
        assert_eq!(stale.len(), 1);
    });
    let left = listed(&ns).join("\n");
    assert!(!left.contains("c1") && left.contains("c9"), "{left}");
    ns.cmd(&["nft", "delete table ip cni_hostport"]);
    ns.cmd(&["nft", THEIRS]);
    ns.run(|| {
        let wanted = Wanted::new(&conf, container(), &names);
        wanted.set_up().unwrap();
        assert_eq!(wanted.differences().unwrap(), [""; 0]);
    });
    let now = listed(&ns).join("\n");
    assert_eq!(now.matches("\"c1\"").count(), 5, "four rules and the owner: {now}");
}

#[test]
fn garbage_is_of_one_network_and_of_nobody_alive() {
    let ns = TestNetns::new("pmnft");
    let conf = conf(&json!({}));
    // c3 is in two networks; only in the other one it is alive.
    let all = [("net", "c1"), ("net", "c2"), ("net", "c3"), ("other", "c3"), ("other", "c4")];
    let names: Vec<_> = all.iter().map(|(network, id)| Names::new(network, id)).collect();
    ns.run(|| {
        for names in &names {
            Wanted::new(&conf, container(), names).set_up().unwrap();
        }
        let mut stale = Vec::new();
        let valid = [names[1].clone()];
        collect_garbage(iptables::Family::V4, "net", &valid, &mut stale).unwrap();
        assert_eq!(stale.len(), 1);
    });
    let text = listed(&ns).join("\n");
    let count = |id: &str| text.matches(&format!("\"{id}\"")).count();
    // Four rules each, and an owner in each network.
    assert_eq!([count("c1"), count("c2"), count("c3"), count("c4")], [0, 5, 5, 5], "{text}");
    let none: [Names; 0] = [];
    ns.run(|| {
        for network in ["net", "other", "third"] {
            collect_garbage(iptables::Family::V4, network, &none, &mut Vec::new()).unwrap();
        }
    });
    let text = listed(&ns).join("\n");
    assert!(!text.contains("\"c") && !text.contains("chain of-"), "{text}");
}

#[test]
fn everything_is_masqueraded_whatever_its_source() {
    let (conf, names) = (conf(&json!({ "masqAll": true })), Names::new("net", "c1"));
    let wanted = Wanted::new(&conf, container(), &names);
    let rules: Vec<_> = wanted.masqueraded().collect();
    assert_eq!(rules, [wanted.rule().daddr_eq(container().ip()).masquerade().comment("c1")]);
}

/// The reference's comments are the same in each network, and its DEL takes the other network's rules, too.
#[test]
fn a_container_in_two_networks_keeps_the_mappings_of_the_other() {
    let ns = TestNetns::new("pmnft");
    let conf = conf(&json!({}));
    let (one, two) = (Names::new("one", "c1"), Names::new("two", "c1"));
    let other: IpNetwork = "10.2.0.2/24".parse().unwrap();
    let family = iptables::Family::V4;
    ns.run(|| {
        for _ in 0..2 {
            Wanted::new(&conf, container(), &one).set_up().unwrap();
            Wanted::new(&conf, other, &two).set_up().unwrap();
        }
        assert_eq!(Wanted::new(&conf, container(), &one).differences().unwrap(), [""; 0]);
        assert_eq!(Wanted::new(&conf, other, &two).differences().unwrap(), [""; 0]);
        tear_down(family, &one, Some(container().ip()), &mut Vec::new()).unwrap();
        assert_eq!(Wanted::new(&conf, other, &two).differences().unwrap(), [""; 0]);
    });
    let text = listed(&ns).join("\n");
    assert!(!text.contains("10.1.0.2") && text.contains("10.2.0.2"), "{text}");
    ns.run(|| tear_down(family, &two, None, &mut Vec::new()).unwrap());
    assert!(!listed(&ns).join("\n").contains("c1"));
}
