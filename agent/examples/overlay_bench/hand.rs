//! The topologies by hand: `ip`, `sysctl` and `nft` commands, as somebody writes them who knows both nodes.

use std::io::Write;
use std::process::{Command, Stdio};

use netns_tools::testing::TestNetns;

use crate::Outcome;
use crate::node::{CLUSTER, Node, Pod};
use crate::place::{Attachment, Builder, Path, Place};

const DEVICE: &str = "vx.1";
const BRIDGE: &str = "cni0";

/// Forwarding, and whether a bridge shows packets to iptables: kube-proxy needs that for services whose pods are at one bridge.
pub fn prepare(node: &Node, place: Place) -> Outcome {
    let seen = u8::from(place.builder != Builder::Bare);
    let bridge_nf = format!("net.bridge.bridge-nf-call-iptables={seen}");
    run(&node.ns, &["sysctl", "-qw", "net.ipv4.ip_forward=1", &bridge_nf], "")
}

/// Attaches a pod.
pub fn attach(node: &Node, pod: &Pod, place: Place) -> Outcome {
    let end = format!("veth{}", pod.number);
    let (gateway, address, mtu) = (node.gateway(), pod.address(), place.path.mtu());
    let mut lines = format!(
        "link add {end} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}\n",
        pod.ns.name()
    );
    let inside = match place.attachment {
        Attachment::Bridge => {
            if pod.number == 0 {
                lines += &format!("link add {BRIDGE} type bridge forward_delay 0\n");
                lines += &format!("address add {gateway}/24 dev {BRIDGE}\nlink set {BRIDGE} up\n");
            }
            lines += &format!("link set {end} master {BRIDGE} up\n");
            format!(
                "address add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {gateway}\n"
            )
        }
        Attachment::Ptp => {
            lines += &format!("address add {gateway}/32 dev {end}\nlink set {end} up\n");
            lines += &format!("route add {address}/32 dev {end} src {gateway}\n");
            format!(
                "address add {address}/32 dev eth0\nlink set eth0 up\n\
                 route add {gateway} dev eth0 scope link\nroute add default via {gateway}\n"
            )
        }
    };
    ip(&node.ns, &lines)?;
    ip(&pod.ns, &inside)
}

/// The way to the other node's pods.
pub fn route(node: &Node, other: &Node, place: Place) -> Outcome {
    let (range, remote) = (other.range(), other.address());
    match place.path {
        Path::Same => Ok(()),
        Path::Direct => ip(&node.ns, &format!("route add {range} via {remote}\n")),
        Path::Vxlan => {
            let (local, mac) = (node.address(), node.mac());
            let (own, gateway, peer) = (node.first(), other.first(), other.mac());
            let lines = format!(
                "link add {DEVICE} address {mac} mtu {} type vxlan id 1 dev eth0 local {local} dstport 8472 nolearning\n\
                 address add {own}/32 dev {DEVICE}\nlink set {DEVICE} up\n\
                 route add {range} via {gateway} dev {DEVICE} onlink\n\
                 neigh add {gateway} lladdr {peer} dev {DEVICE} nud permanent\n",
                place.path.mtu(),
            );
            ip(&node.ns, &lines)?;
            let entry =
                ["bridge", "fdb", "append", &peer, "dev", DEVICE, "dst", &remote.to_string()];
            run(&node.ns, &entry, "")
        }
    }
}

/// What the pods send outside gets the node's address, and only nodes may send into the tunnel. In front of that the accepts that
/// are needed where a policy drops.
pub fn rules(node: &Node, nodes: &[Node]) -> Outcome {
    let nodes: Vec<_> = nodes.iter().map(|node| node.address().to_string()).collect();
    let text = format!(
        "table ip by-hand {{
           set nodes {{ type ipv4_addr; elements = {{ {} }} }}
           chain postrouting {{
             type nat hook postrouting priority srcnat; policy accept;
             ip saddr {CLUSTER} ip daddr {CLUSTER} return
             ip saddr {CLUSTER} ip daddr 224.0.0.0/4 return
             ip saddr {CLUSTER} masquerade fully-random
           }}
           chain input {{
             type filter hook input priority filter; policy accept;
             udp dport 8472 ip saddr != @nodes drop
           }}
           chain forward {{
             type filter hook forward priority filter; policy accept;
             ip saddr {CLUSTER} accept
             ip daddr {CLUSTER} accept
           }}
         }}",
        nodes.join(", ")
    );
    run(&node.ns, &["nft", "-f", "-"], &text)
}

fn ip(ns: &TestNetns, lines: &str) -> Outcome {
    run(ns, &["ip", "-batch", "-"], lines)
}

/// Runs a program in a namespace with a text to read.
fn run(ns: &TestNetns, words: &[&str], text: &str) -> Outcome {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let output = ns.run(|| {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes())?;
        }
        child.wait_with_output()
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{words:?} in {}: {said}{text}", ns.name()).into())
}
