//! A cluster of flannel becomes ours node by node: nodes of both kinds talk, and a node is switched where it stands.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::agent::PATIENCE;
use crate::cluster::{Cluster, SMALL};
use crate::node::Node;
use crate::traffic::{datagram, eventually, stream};
use crate::underlay::{Shape, feed, ip};
use crate::world::World;

/// The node that has flannel.
const FLANNEL: u8 = 3;
const KEY: &str = "flannel.alpha.coreos.com/";
const TRANSFER: usize = 2 << 20;

/// How a cluster is.
#[derive(Clone, Copy)]
struct Kind {
    backend: &'static str,
    dual: bool,
    mtu: u32,
}

const VXLAN: Kind = Kind { backend: "vxlan", dual: false, mtu: 1450 };
const VXLAN_DUAL: Kind = Kind { backend: "vxlan", dual: true, mtu: 1430 };
const HOST_GW: Kind = Kind { backend: "host-gw", dual: true, mtu: 1500 };

impl Kind {
    /// For our program.
    fn configuration(self) -> String {
        format!("backend = \"{}\"\nflannel = true", self.backend)
    }

    /// IPv4 first.
    fn families(self) -> &'static [usize] {
        if self.dual { &[0, 1] } else { &[0] }
    }

    fn object(self, node: &Node) -> Value {
        let mut object = node.object();
        if !self.dual {
            object["spec"]["podCIDRs"] = json!([node.ranges()[0]]);
            object["status"]["addresses"].as_array_mut().unwrap().truncate(1);
        }
        object
    }
}

/// flanneld makes its device with an address of chance, in each family another one.
fn mac(family: usize) -> String {
    format!("8a:00:00:00:0{family}:0{FLANNEL}")
}

fn device(family: usize) -> &'static str {
    ["flannel.1", "flannel-v6.1"][family]
}

/// What is written by family: `public-ip` and `backend-data`.
fn keys(family: usize) -> [String; 2] {
    let names = [["public-ip", "backend-data"], ["public-ipv6", "backend-v6-data"]][family];
    names.map(|name| format!("{KEY}{name}"))
}

/// What flanneld writes to its Node.
fn annotated(kind: Kind, node: &Node) -> Value {
    let mut object = kind.object(node);
    object["metadata"]["annotations"] = json!({
        format!("{KEY}backend-type"): kind.backend, format!("{KEY}kube-subnet-manager"): "true",
    });
    for &family in kind.families() {
        let [address, data] = keys(family);
        let tunnel = kind.backend == "vxlan";
        let told = if tunnel { json!({"VNI": 1, "VtepMAC": mac(family)}) } else { Value::Null };
        let annotations = &mut object["metadata"]["annotations"];
        annotations[address] = json!(node.addresses()[family]);
        annotations[data] = json!(told.to_string());
    }
    object
}

/// The node's own side, as flanneld has it: devices with the first address of the range, and its chains.
fn make_flannel(kind: Kind, node: &Node) {
    let (addresses, ranges) = (node.addresses(), node.ranges());
    for &family in kind.families() {
        let (device, mac, mtu) = (device(family), mac(family), 1450 - 20 * family);
        let (range, bits) = (&ranges[family], [32, 128][family]);
        if kind.backend == "vxlan" {
            ip(
                &node.ns,
                &format!(
                    "link add {device} mtu {mtu} address {mac} type vxlan id 1 dev eth0 local {} dstport 8472 nolearning\n\
                     address add {}/{bits} dev {device}\nlink set {device} up\n",
                    addresses[family],
                    first(range),
                ),
            );
        }
        let all = ["10.244.0.0/16", "fd00:10:244::/48"][family];
        let multicast = ["224.0.0.0/4", "ff00::/8"][family];
        let rules = format!(
            "*nat\n:FLANNEL-POSTRTG - [0:0]\n-A POSTROUTING -j FLANNEL-POSTRTG\n\
             -A FLANNEL-POSTRTG -s {range} -d {all} -j RETURN\n-A FLANNEL-POSTRTG -s {all} -d {range} -j RETURN\n\
             -A FLANNEL-POSTRTG ! -s {all} -d {range} -j RETURN\n\
             -A FLANNEL-POSTRTG -s {all} ! -d {multicast} -j MASQUERADE --random-fully\n\
             -A FLANNEL-POSTRTG ! -s {all} -d {all} -j MASQUERADE --random-fully\nCOMMIT\n\
             *filter\n:FLANNEL-FWD - [0:0]\n-A FORWARD -j FLANNEL-FWD\n\
             -A FLANNEL-FWD -s {all} -j ACCEPT\n-A FLANNEL-FWD -d {all} -j ACCEPT\nCOMMIT\n"
        );
        let program = ["iptables-restore", "ip6tables-restore"][family];
        feed(&node.ns, &[program, "-w", "--noflush"], &rules);
    }
}

