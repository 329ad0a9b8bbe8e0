use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::testcall::with_call;

/// A tree as `/sys` has it: a PCI device of each sort, and an auxiliary one.
fn sys() -> TempDir {
    let dir = TempDir::new().unwrap();
    let make = |path: &str| fs::create_dir_all(dir.path().join(path)).unwrap();
    for (device, driver) in [("0000:00:03.0", "e1000e"), ("0000:00:04.0", "vfio-pci")] {
        make(&format!("bus/pci/drivers/{driver}"));
        make(&format!("bus/pci/devices/{device}"));
        let link = dir.path().join(format!("bus/pci/devices/{device}/driver"));
        symlink(format!("../../drivers/{driver}"), link).unwrap();
    }
    make("bus/pci/devices/0000:00:05.0");
    make("bus/auxiliary/devices/mlx5_core.sf.4");
    dir
}

fn parse(extra: Value) -> Result<Conf, Error> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "host-device" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let sys = sys();
    with_call("", &conf, |call| Conf::parse(call, sys.path()))
}

#[test]
fn ways_to_name_a_device() {
    let selector = |extra| parse(extra).unwrap().selector;
    assert_eq!(selector(json!({ "device": "ens5" })), Selector::Device("ens5".into()));
    let mac = MacAddr([0x0a, 0x58, 0, 0, 0, 1]);
    assert_eq!(selector(json!({ "hwaddr": "0A:58:00:00:00:01" })), Selector::HwAddr(mac));
    assert_eq!(
        selector(json!({ "pciBusID": "0000:00:03.0" })),
        Selector::Pci("0000:00:03.0".into())
    );
    let Selector::KernelPath(path) = selector(json!({ "kernelpath": "/sys/devices/pci0000:00/x" }))
    else {
        panic!("no path");
    };
    assert!(path.ends_with("devices/pci0000:00/x"), "{path:?}");
    let id = |id: &str| json!({ "pciBusID": "0000:00:03.0", "runtimeConfig": { "deviceID": id } });
    assert_eq!(selector(id("0000:00:04.0")), Selector::Pci("0000:00:04.0".into()));
    assert_eq!(selector(id("mlx5_core.sf.4")), Selector::Auxiliary("mlx5_core.sf.4".into()));
    // The first one counts.
    let all =
        json!({ "device": "ens5", "hwaddr": "0a:58:00:00:00:01", "pciBusID": "0000:00:03.0" });
    assert_eq!(selector(all), Selector::Device("ens5".into()));
}

#[test]
fn a_device_of_a_program() {
    for (pci, userspace) in [("0000:00:03.0", false), ("0000:00:04.0", true)] {
        assert_eq!(parse(json!({ "pciBusID": pci })).unwrap().userspace, userspace, "{pci}");
    }
    assert!(!parse(json!({ "device": "ens5" })).unwrap().userspace);
}

#[test]
fn refusals() {
    let none = r#"specify either "device", "hwaddr", "kernelpath" or "pciBusID""#;
    for (extra, code, msg) in [
        (json!({}), 7, none),
        (json!({ "device": "", "hwaddr": "" }), 7, none),
        (json!({ "device": "a/b" }), 7, "device \"a/b\" cannot be the name of an interface"),
        (json!({ "hwaddr": "no" }), 7, "failed to parse MAC address \"no\""),
        (
            json!({ "kernelpath": "devices/x" }),
            7,
            "kernel device path \"devices/x\" must be absolute and begin with /sys/devices/",
        ),
        (
            json!({ "kernelpath": "/sys/devices/../class" }),
            7,
            "kernel device path \"/sys/devices/../class\" must be absolute and begin with /sys/devices/",
        ),
        (json!({ "pciBusID": "../../x" }), 7, "\"../../x\" cannot be a device's id"),
        (
            json!({ "runtimeConfig": { "deviceID": "0000:00:09.0" } }),
            114,
            "runtime config DeviceID 0000:00:09.0 not found or unsupported",
        ),
    ] {
        let error = parse(extra).unwrap_err();
        assert_eq!((error.code.code(), error.msg.as_str()), (code, msg));
    }
    let without_driver = parse(json!({ "pciBusID": "0000:00:05.0" })).unwrap_err();
    assert!(without_driver.msg.starts_with("error with host device: "), "{without_driver}");
}
