use std::io;

use netns_tools::testing::TestNetns;

use super::*;
use crate::overlay::rules::Tunnel;

fn input() -> RuleInput {
    let ranges = |all: &[&str]| all.iter().map(|range| range.parse().unwrap()).collect();
    RuleInput {
        local: ranges(&["10.244.1.1/24", "fd02:0:0:1::1/64"]),
        tunnel: Some(Tunnel { port: 8472, devices: vec!["heddle.1".into()], probe_port: None }),
        underlay: vec!["eth0".into()],
        ..RuleInput::default()
    }
}

fn set(ns: &TestNetns, key: &str, value: &str) {
    ns.run(|| sysctl::write(key, value)).unwrap();
}

fn get(ns: &TestNetns, key: &str) -> String {
    ns.run(|| sysctl::read(key)).unwrap()
}

#[test]
fn only_families_in_use_are_forwarded() {
    let keys = |input: &RuleInput| {
        plan(input).into_iter().map(|parameter| parameter.dotted()).collect::<Vec<_>>()
    };
    let both = keys(&input());
    assert_eq!(both[..2], ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]);
    assert!(both.contains(&"net.ipv6.conf.heddle/1.accept_dad".to_owned()), "{both:?}");
    let mut single = RuleInput { tunnel: None, ..input() };
    single.local.truncate(1);
    assert_eq!(keys(&single), ["net.ipv4.ip_forward"]);
}

