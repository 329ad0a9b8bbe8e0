//! What breaks in clusters, and is repaired or told by name.

use std::time::{Duration, Instant};

use netns_tools::sysctl;

use crate::agent::PATIENCE;
use crate::cluster::{Cluster, DEVICE, SMALL};
use crate::traffic::{datagram, eventually, stream};
use crate::underlay::{Shape, ip, router};
use crate::world::World;

const VXLAN: &str = "backend = \"vxlan\"";
/// Probes have found the size that passes by then, also where a wire drops without a word.
const PROBED: Duration = Duration::from_secs(90);
/// The same after what has probes begin at once.
const HURRIED: Duration = Duration::from_secs(20);
/// What the kernel tells of is put right by then.
const REPAIRED: Duration = Duration::from_secs(3);

/// Waits until a transfer works, both ways.
#[track_caller]
fn transfers(cluster: &Cluster, one: u8, other: u8, bound: Duration) {
    eventually(bound, "a transfer works", || {
        cluster.transfer(one, other).and_then(|()| cluster.transfer(other, one))
    });
}

#[test]
fn a_wire_that_loses_large_packets_is_found_and_lived_with() {
    let mut cluster = Cluster::new(Shape::Link, VXLAN);
    cluster.transfer(1, 2).unwrap();
    let [one, two, _] = &cluster.nodes;
    cluster.underlay.set_wire_mtu(&[(1, &one.ns), (2, &two.ns)], 1400);
    assert!(cluster.transfer(1, 2).is_err(), "the wire is too small for it");
    cluster.try_size(1, 2, SMALL).unwrap();
    // probes come every 40 seconds, when a carrier comes back, and at a start
    for node in [1, 2] {
        cluster.restart(node, VXLAN);
    }
    transfers(&cluster, 1, 2, PROBED);
    // 1400 bytes less those of VXLAN; a veth pair lets four more pass, as a VLAN's tag has
    cluster.is_told(1, &["node-2", "packets of up to 135"]);
}

#[test]
fn a_wire_that_was_too_small_before_the_start_is_found() {
    let world = World::new(Shape::Link);
    // inside the tunnel no less than IPv6 needs
    world.underlay.set_wire_mtu(&[(3, &world.node(3).ns)], 1350);
    let cluster = Cluster::of(world, [VXLAN; 3]);
    transfers(&cluster, 1, 3, PROBED);
    // others have the whole size
    cluster.try_size(1, 2, 1450).unwrap();
}

#[test]
fn a_router_with_a_smaller_mtu_and_filtered_icmp_is_lived_with() {
    let world = World::new(Shape::Routed);
    world.underlay.set_router_mtu(1400);
    world.underlay.filter_icmp();
    let cluster = Cluster::of(world, ["backend = \"auto\""; 3]);
    transfers(&cluster, 1, 2, PROBED);
    // on one link
    transfers(&cluster, 2, 3, PROBED);
}

#[test]
fn a_device_that_is_set_down_or_deleted_comes_back_with_its_entries() {
    let cluster = Cluster::new(Shape::Link, VXLAN);
    let node = &cluster.node(1).ns;
    for lines in [
        format!("link set {DEVICE} down\nlink set {DEVICE} up\n"),
        format!("link set {DEVICE} down\n"),
        format!("link delete {DEVICE}\n"),
        format!("address flush dev {DEVICE}\nroute flush dev {DEVICE}\n"),
        format!("link set {DEVICE} mtu 1280\n"),
    ] {
        ip(node, &lines);
        cluster.all_talk(PATIENCE);
        cluster.transfer(1, 2).unwrap_or_else(|why| panic!("after {lines:?}: {why}"));
    }
}