fn first(range: &str) -> &str {
    range.split('/').next().unwrap()
}

/// What flanneld makes of what another node announces, and refuses to make of anything else.
fn follow(cluster: &Cluster, kind: Kind, other: u8) -> Result<(), String> {
    let object = cluster.object(other);
    let read = |key: &str| {
        let text = object["metadata"]["annotations"][key].as_str().map(str::to_owned);
        text.ok_or_else(|| format!("node-{other} has no annotation {key}: {object}"))
    };
    if read(&format!("{KEY}kube-subnet-manager"))? != "true" {
        return Err(format!("node-{other} is not flannel's"));
    }
    let backend = read(&format!("{KEY}backend-type"))?;
    if backend != kind.backend {
        return Err(format!("node-{other} has backend {backend}"));
    }
    let (ranges, ns) = (cluster.node(other).ranges(), &cluster.node(FLANNEL).ns);
    for &family in kind.families() {
        let [address, data] = keys(family);
        let (remote, data, range) = (read(&address)?, read(&data)?, &ranges[family]);
        let data: Value = serde_json::from_str(&data).map_err(|e| format!("{data}: {e}"))?;
        if kind.backend == "host-gw" {
            ip(ns, &format!("route replace {range} via {remote} dev eth0\n"));
            continue;
        }
        let (device, gateway) = (device(family), first(range));
        let mac = data["VtepMAC"].as_str().ok_or_else(|| format!("no VtepMAC in {data}"))?;
        assert_eq!(data["VNI"], 1, "{data}");
        ip(
            ns,
            &format!(
                "neigh replace {gateway} lladdr {mac} dev {device} nud permanent\n\
                 route replace {range} via {gateway} dev {device} onlink\n"
            ),
        );
        ns.cmd(&["bridge", "fdb", "replace", mac, "dev", device, "dst", &remote]);
    }
    Ok(())
}

/// Two nodes of ours and one of flannel, each with a pod, and flannel has seen the others.
fn mixed(shape: Shape, kind: Kind) -> Cluster {
    let world = World::new(shape);
    for node in &world.nodes {
        world.put(kind.object(node));
    }
    world.put(annotated(kind, world.node(FLANNEL)));
    make_flannel(kind, world.node(FLANNEL));
    let mut cluster = Cluster::idle(world);
    for node in [1, 2] {
        cluster.start(node, &kind.configuration());
    }
    for node in [1, 2] {
        cluster.add_pod(node);
        assert_eq!(cluster.node(node).pod_mtu(), Ok(kind.mtu));
        eventually(PATIENCE, "nodes announce themselves to flannel", || {
            follow(&cluster, kind, node)
        });
    }
    cluster.node_mut(FLANNEL).add_pod(kind.mtu);
    cluster
}

fn pods(cluster: &Cluster, kind: Kind, from: u8, to: u8) -> Vec<(IpAddr, IpAddr)> {
    let (from, to) = (cluster.pod(from), cluster.pod(to));
    let all = [(from.v4, to.v4), (from.v6, to.v6)];
    kind.families().iter().map(|family| all[*family]).collect()
}

/// Packets of a size arrive in both directions, from whom they are.
fn talk(cluster: &Cluster, kind: Kind, pair: [u8; 2], size: usize) -> Result<(), String> {
    for [from, to] in [pair, [pair[1], pair[0]]] {
        let (sender, receiver) = (&cluster.pod(from).ns, &cluster.pod(to).ns);
        for (own, address) in pods(cluster, kind, from, to) {
            let seen = datagram(sender, (receiver, address), size)?;
            if seen != own {
                return Err(format!("{own} of node-{from} is seen as {seen} on node-{to}"));
            }
        }
    }
    Ok(())
}

