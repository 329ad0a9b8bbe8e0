//! A node with an interface to the outside, which `macvlan` and its like make theirs on.

use std::fs;
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use netns_tools::{OperState, Veth};
use serde_json::{Value, json};

use super::{Node, Pod, Suite};

/// The networks that the outside is in, with these addresses, and that pods get theirs from.
pub const V4: &str = "10.77.0.0/24";
pub const V6: &str = "fd77::/64";
pub const OUTSIDE: &str = "10.77.0.1";
pub const OUTSIDE_V6: &str = "fd77::1";
/// The node's interface.
pub const MASTER: &str = "up0";
/// Its other end, outside.
pub const FAR: &str = "far0";
/// How long the kernel may take to see that both ends are up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node whose `up0` leads to another machine.
pub struct Uplink {
    pub node: Node,
    pub outside: TestNetns,
}

impl Uplink {
    pub fn new(suite: Suite) -> Self {
        let (node, outside) = (Node::new(suite), TestNetns::new("hout"));
        // Duplicate address detection is the kernel's and takes seconds.
        without_dad(&node.ns);
        without_dad(&outside);
        let veth = Veth { peer_ns: Some(outside.ns()), ..Veth::new(MASTER, FAR) };
        node.ns.netlink().add_veth(&veth).unwrap();
        node.ns.configure(MASTER, &[]);
        outside.configure(FAR, &[&format!("{OUTSIDE}/24"), &format!("{OUTSIDE_V6}/64")]);
        for (ns, name) in [(&node.ns, MASTER), (&outside, FAR)] {
            let start = Instant::now();
            while ns.link(name).oper_state != OperState::Up {
                assert!(start.elapsed() < PATIENCE, "{name} does not come up");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Self { node, outside }
    }

    /// A pod in which IPv6 addresses can be used at once.
    pub fn pod(&self, id: &str) -> Pod {
        let pod = self.node.pod(id);
        without_dad(&pod.ns);
        pod
    }

    /// A configuration of both families on `up0`.
    pub fn conf(&self, plugin: &str, extra: &Value) -> Value {
        conf(&self.node, plugin, extra)
    }
}

/// Links to come have their IPv6 addresses at once.
fn without_dad(ns: &TestNetns) {
    ns.run(|| fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap());
}

/// A configuration of both families on `up0`; `null` takes a key away.
pub fn conf(node: &Node, plugin: &str, extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0",
        "name": "testnet",
        "type": plugin,
        "master": MASTER,
        "ipam": node.ipam(&[V4, V6]),
    });
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

/// Whether a ping comes back. A few are tried: the first may be lost while addresses are being learned.
pub fn reaches(ns: &TestNetns, target: &str) -> bool {
    (0..10).any(|_| pings(ns, target))
}

/// One ping.
pub fn pings(ns: &TestNetns, target: &str) -> bool {
    ns.output(&["busybox", "ping", "-c", "1", "-W", "2", target]).status.success()
}

/// Whether the kernel can make links of a kind; if not, one visible line says what is not proven.
pub fn proven_here(ns: &TestNetns, kind: &str) -> bool {
    let has = ns.netlink().has_link_kind(kind).unwrap();
    if !has {
        println!("not proven on this kernel: the plugin {kind} with real interfaces");
    }
    has
}
