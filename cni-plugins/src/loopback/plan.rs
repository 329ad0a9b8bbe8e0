//! What the state of `lo` means for the result.

use cni::{CniResult, Error, Interface, IpConfig};
use ipnetwork::IpNetwork;

use crate::code;

/// The result of an ADD: what an earlier plugin of the chain said, else `lo` with its first address of each
/// family.
pub fn result(
    prev: Option<CniResult>,
    addresses: &[IpNetwork],
    sandbox: String,
) -> Result<CniResult, Error> {
    if let Some(foreign) = addresses.iter().find(|net| !net.ip().is_loopback()) {
        let msg = "loopback interface found with non-loopback address";
        let details = format!("lo has {foreign}: remove it from the container's namespace");
        return Err(Error::new(code::CONFLICT, msg).with_details(details));
    }
    if let Some(prev) = prev {
        return Ok(prev);
    }
    let first = |v4: bool| addresses.iter().find(|net| net.is_ipv4() == v4).copied();
    let ip = |address| IpConfig { interface: Some(0), address, gateway: None };
    let lo = Interface {
        name: "lo".into(),
        mac: "00:00:00:00:00:00".into(),
        sandbox,
        ..Interface::default()
    };
    Ok(CniResult {
        interfaces: vec![lo],
        ips: [first(true), first(false)].into_iter().flatten().map(ip).collect(),
        ..CniResult::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_address_of_each_family() {
        let addresses = nets(&["::1/128", "127.0.0.1/8", "127.0.0.2/8"]);
        let result = result(None, &addresses, "/run/netns/x".into()).unwrap();
        let ips: Vec<_> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(ips, ["127.0.0.1/8", "::1/128"]);
        assert!(result.ips.iter().all(|ip| ip.interface == Some(0) && ip.gateway.is_none()));
        assert_eq!(result.interfaces[0].mac, "00:00:00:00:00:00");
        assert_eq!(result.interfaces[0].sandbox, "/run/netns/x");
    }

    #[test]
    fn an_earlier_result_is_passed_through() {
        let prev = CniResult {
            dns: cni::Dns { domain: "x".into(), ..Default::default() },
            ..Default::default()
        };
        assert_eq!(
            result(Some(prev.clone()), &nets(&["127.0.0.1/8"]), String::new()).unwrap(),
            prev
        );
    }

    #[test]
    fn another_address_is_an_error() {
        for address in ["10.0.0.1/32", "fd00::1/128"] {
            let error = result(None, &nets(&["127.0.0.1/8", address]), String::new()).unwrap_err();
            assert_eq!(error.msg, "loopback interface found with non-loopback address");
            assert!(error.details.contains(address), "{}", error.details);
        }
    }
}
