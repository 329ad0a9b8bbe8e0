use proptest::prelude::*;

use super::*;

fn conf(subnet: &str, start: &str, end: &str, gateway: &str) -> RangeConf {
    RangeConf {
        subnet: subnet.into(),
        range_start: start.into(),
        range_end: end.into(),
        gateway: gateway.into(),
    }
}

fn subnet(text: &str) -> RangeConf {
    conf(text, "", "", "")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn defaults_are_filled_in() {
    let cases = [
        // subnet, start, end, gateway → range, gateway, capacity
        (subnet("10.1.0.0/24"), "10.1.0.1-10.1.0.254", "10.1.0.1", 253),
        (subnet("10.1.0.0/30"), "10.1.0.1-10.1.0.2", "10.1.0.1", 1),
        (subnet("0.0.0.0/0"), "0.0.0.1-255.255.255.254", "0.0.0.1", (1 << 32) - 3),
        (subnet("fd00::/126"), "fd00::1-fd00::3", "fd00::1", 2),
        (subnet("fd00::/64"), "fd00::1-fd00::ffff:ffff:ffff:ffff", "fd00::1", (1 << 64) - 2),
        (subnet("::/0"), "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::1", u128::MAX - 1),
        (
            conf("::/0", "::", "", "fd00::1"),
            "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "fd00::1",
            u128::MAX - 1,
        ),
        (conf("10.1.0.0/24", "10.1.0.9", "", ""), "10.1.0.9-10.1.0.254", "10.1.0.1", 246),
        (conf("10.1.0.0/24", "10.1.0.9", "10.1.0.9", ""), "10.1.0.9-10.1.0.9", "10.1.0.1", 1),
        (
            conf("10.1.0.0/24", "10.1.0.9", "10.1.0.9", "10.1.0.9"),
            "10.1.0.9-10.1.0.9",
            "10.1.0.9",
            0,
        ),
        // An explicit range may include the network's and the broadcast address, as in the reference.
        (conf("10.1.0.0/24", "10.1.0.0", "10.1.0.255", ""), "10.1.0.0-10.1.0.255", "10.1.0.1", 255),
        // A gateway elsewhere, and one written as IPv4-mapped.
        (conf("10.1.0.0/24", "", "", "10.9.9.9"), "10.1.0.1-10.1.0.254", "10.9.9.9", 254),
        (conf("10.1.0.0/24", "", "", "::ffff:10.1.0.7"), "10.1.0.1-10.1.0.254", "10.1.0.7", 253),
    ];
    for (conf, text, gateway, capacity) in cases {
        let range = Range::new(&conf).unwrap();
        assert_eq!(range.to_string(), text, "{conf:?}");
        assert_eq!(range.gateway(), ip(gateway), "{conf:?}");
        assert_eq!(range.capacity(), capacity, "{conf:?}");
    }
}

#[test]
fn wrong_ranges_are_refused_in_the_words_of_the_reference() {
    let cases = [
        (subnet("10.1.0.0/31"), "Network 10.1.0.0/31 too small to allocate from"),
        (subnet("10.1.0.0/32"), "Network 10.1.0.0/32 too small to allocate from"),
        (subnet("fd00::/127"), "Network fd00::/127 too small to allocate from"),
        (subnet("fd00::/128"), "Network fd00::/128 too small to allocate from"),
        (
            subnet("10.1.0.3/24"),
            "Network has host bits set. For a subnet mask of length 24 the network address is 10.1.0.0",
        ),
        (
            subnet("fd00::1/64"),
            "Network has host bits set. For a subnet mask of length 64 the network address is fd00::",
        ),
        (conf("10.1.0.0/24", "10.2.0.1", "", ""), "RangeStart 10.2.0.1 not in network 10.1.0.0/24"),
        (conf("10.1.0.0/24", "fd00::1", "", ""), "RangeStart fd00::1 not in network 10.1.0.0/24"),
        (conf("10.1.0.0/24", "", "10.2.0.1", ""), "RangeEnd 10.2.0.1 not in network 10.1.0.0/24"),
        (
            conf("10.1.0.0/24", "10.1.0.9", "10.1.0.3", ""),
            "RangeStart 10.1.0.9 not in network 10.1.0.0/24: it is after RangeEnd 10.1.0.3",
        ),
        (
            conf("10.1.0.0/24", "", "", "fd00::1"),
            "gateway fd00::1 is not of the address family of network 10.1.0.0/24",
        ),
        (conf("10.1.0.0/24", "x", "", ""), "rangeStart \"x\" is not an IP address"),
        (conf("10.1.0.0/24", "", "10.1.0.300", ""), "rangeEnd \"10.1.0.300\" is not an IP address"),
        (conf("10.1.0.0/24", "", "", "10.01.0.1"), "gateway \"10.01.0.1\" is not an IP address"),
        (subnet(""), "subnet is missing: give it in CIDR notation, such as \"10.244.0.0/24\""),
    ];
    for (conf, message) in cases {
        assert_eq!(Range::new(&conf).unwrap_err().to_string(), message, "{conf:?}");
    }
}

#[test]
fn a_subnet_is_cidr_notation_only() {
    for text in [
        "10.1.0.0",
        "10.1.0.0/",
        "10.1.0.0/33",
        "fd00::/129",
        "10.1.0.0/255.255.0.0",
        "10.1.0.0/+8",
        "x/8",
        "/8",
        "10.1.0.0/24/1",
        "10.1.0.0/ 24",
    ] {
        let error = Range::new(&subnet(text)).unwrap_err();
        assert!(matches!(error, RangeError::Syntax { key: "subnet", .. }), "{text}: {error}");
    }
}

#[test]
fn sets_are_checked_alone_and_against_each_other() {
    let a = || subnet("10.1.0.0/24");
    let b = || subnet("10.2.0.0/24");
    let six = || subnet("fd00::/64");
    let cases = [
        (vec![], "no IP ranges specified"),
        (vec![vec![a()], vec![]], "invalid range set 1: empty range set"),
        (vec![vec![a(), six()]], "invalid range set 0: mixed address families"),
        (
            vec![vec![a(), conf("10.1.0.0/24", "10.1.0.200", "", "")]],
            "invalid range set 0: subnets 10.1.0.1-10.1.0.254 and 10.1.0.200-10.1.0.254 overlap",
        ),
        (
            vec![vec![conf("10.1.0.0/24", "10.1.0.20", "10.1.0.30", ""), a()]],
            "invalid range set 0: subnets 10.1.0.20-10.1.0.30 and 10.1.0.1-10.1.0.254 overlap",
        ),
        (vec![vec![b()], vec![a()], vec![a()]], "range set 1 overlaps with 2"),
        (vec![vec![b(), a()], vec![six()], vec![a()]], "range set 0 overlaps with 2"),
        (
            vec![vec![subnet("10.1.0.0/31")]],
            "invalid range set 0: Network 10.1.0.0/31 too small to allocate from",
        ),
    ];
    for (confs, message) in cases {
        assert_eq!(range_sets(&confs).unwrap_err().to_string(), message, "{confs:?}");
    }
    let sets = range_sets(&[vec![a(), b()], vec![six()]]).unwrap();
    assert_eq!(sets[0].to_string(), "10.1.0.1-10.1.0.254,10.2.0.1-10.2.0.254");
    assert!(sets[0].is_ipv4() && !sets[1].is_ipv4());
    assert_eq!(sets[0].range_for(ip("10.2.0.7")).unwrap().subnet().to_string(), "10.2.0.0/24");
    assert!(!sets[0].contains(ip("10.1.0.255")) && !sets[1].contains(ip("10.1.0.7")));
}

#[test]
fn candidates_go_on_after_the_last_one_and_wrap_around() {
    let set = RangeSet::new(&[
        conf("10.1.0.0/24", "10.1.0.1", "10.1.0.3", ""),
        conf("10.2.0.0/24", "10.2.0.5", "10.2.0.7", "10.2.0.6"),
    ])
    .unwrap();
    let cases = [
        (None, ["10.1.0.2", "10.1.0.3", "10.2.0.5", "10.2.0.7"]),
        (Some("192.168.0.1"), ["10.1.0.2", "10.1.0.3", "10.2.0.5", "10.2.0.7"]),
        (Some("10.1.0.1"), ["10.1.0.2", "10.1.0.3", "10.2.0.5", "10.2.0.7"]),
        (Some("10.1.0.2"), ["10.1.0.3", "10.2.0.5", "10.2.0.7", "10.1.0.2"]),
        (Some("10.1.0.3"), ["10.2.0.5", "10.2.0.7", "10.1.0.2", "10.1.0.3"]),
        (Some("10.2.0.6"), ["10.2.0.7", "10.1.0.2", "10.1.0.3", "10.2.0.5"]),
        (Some("10.2.0.7"), ["10.1.0.2", "10.1.0.3", "10.2.0.5", "10.2.0.7"]),
    ];
    for (last, expected) in cases {
        let found: Vec<_> = set.candidates(last.map(ip)).map(|(ip, _)| ip.to_string()).collect();
        assert_eq!(found, expected, "after {last:?}");
    }
}

proptest! {
    /// Whatever the range and wherever it starts: every address once, the gateway never, all in the subnet.
    #[test]
    fn candidates_are_each_address_once(
        v4: bool,
        base: u16,
        prefix in 0u8..=5,
        bounds in (0u128..64, 0u128..64, 0u128..64, 0u128..64),
    ) {
        let bits = if v4 { 30 } else { 126 };
        let prefix = bits - prefix;
        let start = if v4 { IpAddr::from([10, 1, 0, 0]) } else { ip("fd00::") };
        let net = IpNetwork::new(address(number(start) + (u128::from(base) << 8), v4), prefix).unwrap();
        let size = 1u128 << (bits + 2 - prefix);
        let at = |n: u128| address(number(net.network()) + n % size, v4);
        let (a, b) = (at(bounds.0).min(at(bounds.1)), at(bounds.0).max(at(bounds.1)));
        let conf = conf(&net.to_string(), &a.to_string(), &b.to_string(), &at(bounds.2).to_string());
        let set = RangeSet::new(&[conf]).unwrap();
        let mut found: Vec<_> = set.candidates(Some(at(bounds.3))).map(|(ip, _)| ip).collect();
        let count = found.len() as u128;
        found.sort_unstable();
        found.dedup();
        prop_assert_eq!(found.len() as u128, count, "an address came twice");
        prop_assert_eq!(count, set.capacity());
        prop_assert!(found.iter().all(|ip| *ip >= a && *ip <= b && *ip != at(bounds.2) && net.contains(*ip)));
    }

    /// Two ranges overlap exactly if they share an address.
    #[test]
    fn overlap_means_a_shared_address(a in 1u8..20, b in 0u8..10, c in 1u8..20, d in 0u8..10) {
        let range = |from: u8, len: u8| Range::new(&conf(
            "10.1.0.0/24",
            &format!("10.1.0.{from}"),
            &format!("10.1.0.{}", from + len),
            "",
        )).unwrap();
        let (one, two) = (range(a, b), range(c, d));
        let shared = (0..=255).any(|n| {
            let ip = IpAddr::from([10, 1, 0, n]);
            one.contains(ip) && two.contains(ip)
        });
        prop_assert_eq!(one.overlaps(&two), shared);
        prop_assert_eq!(two.overlaps(&one), shared);
    }

    #[test]
    fn no_text_makes_it_panic(subnet in ".{0,24}", start in ".{0,24}", end in "[0-9a-f:./]{0,24}") {
        let _ = Range::new(&conf(&subnet, &start, &end, &end));
    }
}
