use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A result that uses everything.
fn full() -> CniResult {
    CniResult {
        interfaces: vec![
            Interface {
                name: "cni0".into(),
                mac: "02:00:00:00:00:01".into(),
                ..Default::default()
            },
            Interface {
                name: "eth0".into(),
                mac: "02:00:00:00:00:02".into(),
                mtu: Some(1450),
                sandbox: "/run/netns/x".into(),
                socket_path: "/run/vhost".into(),
                pci_id: "0000:00:1f.6".into(),
            },
        ],
        ips: vec![
            IpConfig {
                interface: Some(1),
                address: net("10.1.0.5/24"),
                gateway: Some(ip("10.1.0.1")),
            },
            IpConfig { interface: Some(1), address: net("fd00::5/64"), gateway: None },
        ],
        routes: vec![
            Route {
                mtu: Some(1400),
                advmss: Some(1360),
                priority: Some(10),
                table: Some(100),
                scope: Some(253),
                ..Route::new(net("0.0.0.0/0"), None)
            },
            Route::new(net("fd01::/48"), Some(ip("fd00::1"))),
        ],
        dns: Dns {
            nameservers: vec!["10.96.0.10".into()],
            domain: "local".into(),
            search: vec!["a.local".into()],
            options: vec!["ndots:5".into()],
        },
    }
}