/// The largest packets that pods send arrive, and transfers end.
#[track_caller]
fn all_talk(cluster: &Cluster, kind: Kind) {
    let size = usize::try_from(kind.mtu).unwrap();
    for pair in [[1, 2], [1, FLANNEL], [2, FLANNEL]] {
        eventually(PATIENCE, &format!("pods of {pair:?} talk"), || talk(cluster, kind, pair, size));
        for [from, to] in [pair, [pair[1], pair[0]]] {
            let (sender, receiver) = (&cluster.pod(from).ns, &cluster.pod(to).ns);
            for (_, address) in pods(cluster, kind, from, to) {
                stream(sender, (receiver, address), TRANSFER, PATIENCE).unwrap();
            }
        }
    }
}

/// Flannel's devices are there still: ours is not made, and pods go on to talk by flannel's. When they go, ours comes by itself.
fn a_node_is_switched_where_it_stands(kind: Kind) {
    let mut cluster = mixed(Shape::Link, kind);
    all_talk(&cluster, kind);
    cluster.start(FLANNEL, &kind.configuration());
    for &family in kind.families() {
        cluster.is_told(FLANNEL, &[device(family), "8472"]);
    }
    for pair in [[1, FLANNEL], [2, FLANNEL]] {
        talk(&cluster, kind, pair, SMALL).unwrap();
    }
    // what was announced by flannel leads to flannel's devices, and is not overwritten before they go
    assert!(cluster.announced(FLANNEL).is_err());
    for &family in kind.families() {
        ip(&cluster.node(FLANNEL).ns, &format!("link delete {}\n", device(family)));
    }
    all_talk(&cluster, kind);
    // peers know it as ours, and another node of flannel would still know it
    eventually(PATIENCE, "the node announces itself", || cluster.announced(FLANNEL));
    let annotations = cluster.object(FLANNEL)["metadata"]["annotations"].clone();
    for &family in kind.families() {
        let [address, data] = keys(family).map(|key| annotations[key].clone());
        assert_eq!(address, json!(cluster.node(FLANNEL).addresses()[family]));
        // the address of the IPv4 device is kept: nobody had to learn another one
        assert!(data.as_str().unwrap().contains(&mac(0)), "{annotations}");
    }
    assert_eq!(cluster.device(FLANNEL)["address"], json!(mac(0)));
    for node in [1, 2] {
        assert_eq!(cluster.entries(node, &mac(1)), Vec::<String>::new(), "nothing is left");
    }
}

#[test]
fn nodes_of_flannel_and_ours_talk_by_vxlan_and_one_is_switched_in_place() {
    a_node_is_switched_where_it_stands(VXLAN);
}

#[test]
fn the_same_in_both_families() {
    a_node_is_switched_where_it_stands(VXLAN_DUAL);
}

#[test]
fn nodes_of_flannel_and_ours_talk_over_a_router() {
    all_talk(&mixed(Shape::Routed, VXLAN_DUAL), VXLAN_DUAL);
}

/// Nothing is in the way of ours there: the routes are the same, and somebody else's until flannel's are gone.
#[test]
fn nodes_of_flannel_and_ours_talk_by_plain_routes_and_one_is_switched_in_place() {
    let mut cluster = mixed(Shape::Link, HOST_GW);
    all_talk(&cluster, HOST_GW);
    cluster.start(FLANNEL, &HOST_GW.configuration());
    let ranges = cluster.node(1).ranges();
    // whoever made it may still count on it
    cluster.is_told(FLANNEL, &[&ranges[0], "somebody"]);
    all_talk(&cluster, HOST_GW);
    for node in [1, 2] {
        for range in cluster.node(node).ranges() {
            ip(&cluster.node(FLANNEL).ns, &format!("route delete {range}\n"));
        }
    }
    all_talk(&cluster, HOST_GW);
    let routes = cluster.node(FLANNEL).ns.cmd(&["ip", "route", "show", &ranges[0]]);
    assert!(routes.contains("proto 104"), "{routes}");
}
