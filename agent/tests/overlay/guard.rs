//! Nobody but nodes may send into the tunnel.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::agent::PATIENCE;
use crate::cluster::{Cluster, DEVICE};
use crate::traffic::eventually;
use crate::underlay::Shape;

use netns_tools::testing::TestNetns;

const PORT: u16 = 8472;
const POD_PORT: u16 = 9999;
/// Whatever is delivered is there by then.
const WAIT: Duration = Duration::from_millis(500);

/// A datagram for a pod as a VXLAN device sends it: VXLAN header (RFC 7348), Ethernet, IPv4, UDP without a checksum.
fn frame(to: [u8; 6], from: Ipv4Addr, pod: Ipv4Addr, text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + 8 + text.len()).unwrap();
    let mut ip = vec![0x45, 0];
    ip.extend(length.to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(from.octets());
    ip.extend(pod.octets());
    let words = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    // the flag "there is an identifier", and 1
    let mut frame = vec![8, 0, 0, 0, 0, 0, 1, 0];
    frame.extend(to);
    frame.extend([2, 0, 0, 0, 0xba, 0xd0, 8, 0]);
    frame.extend(ip);
    frame.extend(POD_PORT.to_be_bytes());
    frame.extend(POD_PORT.to_be_bytes());
    frame.extend((length - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(text);
    frame
}

fn send(from: &TestNetns, to: IpAddr, frame: &[u8]) {
    let sent = from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.send_to(frame, SocketAddr::new(to, PORT))
    });
    assert_eq!(sent.unwrap(), frame.len());
}

#[test]
fn frames_from_no_node_do_not_reach_pods() {
    let cluster = Cluster::new(Shape::Link, "backend = \"vxlan\"");
    let node = cluster.node(1);
    let mac = cluster.device(1)["address"].as_str().unwrap().to_owned();
    let mac: Vec<_> = mac.split(':').map(|part| u8::from_str_radix(part, 16).unwrap()).collect();
    let (IpAddr::V4(pod), IpAddr::V4(from)) = (cluster.pod(1).v4, cluster.pod(2).v4) else {
        panic!("both are IPv4");
    };
    let received = cluster.pod(1).ns.run(|| UdpSocket::bind((pod, POD_PORT))).unwrap();
    received.set_read_timeout(Some(WAIT)).unwrap();
    let made = |text: &[u8]| frame(mac.clone().try_into().unwrap(), from, pod, text);
    let arrives = || {
        let mut buffer = [0; 64];
        received.recv(&mut buffer).map(|length| buffer[..length].to_vec()).ok()
    };
    // from a node the same frame arrives: it is right
    eventually(PATIENCE, "a node's frame arrives", || {
        send(&cluster.node(2).ns, node.addresses()[0], &made(b"from a node"));
        match arrives() {
            Some(text) if text == b"from a node" => Ok(()),
            other => Err(format!("{other:?} at {DEVICE}")),
        }
    });
    while arrives().is_some() {}
    for _ in 0..3 {
        send(&cluster.underlay.outside, node.addresses()[0], &made(b"from outside"));
        // a host of the nodes' own link that is none
        send(&cluster.underlay.hub, node.addresses()[0], &made(b"from beside"));
    }
    assert_eq!(arrives(), None);
    // a node that is none any more
    cluster.forget(3);
    eventually(PATIENCE, "a former node's frames are dropped", || {
        send(&cluster.node(3).ns, node.addresses()[0], &made(b"from a former node"));
        arrives().map_or(Ok(()), |text| Err(format!("{text:?}")))
    });
    cluster.transfer(2, 1).unwrap();
}

#[test]
fn a_guard_that_somebody_deletes_is_back_at_once() {
    let cluster = Cluster::new(Shape::Link, "backend = \"vxlan\"");
    let node = &cluster.node(1).ns;
    // somebody's firewall, so that iptables accepts the port
    node.cmd(&["iptables", "-w", "-P", "INPUT", "DROP"]);
    eventually(PATIENCE, "iptables accepts the tunnel", || {
        let rules = node.cmd(&["iptables-save", "-t", "filter"]);
        let accepted = rules
            .lines()
            .any(|rule| rule.starts_with("-A HEDDLE-INPUT") && rule.contains("--dport 8472"));
        if accepted { Ok(()) } else { Err(rules) }
    });
    for _ in 0..3 {
        node.cmd(&["nft", "delete", "table", "inet", "heddle-overlay"]);
        // a tenth of that on a machine that has nothing else to do
        let ((), took) = eventually(Duration::from_secs(1), "the guard is back", || {
            let listed = node.output(&["nft", "list", "chain", "inet", "heddle-overlay", "tunnel"]);
            if listed.status.success() { Ok(()) } else { Err(format!("{listed:?}")) }
        });
        println!("it was back after {took:?}");
    }
}
