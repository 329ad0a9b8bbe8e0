//! Nodes change, come back as others, claim what is not theirs, and go.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::PATIENCE;
use crate::cluster::{ANNOTATION, Cluster, DEVICE, SMALL};
use crate::traffic::eventually;
use crate::underlay::{Shape, ip, on_segment};

const VXLAN: &str = "backend = \"vxlan\"";
/// From the API's word until the kernel knows.
const SOON: Duration = Duration::from_secs(1);

/// Gives the device another Ethernet address. With that the kernel forgets its neighbours, permanent ones too; they come back.
fn set_address(cluster: &Cluster, node: u8, mac: &str) {
    let ns = &cluster.node(node).ns;
    let neighbours = ns.json(&["ip", "-j", "neigh", "show", "dev", DEVICE, "nud", "permanent"]);
    ns.cmd(&["ip", "link", "set", DEVICE, "address", mac]);
    for known in neighbours.as_array().unwrap() {
        let [to, mac] = ["dst", "lladdr"].map(|key| known[key].as_str().unwrap());
        ns.cmd(&["ip", "neigh", "replace", to, "lladdr", mac, "dev", DEVICE, "nud", "permanent"]);
    }
}

#[test]
fn another_ethernet_address_of_a_peer_is_followed_and_the_old_one_forgotten() {
    const MAC: &str = "02:00:00:00:be:ef";
    let mut cluster = Cluster::new(Shape::Link, VXLAN);
    let mut announced = cluster.announced(2).unwrap();
    let old = announced["vteps"][0]["mac"].as_str().unwrap().to_owned();
    // nobody repairs the device of the node that changes
    cluster.take(2).crash();
    set_address(&cluster, 2, MAC);
    assert!(cluster.try_size(1, 2, SMALL).is_err(), "the old address leads nowhere");
    announced["vteps"][0]["mac"] = json!(MAC);
    cluster.announce(2, &announced);
    for node in [1, 3] {
        eventually(SOON, "the new address is known, and the old is forgotten", || {
            match (cluster.entries(node, MAC).len(), cluster.entries(node, &old)) {
                (2.., stale) if stale.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    cluster.talk(1, 2, PATIENCE);
    cluster.transfer(3, 2).unwrap();
}

#[test]
fn another_address_on_the_underlay_is_followed_here_and_by_peers() {
    let cluster = Cluster::new(Shape::Link, VXLAN);
    let (node, [old, _], [new, _]) =
        (cluster.node(2), cluster.node(2).addresses(), on_segment(1, 77));
    ip(
        &node.ns,
        &format!(
            "address del {old}/24 dev eth0\naddress add {new}/24 dev eth0\nroute replace default via 192.0.2.1\n"
        ),
    );
    let mut object = cluster.object(2);
    object["status"]["addresses"][0]["address"] = json!(new);
    cluster.put(object);
    let ((), here) = eventually(SOON, "the device sends from the new address", || {
        let device = cluster.device(2);
        let local = device["linkinfo"]["info_data"]["local"].clone();
        if local == json!(new) { Ok(()) } else { Err(device.to_string()) }
    });
    for peer in [1, 3] {
        let ((), there) = eventually(SOON, "peers send to the new address", || {
            let (old, new) = (format!("dst {old} "), format!("dst {new} "));
            let entries = [cluster.entries(peer, &old), cluster.entries(peer, &new)];
            if entries[0].is_empty() && !entries[1].is_empty() {
                Ok(())
            } else {
                Err(format!("{entries:?}"))
            }
        });
        println!("renumbered: here after {here:?}, at node-{peer} after {there:?} more");
    }
    cluster.all_talk(PATIENCE);
    cluster.transfer(2, 1).unwrap();
}

/// A Node object that only the API knows, with what it announces.
fn stranger(name: &str, ranges: [&str; 2], host: u8) -> Value {
    let [address, _] = on_segment(1, host);
    let announced = json!({
        "backend": "vxlan", "vni": 1, "port": 8472, "addresses": [address],
        "vteps": [{"address": address, "mac": format!("02:00:00:00:dd:{host:02x}")}],
    });
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": name, "creationTimestamp": "2031-01-01T00:00:00Z", "annotations": {ANNOTATION: announced.to_string()}},
        "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

#[test]
fn the_first_of_two_nodes_keeps_a_pod_range_and_both_are_named() {
    let cluster = Cluster::new(Shape::Link, VXLAN);
    let ranges = cluster.node(2).ranges();
    cluster.put(stranger("usurper", [&ranges[0], &ranges[1]], 66));
    cluster.is_told(1, &["usurper", "node-2", &ranges[0]]);
    cluster.transfer(1, 2).unwrap();
    assert_eq!(cluster.entries(1, "02:00:00:00:dd:42"), Vec::<String>::new());
    // who was first is gone: now it is the other's
    cluster.forget(2);
    eventually(PATIENCE, "the range goes to who else claims it", || {
        let entries = cluster.entries(1, "02:00:00:00:dd:42");
        if entries.is_empty() { Err(format!("{entries:?}")) } else { Ok(()) }
    });
}

#[test]
fn nothing_is_left_of_a_node_that_is_gone() {
    let mut cluster = Cluster::new(Shape::Link, VXLAN);
    let mac = cluster.announced(3).unwrap()["vteps"][0]["mac"].as_str().unwrap().to_owned();
    cluster.take(3).crash();
    cluster.forget(3);
    let [v4, v6] = cluster.node(3).ranges();
    let words = [mac.as_str(), v4.trim_end_matches("0/24"), v6.trim_end_matches("/64")];
    for node in [1, 2] {
        eventually(SOON, "nothing is left of node-3", || {
            let left: Vec<_> = words.iter().flat_map(|word| cluster.entries(node, word)).collect();
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
    }
    cluster.transfer(1, 2).unwrap();
    // and it comes back
    cluster.put(cluster.node(3).object());
    cluster.start(3, VXLAN);
    let ((), announced) =
        eventually(SOON, "node-3 is announced", || cluster.announced(3).map(drop));
    for node in [1, 2] {
        let ((), took) = eventually(SOON, "node-3 is known", || {
            let missing: Vec<_> =
                words.iter().filter(|word| cluster.entries(node, word).is_empty()).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
        });
        println!("added: announced after {announced:?}, at node-{node} after {took:?} more");
    }
    cluster.all_talk(PATIENCE);
}

#[test]
fn without_an_api_a_node_boots_with_what_it_kept() {
    let mut cluster = Cluster::new(Shape::Link, VXLAN);
    let lease = cluster.node(1).lease().unwrap();
    cluster.take(1).stop();
    cluster.api.set_away(true);
    cluster.reboot(1);
    assert!(!cluster.node(1).path("run/subnet.env").exists());
    cluster.start(1, VXLAN);
    cluster.add_pod(1);
    assert_eq!(cluster.node(1).lease().unwrap(), lease);
    cluster.talk(1, 2, PATIENCE);
    cluster.transfer(1, 3).unwrap();
    // what happened meanwhile is followed when it is back
    cluster.api.delete(test_api_server::Resource::Nodes, "", "node-3");
    cluster.api.compact();
    cluster.api.set_away(false);
    let range = cluster.node(3).ranges()[0].clone();
    eventually(PATIENCE, "the node that went meanwhile is forgotten", || {
        let left = cluster.entries(1, &range);
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    cluster.transfer(1, 2).unwrap();
}

/// What a node keeps of all nodes.
fn kept(cluster: &Cluster, node: u8) -> String {
    fs::read_to_string(cluster.node(node).path("state/overlay/nodes.json")).unwrap_or_default()
}

/// The addresses that may send through a node's tunnel, as nftables lists them.
fn admitted(cluster: &Cluster, node: u8) -> String {
    cluster.node(node).ns.cmd(&["nft", "list", "set", "inet", "heddle-overlay", "nodes4"])
}

#[test]
fn a_node_that_was_not_kept_yet_stays_connected_while_the_api_is_away() {
    let mut cluster = Cluster::new(Shape::Link, VXLAN);
    let (range, address) = (cluster.node(3).ranges()[0].clone(), cluster.address(3).to_string());
    // node-3 is none for a while; its own program believes nobody who says so
    cluster.forget(3);
    eventually(PATIENCE, "node-3 is forgotten, and not kept", || {
        let left = cluster.entries(1, &range);
        let kept = kept(&cluster, 1);
        if left.is_empty() && kept.contains("node-2") && !kept.contains("node-3") {
            Ok(())
        } else {
            Err(format!("{left:?} {kept}"))
        }
    });
    let before = kept(&cluster, 1);
    cluster.put(cluster.node(3).object());
    cluster.all_talk(PATIENCE);
    // it dies before it has kept that node: the file is written once a second
    cluster.take(1).crash();
    cluster.api.set_away(true);
    fs::write(cluster.node(1).path("state/overlay/nodes.json"), before).unwrap();
    cluster.start(1, VXLAN);
    let compared = |cluster: &Cluster| {
        eventually(PATIENCE, "everything is compared", || {
            let status = cluster.status(1);
            let done = status.contains("from before the restart") && !status.contains("sync never");
            if done { Ok(()) } else { Err(format!("{status}\n{}", cluster.agent(1).said())) }
        });
    };
    compared(&cluster);
    // what is not known to be anybody's stays, through later comparisons too
    ip(&cluster.node(1).ns, "route delete 10.244.2.0/24\n");
    cluster.talk(1, 2, PATIENCE);
    cluster.node(1).ns.cmd(&["nft", "delete", "table", "inet", "heddle-overlay"]);
    eventually(PATIENCE, "the guard is back", || {
        let listed = ["nft", "list", "set", "inet", "heddle-overlay", "nodes4"];
        let listed = cluster.node(1).ns.output(&listed);
        if listed.status.success() { Ok(()) } else { Err(format!("{listed:?}")) }
    });
    assert!(admitted(&cluster, 1).contains(&address), "{}", admitted(&cluster, 1));
    assert!(!cluster.entries(1, &range).is_empty());
    compared(&cluster);
    cluster.transfer(1, 3).unwrap();
    cluster.transfer(3, 1).unwrap();
    // it was deleted meanwhile
    cluster.forget(3);
    cluster.api.compact();
    cluster.api.set_away(false);
    eventually(PATIENCE, "nothing is left of node-3", || {
        let (left, admitted) = (cluster.entries(1, &range), admitted(&cluster, 1));
        if left.is_empty() && !admitted.contains(&address) {
            Ok(())
        } else {
            Err(format!("{left:?} {admitted}"))
        }
    });
    assert!(!cluster.status(1).contains("from before the restart"));
    cluster.transfer(1, 2).unwrap();
}

#[test]
fn after_a_reboot_everything_is_as_before() {
    let mut cluster = Cluster::new(Shape::Routed, "backend = \"auto\"");
    let announced = cluster.announced(2).unwrap();
    cluster.take(2).crash();
    cluster.reboot(2);
    cluster.start(2, "backend = \"auto\"");
    cluster.add_pod(2);
    // at once: an address is given when there are routes
    let took = [1, 3].map(|peer| cluster.talk(peer, 2, SOON));
    println!("rebooted: its first pod talks after {took:?}");
    cluster.transfer(2, 1).unwrap();
    // peers had nothing to learn
    assert_eq!(cluster.announced(2).unwrap(), announced);
}

#[test]
fn after_a_boot_with_another_network_card_neighbours_on_the_link_reach_it_again() {
    for (shape, backend) in
        [(Shape::Link, "host-gw"), (Shape::Link, "vxlan"), (Shape::Routed, "auto")]
    {
        let lines = format!("backend = \"{backend}\"");
        let mut cluster = Cluster::new(shape, &lines);
        cluster.take(2).crash();
        cluster.reboot_as_another(2);
        cluster.start(2, &lines);
        cluster.add_pod(2);
        cluster.all_talk(PATIENCE);
        cluster.transfer(2, 1).unwrap();
        cluster.transfer(3, 2).unwrap();
    }
}

#[test]
fn a_kept_state_that_is_no_more_than_noise_is_told_and_done_without() {
    let mut cluster = Cluster::new(Shape::Link, VXLAN);
    cluster.take(1).stop();
    let mut spoiled = 0;
    for file in fs::read_dir(cluster.node(1).path("state/overlay")).unwrap() {
        fs::write(file.unwrap().path(), b"\x00{\xff half a docum").unwrap();
        spoiled += 1;
    }
    assert!(spoiled > 0, "something is kept");
    cluster.reboot(1);
    cluster.start(1, VXLAN);
    cluster.add_pod(1);
    cluster.all_talk(PATIENCE);
    cluster.transfer(1, 2).unwrap();
}
