use super::*;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    IpConfig { interface: Some(2), address: net(address), gateway }
}

fn route(dst: &str, gw: Option<&str>) -> cni::Route {
    cni::Route::new(net(dst), gw.map(|gw| gw.parse().unwrap()))
}

fn seen(addresses: &[&str], routes: &[(&str, Option<&str>)]) -> Observed {
    let route = |(dst, gw): &(&str, Option<&str>)| Route {
        dst: net(dst),
        gateway: gw.map(|gw| gw.parse().unwrap()),
        ..Route::default()
    };
    Observed {
        link: None,
        addresses: addresses.iter().map(|text| net(text)).collect(),
        routes: routes.iter().map(route).collect(),
    }
}

#[test]
fn differences_are_all_named() {
    let seen = seen(
        &["10.1.0.2/24"],
        &[
            ("10.1.0.0/24", None),
            ("0.0.0.0/0", Some("10.1.0.1")),
            ("10.9.0.0/16", Some("10.1.0.9")),
        ],
    );
    let cases = [
        (vec![ip("10.1.0.2/24", None)], vec![], vec![]),
        (
            vec![],
            vec![
                route("0.0.0.0/0", Some("10.1.0.1")),
                route("10.9.0.0/16", Some("10.1.0.9")),
                route("10.9.0.0/16", None),
            ],
            vec![],
        ),
        // The gateway of a default route is not compared, as in the reference.
        (vec![], vec![route("0.0.0.0/0", Some("10.1.0.77"))], vec![]),
        (
            vec![],
            vec![route("10.9.0.0/16", Some("10.1.0.8"))],
            vec!["the route 10.9.0.0/16 via 10.1.0.8 is missing"],
        ),
        (
            vec![ip("10.1.0.3/24", None), ip("fd00::2/64", None)],
            vec![route("::/0", None)],
            vec![
                "address 10.1.0.3/24 is missing",
                "address fd00::2/64 is missing",
                "the route to fd00::/64 is missing",
                "the route ::/0 is missing",
            ],
        ),
    ];
    for (ips, routes, expected) in cases {
        assert_eq!(seen.differences(&ips, &routes), expected);
    }
}

#[test]
fn routes_take_the_first_gateway_of_their_family() {
    let gateways = Gateways::of(&[
        ip("10.1.0.2/24", None),
        ip("10.1.0.3/24", Some("10.1.0.1")),
        ip("10.2.0.3/24", Some("10.2.0.1")),
        ip("fd00::2/64", Some("fd00::1")),
    ]);
    let cases = [
        (route("10.9.0.0/16", None), Some("10.1.0.1")),
        (route("10.9.0.0/16", Some("10.1.0.9")), Some("10.1.0.9")),
        (route("fd09::/64", None), Some("fd00::1")),
    ];
    for (route, expected) in cases {
        let found = kernel_route(&route, 7, gateways);
        assert_eq!(found.gateway, expected.map(|gw| gw.parse().unwrap()));
        assert_eq!((found.dst, found.oif), (route.dst, Some(7)));
    }
    assert_eq!(kernel_route(&route("::/0", None), 7, Gateways::default()).gateway, None);
    let full = cni::Route {
        priority: Some(5),
        table: Some(1000),
        scope: Some(253),
        ..route("10.9.0.0/16", None)
    };
    let found = kernel_route(&full, 7, gateways);
    assert_eq!((found.priority, found.table, found.scope), (Some(5), Some(1000), Some(253)));
}
