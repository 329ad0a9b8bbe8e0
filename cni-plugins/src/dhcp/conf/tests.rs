use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn parse(args: &str, ipam: &Value) -> Result<Conf, Error> {
    let conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "ipam": ipam });
    with_call(args, &conf, Conf::parse)
}

#[test]
fn defaults() {
    let conf = parse("", &json!({ "type": "dhcp" })).unwrap();
    assert_eq!(conf.socket, PathBuf::from(DEFAULT_SOCKET));
    assert_eq!(conf.provide, Options::new());
    assert_eq!(conf.request, [1, 3]);
    assert_eq!(conf.priority, None);
    assert_eq!(parse("", &json!({ "priority": 0 })).unwrap().priority, None);
}

#[test]
fn every_key() {
    let conf = parse(
        "K8S_POD_NAME=web-0;EMPTY=;UNKNOWN=x",
        &json!({
            "daemonSocketPath": "/run/other.sock",
            "provide": [
                { "option": "host-name", "value": "unnamed", "fromArg": "K8S_POD_NAME" },
                { "option": "vendor-class-identifier", "value": "heddle", "fromArg": "NOT_GIVEN" },
                { "option": "user-class", "fromArg": "EMPTY" },
                { "option": "dhcp-client-identifier", "value": "me" },
                { "option": "224", "value": "first" },
                { "option": "224", "value": "second" },
                { "option": "225" },
            ],
            "request": [{ "option": "121" }, { "option": "routers" }, { "option": "33" }, { "option": "" }],
            "priority": 50,
        }),
    );
    let conf = conf.unwrap();
    assert_eq!(conf.socket, PathBuf::from("/run/other.sock"));
    let text =
        |(option, value): (&u8, &Vec<u8>)| (*option, String::from_utf8(value.clone()).unwrap());
    let provided: Vec<_> = conf.provide.iter().map(text).collect();
    let expected = [(12, "web-0"), (60, "heddle"), (61, "me"), (224, "second")];
    assert_eq!(provided, expected.map(|(option, value)| (option, value.to_owned())));
    assert_eq!(conf.request, [121, 1, 3, 33]);
    assert_eq!(conf.priority, Some(50));
}

#[test]
fn the_usual_requests_can_be_left_out() {
    let request = |entries: Value| parse("", &json!({ "request": entries })).unwrap().request;
    assert_eq!(request(json!([{ "skipDefault": true }])), [0; 0]);
    assert_eq!(request(json!([{ "skipDefault": true, "option": "subnet-mask" }])), [1]);
    assert_eq!(request(json!([{ "option": "6" }, { "skipDefault": true }])), [6]);
}

#[test]
fn mistakes() {
    let long = "x".repeat(256);
    let provide =
        |option: &str, value: &str| json!({ "provide": [{ "option": option, "value": value }] });
    let table = [
        (provide("nonsense", "x"), 7, "Can not parse option \"nonsense\"".to_owned()),
        (provide("256", "x"), 7, "Can not parse option \"256\"".to_owned()),
        (provide("+12", "x"), 7, "Can not parse option \"+12\"".to_owned()),
        (json!({ "request": [{ "option": "x" }] }), 7, "Can not parse option \"x\"".to_owned()),
        (provide("12", &long), 7, format!("value too long for option \"12\": {long:?}")),
        // The reference lets it replace the type of its own message; a quirk that is not copied.
        (provide("53", "x"), 7, "option \"53\" cannot be provided".to_owned()),
        (
            json!({ "provide": (224..230).map(|n| json!({ "option": n.to_string(), "value": "y".repeat(200) })).collect::<Vec<_>>() }),
            7,
            "the options to provide are 1212 bytes long together".to_owned(),
        ),
        (json!(null), 7, "IPAM config missing 'ipam' key".to_owned()),
    ];
    for (ipam, code, msg) in table {
        let error = parse("", &ipam).unwrap_err();
        assert_eq!((error.code.code(), error.msg), (code, msg), "{ipam}");
    }
    for ipam in [json!({ "priority": -1 }), json!({ "provide": {} }), json!({ "request": ["3"] })] {
        assert_eq!(parse("", &ipam).unwrap_err().code, ErrorCode::Decode, "{ipam}");
    }
    let arg = json!({ "provide": [{ "option": "12", "fromArg": "NAME" }] });
    let error = parse(&format!("NAME={long}"), &arg).unwrap_err();
    assert!(error.msg.starts_with("value too long for option \"12\" from CNI_ARGS \"NAME\": "));
}
