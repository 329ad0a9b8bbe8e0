//! One node: its namespace, its pods, and what its program keeps.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use netns_tools::testing::TestNetns;
use serde_json::{Value, json};

use crate::underlay::{self, Underlay, ip, on_segment};

/// A node. Its namespace can be made anew ([`Node::reboot`]); its folder stays, as a disk does.
pub struct Node {
    /// From 1 on.
    pub number: u8,
    pub ns: TestNetns,
    pods: Vec<Pod>,
    segment: u8,
    /// Of which network card it has: part of the Ethernet address of its `eth0`.
    card: u8,
    folder: PathBuf,
}

/// A pod. Its addresses are of its node's ranges.
pub struct Pod {
    pub ns: TestNetns,
    pub v4: IpAddr,
    pub v6: IpAddr,
}

impl Node {
    /// Plugs a node into the underlay. `folder` is of the whole world.
    pub fn new(number: u8, underlay: &Underlay, folder: &Path) -> Self {
        let folder = folder.join(format!("node-{number}"));
        fs::create_dir_all(folder.join("run")).unwrap();
        let segment = underlay.shape.segment(number);
        let (ns, pods, card) = (TestNetns::new("ov-node"), Vec::new(), 0xe0);
        let mut node = Self { number, ns, pods, segment, card, folder };
        node.plug(underlay);
        node
    }

    fn plug(&mut self, underlay: &Underlay) {
        self.ns.run(underlay::prepare);
        underlay.plug(self.number, self.card, &self.ns, self.ranges());
    }

    /// Everything that the kernel knew is gone, with the pods and what was below `/run`; the disk stays.
    pub fn reboot(&mut self, underlay: &Underlay) {
        self.pods.clear();
        underlay.unplug(self.number);
        self.ns = TestNetns::new("ov-node");
        fs::remove_dir_all(self.folder.join("run")).unwrap();
        fs::create_dir_all(self.folder.join("run")).unwrap();
        self.plug(underlay);
    }

    /// The same after the machine was replaced: its network card has another Ethernet address.
    pub fn reboot_as_another(&mut self, underlay: &Underlay) {
        self.card += 1;
        self.reboot(underlay);
    }

    pub fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    /// On the underlay.
    pub fn addresses(&self) -> [IpAddr; 2] {
        on_segment(self.segment, 10 + self.number)
    }

    /// Of its pods.
    pub fn ranges(&self) -> [String; 2] {
        [format!("10.244.{}.0/24", self.number), format!("fd00:10:244:{}::/64", self.number)]
    }

    /// The Node object, of which both families are known.
    pub fn object(&self) -> Value {
        let addresses = self.addresses().map(|ip| json!({"type": "InternalIP", "address": ip}));
        json!({
            "kind": "Node", "apiVersion": "v1", "metadata": {"name": self.name()},
            "spec": {"podCIDR": self.ranges()[0], "podCIDRs": self.ranges()},
            "status": {"addresses": addresses},
        })
    }

    /// A file of this node's; what is below `run/` does not outlive a reboot.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The lease that the program wrote.
    pub fn lease(&self) -> Result<String, String> {
        let path = self.path("run/subnet.env");
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The MTU for pods, by the lease.
    pub fn pod_mtu(&self) -> Result<u32, String> {
        let lease = self.lease()?;
        let mut lines = lease.lines().filter_map(|line| line.strip_prefix("HEDDLE_MTU="));
        let text = lines.next().ok_or_else(|| format!("no HEDDLE_MTU in the lease: {lease}"))?;
        text.parse().map_err(|error| format!("HEDDLE_MTU={text}: {error}"))
    }

    /// Makes a pod with a routed link of its own, as the plugin `ptp` does; its number on the node.
    pub fn add_pod(&mut self, mtu: u32) -> usize {
        let ns = TestNetns::new("ov-pod");
        ns.run(underlay::prepare);
        let number = self.pods.len();
        let host =
            |base: &str, number: usize| format!("{base}{number:x}").parse::<IpAddr>().unwrap();
        let v6_base = format!("fd00:10:244:{}::", self.number);
        let host_number = u8::try_from(10 + number).unwrap();
        let (v4, v6) =
            (IpAddr::from([10, 244, self.number, host_number]), host(&v6_base, 16 + number));
        let (gateway4, gateway6) = (format!("10.244.{}.1", self.number), format!("{v6_base}1"));
        let end = format!("pod{number}");
        ip(
            &self.ns,
            &format!(
                "link add {end} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}\nlink set {end} up\n\
                 address add {gateway4}/32 dev {end}\naddress add {gateway6}/128 dev {end} nodad\n\
                 route add {v4}/32 dev {end}\nroute add {v6}/128 dev {end}\n",
                ns.name()
            ),
        );
        ip(
            &ns,
            &format!(
                "link set lo up\nlink set eth0 up\naddress add {v4}/32 dev eth0\naddress add {v6}/128 dev eth0 nodad\n\
                 route add {gateway4} dev eth0\nroute add default via {gateway4}\n\
                 route add {gateway6} dev eth0\nroute add default via {gateway6}\n"
            ),
        );
        self.pods.push(Pod { ns, v4, v6 });
        number
    }

    pub fn pod(&self, number: usize) -> &Pod {
        &self.pods[number]
    }
}

impl Pod {
    /// As [`crate::traffic`] has receivers.
    pub fn v4(&self) -> (&TestNetns, IpAddr) {
        (&self.ns, self.v4)
    }

    /// See [`Pod::v4`].
    pub fn v6(&self) -> (&TestNetns, IpAddr) {
        (&self.ns, self.v6)
    }
}
