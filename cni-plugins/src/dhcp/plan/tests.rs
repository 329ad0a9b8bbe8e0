use netns_tools::MacAddr;

use super::*;

/// Options as a table holds them.
type Given = [(u8, &'static [u8])];

fn told(options: &Given) -> Option<String> {
    let mut lease = Lease {
        address: Ipv4Addr::new(10, 0, 0, 5),
        server: Ipv4Addr::new(10, 0, 0, 1),
        via: MacAddr([2, 0, 0, 0, 0, 1]),
        options: Options::from([(code::SUBNET_MASK, vec![255, 255, 255, 0])]),
        times: None,
    };
    lease.options.extend(options.iter().map(|(code, value)| (*code, value.to_vec())));
    let result = result(&lease, None)?;
    let gateway = result.ips[0].gateway.map_or("none".to_owned(), |gateway| gateway.to_string());
    let routes = result.routes.iter().map(|route| {
        let scope = route.scope.map_or(String::new(), |scope| format!(" scope {scope}"));
        format!(", {} via {}{scope}", route.dst, route.gw.unwrap())
    });
    Some(format!("{} gateway {gateway}{}", result.ips[0].address, routes.collect::<String>()))
}

const ROUTER: (u8, &[u8]) = (code::ROUTERS, &[10, 0, 0, 1, 10, 0, 0, 2]);

#[test]
fn results() {
    let table: [(&Given, _); 9] = [
        (&[], "10.0.0.5/24 gateway none"),
        (&[ROUTER], "10.0.0.5/24 gateway 10.0.0.1, 0.0.0.0/0 via 10.0.0.1"),
        (&[(code::ROUTERS, &[10, 0])], "10.0.0.5/24 gateway none"),
        (
            &[
                ROUTER,
                (code::STATIC_ROUTES, &[172, 16, 1, 1, 10, 0, 0, 9, 192, 0, 2, 7, 10, 0, 0, 8, 1]),
            ],
            "10.0.0.5/24 gateway 10.0.0.1, 172.16.0.0/16 via 10.0.0.9, 192.0.2.0/24 via 10.0.0.8, 0.0.0.0/0 via 10.0.0.1",
        ),
        // Neither a default route nor a group.
        (
            &[(code::STATIC_ROUTES, &[0, 0, 0, 0, 10, 0, 0, 9, 224, 0, 0, 1, 10, 0, 0, 9])],
            "10.0.0.5/24 gateway none",
        ),
        (
            &[
                ROUTER,
                (code::STATIC_ROUTES, &[172, 16, 0, 0, 10, 0, 0, 9]),
                (
                    code::CLASSLESS_ROUTES,
                    &[
                        0, 10, 0, 0, 3, 12, 172, 31, 10, 0, 0, 4, 24, 192, 0, 2, 0, 0, 0, 0, 32, 8,
                        8, 8, 8, 10, 0, 0, 5,
                    ],
                ),
            ],
            "10.0.0.5/24 gateway 10.0.0.1, 0.0.0.0/0 via 10.0.0.3, 172.16.0.0/12 via 10.0.0.4, \
            192.0.2.0/24 via 0.0.0.0 scope 253, 8.8.8.8/32 via 10.0.0.5",
        ),
        // Damaged ones count for nothing: cut off, a prefix that is too long, empty.
        (
            &[ROUTER, (code::CLASSLESS_ROUTES, &[24, 192, 0, 2, 10])],
            "10.0.0.5/24 gateway 10.0.0.1, 0.0.0.0/0 via 10.0.0.1",
        ),
        (
            &[ROUTER, (code::CLASSLESS_ROUTES, &[33, 1, 2, 3, 4, 5, 10, 0, 0, 1])],
            "10.0.0.5/24 gateway 10.0.0.1, 0.0.0.0/0 via 10.0.0.1",
        ),
        (
            &[ROUTER, (code::CLASSLESS_ROUTES, &[])],
            "10.0.0.5/24 gateway 10.0.0.1, 0.0.0.0/0 via 10.0.0.1",
        ),
    ];
    for (options, expected) in table {
        assert_eq!(told(options).as_deref(), Some(expected));
    }
}

#[test]
fn no_mask_no_result() {
    assert_eq!(told(&[(code::SUBNET_MASK, &[255, 0, 255, 0])]), None);
}

#[test]
fn the_priority_is_every_routes() {
    let mut lease: Lease = serde_json::from_value(serde_json::json!({
        "address": "10.0.0.5", "server": "10.0.0.1", "via": "02:00:00:00:00:01",
        "options": { "1": "ffffff00", "3": "0a000001" }, "times": null,
    }))
    .unwrap();
    lease.options.insert(code::STATIC_ROUTES, vec![172, 16, 0, 0, 10, 0, 0, 9]);
    let routes = result(&lease, Some(50)).unwrap().routes;
    assert_eq!(routes.iter().map(|route| route.priority).collect::<Vec<_>>(), [Some(50), Some(50)]);
}
