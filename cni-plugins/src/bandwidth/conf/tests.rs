use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn parse(extra: &Value) -> Result<Conf, Error> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "bandwidth" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with_call("", &conf, |call| Conf::parse(&call.conf))
}

fn both(rate: u64, burst: u32) -> Limit {
    Limit { rate, burst }
}

#[test]
fn bits_become_bytes() {
    let conf = parse(
        &json!({ "ingressRate": 8000, "ingressBurst": 1607, "egressRate": 87, "egressBurst": 16 }),
    );
    let wanted = Conf { ingress: Some(both(1000, 200)), egress: Some(both(10, 2)) };
    assert_eq!(conf.unwrap(), wanted);
}

#[test]
fn nothing_is_no_limit() {
    let none = Conf { ingress: None, egress: None };
    for conf in [
        json!({}),
        json!({ "ingressRate": 0, "ingressBurst": 0 }),
        json!({ "runtimeConfig": {} }),
        json!({ "runtimeConfig": null }),
        json!({ "runtimeConfig": { "bandwidth": null } }),
        json!({ "runtimeConfig": { "bandwidth": { "egressRate": 0 } } }),
    ] {
        assert_eq!(parse(&conf).unwrap(), none, "{conf}");
        assert!(parse(&conf).unwrap().is_empty());
    }
}

#[test]
fn the_runtime_s_count_only_if_the_configuration_has_none() {
    let runtime = json!({ "bandwidth": { "ingressRate": 800, "ingressBurst": 800 } });
    let conf = parse(&json!({ "runtimeConfig": runtime })).unwrap();
    assert_eq!(conf, Conf { ingress: Some(both(100, 100)), egress: None });
    let conf = json!({ "egressRate": 1600, "egressBurst": 1600, "runtimeConfig": runtime });
    assert_eq!(parse(&conf).unwrap(), Conf { ingress: None, egress: Some(both(200, 200)) });
    // Also when it says that there is none.
    let conf = json!({ "egressRate": 0, "runtimeConfig": runtime });
    assert!(parse(&conf).unwrap().is_empty());
}

#[test]
fn what_is_refused() {
    let most = (u64::from(u32::MAX) - 1) * 8 + 7;
    assert_eq!(
        parse(&json!({ "egressRate": 80, "egressBurst": most })).unwrap().egress,
        Some(both(10, u32::MAX - 1))
    );
    for (conf, msg) in [
        (json!({ "ingressRate": 80 }), "if rate is set, burst must also be set"),
        (json!({ "egressBurst": 80 }), "if burst is set, rate must also be set"),
        (
            json!({ "runtimeConfig": { "bandwidth": { "egressRate": 80 } } }),
            "if rate is set, burst must also be set",
        ),
        (json!({ "egressRate": 80, "egressBurst": most + 1 }), "burst cannot be more than 4GB"),
        (json!({ "egressRate": 80, "egressBurst": u64::MAX }), "burst cannot be more than 4GB"),
        (
            json!({ "egressRate": 7, "egressBurst": 80 }),
            "rate and burst cannot be less than a byte (8 bits)",
        ),
        (
            json!({ "egressRate": 80, "egressBurst": 7 }),
            "rate and burst cannot be less than a byte (8 bits)",
        ),
    ] {
        let error = parse(&conf).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (ErrorCode::InvalidConfig, msg), "{conf}");
        assert!(error.details.contains("Rate is"), "{}", error.details);
    }
    for wrong in [json!(-1), json!("1M"), json!(1.5)] {
        let error = parse(&json!({ "ingressRate": wrong })).unwrap_err();
        assert_eq!(error.code, ErrorCode::Decode, "{error:?}");
        assert!(error.msg.contains("\"ingressRate\""), "{}", error.msg);
    }
}
