//! Who may send into the tunnel.

use std::net::UdpSocket;

use super::world::*;
use super::*;

#[test]
fn frames_of_a_host_that_is_no_node_are_dropped_and_counted() {
    let world = World::new();
    let World { node, pod, other_pod, outside, .. } = &world;
    world.intrude();
    let forged = || seen((outside, "10.244.9.0"), (pod, POD[0]));
    assert_eq!(forged().as_deref(), Some("10.244.9.0"), "the attack works where nobody guards");
    let mut rules = world.rules();
    world.sync(&mut rules, &input());
    let dropped = |rules: &mut Rules| node.run(|| rules.dropped()).unwrap();
    assert_eq!(dropped(&mut rules), 0);
    assert_eq!(forged(), None);
    assert!(dropped(&mut rules) > 0);
    assert!(talks((pod, POD[0]), (other_pod, OTHER_POD[0])), "nodes' frames pass");
    assert!(talks((pod, POD[1]), (other_pod, OTHER_POD[1])));

    // a node that comes, and goes
    let address: IpAddr = OUTSIDE[0].parse().unwrap();
    node.run(|| rules.update_nodes(&[address], &[])).unwrap();
    assert_eq!(forged().as_deref(), Some("10.244.9.0"));
    node.run(|| rules.update_nodes(&[], &[address])).unwrap();
    let before = dropped(&mut rules);
    assert_eq!(forged(), None);
    assert!(dropped(&mut rules) > before);
    assert!(node.run(|| rules.is_intact()).unwrap());
}

#[test]
fn no_process_of_the_host_speaks_into_the_tunnel() {
    let world = World::new();
    let node = &world.node;
    let mut rules = world.rules();
    world.sync(&mut rules, &input());
    let targets = ["127.0.0.1", NODE[0], "::1", NODE[1], "10.244.1.1"];
    for (count, target) in targets.iter().enumerate() {
        let target: IpAddr = target.parse().unwrap();
        node.run(|| {
            // also with an address that is a node's
            let socket = UdpSocket::bind((target, 0)).unwrap();
            socket.send_to(b"forged", (target, 8472)).unwrap();
        });
        within("a drop", || node.run(|| rules.dropped()).unwrap() == count as u64 + 1);
    }
}

/// Datagrams of the tunnel to a broadcast address reach the kernel's socket too, and fragments are one datagram.
#[test]
fn by_whatever_address_and_in_pieces() {
    let world = World::new();
    let World { node, outside, .. } = &world;
    let mut rules = world.rules();
    world.sync(&mut rules, &input());
    let send = |target: &str, size: usize| {
        let target: IpAddr = target.parse().unwrap();
        outside.run(|| {
            let any = if target.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.send_to(&vec![0; size], (target, 8472)).unwrap();
        });
    };
    for (count, (target, size)) in
        [("192.0.2.255", 50), (NODE[0], 4000), (NODE[1], 4000)].into_iter().enumerate()
    {
        send(target, size);
        within("a drop", || node.run(|| rules.dropped()).unwrap() == count as u64 + 1);
    }
    // the port of pods behind this node is theirs
    let before = node.run(|| rules.dropped()).unwrap();
    outside.cmd(&["ip", "route", "add", "10.244.1.0/24", "via", NODE[0]]);
    let receiver = world.pod.run(|| UdpSocket::bind((POD[0], 8472))).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    send(POD[0], 50);
    assert_eq!(receiver.recv(&mut [0; 64]).unwrap(), 50);
    assert_eq!(node.run(|| rules.dropped()).unwrap(), before);
}

#[test]
fn ten_thousand_nodes() {
    let ns = netns_tools::testing::TestNetns::new("many");
    let address = |number: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + number));
    let mut input = input();
    input.nodes = (0..10_000).map(address).collect();
    // every second one has a range of its own outside of the network
    input.pods.extend((0..5_000_u32).map(|number| {
        let range = IpAddr::from(std::net::Ipv4Addr::from(0xac10_0000 + number * 128));
        ipnetwork::IpNetwork::new(range, 26).unwrap()
    }));
    ns.run(|| {
        let mut rules = Rules::open().unwrap();
        let start = std::time::Instant::now();
        assert_eq!(rules.sync(&input).unwrap().nft_commits, 1);
        let first = start.elapsed();
        let start = std::time::Instant::now();
        assert_eq!(rules.sync(&input).unwrap().nft_commits, 0);
        let second = start.elapsed();
        let mut times = Vec::new();
        for number in 10_000..10_021 {
            let start = std::time::Instant::now();
            rules.update_nodes(&[address(number)], &[address(number - 10_000)]).unwrap();
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let start = std::time::Instant::now();
        assert!(rules.is_intact().unwrap());
        println!(
            "first sync {first:?}, second {second:?}, one node {:?}, a look {:?}",
            times[10],
            start.elapsed()
        );
        assert!(times[10] < std::time::Duration::from_millis(5), "{times:?}");
        // what was changed bit by bit is what a sync would make
        input.nodes = (21..10_021).map(address).collect();
        assert_eq!(rules.sync(&input).unwrap().nft_commits, 0);
    });
}