#[test]
fn what_can_be_set_is_set() {
    let ns = TestNetns::new("sysctl");
    ns.cmd(&["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
    ns.cmd(&["ip", "link", "set", "lo", "up"]);
    for (key, value) in [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv6/conf/all/forwarding", "0"),
        ("net/ipv4/conf/all/rp_filter", "1"),
        ("net/ipv6/conf/eth0/accept_ra", "1"),
        ("net/ipv6/conf/eth1/accept_ra", "1"),
    ] {
        set(&ns, key, value);
    }
    // the device is not there yet
    assert_eq!(ns.run(|| ensure(&input())), [""; 0]);
    assert!(ns.run(|| are_set(&input())));
    assert_eq!(get(&ns, "net/ipv4/ip_forward"), "1");
    assert_eq!(get(&ns, "net/ipv6/conf/all/forwarding"), "1");
    // routers are still listened to, at the underlay
    assert_eq!(get(&ns, "net/ipv6/conf/eth0/accept_ra"), "2");
    assert_eq!(get(&ns, "net/ipv6/conf/eth1/accept_ra"), "1");
    ns.cmd(&[
        "ip", "link", "add", "heddle.1", "type", "vxlan", "id", "1", "dstport", "8472", "dev",
        "eth0",
    ]);
    assert!(!ns.run(|| are_set(&input())), "a device that came anew has not what is its own");
    assert_eq!(ns.run(|| prepare_device("heddle.1")), [""; 0]);
    assert!(ns.run(|| are_set(&input())));
    assert_eq!(get(&ns, "net/ipv4/conf/heddle.1/rp_filter"), "2");
    ns.cmd(&["ip", "link", "set", "heddle.1", "up"]);
    let addresses = ns.cmd(&["ip", "-6", "address", "show", "dev", "heddle.1"]);
    assert!(!addresses.contains("fe80"), "{addresses}");
    // somebody switches forwarding off
    set(&ns, "net/ipv4/ip_forward", "0");
    assert!(!ns.run(|| are_set(&input())));
    ns.run(|| ensure(&input()));
    assert_eq!(get(&ns, "net/ipv4/ip_forward"), "1");
}

#[test]
fn a_strict_underlay_is_told_where_it_matters() {
    let ns = TestNetns::new("strict");
    ns.cmd(&["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
    let told = |direct, all, own| {
        set(&ns, "net/ipv4/conf/all/rp_filter", all);
        set(&ns, "net/ipv4/conf/eth0/rp_filter", own);
        ns.run(|| ensure(&RuleInput { direct, ..input() })).join("\n")
    };
    for (all, own) in [("1", "0"), ("0", "1"), ("1", "1")] {
        let problem = told(true, all, own);
        assert!(problem.starts_with("rp_filter of eth0 is strict (1"), "{problem}");
        assert!(problem.contains("`sysctl -w net.ipv4.conf.eth0.rp_filter=2`"), "{problem}");
        assert_eq!(told(false, all, own), "");
    }
    for (all, own) in [("0", "0"), ("2", "1"), ("1", "2")] {
        assert_eq!(told(true, all, own), "");
    }
}

#[test]
fn bridges_of_pods_are_shown_to_rules_and_others_are_not_touched() {
    const KEYS: [&str; 2] =
        ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];
    let ns = TestNetns::new("bridges");
    ns.cmd(&["ip", "link", "add", "docker0", "type", "bridge"]);
    ns.configure("docker0", &["172.17.0.1/16"]);
    for key in KEYS {
        set(&ns, key, "0");
    }
    assert_eq!(ns.run(|| ensure(&input())), [""; 0]);
    assert_eq!(KEYS.map(|key| get(&ns, key)), ["0", "0"], "routed veths need none of it");
    ns.cmd(&["ip", "link", "add", "cni0", "type", "bridge"]);
    ns.configure("cni0", &["10.244.1.1/24"]);
    assert_eq!(ns.run(|| ensure(&input())), [""; 0]);
    assert_eq!(KEYS.map(|key| get(&ns, key)), ["1", "0"], "only the family that it has");
}

#[test]
fn what_cannot_be_set_is_told_with_its_value_and_a_remedy() {
    let parameter = &plan(&input())[0];
    let read_only = SysctlError::Write {
        key: parameter.key.clone(),
        value: "1".into(),
        source: io::Error::from_raw_os_error(libc_erofs()),
    };
    assert_eq!(
        parameter.problem(Some("0"), &read_only),
        "net.ipv4.ip_forward is 0 and cannot be set to 1 (cannot set kernel parameter net/ipv4/ip_forward to `1`: Read-only file system (os \
         error 30)): packets of pods are not forwarded; set it on the host: `sysctl -w net.ipv4.ip_forward=1` (a container may have /proc/sys \
         read-only)"
    );
    let missing = SysctlError::NotFound { key: "net/ipv6/conf/all/forwarding".into() };
    let told = plan(&input())[1].problem(None, &missing);
    assert!(
        told.ends_with("boot without ipv6.disable=1, or use no range of that family"),
        "{told}"
    );
}

fn libc_erofs() -> i32 {
    nix::errno::Errno::EROFS as i32
}

/// The larger of what is for all and its own counts. A filter costs every packet a search for its way back, so none is switched on.
#[test]
fn strict_filters_of_the_device_become_loose_and_none_stays_none() {
    let ns = TestNetns::new("sysctl");
    ns.cmd(&["ip", "link", "add", "heddle.1", "type", "vxlan", "id", "1", "dstport", "8472"]);
    let own = "net/ipv4/conf/heddle.1/rp_filter";
    for (all, before, after) in [
        ("0", "0", "0"),
        ("1", "0", "2"),
        ("0", "1", "2"),
        ("1", "2", "2"),
        ("2", "1", "1"),
        ("2", "0", "0"),
    ] {
        assert_eq!(ns.run(|| ensure(&input())), [""; 0]);
        set(&ns, own, before);
        set(&ns, "net/ipv4/conf/all/rp_filter", all);
        assert_eq!(ns.run(|| are_set(&input())), before == after, "{all} {before}");
        assert_eq!(ns.run(|| ensure(&input())), [""; 0]);
        assert_eq!(get(&ns, own), after, "{all} {before}");
        assert!(ns.run(|| are_set(&input())));
    }
}
