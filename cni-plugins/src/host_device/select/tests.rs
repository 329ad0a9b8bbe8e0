use netns_tools::testing::TestNetns;
use netns_tools::{MacAddr, Veth};
use tempfile::TempDir;

use super::*;

const MAC: MacAddr = MacAddr([0x0a, 0x58, 0, 0, 0, 1]);

/// A host with the links `ens5` and `ens6`, and a `/sys` to go with it.
fn host() -> (TestNetns, TempDir) {
    let ns = TestNetns::new("select");
    ns.netlink().add_veth(&Veth { mac: Some(MAC), ..Veth::new("ens5", "ens6") }).unwrap();
    let sys = TempDir::new().unwrap();
    for folder in [
        "devices/pci0000:00/0000:00:03.0/net/ens5",
        "bus/pci/devices/0000:00:03.0/net/ens5",
        "bus/pci/devices/0000:00:04.0/virtio1/net/ens6",
        "bus/pci/devices/0000:00:05.0",
        "bus/pci/devices/0000:00:06.0/net/elsewhere",
        "bus/auxiliary/devices/mlx5_core.sf.4/net/ens6",
    ] {
        fs::create_dir_all(sys.path().join(folder)).unwrap();
    }
    (ns, sys)
}

#[test]
fn every_way_leads_to_a_link() {
    let (ns, sys) = host();
    let path = sys.path().join("devices/pci0000:00/0000:00:03.0");
    for (selector, wanted) in [
        (Selector::Device("ens5".into()), "ens5"),
        (Selector::HwAddr(MAC), "ens5"),
        (Selector::KernelPath(path), "ens5"),
        (Selector::Pci("0000:00:03.0".into()), "ens5"),
        (Selector::Pci("0000:00:04.0".into()), "ens6"),
        (Selector::Auxiliary("mlx5_core.sf.4".into()), "ens6"),
    ] {
        let link = selector.require(&mut ns.netlink(), sys.path()).unwrap();
        assert_eq!(link.name, wanted, "{selector:?}");
    }
}

#[test]
fn a_device_that_is_not_there_is_told() {
    let (ns, sys) = host();
    let path = sys.path().join("devices/pci0000:00/none");
    for (selector, told) in [
        (Selector::Device("ens9".into()), "Link not found: ens9"),
        (
            Selector::HwAddr(MacAddr([2; 6])),
            "failed to find physical interface with address 02:02:02:02:02:02",
        ),
        (
            Selector::KernelPath(path.clone()),
            &*format!("failed to find network devices at {:?}", path.join("net")),
        ),
        (Selector::Pci("0000:00:05.0".into()), "no net directory under pci device 0000:00:05.0"),
        // With another container: this /sys would not show it, but be that as it may.
        (Selector::Pci("0000:00:06.0".into()), "no net directory under pci device 0000:00:06.0"),
        (Selector::Auxiliary("x".into()), "no net directory under auxiliary device x"),
    ] {
        let error = selector.require(&mut ns.netlink(), sys.path()).unwrap_err();
        assert_eq!(
            (error.code.code(), error.msg),
            (114, format!("failed to find host device: {told}"))
        );
    }
}