#[test]
fn entries_that_somebody_removes_or_changes_are_restored() {
    let cluster = Cluster::new(Shape::Link, VXLAN);
    let node = &cluster.node(1).ns;
    ip(node, "route delete 10.244.2.0/24\n");
    cluster.talk(1, 2, PATIENCE);
    ip(
        node,
        &format!("neigh replace 10.244.2.0 lladdr 02:00:00:00:00:99 dev {DEVICE} nud permanent\n"),
    );
    cluster.talk(1, 2, PATIENCE);
    ip(node, &format!("neigh flush all dev {DEVICE} nud permanent\n"));
    cluster.talk(1, 2, PATIENCE);
    ip(node, "route replace blackhole 10.244.3.0/24\n");
    // what is somebody else's is left alone, and told
    cluster.is_told(1, &["10.244.3.0/24", "somebody"]);
    cluster.transfer(1, 2).unwrap();
    ip(node, "route delete blackhole 10.244.3.0/24\n");
    cluster.talk(1, 3, PATIENCE);
}

#[test]
fn a_bounced_underlay_gets_its_plain_routes_back() {
    for backend in ["host-gw", "vxlan"] {
        let cluster = Cluster::new(Shape::Link, &format!("backend = \"{backend}\""));
        let node = cluster.node(1);
        let ([_, own], gateways) = (node.addresses(), router(1));
        ip(&node.ns, "link set eth0 down\nlink set eth0 up\n");
        // the system's own network configuration
        ip(
            &node.ns,
            &format!(
                "address replace {own}/64 dev eth0 nodad\nroute replace default via {}\nroute replace default via {}\n",
                gateways[0], gateways[1]
            ),
        );
        cluster.all_talk(PATIENCE);
        cluster.transfer(1, 2).unwrap();
    }
}

#[test]
fn nodes_that_send_differently_reach_each_other_with_strict_reverse_path_filters() {
    let world = World::new(Shape::Link);
    for node in &world.nodes {
        node.ns.run(|| {
            for key in ["all", "default", "eth0"] {
                sysctl::write(&format!("net/ipv4/conf/{key}/rp_filter"), "1").unwrap();
            }
        });
    }
    // the second has a tunnel only; the others need none for each other
    let cluster = Cluster::of(world, ["backend = \"auto\"", VXLAN, "backend = \"auto\""]);
    cluster.transfer(1, 2).unwrap();
    cluster.transfer(2, 1).unwrap();
    cluster.transfer(1, 3).unwrap();
}

/// What a careful administrator has: nothing comes in or through that was not asked for.
fn close(world: &World, node: u8) {
    let ns = &world.node(node).ns;
    for program in ["iptables", "ip6tables"] {
        for rule in [
            "-A INPUT -i lo -j ACCEPT",
            "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-A INPUT -p icmpv6 -j ACCEPT",
            "-P INPUT DROP",
            "-P FORWARD DROP",
        ] {
            if program == "iptables" && rule.contains("icmpv6") {
                continue;
            }
            let words: Vec<_> = [program, "-w"].into_iter().chain(rule.split(' ')).collect();
            ns.cmd(&words);
        }
    }
}

#[test]
fn firewalls_that_drop_are_passed() {
    let world = World::new(Shape::Link);
    close(&world, 1);
    close(&world, 2);
    let cluster = Cluster::of(world, [VXLAN; 3]);
    cluster.transfer(1, 2).unwrap();
    // one that is closed later
    close(&cluster, 3);
    cluster.all_talk(PATIENCE);
    cluster.transfer(3, 2).unwrap();
    // one that puts itself in front
    let node = &cluster.node(2).ns;
    node.cmd(&["iptables", "-w", "-I", "FORWARD", "1", "-j", "DROP"]);
    node.cmd(&["iptables", "-w", "-I", "INPUT", "1", "-p", "udp", "-j", "DROP"]);
    cluster.talk(1, 2, PATIENCE);
}

