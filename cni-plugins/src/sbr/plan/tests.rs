use serde_json::json;

use super::*;

const OIF: u32 = 7;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn ip(cidr: &str, gateway: Option<&str>) -> IpConfig {
    IpConfig { interface: None, address: net(cidr), gateway: gateway.and_then(address) }
}

fn route(dst: &str, gateway: Option<&str>, source: Option<&str>) -> Route {
    Route {
        dst: net(dst),
        gateway: gateway.and_then(address),
        source: source.and_then(address),
        oif: Some(OIF),
        table: Some(TABLE_MAIN),
        ..Route::default()
    }
}

/// An interface with two addresses, one of each family, as a plugin leaves it.
fn usual() -> Vec<Route> {
    vec![
        route("10.1.0.0/24", None, Some("10.1.0.2")),
        route("0.0.0.0/0", Some("10.1.0.1"), None),
        route("10.9.0.0/16", Some("10.1.0.7"), None),
        route("fd01::/64", None, None),
        route("fe80::/64", None, None),
        route("ff02::/16", None, None),
        Route { oif: Some(1), ..route("10.2.0.0/24", None, None) },
        Route { table: Some(255), kind: RouteKind::Local, ..route("10.1.0.2/32", None, None) },
    ]
}

fn told(routes: &[Route]) -> Vec<String> {
    routes.iter().map(ToString::to_string).collect()
}

#[test]
fn each_address_gets_a_table_a_rule_and_its_routes() {
    let ips = [ip("10.1.0.2/24", Some("10.1.0.1")), ip("fd01::2/64", Some("fd01::1"))];
    let plan = plan(&Conf::default(), &ips.each_ref(), OIF, &usual(), &[]);
    let [v4, v6] = &plan.policies[..] else { panic!("{plan:?}") };
    assert_eq!(v4.rule.to_string(), "from 10.1.0.2/32 table 100");
    assert_eq!(
        told(&v4.routes),
        [
            "10.1.0.0/24 on link 7 from 10.1.0.2 in table 100",
            "10.9.0.0/16 via 10.1.0.7 on link 7 in table 100",
            "0.0.0.0/0 via 10.1.0.1 on link 7 in table 100",
        ]
    );
    assert_eq!(v6.rule.to_string(), "from fd01::2/128 table 101");
    assert_eq!(
        told(&v6.routes),
        [
            "fd01::/64 on link 7 in table 101",
            "fe80::/64 on link 7 in table 101",
            "::/0 via fd01::1 on link 7 in table 101",
        ]
    );
    // Link-local routes stay, others' and the kernel's own do too; what others need goes last, and comes back first.
    assert_eq!(
        told(&plan.moved),
        [
            "0.0.0.0/0 via 10.1.0.1 on link 7",
            "10.9.0.0/16 via 10.1.0.7 on link 7",
            "10.1.0.0/24 on link 7 from 10.1.0.2",
            "fd01::/64 on link 7",
        ]
    );
    assert!(plan.hinted.is_empty());
}

#[test]
fn a_table_is_free_if_neither_a_rule_nor_a_route_has_it() {
    let ips = [ip("10.1.0.2/24", None), ip("10.1.0.3/24", None)];
    let rules = [Rule::from(net("10.7.0.0/16"), 100), Rule::from(net("10.8.0.0/16"), 103)];
    let mut routes = usual();
    routes.push(Route { table: Some(101), ..routes[6].clone() });
    let plan = plan(&Conf::default(), &ips.each_ref(), OIF, &routes, &rules);
    let tables: Vec<_> = plan.policies.iter().map(|policy| policy.rule.table).collect();
    assert_eq!(tables, [102, 104]);
    // The tables that the kernel has names for are never free.
    assert_eq!(free_table(&[], &[], 253), 256);
}

#[test]
fn which_default_route_counts() {
    let default = |conf: &Conf, ip: IpConfig, routes: &[Route]| {
        let plan = plan(conf, &[&ip], OIF, routes, &[]);
        let routes = plan.policies[0].routes.iter().filter(|route| route.dst.prefix() == 0);
        routes.map(|route| route.gateway.unwrap().to_string()).collect::<Vec<_>>()
    };
    let configured = Conf { gateway_v4: address("10.1.0.9"), ..Conf::default() };
    let with = |gateway| ip("10.1.0.2/24", gateway);
    let own = [route("0.0.0.0/0", Some("10.1.0.5"), None)];
    assert_eq!(default(&Conf::default(), with(None), &[]), [""; 0]);
    assert_eq!(default(&Conf::default(), with(Some("10.1.0.1")), &[]), ["10.1.0.1"]);
    assert_eq!(default(&Conf::default(), with(Some("10.1.0.1")), &own), ["10.1.0.5"]);
    assert_eq!(default(&configured, with(Some("10.1.0.1")), &own), ["10.1.0.9"]);
    assert_eq!(default(&configured, with(None), &[]), ["10.1.0.9"]);
}

#[test]
fn a_given_table_gets_rules_only() {
    let conf = Conf { table: Some(5001), ..Conf::default() };
    let ips = [ip("10.1.0.2/24", Some("10.1.0.1")), ip("fd01::2/64", None)];
    let plan = plan(&conf, &ips.each_ref(), OIF, &usual(), &[]);
    let rules: Vec<_> = plan.policies.iter().map(|policy| policy.rule.to_string()).collect();
    assert_eq!(rules, ["from 10.1.0.2/32 table 5001", "from fd01::2/128 table 5001"]);
    assert!(plan.policies.iter().all(|policy| policy.routes.is_empty()));
    assert!(plan.moved.is_empty() && plan.hinted.is_empty());
}

#[test]
fn hints_stay_in_the_main_table() {
    let conf = Conf { source_hints: true, ..Conf::default() };
    let ips = [ip("10.1.0.2/24", Some("10.1.0.1")), ip("fd01::2/64", None)];
    let plan = plan(&conf, &ips.each_ref(), OIF, &usual(), &[]);
    assert!(plan.moved.is_empty());
    let new: Vec<_> = plan.hinted.iter().map(|(_, new)| new.to_string()).collect();
    assert_eq!(
        new,
        [
            "0.0.0.0/0 via 10.1.0.1 on link 7 from 10.1.0.2",
            "10.9.0.0/16 via 10.1.0.7 on link 7 from 10.1.0.2",
            "fd01::/64 on link 7 from fd01::2",
        ]
    );
    assert_eq!(plan.policies[0].routes.len(), 3);
}

#[test]
fn which_addresses_are_the_interface_s() {
    let result = json!({
        "interfaces": [{ "name": "eth0", "sandbox": "/x" }, { "name": "net1", "sandbox": "/x" }],
        "ips": [
            { "interface": 0, "address": "10.0.0.2/24" }, { "interface": 1, "address": "10.1.0.2/24" },
            { "address": "10.2.0.2/24" },
        ],
    });
    let result = CniResult::from_json(&result, cni::Version::LATEST).unwrap();
    let of = |ifname| {
        let ips = addresses(&result, ifname).unwrap();
        ips.iter().map(|ip| ip.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of("net1"), ["10.1.0.2/24", "10.2.0.2/24"]);
    assert_eq!(of("eth0"), ["10.0.0.2/24", "10.2.0.2/24"]);
    let none = addresses(&CniResult::default(), "net1").unwrap_err();
    assert_eq!(none.msg, "No IP addresses supplied on interface: net1");
}
