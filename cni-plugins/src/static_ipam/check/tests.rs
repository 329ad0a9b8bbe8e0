use cni::{Dns, IpConfig, Route};

use super::*;

fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    IpConfig { interface: None, address: address.parse().unwrap(), gateway }
}

fn conf() -> Conf {
    Conf {
        ips: vec![ip("10.1.0.5/24", Some("10.1.0.1")), ip("fd00::5/64", None)],
        routes: vec![Route::new("10.0.0.0/8".parse().unwrap(), Some("10.1.0.2".parse().unwrap()))],
        dns: Dns::default(),
    }
}

fn told(change: impl Fn(&mut CniResult)) -> Result<(), (String, String)> {
    let mut result = conf().into_result();
    change(&mut result);
    check(&conf(), Some(&result), "eth0").map_err(|error| (error.msg, error.details))
}

fn wrong(msg: &str, details: &str) -> Result<(), (String, String)> {
    Err((format!("static: Failed to match addr {msg} on interface eth0"), details.to_owned()))
}

#[test]
fn what_others_added_is_theirs() {
    assert_eq!(told(|_| ()), Ok(()));
    assert_eq!(told(|result| result.ips.insert(0, ip("10.9.0.5/24", None))), Ok(()));
    assert_eq!(told(|result| result.ips[1].gateway = Some("fd00::1".parse().unwrap())), Ok(()));
    assert_eq!(told(|result| result.dns.domain = "x.example".to_owned()), Ok(()));
}

#[test]
fn every_difference_is_told() {
    assert_eq!(
        told(|result| result.ips[0].gateway = None),
        wrong("10.1.0.5", "the gateway of 10.1.0.5/24 is none in prevResult instead of 10.1.0.1")
    );
    assert_eq!(
        told(|result| result.ips[1] = ip("fd00::5/65", None)),
        wrong("fd00::5", "prevResult has fd00::5/65 instead of fd00::5/64")
    );
    assert_eq!(
        told(|result| *result = CniResult::default()),
        wrong(
            "10.1.0.5",
            "prevResult has no address 10.1.0.5/24; prevResult has no address fd00::5/64; \
            prevResult has no route 10.0.0.0/8 via 10.1.0.2"
        )
    );
    assert_eq!(
        told(|result| result.routes[0].gw = None),
        wrong("10.0.0.0/8", "prevResult has no route 10.0.0.0/8 via 10.1.0.2")
    );
}

#[test]
fn there_must_be_something_to_compare_with() {
    let error = check(&conf(), None, "eth0").unwrap_err();
    assert_eq!((error.code.code(), error.msg.as_str()), (7, "Required prevResult missing"));
}