/// The document of a version for [`full`], written by hand after the specification of that version.
fn document(version: &str) -> Value {
    let dns = json!({"nameservers": ["10.96.0.10"], "domain": "local", "search": ["a.local"], "options": ["ndots:5"]});
    let old_interfaces = json!([{"name": "cni0", "mac": "02:00:00:00:00:01"},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/x"}]);
    let old_routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "fd01::/48", "gw": "fd00::1"}]);
    match version {
        "0.1.0" | "0.2.0" => json!({"cniVersion": version, "dns": dns,
            "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "ip6": {"ip": "fd00::5/64", "routes": [{"dst": "fd01::/48", "gw": "fd00::1"}]}}),
        "0.3.0" | "0.3.1" | "0.4.0" => json!({"cniVersion": version, "dns": dns,
            "interfaces": old_interfaces, "routes": old_routes,
            "ips": [{"version": "4", "interface": 1, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
                {"version": "6", "interface": 1, "address": "fd00::5/64"}]}),
        "1.0.0" => json!({"cniVersion": version, "dns": dns,
            "interfaces": old_interfaces, "routes": old_routes,
            "ips": [{"interface": 1, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
                {"interface": 1, "address": "fd00::5/64"}]}),
        _ => json!({"cniVersion": version, "dns": dns,
            "interfaces": [{"name": "cni0", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/x", "mtu": 1450,
                 "socketPath": "/run/vhost", "pciID": "0000:00:1f.6"}],
            "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "advmss": 1360, "priority": 10, "table": 100, "scope": 253},
                {"dst": "fd01::/48", "gw": "fd00::1"}],
            "ips": [{"interface": 1, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
                {"interface": 1, "address": "fd00::5/64"}]}),
    }
}

/// What a version can hold of a result, said without any JSON.
fn as_known_to(mut result: CniResult, version: Version) -> CniResult {
    if version < Version::V1_1_0 {
        for interface in &mut result.interfaces {
            interface.mtu = None;
            interface.socket_path.clear();
            interface.pci_id.clear();
        }
        for route in &mut result.routes {
            *route = Route::new(route.dst, route.gw);
        }
    }
    if version < Version::V0_3_0 {
        result.interfaces.clear();
        result.ips.iter_mut().for_each(|ip| ip.interface = None);
        // routes hang on the address of their family; IPv4 comes first
        let has = |v4: bool| result.ips.iter().any(|ip| ip.address.is_ipv4() == v4);
        let (v4, v6) = (has(true), has(false));
        result.routes.retain(|route| if route.dst.is_ipv4() { v4 } else { v6 });
        result.routes.sort_by_key(|route| route.dst.is_ipv6());
        result.ips.sort_by_key(|ip| ip.address.is_ipv6());
    }
    result
}

#[test]
fn every_version_has_its_form_both_ways() {
    for version in Version::ALL {
        let document = document(version.as_str());
        assert_eq!(full().to_json(*version).unwrap(), document, "to {version}");
        let known = as_known_to(full(), *version);
        assert_eq!(CniResult::from_json(&document, *version).unwrap(), known, "from {version}");
        assert_eq!(CniResult::read(&document, Version::V1_1_0).unwrap(), known, "read {version}");
    }
}

#[test]
fn each_version_converts_to_each_other() {
    for from in Version::ALL {
        for to in Version::ALL {
            let read = CniResult::from_json(&document(from.as_str()), *from).unwrap();
            let written = read.to_json(*to).unwrap();
            let older = *from.min(to);
            let expected = as_known_to(as_known_to(full(), older), *to);
            assert_eq!(CniResult::from_json(&written, *to).unwrap(), expected, "{from} to {to}");
        }
    }
}

#[test]
fn what_is_empty_is_left_out() {
    for version in &Version::ALL[2..] {
        let expected = json!({ "cniVersion": version.as_str() });
        assert_eq!(CniResult::default().to_json(*version).unwrap(), expected);
    }
}

#[test]
fn what_cannot_be_converted_says_why() {
    for version in [Version::V0_1_0, Version::V0_2_0] {
        let mut result = full();
        result.ips.clear();
        let error = result.to_json(version).unwrap_err();
        assert_eq!(
            (error.code.code(), error.msg.as_str()),
            (1, "cannot convert: no valid IP addresses")
        );
        assert!(error.details.contains("set cniVersion to 0.3.0"), "{error}");
        let mut two = full();
        two.ips.push(two.ips[0].clone());
        let message = two.to_json(version).unwrap_err().msg;
        assert_eq!(
            message,
            format!("CNI version {version} does not support more than 1 address per family")
        );
    }
}

#[test]
fn absent_values_of_other_programs() {
    let nulls = json!({"cniVersion": "1.0.0", "interfaces": null, "ips": null, "routes": null, "ip4": null, "dns": {}});
    assert_eq!(CniResult::from_json(&nulls, Version::V1_0_0).unwrap(), CniResult::default());
    let inner = json!({"interfaces": [{"name": "a", "mac": null, "sandbox": null, "mtu": null}],
        "ips": [{"address": "10.0.0.1/8", "gateway": "", "interface": -1}],
        "routes": [{"dst": "0.0.0.0/0", "gw": null, "mtu": null}],
        "dns": {"nameservers": null, "domain": null}, "unknown": 1});
    let expected = CniResult {
        interfaces: vec![Interface { name: "a".into(), ..Interface::default() }],
        ips: vec![IpConfig { interface: None, address: net("10.0.0.1/8"), gateway: None }],
        routes: vec![Route::new(net("0.0.0.0/0"), None)],
        dns: Dns::default(),
    };
    assert_eq!(CniResult::from_json(&inner, Version::V1_1_0).unwrap(), expected);
}

#[test]
fn the_references_quirk_is_read_but_not_written() {
    // Debian's loopback, called with 0.2.0
    let quirk = json!({"cniVersion": "0.2.0", "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": "/n"}],
        "ips": [{"version": "4", "interface": 0, "address": "127.0.0.1/8"}], "dns": {}});
    let result = CniResult::read(&quirk, Version::V0_2_0).unwrap();
    assert_eq!((result.interfaces.len(), result.ips[0].address), (1, net("127.0.0.1/8")));
    assert_eq!(
        result.to_json(Version::V0_2_0).unwrap(),
        json!({"cniVersion": "0.2.0", "ip4": {"ip": "127.0.0.1/8"}})
    );
}

#[test]
fn what_is_wrong_is_refused() {
    let cases = [
        (json!([]), "not an object"),
        (json!(5), "not an object"),
        (json!({"ips": 5}), "invalid type"),
        (json!({"ips": [{}]}), "address"),
        (json!({"ips": [{"address": "10.0.0.1"}]}), "invalid CIDR address: \"10.0.0.1\""),
        (json!({"ips": [{"address": "10.0.0.1/33"}]}), "invalid CIDR"),
        (json!({"ips": [{"address": "10.0.0.1/+8"}]}), "invalid CIDR"),
        (json!({"ips": [{"address": "10.0.0.1/255.0.0.0"}]}), "invalid CIDR"),
        (json!({"ips": [{"address": "10.0.0.1/"}]}), "invalid CIDR"),
        (
            json!({"ips": [{"address": "10.0.0.1/8", "gateway": "gw"}]}),
            "invalid IP address: \"gw\"",
        ),
        (json!({"routes": [{"gw": "10.0.0.1"}]}), "dst"),
        (json!({"interfaces": [{"name": "a", "mtu": -1}]}), "invalid value"),
        (
            json!({"interfaces": [{"name": "a"}], "ips": [{"address": "10.0.0.1/8", "interface": 1}]}),
            "10.0.0.1/8",
        ),
        (json!({"ip4": {"ip": 5}}), "invalid type"),
    ];
    for (document, expected) in cases {
        for version in [Version::V0_2_0, Version::V1_1_0] {
            let error = CniResult::from_json(&document, version).unwrap_err();
            assert_eq!(error.code, ErrorCode::Decode);
            assert!(error.to_string().contains(expected), "{document}: {error}");
        }
    }
    // an index without a list is for the caller's list: an IPAM plugin may set it
    let ipam = json!({"ips": [{"address": "10.0.0.1/8", "interface": 2}]});
    assert_eq!(CniResult::from_json(&ipam, Version::V1_0_0).unwrap().ips[0].interface, Some(2));
}

prop_compose! {
    fn network()(v4: bool, four: [u8; 4], sixteen: [u8; 16], prefix in 0u8..=32) -> IpNetwork {
        let address = if v4 { IpAddr::from(four) } else { IpAddr::from(sixteen) };
        IpNetwork::new(address, prefix).unwrap()
    }
}

prop_compose! {
    fn route()(dst in network(), gw in proptest::option::of(network()), mtu: Option<u32>, advmss: Option<u32>,
        priority: Option<u32>, table: Option<u32>, scope: Option<u32>) -> Route {
        Route { dst, gw: gw.map(|gw| gw.ip()), mtu, advmss, priority, table, scope }
    }
}

prop_compose! {
    fn interface()(name: String, mac: String, mtu: Option<u32>, sandbox: String, socket_path: String, pci_id: String) -> Interface {
        Interface { name, mac, mtu, sandbox, socket_path, pci_id }
    }
}

prop_compose! {
    fn dns()(nameservers: Vec<String>, domain: String, search: Vec<String>, options: Vec<String>) -> Dns {
        Dns { nameservers, domain, search, options }
    }
}

prop_compose! {
    fn result()(interfaces in proptest::collection::vec(interface(), 1..4))(
        ips in proptest::collection::vec((network(), proptest::option::of(network()), proptest::option::of(0..interfaces.len())), 0..4),
        interfaces in Just(interfaces), routes in proptest::collection::vec(route(), 0..4), dns in dns(),
    ) -> CniResult {
        let ips = ips.into_iter().map(|(address, gateway, interface)| IpConfig { interface, address, gateway: gateway.map(|g| g.ip()) });
        CniResult { interfaces, ips: ips.collect(), routes, dns }
    }
}

/// Any JSON, with the keys of results more often than others.
fn json_value() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        proptest::sample::select(vec![
            "cniVersion",
            "interfaces",
            "ips",
            "routes",
            "dns",
            "ip4",
            "ip6",
            "ip",
            "address",
            "gateway",
            "interface",
            "dst",
            "gw",
            "name",
            "mac",
            "mtu",
            "code",
            "msg",
            "details",
            "nameservers"
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        proptest::sample::select(vec!["0.2.0", "1.1.0", "10.0.0.1/8", "fd00::1/64", "10.0.0.1"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_a_version_knows_survives_the_way_out_and_in(result in result()) {
        for version in Version::ALL {
            let Ok(document) = result.to_json(*version) else {
                prop_assert!(*version < Version::V0_3_0);
                continue;
            };
            let text = document.to_string();
            let back = CniResult::read(&serde_json::from_str(&text).unwrap(), Version::V0_1_0).unwrap();
            prop_assert_eq!(&back, &as_known_to(result.clone(), *version));
            prop_assert_eq!(back.to_json(*version).unwrap(), document);
        }
    }

    #[test]
    fn hostile_documents_never_panic(value in json_value()) {
        for version in Version::ALL {
            if let Ok(result) = CniResult::from_json(&value, *version) {
                for to in Version::ALL {
                    result.to_json(*to).ok();
                }
            }
        }
        Error::from_json(&value);
    }
}
