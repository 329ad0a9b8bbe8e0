use super::*;

fn conf(change: impl FnOnce(&mut Conf)) -> Conf {
    let mut conf = Conf {
        bridge: "br0".into(),
        gateway: false,
        default_gateway: false,
        force_address: false,
        masquerade: None,
        mtu: None,
        hairpin: false,
        promiscuous: false,
        isolated: false,
        spoof_check: false,
        vlans: None,
        mac: None,
        dad: false,
        container_down: false,
        ipam: Some("host-local".into()),
    };
    change(&mut conf);
    conf
}

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn lease(ips: &[(&str, Option<&str>)], routes: &[(&str, Option<&str>)]) -> CniResult {
    let ip = |(address, gateway): &(&str, Option<&str>)| IpConfig {
        interface: None,
        address: net(address),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    let route = |(dst, gw): &(&str, Option<&str>)| Route {
        gw: gw.map(|gw| gw.parse().unwrap()),
        ..Route::new(net(dst), None)
    };
    CniResult {
        ips: ips.iter().map(ip).collect(),
        routes: routes.iter().map(route).collect(),
        ..CniResult::default()
    }
}

fn routes_of(plan: &Layer3) -> Vec<String> {
    let text = |route: &Route| {
        let gw = route.gw.map_or("-".into(), |gw| gw.to_string());
        format!("{} {gw}", route.dst)
    };
    plan.routes.iter().map(text).collect()
}

#[test]
fn gateways_and_default_routes() {
    let bare = || conf(|_| ());
    let gateway = || conf(|c| c.gateway = true);
    let default = || conf(|c| (c.gateway, c.default_gateway) = (true, true));
    let v4 = [("10.1.0.5/24", Some("10.1.0.1"))];
    let v4_bare = [("10.1.0.5/24", None)];
    let dual = [("10.1.0.5/24", None), ("fd00::5/64", Some("fd00::1")), ("10.2.0.5/16", None)];
    // configuration, IPAM's addresses, IPAM's routes → gateways of addresses, routes, addresses of the bridge
    let cases = [
        (bare(), &v4_bare[..], &[][..], "-", &[][..], &[][..]),
        (bare(), &v4, &[("0.0.0.0/0", None)], "10.1.0.1", &["0.0.0.0/0 -"], &[]),
        (gateway(), &v4, &[], "10.1.0.1", &[], &["10.1.0.1/24"]),
        (gateway(), &v4_bare, &[], "10.1.0.1", &[], &["10.1.0.1/24"]),
        (gateway(), &[("10.1.7.5/20", None)], &[], "10.1.0.1", &[], &["10.1.0.1/20"]),
        (
            gateway(),
            &[("fd00:0:0:1::5/64", None)],
            &[],
            "fd00:0:0:1::1",
            &[],
            &["fd00:0:0:1::1/64"],
        ),
        (default(), &v4, &[], "10.1.0.1", &["0.0.0.0/0 10.1.0.1"], &["10.1.0.1/24"]),
        // One that leads through a gateway already stays alone; one that does not is not the default gateway's.
        (
            default(),
            &v4,
            &[("0.0.0.0/0", Some("10.1.0.9"))],
            "10.1.0.1",
            &["0.0.0.0/0 10.1.0.9"],
            &["10.1.0.1/24"],
        ),
        (
            default(),
            &v4,
            &[("0.0.0.0/0", None)],
            "10.1.0.1",
            &["0.0.0.0/0 -", "0.0.0.0/0 10.1.0.1"],
            &["10.1.0.1/24"],
        ),
        (
            default(),
            &v4,
            &[("::/0", Some("fd00::1"))],
            "10.1.0.1",
            &["::/0 fd00::1", "0.0.0.0/0 10.1.0.1"],
            &["10.1.0.1/24"],
        ),
        (
            default(),
            &dual,
            &[],
            "10.1.0.1 fd00::1 10.2.0.1",
            &["0.0.0.0/0 10.1.0.1", "::/0 fd00::1"],
            &["10.1.0.1/24", "fd00::1/64", "10.2.0.1/16"],
        ),
    ];
    for (conf, ips, routes, gateways, expected, on_bridge) in cases {
        let plan = layer3(&conf, lease(ips, routes)).unwrap();
        let found: Vec<_> =
            plan.ips.iter().map(|ip| ip.gateway.map_or("-".into(), |gw| gw.to_string())).collect();
        assert_eq!(found.join(" "), gateways, "{ips:?} {routes:?}");
        assert_eq!(routes_of(&plan), expected, "{ips:?} {routes:?}");
        let found: Vec<_> = plan.gateways.iter().map(ToString::to_string).collect();
        assert_eq!(found, on_bridge, "{ips:?} {routes:?}");
        assert!(plan.ips.iter().all(|ip| ip.interface == Some(CONTAINER)));
    }
}

#[test]
fn an_answer_without_addresses_is_an_error() {
    let error = layer3(&conf(|_| ()), CniResult::default()).unwrap_err();
    assert_eq!(error.msg, "IPAM plugin returned missing IP config");
}

#[test]
fn the_bridge_s_address() {
    use AddressChange::{Add, Remove};
    let wanted = || net("10.1.0.1/24");
    let wanted6 = || net("fd00:0:0:1::1/64");
    let gone = |text: &str| Remove(net(text));
    // present, wanted → changes with forceAddress; without it, any Remove is an error
    let cases = [
        (&[][..], wanted(), vec![Add(wanted())]),
        (&["10.1.0.1/24"], wanted(), vec![]),
        (&["fe80::1/64"], wanted(), vec![Add(wanted())]),
        (&["10.1.0.1/16"], wanted(), vec![gone("10.1.0.1/16"), Add(wanted())]),
        (
            &["10.9.0.1/24", "10.8.0.1/24"],
            wanted(),
            vec![gone("10.9.0.1/24"), gone("10.8.0.1/24"), Add(wanted())],
        ),
        // Already there: whatever else there is does not matter.
        (&["10.9.0.1/24", "10.1.0.1/24"], wanted(), vec![]),
        (&["fe80::1/64", "fd00:0:0:2::1/64", "10.9.0.1/24"], wanted6(), vec![Add(wanted6())]),
        (&["fd00:0:0:1::2/64"], wanted6(), vec![gone("fd00:0:0:1::2/64"), Add(wanted6())]),
        (&["fd00::7/48"], wanted6(), vec![gone("fd00::7/48"), Add(wanted6())]),
        (&["fd00:0:0:1::7/128"], wanted6(), vec![gone("fd00:0:0:1::7/128"), Add(wanted6())]),
    ];
    for (present, wanted, expected) in cases {
        let present: Vec<_> = present.iter().map(|text| net(text)).collect();
        let forced =
            bridge_address(&conf(|c| c.force_address = true), "br0", &present, wanted).unwrap();
        assert_eq!(forced, expected, "{present:?}");
        let unforced = bridge_address(&conf(|_| ()), "br0", &present, wanted);
        if expected.iter().any(|change| matches!(change, Remove(_))) {
            let error = unforced.unwrap_err();
            assert_eq!(
                error.msg,
                format!("\"br0\" already has an IP address different from {wanted}")
            );
            assert!(error.details.contains("forceAddress"), "{}", error.details);
        } else {
            assert_eq!(unforced.unwrap(), expected, "{present:?}");
        }
    }
}

#[test]
fn own_name_servers_replace_ipam_s() {
    let dns = |domain: &str| Dns { domain: domain.into(), ..Dns::default() };
    let plan = || Layer3 { dns: dns("ipam.example"), ..Layer3::default() };
    let interfaces = || vec![Interface::default(); 3];
    assert_eq!(result(interfaces(), plan(), &Dns::default()).dns, dns("ipam.example"));
    assert_eq!(result(interfaces(), plan(), &dns("own.example")).dns, dns("own.example"));
    let options = Dns { options: vec!["ndots:5".into()], ..Dns::default() };
    assert_eq!(result(interfaces(), plan(), &options).dns, options);
}
