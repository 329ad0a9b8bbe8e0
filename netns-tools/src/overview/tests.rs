//! Pure: snapshots in, overview and drawing out. With one look at the real kernel.

use super::*;
use crate::link::vxlan;
use crate::testing::{End, TestNetns, veth_pair};

fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
    Link {
        index,
        name: name.into(),
        kind: kind.map(Into::into),
        mac: Some(MacAddr([2, 0, 0, 0, 0, u8::try_from(index).unwrap()])),
        mtu: 1500,
        up: true,
        oper_state: OperState::Up,
        ..Link::default()
    }
}

fn loopback() -> Link {
    Link { loopback: true, mtu: 65536, oper_state: OperState::Unknown, ..link(1, "lo", None) }
}

fn address(index: u32, net: &str) -> Address {
    Address { index, net: net.parse().unwrap(), peer: None, scope: 0, flags: 0 }
}

fn port(index: u32, name: &str, peer_index: u32, id: Option<i32>) -> Link {
    Link {
        master: Some(3),
        peer_index: Some(peer_index),
        peer_netns_id: id,
        ..link(index, name, Some("veth"))
    }
}

/// A host with a bridge and two pods, one of which cannot be seen.
fn machine() -> Vec<Snapshot> {
    let host = Snapshot {
        name: "host".into(),
        path: "/proc/1/ns/net".into(),
        id: 100,
        current: true,
        links: vec![
            loopback(),
            Link { up: true, ..link(2, "eth0", None) },
            Link { hairpin: None, ..link(3, "cni0", Some("bridge")) },
            port(4, "veth1", 2, Some(0)),
            Link { oper_state: OperState::LowerLayerDown, ..port(5, "veth2", 2, Some(1)) },
            Link { peer_index: Some(2), ..link(6, "macvlan0", Some("macvlan")) },
            Link { up: false, peer_index: Some(8), ..link(7, "left", Some("veth")) },
            Link { up: false, peer_index: Some(7), ..link(8, "right", Some("veth")) },
        ],
        addresses: vec![
            address(1, "127.0.0.1/8"),
            address(1, "::1/128"),
            address(2, "192.0.2.2/24"),
            address(3, "10.244.0.1/24"),
        ],
        remotes: BTreeMap::new(),
        known: BTreeMap::from([(0, 1)]),
    };
    let web = Snapshot {
        name: "web".into(),
        path: "/run/netns/web".into(),
        id: 101,
        current: false,
        links: vec![
            loopback(),
            Link { peer_index: Some(4), peer_netns_id: Some(0), ..link(2, "eth0", Some("veth")) },
        ],
        addresses: vec![address(1, "127.0.0.1/8"), address(2, "10.244.0.7/24")],
        remotes: BTreeMap::new(),
        known: BTreeMap::from([(0, 0)]),
    };
    vec![host, web]
}

