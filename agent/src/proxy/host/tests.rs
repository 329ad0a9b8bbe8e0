//! The host's part of a real kernel, in namespaces.

use std::time::Duration;

use netns_tools::NetNs;
use netns_tools::testing::TestNetns;

use super::*;

fn config() -> HostConfig {
    HostConfig {
        families: vec![Family::V4, Family::V6],
        localhost_node_ports: true,
        sets_bridges: false,
        conntrack: ConntrackConfig {
            tcp_be_liberal: true,
            udp_timeout: Duration::from_secs(31),
            ..ConntrackConfig::default()
        },
    }
}

#[test]
fn parameters_of_the_namespace_are_set_and_those_of_the_host_are_told() {
    let ns = TestNetns::new("host");
    ns.configure("lo", &["fd00::1/64"]);
    let read = |key: &str| ns.run(|| sysctl::read(key).unwrap());
    let outside = |key: &str| sysctl::read(key).unwrap();
    let keys = ["nf_conntrack_tcp_timeout_established", "nf_conntrack_tcp_be_liberal"]
        .map(|name| format!("net/netfilter/{name}"));
    let before = keys.each_ref().map(|key| outside(key));
    let max: u32 = outside("net/netfilter/nf_conntrack_max").parse().unwrap();
    // more than the host has, so that it would have to be raised
    let conntrack = ConntrackConfig { min: max + 4, max_per_core: 1, ..config().conntrack };
    let config = HostConfig { conntrack, ..config() };
    let prepared = ns.run(|| prepare(&config));
    assert_eq!(read("net/ipv4/ip_forward"), "1");
    assert_eq!(read("net/ipv6/conf/all/forwarding"), "0");
    assert_eq!(read("net/ipv4/conf/all/route_localnet"), "1");
    assert_eq!(read(&keys[0]), "86400");
    assert_eq!(read("net/netfilter/nf_conntrack_tcp_timeout_close_wait"), "3600");
    assert_eq!(read("net/netfilter/nf_conntrack_udp_timeout"), "31");
    assert_eq!(read(&keys[1]), "1");
    assert!(prepared.tcp_is_liberal);
    let problems = prepared.problems.join("\n");
    let want =
        format!("cannot set kernel parameter net/netfilter/nf_conntrack_max to `{}`", max + 4);
    assert!(problems.contains(&want), "{problems}");
    let want =
        format!("set it on the host: `sysctl -w net.netfilter.nf_conntrack_max={}`", max + 4);
    assert!(problems.contains(&want), "{problems}");
    assert!(problems.starts_with("net.ipv6.conf.all.forwarding is 0: "), "{problems}");
    // the host's own are as they were
    assert_eq!(keys.each_ref().map(|key| outside(key)), before);
    assert_eq!(outside("net/netfilter/nf_conntrack_max"), max.to_string());
}

#[test]
fn a_host_that_is_as_it_should_be_has_no_problems() {
    let ns = TestNetns::new("host");
    let conntrack =
        ConntrackConfig { max_per_core: 0, tcp_be_liberal: false, ..ConntrackConfig::default() };
    let config = HostConfig { conntrack, localhost_node_ports: false, ..config() };
    // its only IPv6 addresses are those that every host has
    ns.configure("lo", &[]);
    let prepared = ns.run(|| prepare(&config));
    assert_eq!(prepared, Prepared::default());
    assert_eq!(ns.run(|| sysctl::read("net/ipv4/conf/all/route_localnet").unwrap()), "0");
}

#[test]
fn addresses_are_followed() {
    let ns = TestNetns::new("host");
    ns.configure("lo", &[]);
    let ips = |all: &[&str]| -> Vec<IpAddr> { all.iter().map(|ip| ip.parse().unwrap()).collect() };
    let name = ns.name().to_owned();
    let thread = std::thread::spawn(move || {
        NetNs::named(&name).unwrap().enter().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut known = watch_addresses().unwrap();
            assert_eq!(*known.borrow_and_update(), ips(&["127.0.0.1", "::1"]));
            let mut netlink = Netlink::open().unwrap();
            let mut next = async |change: &dyn Fn(&mut Netlink)| {
                change(&mut netlink);
                let changed = tokio::time::timeout(Duration::from_secs(10), known.changed());
                changed.await.expect("it is noticed").unwrap();
                known.borrow_and_update().clone()
            };
            let (v4, v6) = ("10.9.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap());
            let now = next(&|netlink| netlink.add_address(1, v4).unwrap()).await;
            assert_eq!(now, ips(&["10.9.0.1", "127.0.0.1", "::1"]));
            let now = next(&|netlink| netlink.add_address_without_dad(1, v6).unwrap()).await;
            assert_eq!(now, ips(&["10.9.0.1", "127.0.0.1", "::1", "fd00::1"]));
            // what comes and goes at once is no change, and does not hide one
            let fleeting = "10.9.0.9/32".parse().unwrap();
            let last = |netlink: &mut Netlink| {
                netlink.add_address(1, fleeting).unwrap();
                netlink.delete_address(1, fleeting).unwrap();
                netlink.delete_address(1, v4).unwrap();
            };
            assert_eq!(next(&last).await, ips(&["127.0.0.1", "::1", "fd00::1"]));
        });
    });
    thread.join().unwrap();
}
