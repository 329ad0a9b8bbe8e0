use serde_json::json;

use super::*;
use crate::testcall::with_call;

fn of(keys: &Value) -> Result<Conf, Error> {
    with_call("", &document(keys), Conf::parse)
}

fn document(keys: &Value) -> Value {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "overlay" });
    conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    conf
}

#[test]
fn nothing_needs_to_be_said() {
    let conf = of(&json!({})).unwrap();
    assert_eq!(conf.subnet_file, Path::new("/run/heddle/subnet.env"));
    assert_eq!(conf.data_dir, Path::new("/var/lib/cni/overlay"));
    assert_eq!((conf.plugin.as_str(), conf.delegate.len(), conf.ipam.len()), ("bridge", 0, 0));
    assert!(conf.follows_mtu());
}

#[test]
fn flannels_keys() {
    let keys = json!({
        "subnetFile": "/run/flannel/subnet.env", "dataDir": "/var/lib/cni/flannel", "ipam": { "dataDir": "/x" },
        "delegate": { "type": "ipvlan", "master": "eth0", "mtu": 1400 },
    });
    let conf = of(&keys).unwrap();
    assert_eq!((conf.plugin.as_str(), conf.follows_mtu()), ("ipvlan", false));
    assert_eq!(Value::from(conf.delegate), json!({ "master": "eth0", "mtu": 1400 }));
    assert_eq!(Value::from(conf.ipam), json!({ "dataDir": "/x" }));
}

#[test]
fn the_mode_is_the_short_form() {
    for (keys, plugin) in [
        (json!({ "mode": "ptp" }), "ptp"),
        (json!({ "mode": "bridge" }), "bridge"),
        (json!({ "mode": "" }), "bridge"),
        (json!({ "mode": "ptp", "delegate": { "type": "ptp" } }), "ptp"),
        (json!({ "delegate": { "type": null } }), "bridge"),
    ] {
        assert_eq!(of(&keys).unwrap().plugin, plugin, "{keys}");
    }
}

#[test]
fn mistakes_name_the_key_and_the_remedy() {
    for (keys, said) in [
        (json!({ "mode": "vxlan" }), "unknown mode \"vxlan\""),
        (json!({ "mode": 1 }), "\"mode\""),
        (json!({ "mode": "ptp", "delegate": { "type": "bridge" } }), "leave one out"),
        (json!({ "delegate": { "type": "overlay" } }), "cannot delegate to \"overlay\""),
        (json!({ "delegate": { "type": "flannel" } }), "cannot delegate to \"flannel\""),
        (json!({ "delegate": { "type": 5 } }), "must have (string) 'type' field"),
        (json!({ "delegate": { "name": "x" } }), "must not have 'name' field"),
        (json!({ "delegate": { "ipam": {} } }), "must not have 'ipam' field"),
        (json!({ "delegate": [] }), "\"delegate\""),
        (json!({ "delegate": { "isDefaultGateway": "yes" } }), "\"delegate.isDefaultGateway\""),
        (json!({ "delegate": { "ipMasq": 1 } }), "\"delegate.ipMasq\""),
        (json!({ "ipam": { "subnet": "10.0.0.0/8" } }), "ipam.subnet cannot be set"),
        (json!({ "ipam": { "ranges": [] } }), "ipam.ranges cannot be set"),
        (json!({ "ipam": { "routes": {} } }), "\"ipam.routes\""),
        (json!({ "ipam": { "routes": [{ "dst": "x" }] } }), "\"ipam.routes[0]"),
        (json!({ "subnetFile": "subnet.env" }), "subnetFile \"subnet.env\" is no absolute path"),
        (json!({ "dataDir": 7 }), "\"dataDir\""),
    ] {
        let error = of(&keys).unwrap_err();
        assert!(error.to_string().contains(said), "{keys}: {error}");
        assert!([6, 7].contains(&error.code.code()), "{error}");
        // DEL and GC go on
        with_call("", &document(&keys), Conf::for_teardown);
    }
}

#[test]
fn teardown_keeps_what_can_be_read() {
    let keys = json!({ "mode": "ptp", "dataDir": "/x", "delegate": { "name": "y", "bridge": "b", "type": "ptp" }, "ipam": { "dataDir": "/z", "subnet": "1" } });
    let conf = with_call("", &document(&keys), Conf::for_teardown);
    assert_eq!((conf.plugin.as_str(), conf.data_dir), ("ptp", "/x".into()));
    assert_eq!(Value::from(conf.delegate), json!({ "bridge": "b" }));
    assert_eq!(conf.ipam["dataDir"], "/z");
}

#[test]
fn no_lease_is_try_again_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("subnet.env");
    let error = lease(&file).unwrap_err();
    assert_eq!((error.code.code(), error.msg.as_str()), (11, "this node has no lease yet"));
    let expected = format!("{} does not exist", file.display());
    assert!(
        error.details.starts_with(&expected) && error.details.contains("heddle-agent"),
        "{error}"
    );
    std::fs::write(&file, "HEDDLE_MTU=1\n").unwrap();
    let error = lease(&file).unwrap_err();
    assert_eq!((error.code.code(), error.msg.as_str()), (11, "this node's lease cannot be used"));
    assert!(error.details.contains("HEDDLE_NETWORK is missing"), "{error}");
}
