//! What kube-proxy left of its other modes, taken over while connections run by it.

use super::*;

/// The tables of kube-proxy's nftables mode, in its shape (1.36), for the service of these tests; that of IPv6 has none.
const KUBE_PROXY: &str = r#"
table ip kube-proxy {
    comment "rules for kube-proxy"
    set hairpin-connections {
        type ipv4_addr . ipv4_addr . inet_proto . inet_service
        elements = { 10.9.0.1 . 10.9.0.1 . tcp . 8080, 10.9.0.1 . 10.9.0.1 . udp . 5353 }
    }
    set cluster-ips {
        type ipv4_addr
        comment "Active ClusterIPs"
        elements = { 10.96.0.10 }
    }
    map no-endpoint-services {
        type ipv4_addr . inet_proto . inet_service : verdict
    }
    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        comment "ClusterIP, ExternalIP and LoadBalancer IP traffic"
        elements = { 10.96.0.10 . tcp . 80 : goto service-AAAAAAAA-default/s0/tcp/tcp,
                     10.96.0.10 . udp . 53 : goto service-BBBBBBBB-default/s0/udp/udp }
    }
    chain filter-input {
        type filter hook input priority filter; policy accept;
        ct state new jump service-endpoints-check
    }
    chain filter-forward {
        type filter hook forward priority filter; policy accept;
        ct state new jump service-endpoints-check
        ct state new jump cluster-ips-check
    }
    chain nat-prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        jump services
    }
    chain nat-output {
        type nat hook output priority -100; policy accept;
        jump services
    }
    chain nat-postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        jump masquerading
    }
    chain service-endpoints-check {
        ip daddr . meta l4proto . th dport vmap @no-endpoint-services
    }
    chain cluster-ips-check {
        ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
    }
    chain services {
        ip daddr . meta l4proto . th dport vmap @service-ips
    }
    chain masquerading {
        meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random
        ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
    }
    chain service-AAAAAAAA-default/s0/tcp/tcp {
        meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.9.0.1 . 8080 }
    }
    chain service-BBBBBBBB-default/s0/udp/udp {
        meta l4proto udp dnat ip to numgen random mod 1 map { 0 : 10.9.0.1 . 5353 }
    }
}
table ip6 kube-proxy {
    set cluster-ips {
        type ipv6_addr
    }
    chain nat-prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        jump services
    }
    chain services {
        ip6 daddr @cluster-ips drop
    }
}
"#;
/// Of somebody else, who happens to use the same name in a family that kube-proxy has no table of.
const THEIRS: &str =
    "table inet kube-proxy {\n chain x {\n }\n}\ntable ip theirs {\n chain y {\n }\n}\n";

fn load(ns: &TestNetns, ruleset: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ruleset).unwrap();
    ns.cmd(&["nft", "-f", file.path().to_str().unwrap()]);
}

fn tables(ns: &TestNetns) -> Vec<String> {
    let listed = ns.cmd(&["nft", "list", "tables"]);
    let lines = listed.lines().filter_map(|line| line.strip_prefix("table "));
    lines
        .filter(|table| {
            !table.starts_with("ip filter")
                && !table.starts_with("ip nat")
                && !table.starts_with("ip mangle")
        })
        .map(str::to_owned)
        .collect()
}

const WAYS: [Way; 3] = [Way::Nftables, Way::IptablesNft, Way::IptablesLegacy];

#[test]
fn kube_proxys_table_goes_and_connections_go_on() {
    for way in WAYS {
        let world = World::new("takeover");
        world.echo();
        load(&world.node, KUBE_PROXY);
        load(&world.node, THEIRS);
        let (mut stream, socket) =
            (world.connect().expect("kube-proxy's rules serve"), world.udp());
        assert!(goes_on(&mut stream, *b"0000") && answers(&socket, *b"0000"));
        let mut proxy = Proxy::start_with(&world.node, way, true);
        proxy.send(Event::AllServices(vec![service(0)]));
        proxy.send(Event::AllSlices(vec![slice(0, NODE)]));
        for _ in 0..100 {
            assert!(goes_on(&mut stream, *b"abcd") && answers(&socket, *b"efgh"), "{way:?}");
            assert!(world.connect().is_some(), "a new connection, {way:?}");
            thread::sleep(Duration::from_millis(5));
        }
        proxy.settle();
        let left = tables(&world.node);
        let ours = ["ip heddle".to_owned()].into_iter().filter(|_| way == Way::Nftables);
        let theirs = ["ip6 kube-proxy", "inet kube-proxy", "ip theirs"].map(str::to_owned);
        // the table of IPv6 is that lane's, which does not run here
        let want: std::collections::BTreeSet<_> = ours.chain(theirs).collect();
        assert_eq!(left.into_iter().collect::<std::collections::BTreeSet<_>>(), want, "{way:?}");
        assert!(goes_on(&mut stream, *b"last") && answers(&socket, *b"last"), "{way:?}");
        assert!(world.connect().is_some() && answers(&world.udp(), *b"more"), "{way:?}");
    }
}

