use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;

fn parse(document: &str) -> Result<PluginConf, Error> {
    PluginConf::parse(document.as_bytes())
}

#[test]
fn everything_common_is_read() {
    let conf = parse(
        r#"{"cniVersion": "1.0.0", "name": "n", "type": "bridge", "mtu": 1400, "ipam": {"type": "host-local"},
            "dns": {"nameservers": ["10.0.0.1"]}, "prevResult": {"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.5/24"}}}"#,
    )
    .unwrap();
    assert_eq!((conf.cni_version, conf.name.as_str()), (Version::V1_0_0, "n"));
    assert_eq!(
        (conf.plugin_type.as_str(), conf.ipam_type.as_deref()),
        ("bridge", Some("host-local"))
    );
    assert_eq!(conf.dns.nameservers, ["10.0.0.1"]);
    // a result says its version itself
    assert_eq!(conf.prev_result.unwrap().ips[0].address.to_string(), "10.0.0.5/24");
    assert_eq!(conf.raw["mtu"], 1400);
}

#[test]
fn what_is_absent_has_its_default() {
    for document in [
        r#"{"name": "n"}"#,
        r#"{"name": "n", "cniVersion": "", "type": "", "ipam": {}}"#,
        r#"{"name": "n", "cniVersion": null, "type": null, "ipam": null, "dns": null, "prevResult": null}"#,
        r#"{"name": "n", "ipam": {"type": ""}}"#,
    ] {
        let conf = parse(document).unwrap();
        assert_eq!(
            (conf.cni_version, conf.ipam_type, conf.prev_result),
            (Version::V0_1_0, None, None),
            "{document}"
        );
        assert_eq!((conf.plugin_type, conf.dns), (String::new(), Dns::default()), "{document}");
    }
}

#[test]
fn messages_and_codes() {
    let cases = [
        ("", 6, "cannot decode the network configuration", "EOF"),
        ("{", 6, "cannot decode the network configuration", "EOF"),
        ("[]", 6, "cannot decode the network configuration", "map"),
        ("{} {}", 6, "cannot decode the network configuration", "trailing"),
        ("{}", 7, "missing network name", ""),
        (r#"{"name": ""}"#, 7, "missing network name", ""),
        (r#"{"name": null, "cniVersion": "9.9.9"}"#, 7, "missing network name", ""),
        (r#"{"name": "a/b"}"#, 7, "invalid characters found in network name", "a/b"),
        (r#"{"name": "../a"}"#, 7, "invalid characters found in network name", "../a"),
        (r#"{"name": "."}"#, 7, "invalid characters found in network name", "."),
        (r#"{"name": "a\u0000"}"#, 7, "invalid characters found in network name", "a"),
        (r#"{"name": 5}"#, 6, "cannot decode the network configuration", "name: "),
        (
            r#"{"name": "a", "cniVersion": 1}"#,
            6,
            "cannot decode the network configuration",
            "cniVersion: ",
        ),
        (
            r#"{"name": "a", "ipam": {"type": 7}}"#,
            6,
            "cannot decode the network configuration",
            "ipam.type: ",
        ),
        (r#"{"name": "a", "ipam": "x"}"#, 6, "cannot decode the network configuration", "ipam: "),
        (r#"{"name": "a", "dns": 1}"#, 6, "cannot decode the network configuration", "dns: "),
        (
            r#"{"name": "a", "cniVersion": "1.0.0", "prevResult": {"ips": 5}}"#,
            6,
            "prevResult: cannot decode a result of CNI 1.0.0",
            "sequence",
        ),
        (
            r#"{"name": "a", "cniVersion": "9.9.9"}"#,
            1,
            "incompatible CNI versions",
            r#"config is "9.9.9", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#,
        ),
    ];
    for (document, code, message, details) in cases {
        let error = parse(document).unwrap_err();
        assert_eq!((error.code.code(), error.msg.as_str()), (code, message), "{document}: {error}");
        assert!(error.details.contains(details), "{document}: {error}");
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Range {
    subnet: ipnetwork::IpNetwork,
}

#[test]
fn keys_by_path() {
    let conf = parse(
        &json!({
            "name": "n", "on": true, "off": false, "none": null, "text": "x", "empty": "", "number": 5,
            "args": { "cni": { "mac": "m", "none": null } }, "broken": { "cni": 7 }, "gone": null,
            "ranges": [[{ "subnet": "10.0.0.0/8" }]], "wrong": [[{ "subnet": "10.0.0.0/33" }]],
            "object": { "subnet": 5 },
        })
        .to_string(),
    )
    .unwrap();
    assert!(conf.is_on("on").unwrap());
    for off in ["off", "none", "missing", "gone.further.down", "args.none.x"] {
        assert!(!conf.is_on(off).unwrap(), "{off}");
    }
    assert_eq!(conf.text("text").unwrap().as_deref(), Some("x"));
    assert_eq!(conf.text("empty").unwrap(), None);
    assert_eq!(conf.text("args.cni.mac").unwrap().as_deref(), Some("m"));
    let ranges: Vec<Vec<Range>> = conf.get("ranges").unwrap().unwrap();
    assert_eq!(ranges[0][0].subnet.prefix(), 8);

    let wrong = |error: Error, expected: &str| {
        assert_eq!(error.code, ErrorCode::Decode);
        assert!(error.msg.starts_with(expected), "{}", error.msg);
    };
    let number =
        "cannot decode \"number\" of network \"n\": invalid type: integer `5`, expected a boolean";
    wrong(conf.is_on("number").unwrap_err(), number);
    let broken = "cannot decode \"broken.cni\" of network \"n\": it must be an object";
    wrong(conf.text("broken.cni.mac").unwrap_err(), broken);
    let inside = conf.get::<Vec<Vec<Range>>>("wrong").unwrap_err();
    wrong(inside, "cannot decode \"wrong[0][0].subnet\" of network \"n\": ");
    wrong(
        conf.get::<Range>("object").unwrap_err(),
        "cannot decode \"object.subnet\" of network \"n\": ",
    );
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>) {
        PluginConf::parse(&bytes).ok();
    }

    #[test]
    fn hostile_values_never_panic(name in "(n|\\PC{0,4})", version in "(1.1.0|0.2.0|\\PC{0,6})", ipam in "(null|\\{\\}|5|\"x\")", previous in "(\\{\\}|[0-9]|\\[\\])") {
        let document = format!(r#"{{"name": {name:?}, "cniVersion": {version:?}, "ipam": {ipam}, "prevResult": {previous}}}"#);
        if let Ok(conf) = PluginConf::parse(document.as_bytes()) {
            prop_assert!(is_identifier(&conf.name));
        }
    }
}
