use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn parse(extra: &Value) -> Result<Conf, Error> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "sbr" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with_call("", &conf, |call| Conf::parse(&call.conf))
}

#[test]
fn what_it_may_say() {
    assert_eq!(parse(&json!({})).unwrap(), Conf::default());
    let full =
        json!({ "table": 5001, "gateways": ["fd00::1", "10.1.0.1"], "addSourceHints": true });
    let conf = parse(&full).unwrap();
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    assert_eq!(
        conf,
        Conf {
            table: Some(5001),
            gateway_v4: ip("10.1.0.1"),
            gateway_v6: ip("fd00::1"),
            source_hints: true
        }
    );
    assert_eq!(conf.gateway(true, ip("10.9.9.9")), ip("10.1.0.1"), "in place of its own");
    assert_eq!(Conf::default().gateway(false, ip("fd09::9")), ip("fd09::9"));
}

#[test]
fn what_is_refused() {
    for (conf, msg) in [
        (json!({ "table": 0 }), "table 0 is no routing table"),
        (json!({ "gateways": ["10.1.0.1/24"] }), "gateways: \"10.1.0.1/24\" is not an IP address"),
        (json!({ "gateways": ["0.0.0.0"] }), "gateways: \"0.0.0.0\" is not an IP address"),
        (
            json!({ "gateways": ["10.1.0.1", "fd00::1", "10.1.0.2"] }),
            "gateways: at most one IPv4 and one IPv6 address",
        ),
    ] {
        let error = parse(&conf).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (ErrorCode::InvalidConfig, msg), "{conf}");
        assert!(!error.details.is_empty());
    }
    for wrong in [json!({ "table": -1 }), json!({ "table": "x" }), json!({ "gateways": "x" })] {
        assert_eq!(parse(&wrong).unwrap_err().code, ErrorCode::Decode, "{wrong}");
    }
}
