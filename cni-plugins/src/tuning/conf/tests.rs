use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn parse(args: &str, extra: Value) -> Result<Conf, Error> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "tuning" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with_call(args, &conf, Conf::parse)
}

fn mac(last: u8) -> Change {
    Change::Mac(MacAddr([0x0a, 0x58, 0, 0, 0, last]))
}

#[test]
fn nothing_and_everything() {
    let conf = parse("", json!({ "promisc": false, "mtu": 0, "mac": "" })).unwrap();
    assert!(conf.changes.is_empty() && conf.sysctls.is_empty());
    assert_eq!(conf.data_dir, PathBuf::from("/run/cni/tuning"));
    let conf = parse(
        "",
        json!({
            "mac": "0a:58:00:00:00:01", "promisc": true, "mtu": 1400, "txQLen": 0, "allmulti": false,
            "sysctl": { "net.core.somaxconn": "500" }, "dataDir": "/x",
        }),
    )
    .unwrap();
    let wanted = [
        mac(1),
        Change::Promisc(true),
        Change::Mtu(1400),
        Change::TxQLen(0),
        Change::Allmulti(false),
    ];
    assert_eq!(conf.changes, wanted);
    assert_eq!((conf.sysctls.len(), conf.data_dir), (1, PathBuf::from("/x")));
}

#[test]
fn args_win() {
    let conf = parse(
        "",
        json!({
            "promisc": true, "mtu": 1400, "txQLen": 9, "allmulti": true,
            "args": { "cni": { "promisc": false, "mtu": 1300, "txQLen": 8, "allmulti": false } },
        }),
    )
    .unwrap();
    assert_eq!(conf.changes, [Change::Mtu(1300), Change::TxQLen(8), Change::Allmulti(false)]);
    let none = parse("", json!({ "mtu": 1400, "args": { "cni": { "mtu": 0 } } })).unwrap();
    assert!(none.changes.is_empty());
}

#[test]
fn the_last_mac_wins() {
    let of = |args: &str, extra| parse(args, extra).unwrap().changes;
    let (own, runtime) = (json!("0a:58:00:00:00:01"), json!({ "mac": "0a:58:00:00:00:03" }));
    let arg = "MAC=0a:58:00:00:00:02";
    assert_eq!(of("", json!({ "mac": own })), [mac(1)]);
    assert_eq!(of(arg, json!({ "mac": own })), [mac(2)]);
    assert_eq!(of(arg, json!({ "mac": own, "runtimeConfig": runtime })), [mac(3)]);
    let cni = json!({ "cni": { "mac": "0a:58:00:00:00:04" } });
    assert_eq!(of(arg, json!({ "mac": own, "runtimeConfig": runtime, "args": cni })), [mac(4)]);
    assert_eq!(of(arg, json!({ "args": { "cni": { "mac": "" } } })), []);
}

#[test]
fn refusals() {
    for (extra, msg) in [
        (json!({ "mtu": -1 }), "invalid mtu -1, must be [1, 4294967295]"),
        (json!({ "txQLen": -1 }), "invalid txQLen -1, must be [0, 4294967295]"),
        (json!({ "mac": "no" }), "invalid args no for MAC addr: it is not a MAC address"),
        (
            json!({ "sysctl": { "kernel.hostname": "x" } }),
            "invalid net sysctl key: \"kernel.hostname\"",
        ),
    ] {
        let error = parse("", extra).unwrap_err();
        assert_eq!((error.code.code(), error.msg.as_str()), (7, msg));
    }
    assert_eq!(parse("", json!({ "allmulti": 1 })).unwrap_err().code.code(), 6);
    assert_eq!(parse("COLOUR=red", json!({})).unwrap_err().code.code(), 4);
}