#[test]
fn forwarding_that_is_off_is_switched_on_or_told() {
    let set = |world: &World, key: &str, value: &str| {
        world.node(1).ns.run(|| sysctl::write(key, value).unwrap());
    };
    let world = World::new(Shape::Link);
    set(&world, "net/ipv4/ip_forward", "0");
    let cluster = Cluster::of(world, [VXLAN; 3]);
    cluster.transfer(1, 2).unwrap();
    // somebody's sysctl.d comes later
    let loose = format!("net/ipv4/conf/{DEVICE}/rp_filter");
    for (key, wrong, right) in [
        ("net/ipv4/ip_forward", "0", "1"),
        ("net/ipv6/conf/all/forwarding", "0", "1"),
        (&*loose, "1", "2"),
    ] {
        set(&cluster, key, wrong);
        eventually(REPAIRED, key, || {
            let is = cluster.node(1).ns.run(|| sysctl::read(key)).map_err(|e| e.to_string())?;
            if is == right { Ok(()) } else { Err(format!("is {is}")) }
        });
    }
    cluster.talk(1, 2, PATIENCE);
    cluster.transfer(1, 2).unwrap();
}

#[test]
fn who_keeps_putting_itself_in_front_is_told_and_not_fought_without_end() {
    let cluster = Cluster::new(Shape::Link, VXLAN);
    let node = &cluster.node(1).ns;
    let rule = ["FORWARD", "-s", "10.244.1.0/24", "-j", "DROP"];
    let insert = || node.cmd(&[&["iptables", "-w", "-I"][..], &rule].concat());
    insert();
    // the first time it is put right at once
    cluster.talk(1, 2, PATIENCE);
    let is_told = || cluster.agent(1).said().contains("somebody keeps changing packet filters");
    let end = Instant::now() + PATIENCE;
    while !is_told() {
        insert();
        assert!(Instant::now() < end, "nobody is told: {}", cluster.agent(1).said());
        std::thread::sleep(Duration::from_millis(50));
    }
    // from now on it is done after 1, 2 and 4 seconds
    let repairs = || cluster.agent(1).said().matches("writing them again").count();
    let (before, start) = (repairs(), Instant::now());
    while start.elapsed() < Duration::from_secs(3) {
        insert();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(repairs() - before <= 2, "{} and {before}", repairs());
    cluster.is_told(1, &["somebody keeps changing packet filters", "HEDDLE-FORWARD"]);
    // it gives up: the last time is put right, too, after the pause
    cluster.talk(1, 2, PATIENCE);
    cluster.transfer(1, 2).unwrap();
}

#[test]
fn another_wire_that_carries_less_is_found_when_it_is_plugged_in() {
    let cluster = Cluster::new(Shape::Link, VXLAN);
    cluster.transfer(1, 2).unwrap();
    let [one, two, _] = &cluster.nodes;
    for node in [1, 2] {
        cluster.underlay.set_carrier(node, false);
    }
    cluster.underlay.set_wire_mtu(&[(1, &one.ns), (2, &two.ns)], 1400);
    for node in [1, 2] {
        cluster.underlay.set_carrier(node, true);
    }
    transfers(&cluster, 1, 2, HURRIED);
    cluster.is_told(1, &["node-2", "packets of up to 135"]);
}

#[test]
fn a_wire_that_is_too_small_for_ipv6_is_named_and_ipv4_works() {
    let world = World::new(Shape::Link);
    // 1250 bytes inside, and four more as a veth pair lets pass
    let [one, two, _] = &world.nodes;
    world.underlay.set_wire_mtu(&[(1, &one.ns), (2, &two.ns)], 1300);
    let cluster = Cluster::of(world, [VXLAN; 3]);
    for node in [1, 2] {
        let other = format!("the way to node-{}", 3 - node);
        cluster.is_told(
            node,
            &[&other, "carries only 1254 bytes", "IPv6 needs 1280", "at least 1330"],
        );
    }
    let (from, to) = (cluster.pod(1), cluster.pod(2));
    eventually(HURRIED, "IPv4 works", || {
        stream(&from.ns, to.v4(), 1 << 20, Duration::from_secs(5))?;
        stream(&to.ns, from.v4(), 1 << 20, Duration::from_secs(5))
    });
    assert!(cluster.status(1).contains("IPv6: packets of 1280 bytes do not arrive"));
}

#[test]
fn a_router_that_becomes_narrower_and_says_so_is_followed_at_once() {
    // as with flannel, pods' IPv6 travels over IPv6, which routers do not cut
    let cluster = Cluster::new(Shape::Routed, "backend = \"vxlan\"\nflannel = true");
    cluster.transfer(1, 2).unwrap();
    cluster.is_told(1, &["node-2", "packets of 1430 bytes arrive"]);
    cluster.underlay.set_router_mtu(1400);
    let (node, from, to) = (cluster.node(1), cluster.pod(1), cluster.pod(2));
    let path = &cluster.node(2).ranges()[1];
    let before = node.ns.cmd(&["ip", "-6", "route", "show", path]);
    assert!(!before.contains("mtu"), "{before}");
    // the first packet is lost
    assert!(datagram(&from.ns, to.v6(), 1430).is_err());
    let ((), took) = eventually(HURRIED, "the route has what fits", || {
        let route = node.ns.cmd(&["ip", "-6", "route", "show", path]);
        if route.contains("mtu 1330") { Ok(()) } else { Err(route) }
    });
    println!("after {took:?}");
    stream(&from.ns, to.v6(), 1 << 20, Duration::from_secs(5)).unwrap();
}

#[test]
fn a_link_that_becomes_too_small_for_ipv6_is_named_and_ipv4_goes_on() {
    let cluster = Cluster::new(Shape::Link, VXLAN);
    let set = |mtu: u32| {
        for node in [1, 2] {
            ip(&cluster.node(node).ns, &format!("link set eth0 mtu {mtu}\n"));
        }
    };
    set(1300);
    for node in [1, 2] {
        cluster.is_told(node, &["link eth0", "MTU is 1300", "room for 1250", "at least 1330"]);
    }
    let (from, to) = (cluster.pod(1), cluster.pod(2));
    eventually(HURRIED, "IPv4 goes on", || {
        stream(&from.ns, to.v4(), 1 << 20, Duration::from_secs(5))?;
        stream(&to.ns, from.v4(), 1 << 20, Duration::from_secs(5))
    });
    // pods that come now keep their IPv6 for each other
    assert_eq!(cluster.node(1).pod_mtu(), Ok(1280));
    set(1500);
    transfers(&cluster, 1, 2, HURRIED);
    assert_eq!(cluster.node(1).pod_mtu(), Ok(1450));
    assert!(!cluster.status(1).contains("problem:"), "{}", cluster.status(1));
}

#[test]
fn another_tunnel_of_the_same_number_is_named_and_another_port_is_free() {
    let world = World::new(Shape::Link);
    ip(
        &world.node(1).ns,
        "link add flannel.1 type vxlan id 1 dev eth0 local 192.0.2.11 dstport 8472 nolearning\nlink set flannel.1 up\n",
    );
    let cluster = Cluster::silent(world, [VXLAN; 3]);
    cluster.is_told(1, &["flannel.1", "8472"]);
    // over the other family of the underlay there is a way, both ways
    cluster.all_talk(PATIENCE);
    cluster.transfer(1, 2).unwrap();
    cluster.transfer(3, 1).unwrap();
    let ends = |cluster: &Cluster| {
        let announced = cluster.announced(1).unwrap();
        let ends = announced["vteps"].as_array().unwrap().iter();
        ends.map(|end| end["address"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let [v4, v6] = cluster.node(1).addresses().map(|address| address.to_string());
    assert_eq!(ends(&cluster), [&*v6]);
    cluster.is_told(1, &["flannel.1", "8472"]);
    // the owner goes, and nobody has to restart anything
    ip(&cluster.node(1).ns, "link delete flannel.1\n");
    eventually(PATIENCE, "both are announced", || {
        let ends = ends(&cluster);
        if ends == [&*v4, &*v6] { Ok(()) } else { Err(format!("{ends:?}")) }
    });
    cluster.all_talk(PATIENCE);
    cluster.transfer(1, 2).unwrap();
    drop(cluster);

    let world = World::new(Shape::Link);
    ip(
        &world.node(1).ns,
        "link add flannel.1 type vxlan id 1 dev eth0 local 192.0.2.11 dstport 8472 nolearning\nlink set flannel.1 up\n",
    );
    let cluster = Cluster::of(world, ["backend = \"vxlan\"\nport = 8475"; 3]);
    cluster.transfer(1, 2).unwrap();
}