#[test]
fn kube_proxys_table_stays_unless_it_is_to_be_taken_over() {
    let world = World::new("takeover");
    world.echo();
    load(&world.node, KUBE_PROXY);
    let mut proxy = Proxy::start(&world.node, Way::Nftables);
    proxy.set(vec![service(0)], vec![slice(0, NODE)]);
    assert_eq!(tables(&world.node), ["ip kube-proxy", "ip6 kube-proxy", "ip heddle"]);
    drop(proxy);
    world.node.run(|| backends::cleanup(false)).unwrap();
    assert_eq!(
        tables(&world.node),
        ["ip kube-proxy", "ip6 kube-proxy"],
        "nor does clean-up take it"
    );
}

#[test]
fn clean_up_takes_what_is_kube_proxys_if_it_is_told_to() {
    let ns = TestNetns::new("takeover");
    load(&ns, KUBE_PROXY);
    load(&ns, THEIRS);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), IPVS).unwrap();
    ns.cmd(&["iptables-nft-restore", file.path().to_str().unwrap()]);
    let of_ipvs = || {
        let saved = ns.cmd(&["iptables-nft-save"]);
        OF_IPVS.iter().filter(|chain| saved.contains(**chain)).count()
    };
    ns.run(|| backends::cleanup(false)).unwrap();
    assert!(tables(&ns).contains(&"ip kube-proxy".to_owned()));
    assert_eq!(of_ipvs(), OF_IPVS.len());
    for _ in 0..2 {
        ns.run(|| backends::cleanup(true)).unwrap();
        let left: std::collections::BTreeSet<_> = tables(&ns).into_iter().collect();
        assert_eq!(left, ["inet kube-proxy", "ip theirs"].map(str::to_owned).into());
        assert_eq!(of_ipvs(), 0);
    }
    let saved = ns.cmd(&["iptables-nft-save"]);
    assert!(saved.contains("-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP"), "{saved}");
    assert!(saved.contains("-A THEIRS -s 192.0.2.9/32 -j DROP"), "{saved}");
}

/// Each family takes its own, also where the other is not served.
#[test]
fn the_table_of_ipv6_is_taken_over_by_ipv6() {
    let ns = TestNetns::new("takeover");
    load(&ns, KUBE_PROXY);
    ns.run(|| {
        for mut one in backends::predecessors(ops::Mode::Nftables, Family::V6, true) {
            one.remove().unwrap();
            // a second time there is nothing, which is as good
            one.remove().unwrap();
        }
    });
    assert_eq!(tables(&ns), ["ip kube-proxy"]);
}

/// The chains of IPVS mode, in kube-proxy's shape but for the matches of ipset; the kubelet's, and somebody else's.
const IPVS: &str = "*mangle
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:THEIRS - [0:0]
-A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment \"kubernetes health check rules\" -j KUBE-NODE-PORT
-A INPUT -j KUBE-FIREWALL
-A INPUT -j THEIRS
-A OUTPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-OUT-FILTER
-A OUTPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-PROXY-FIREWALL -d 192.0.2.1/32 -j KUBE-SOURCE-RANGES-FIREWALL
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
-A THEIRS -s 192.0.2.9/32 -j DROP
COMMIT
*nat
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 192.0.2.1/32 -m comment --comment \"Kubernetes service lb portal\" -j KUBE-LOAD-BALANCER
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
COMMIT
";
const OF_IPVS: [&str; 5] = [
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-LOAD-BALANCER",
    "KUBE-NODE-PORT ",
    "KUBE-SOURCE-RANGES-FIREWALL",
];

#[test]
fn the_chains_of_ipvs_mode_go_and_the_kubelets_stay() {
    for (left_by, way) in [
        ("nft", Way::Nftables),
        ("legacy", Way::Nftables),
        ("nft", Way::IptablesNft),
        ("legacy", Way::IptablesLegacy),
    ] {
        for take_over in [false, true] {
            let world = World::new("ipvs");
            world.echo();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), IPVS).unwrap();
            let path = file.path().to_str().unwrap();
            world.node.cmd(&[&format!("iptables-{left_by}-restore"), path]);
            let mut proxy = Proxy::start_with(&world.node, way, take_over);
            proxy.set(vec![service(0)], vec![slice(0, NODE)]);
            assert!(world.connect().is_some(), "{left_by} to {way:?}");
            assert_eq!(*proxy.told.failures.lock().unwrap(), [""; 0]);
            let saved = world.node.cmd(&[&format!("iptables-{left_by}-save")]);
            for chain in OF_IPVS {
                assert_eq!(
                    saved.contains(chain),
                    !take_over,
                    "{left_by} to {way:?}, {chain}: {saved}"
                );
            }
            for line in [
                "-A INPUT -j KUBE-FIREWALL",
                "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP",
                "-A INPUT -j THEIRS",
                "-A THEIRS -s 192.0.2.9/32 -j DROP",
            ] {
                assert!(saved.contains(line), "{left_by} to {way:?}, {line}: {saved}");
            }
        }
    }
}
