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

#[test]
fn a_plugins_own_keys_are_named_when_wrong() {
    #[derive(Debug, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Own {
        mtu: u32,
        ipam: Ipam,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Ipam {
        ranges: Vec<Vec<Range>>,
    }
    #[derive(Debug, Deserialize)]
    struct Range {
        subnet: ipnetwork::IpNetwork,
    }
    impl Default for Own {
        fn default() -> Self {
            Self { mtu: 1500, ipam: Ipam::default() }
        }
    }
    let keys = |document: Value| parse(&document.to_string()).unwrap().keys::<Own>();
    let own = keys(json!({"name": "n", "ipam": {"ranges": [[{"subnet": "10.0.0.0/8"}]]}})).unwrap();
    assert_eq!((own.mtu, own.ipam.ranges[0][0].subnet.prefix()), (1500, 8));
    let message = |document| {
        let error = keys(document).unwrap_err();
        assert_eq!(error.code, ErrorCode::Decode);
        error.msg
    };
    let wrong = message(json!({"name": "n", "mtu": "big"}));
    assert!(
        wrong.starts_with(r#"cannot decode "mtu" of network "n": invalid type: string "big""#),
        "{wrong}"
    );
    let deep = message(
        json!({"name": "n", "ipam": {"ranges": [[{"subnet": "10.0.0.0/8"}, {"subnet": "x"}]]}}),
    );
    assert!(
        deep.starts_with(r#"cannot decode "ipam.ranges[0][1].subnet" of network "n": "#),
        "{deep}"
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