#[test]
fn a_drawing() {
    insta::assert_snapshot!(text::namespaces(&resolve(&machine())), @r"
    host  net:[100]  (here)
      lo        loopback  up     mtu 65536  127.0.0.1/8 ::1/128
      eth0      device    up     mtu 1500   192.0.2.2/24
      cni0      bridge    up     mtu 1500   10.244.0.1/24
      ├─ veth1  veth      up     mtu 1500   <-> eth0 @ web
      └─ veth2  veth      waits  mtu 1500   <-> link 2 @ a namespace that is neither named nor a process's
      macvlan0  macvlan   up     mtu 1500   over eth0
      left      veth      down   mtu 1500   <-> right
      right     veth      down   mtu 1500   <-> left

    web  net:[101]
      lo    loopback  up  mtu 65536  127.0.0.1/8
      eth0  veth      up  mtu 1500   10.244.0.7/24 <-> veth1 @ host
    ");
}

#[test]
fn a_port_whose_master_is_itself_a_port_is_drawn_too() {
    let mut machine = machine();
    machine.truncate(1);
    machine[0].addresses.clear();
    machine[0].links = vec![
        link(3, "br0", Some("bridge")),
        Link { master: Some(3), ..link(4, "bond0", Some("bond")) },
        Link { master: Some(4), ..link(5, "eth0", None) },
    ];
    insta::assert_snapshot!(text::namespaces(&resolve(&machine)), @r"
    host  net:[100]  (here)
      br0       bridge  up  mtu 1500
      └─ bond0  bond    up  mtu 1500
      eth0      device  up  mtu 1500
    ");
}

/// A node of an overlay, and a VXLAN device of another kind beside it.
fn node() -> Snapshot {
    let mut node = machine().remove(0);
    let details = vxlan::Details {
        vni: 1,
        port: 8472,
        local: "192.0.2.2".parse().ok(),
        underlay: Some(2),
        ..vxlan::Details::default()
    };
    let other = vxlan::Details { external: true, port: 4789, ..vxlan::Details::default() };
    let device = |index, name: &str, vxlan| Link {
        mtu: 1450,
        vxlan: Some(vxlan),
        ..link(index, name, Some("vxlan"))
    };
    node.links =
        vec![link(2, "eth0", None), device(3, "heddle.1", details), device(4, "external", other)];
    node.addresses = vec![address(2, "192.0.2.2/24"), address(3, "10.244.1.0/32")];
    node.remotes = BTreeMap::from([(3, 1)]);
    node
}

#[test]
fn a_drawing_of_an_overlay() {
    insta::assert_snapshot!(text::namespaces(&resolve(&[node()])), @r"
    host  net:[100]  (here)
      eth0      device  up  mtu 1500  192.0.2.2/24
      heddle.1  vxlan   up  mtu 1450  10.244.1.0/32 vni 1 port 8472 from 192.0.2.2 to 1 node over eth0
      external  vxlan   up  mtu 1450  external port 4789 to 0 nodes
    ");
    let json = |at: usize| serde_json::to_value(&resolve(&[node()])[0].links[at]).unwrap();
    let tunnel = serde_json::json!({"vni": 1, "port": 8472, "local": "192.0.2.2", "remotes": 1});
    assert_eq!(json(1)["vxlan"], tunnel);
    assert_eq!(json(1)["lower"]["name"], "eth0");
    let tunnel = serde_json::json!({"vni": null, "port": 4789, "local": null, "remotes": 0});
    assert_eq!(json(2)["vxlan"], tunnel);
}

#[test]
fn a_survey_counts_the_nodes_behind_a_vxlan_device() {
    let (one, other) = (TestNetns::new("survey"), TestNetns::new("survey"));
    veth_pair(End(&one, "eth0", &["192.0.2.1/24"]), End(&other, "eth0", &["192.0.2.2/24"]));
    let mut net = one.netlink();
    let underlay = Some(one.link("eth0").index);
    let vxlan = crate::Vxlan { underlay, ..crate::Vxlan::new(7, [192, 0, 2, 1].into()) };
    net.add_vxlan(&crate::NewLink::new("v7"), &vxlan).unwrap();
    let index = one.link("v7").index;
    // Two Ethernet addresses behind one node, one behind another.
    for (last, remote) in [(1, [192, 0, 2, 2]), (2, [192, 0, 2, 2]), (3, [192, 0, 2, 3])] {
        let mac = MacAddr([2, 0, 0, 0, 0, last]);
        net.add_fdb(&crate::FdbEntry::new(index, mac, remote.into())).unwrap();
    }
    let overview = survey::survey(None);
    let namespace = overview.namespaces.iter().find(|n| n.name == one.name()).unwrap();
    let link = namespace.links.iter().find(|link| link.name == "v7").unwrap();
    let local = "192.0.2.1".parse().ok();
    assert_eq!(link.vxlan, Some(Tunnel { vni: Some(7), port: 8472, local, remotes: 2 }));
    assert_eq!(link.lower.as_ref().unwrap().name.as_deref(), Some("eth0"));
    let drawn = text::namespaces(std::slice::from_ref(namespace));
    assert!(drawn.contains("vni 7 port 8472 from 192.0.2.1 to 2 nodes over eth0"), "{drawn}");
}

#[test]
fn the_json_form_is_stable() {
    let overview = Overview {
        namespaces: resolve(&machine()).split_off(1),
        errors: vec!["gone: cannot enter".into()],
    };
    insta::assert_snapshot!(serde_json::to_string_pretty(&overview).unwrap(), @r#"
    {
      "namespaces": [
        {
          "name": "web",
          "path": "/run/netns/web",
          "id": 101,
          "current": false,
          "links": [
            {
              "index": 1,
              "name": "lo",
              "kind": "loopback",
              "up": true,
              "oper_state": "UNKNOWN",
              "mtu": 65536,
              "mac": "02:00:00:00:00:01",
              "master": null,
              "addresses": [
                "127.0.0.1/8"
              ],
              "peer": null,
              "lower": null,
              "vxlan": null
            },
            {
              "index": 2,
              "name": "eth0",
              "kind": "veth",
              "up": true,
              "oper_state": "UP",
              "mtu": 1500,
              "mac": "02:00:00:00:00:02",
              "master": null,
              "addresses": [
                "10.244.0.7/24"
              ],
              "peer": {
                "namespace": "host",
                "name": "veth1",
                "index": 4
              },
              "lower": null,
              "vxlan": null
            }
          ]
        }
      ],
      "errors": [
        "gone: cannot enter"
      ]
    }
    "#);
}

#[test]
fn a_list() {
    let entry = |name: &str, processes: &[u32]| survey::Entry {
        name: name.into(),
        path: format!("/run/netns/{name}"),
        id: 4_026_532_000,
        links: 2,
        processes: processes.into(),
    };
    insta::assert_snapshot!(text::entries(&[entry("a", &[]), entry("longer-name", &[17, 4711])]), @r"
    NAME         ID          LINKS  PROCESSES
    a            4026532000  2      0
    longer-name  4026532000  2      2
    ");
    assert_eq!(text::entries(&[]), "NAME  ID  LINKS  PROCESSES\n");
}

#[test]
fn a_survey_finds_peers_in_other_namespaces() {
    let (one, other) = (TestNetns::new("survey"), TestNetns::new("survey"));
    veth_pair(End(&one, "left", &["10.9.0.1/24"]), End(&other, "right", &["10.9.0.2/24"]));
    let overview = survey::survey(None);
    let peer = |ns: &TestNetns, name: &str| {
        let namespace = overview.namespaces.iter().find(|n| n.name == ns.name()).unwrap();
        assert_eq!(namespace.id, ns.ns().id().ino);
        namespace.links.iter().find(|link| link.name == name).unwrap().clone()
    };
    let left = peer(&one, "left");
    assert_eq!(left.addresses[0], "10.9.0.1/24");
    assert_eq!(
        left.peer,
        Some(Far {
            namespace: Some(other.name().into()),
            name: Some("right".into()),
            index: other.link("right").index
        })
    );
    assert_eq!(peer(&other, "right").peer.unwrap().namespace.as_deref(), Some(one.name()));
    assert_eq!(overview.namespaces[0].name, "host");
}

#[test]
fn a_namespace_that_only_a_process_holds_is_found() {
    let ns = TestNetns::new("held");
    let mut child = ns.command("sleep").arg("60").spawn().unwrap();
    let listed = survey::entries().unwrap();
    let entry = listed.iter().find(|entry| entry.name == ns.name()).unwrap();
    assert_eq!((entry.links, &entry.processes[..]), (1, &[child.id()][..]));
    // Without its name, it goes by its process.
    crate::NetNs::delete(ns.name()).unwrap();
    let found = survey::survey(None);
    let name = format!("pid:{}", child.id());
    let found = found.namespaces.iter().find(|n| n.name == name).cloned();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found.unwrap().id, ns.ns().id().ino);
}
