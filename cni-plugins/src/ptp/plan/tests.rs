use super::*;

fn lease(ips: &[(&str, Option<&str>)]) -> CniResult {
    let ip = |(address, gateway): &(&str, Option<&str>)| IpConfig {
        interface: None,
        address: address.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    CniResult { ips: ips.iter().map(ip).collect(), ..CniResult::default() }
}

#[test]
fn a_path_for_each_address() {
    let lease = lease(&[("10.1.0.5/24", Some("10.1.0.1")), ("fd00::5/64", Some("fd00::1"))]);
    let plan = Plan::new("host-local", lease).unwrap();
    let text: Vec<_> = plan
        .paths
        .iter()
        .map(|path| {
            let scopes = [path.to_container.scope, path.instead[0].scope, path.instead[1].scope];
            format!(
                "{} | {} | {} | {} | {} | {scopes:?}",
                path.gateway, path.to_container, path.connected, path.instead[0], path.instead[1]
            )
        })
        .collect();
    assert_eq!(
        text,
        [
            "10.1.0.1/32 | 10.1.0.5/32 | 10.1.0.0/24 | 10.1.0.1/32 from 10.1.0.5 | 10.1.0.0/24 via 10.1.0.1 from 10.1.0.5 | [Some(254), Some(253), None]",
            "fd00::1/128 | fd00::5/128 | fd00::/64 | fd00::1/128 from fd00::5 | fd00::/64 via fd00::1 from fd00::5 | [None, None, None]",
        ]
    );
    assert!(plan.paths.iter().all(|path| path.connected.protocol == Some(2)), "the kernel's only");
    assert!(plan.ips.iter().all(|ip| ip.interface == Some(1)));
}

#[test]
fn what_cannot_be_served() {
    let error = |ips: &[_]| Plan::new("static", lease(ips)).unwrap_err();
    assert_eq!(error(&[]).msg, "IPAM plugin returned missing IP config");
    for gateway in [None, Some("fd00::1")] {
        let error = error(&[("10.1.0.5/24", gateway)]);
        assert_eq!(error.msg, "IPAM plugin returned 10.1.0.5 without a gateway");
        assert!(error.details.contains("static must name one"), "{error}");
    }
}

#[test]
fn own_name_servers_replace_ipam_s() {
    let dns = |domain: &str| Dns { domain: domain.into(), ..Dns::default() };
    let result = |own: &Dns| {
        let lease =
            CniResult { dns: dns("ipam.example"), ..lease(&[("10.1.0.5/24", Some("10.1.0.1"))]) };
        Plan::new("x", lease).unwrap().result(std::array::from_fn(|_| Interface::default()), own)
    };
    assert_eq!(result(&Dns::default()).dns, dns("ipam.example"));
    assert_eq!(result(&dns("own.example")).dns, dns("own.example"));
}
