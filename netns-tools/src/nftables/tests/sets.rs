//! Sets, maps and their elements.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;

const SERVICE: [Type; 3] = [Type::Ipv4Addr, Type::InetProto, Type::InetService];

fn service(number: u32) -> Key {
    Key::new(Ipv4Addr::from(0x0a60_0000 + number)).and(6u8).and(443u16)
}

fn table_with(nft: &mut Nftables, sets: &[Set<'_>]) {
    let mut batch = with_chain(Family::Inet);
    for set in sets {
        batch.add_set(INET, set);
    }
    nft.commit(&batch).unwrap();
}

fn add(nft: &mut Nftables, set: &str, elements: &[Element]) {
    let mut batch = Batch::new();
    batch.add_elements(INET, set, elements);
    nft.commit(&batch).unwrap();
}

#[test]
fn sets_are_what_nft_takes_them_for() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let key = [Type::Ipv6Addr, Type::IfName];
    let sets = [
        Set { comment: Some("addresses"), size: Some(64), ..Set::new("plain", &[Type::Ipv4Addr]) },
        Set {
            timeouts: true,
            default_timeout: Some(Duration::from_secs(90)),
            ..Set::new("timed", &[Type::EtherAddr])
        },
        Set::new("wide", &key),
        Set::verdict_map("verdicts", &SERVICE),
        Set::map("data", &[Type::Mark], &[Type::Ipv4Addr, Type::InetService]),
        Set { intervals: true, ..Set::new("ranges", &[Type::Ipv4Addr]) },
        Set { intervals: true, ..Set::new("boxes", &[Type::Ipv4Addr, Type::InetService]) },
    ];
    table_with(&mut nft, &sets);
    let text = ns.cmd(&["nft", "list", "table", "inet", "t"]);
    for line in [
        "set plain {\n\t\ttype ipv4_addr\n\t\tsize 64\n\t\tcomment \"addresses\"",
        "set timed {\n\t\ttype ether_addr\n\t\ttimeout 1m30s",
        "set wide {\n\t\ttype ipv6_addr . ifname",
        "map verdicts {\n\t\ttype ipv4_addr . inet_proto . inet_service : verdict",
        "map data {\n\t\ttype mark : ipv4_addr . inet_service",
        "set ranges {\n\t\ttype ipv4_addr\n\t\tflags interval",
        "set boxes {\n\t\ttype ipv4_addr . inet_service\n\t\tflags interval",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let listed = nft.sets(INET).unwrap();
    assert_eq!(listed.len(), sets.len());
    let by_name = |name: &str| listed.iter().find(|set| set.name == name).unwrap();
    assert_eq!(by_name("plain").comment.as_deref(), Some("addresses"));
    assert!(by_name("timed").timeouts && by_name("ranges").intervals);
    assert_eq!(by_name("timed").default_timeout, Some(Duration::from_secs(90)));
    assert_eq!(by_name("ranges").default_timeout, None);
    assert!(by_name("verdicts").is_verdict_map && !by_name("data").is_verdict_map);
    assert!(by_name("data").is_map && !by_name("plain").is_map);
    assert_eq!(by_name("verdicts").key_len, 12);
    assert_eq!(nft.sets(Table::new(Family::Ip, "gone")).unwrap(), []);
    let mut batch = Batch::new();
    batch.delete_set(INET, "plain");
    nft.commit(&batch).unwrap();
    assert_eq!(nft.sets(INET).unwrap().len(), sets.len() - 1);
}

#[test]
fn elements_come_and_go() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    table_with(&mut nft, &[Set::verdict_map("services", &SERVICE)]);
    let elements = [
        Element::with_verdict(service(1), Verdict::Jump("c".into())).comment("the first"),
        Element::with_verdict(service(2), Verdict::Goto("c".into())),
        Element::with_verdict(service(3), Verdict::Drop),
    ];
    add(&mut nft, "services", &elements);
    let text = ns.cmd(&["nft", "list", "map", "inet", "t", "services"]);
    assert!(text.contains("10.96.0.1 . tcp . 443 comment \"the first\" : jump c"), "{text}");
    assert!(text.contains("10.96.0.3 . tcp . 443 : drop"), "{text}");
    let mut listed = nft.elements(INET, "services").unwrap();
    listed.sort_by_key(|element| element.key);
    assert_eq!(listed.len(), 3);
    for (found, wanted) in listed.iter().zip(&elements) {
        assert_eq!(found.key.as_slice(), wanted.key.as_slice());
        assert_eq!(found.data, wanted.data);
        assert_eq!(found.comment.as_deref(), wanted.comment.as_deref());
    }
    // The same again is no error, unless that is asked for; something else for the key is.
    add(&mut nft, "services", &elements);
    let mut batch = Batch::new();
    batch.create_elements(INET, "services", &elements);
    assert!(nft.commit(&batch).unwrap_err().is_exists());
    let other = Element::with_verdict(service(1), Verdict::Drop);
    let mut batch = Batch::new();
    batch.add_elements(INET, "services", [&other]);
    assert!(nft.commit(&batch).is_err());
    let mut batch = Batch::new();
    batch.delete_elements(INET, "services", [&Element::new(service(1)), &Element::new(service(2))]);
    batch.add_elements(INET, "services", [&other]);
    batch.delete_elements(INET, "services", []);
    nft.commit(&batch).unwrap();
    assert_eq!(nft.elements(INET, "services").unwrap().len(), 2);
    let mut batch = Batch::new();
    batch.delete_elements(INET, "services", [&Element::new(service(9))]);
    let (operation, errno, _) = refusal(nft.commit(&batch).unwrap_err());
    assert_eq!(
        (&*operation, errno),
        ("delete elements of set services in table inet t", libc::ENOENT)
    );
    let mut batch = Batch::new();
    batch.flush_set(INET, "services");
    nft.commit(&batch).unwrap();
    assert_eq!(nft.elements(INET, "services").unwrap(), []);
    assert_eq!(nft.elements(INET, "gone").unwrap(), []);
}

#[test]
fn maps_of_data_timeouts_and_ranges() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let (wide, boxes) = ([Type::Ipv6Addr, Type::IfName], [Type::Ipv4Addr, Type::InetService]);
    table_with(
        &mut nft,
        &[
            Set::map("data", &[Type::Mark], &[Type::Ipv4Addr, Type::InetService]),
            Set::map("numbers", &[Type::Ipv4Addr, Type::Mark], &[Type::Mark]),
            Set::new("names", &[Type::IfName]),
            Set { timeouts: true, ..Set::new("timed", &wide) },
            Set { intervals: true, ..Set::new("ranges", &[Type::Ipv4Addr]) },
            Set { intervals: true, ..Set::new("boxes", &boxes) },
        ],
    );
    let address = |last| Ipv4Addr::new(10, 0, 0, last);
    let endpoint = Key::new(address(1)).and(80u16);
    add(&mut nft, "data", &[Element::with_value(Value::host(1), endpoint)]);
    let numbered = Key::new(address(1)).and(Value::host(2));
    add(&mut nft, "numbers", &[Element::with_value(numbered, Value::host(3))]);
    add(&mut nft, "names", &[Element::new(Value::interface("eth0"))]);
    let pod = Key::new("fd00::1".parse::<Ipv6Addr>().unwrap()).and(Value::interface("eth0"));
    add(&mut nft, "timed", &[Element::new(pod).timeout(Duration::from_hours(1))]);
    let all = Element::range(Ipv4Addr::new(255, 255, 255, 0), Ipv4Addr::BROADCAST);
    add(
        &mut nft,
        "ranges",
        &[Element::range(address(4), address(7)), Element::range(address(9), address(9)), all],
    );
    let (from, to) = (Key::new(address(1)).and(80u16), Key::new(address(9)).and(90u16));
    add(&mut nft, "boxes", &[Element::range(from, to)]);

    let text = ns.cmd(&["nft", "list", "table", "inet", "t"]);
    for line in [
        "0x00000001 : 10.0.0.1 . 80",
        "10.0.0.1 . 0x00000002 : 0x00000003",
        "elements = { \"eth0\" }",
        "fd00::1 . \"eth0\" timeout 1h expires",
        "10.0.0.4/30, 10.0.0.9,",
        "255.255.255.0/24",
        "10.0.0.1-10.0.0.9 . 80-90",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let data = nft.elements(INET, "data").unwrap();
    let Some(Data::Value(value)) = &data[0].data else { panic!("{data:?}") };
    assert_eq!(value.as_slice(), endpoint.as_slice());
    let timed = &nft.elements(INET, "timed").unwrap()[0];
    assert_eq!(timed.timeout, Some(Duration::from_hours(1)));
    assert!(timed.expires.unwrap() <= timed.timeout.unwrap());
    let boxes = &nft.elements(INET, "boxes").unwrap()[0];
    assert_eq!(boxes.to.unwrap().as_slice(), to.as_slice());
    let ends = nft.elements(INET, "ranges").unwrap().iter().filter(|e| e.ends_range).count();
    assert!((2..=3).contains(&ends), "{ends}");
    let mut batch = Batch::new();
    batch.delete_elements(INET, "ranges", [&Element::range(address(4), address(7))]);
    nft.commit(&batch).unwrap();
    assert!(!ns.cmd(&["nft", "list", "table", "inet", "t"]).contains("10.0.0.4"));
}

#[test]
fn elements_go_by_themselves() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    table_with(&mut nft, &[Set { timeouts: true, ..Set::new("timed", &[Type::Ipv4Addr]) }]);
    let short = Element::new(Ipv4Addr::new(10, 0, 0, 1)).timeout(Duration::from_millis(100));
    let long = Element::new(Ipv4Addr::new(10, 0, 0, 2)).timeout(Duration::from_hours(1));
    add(&mut nft, "timed", &[short, long]);
    let start = std::time::Instant::now();
    while nft.elements(INET, "timed").unwrap().len() == 2 {
        assert!(start.elapsed().as_secs() < 20, "an element stays for a tenth of a second");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(nft.elements(INET, "timed").unwrap()[0].key.as_slice(), [10, 0, 0, 2]);
}

#[test]
fn ten_thousand_services_of_two_endpoints() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let endpoint = [Type::Ipv4Addr, Type::InetProto, Type::InetService, Type::Mark];
    let data = [Type::Ipv4Addr, Type::InetService];
    table_with(&mut nft, &[Set::map("endpoints", &endpoint, &data)]);
    let elements: Vec<_> = (0..20_000)
        .map(|n: u32| {
            let key = service(n / 2).and(Value::host(n % 2));
            Element::with_value(key, Key::new(Ipv4Addr::from(0x0a01_0000 + n)).and(8080u16))
        })
        .collect();
    let mut batch = Batch::new();
    batch.add_elements(INET, "endpoints", &elements);
    assert!(batch.len() > 1, "one attribute cannot hold them");
    nft.commit(&batch).unwrap();
    let mut listed = nft.elements(INET, "endpoints").unwrap();
    assert_eq!(listed.len(), elements.len());
    listed.sort_by_key(|element| element.key);
    assert!(listed.windows(2).all(|pair| pair[0].key != pair[1].key));
    // A few of them change.
    let mut change = Batch::new();
    change.delete_elements(INET, "endpoints", &elements[100..102]);
    nft.commit(&change).unwrap();
    assert_eq!(nft.elements(INET, "endpoints").unwrap().len(), elements.len() - 2);
}

/// nft reads what it lists of a map that has a number of `numgen` in its key.
#[test]
fn nft_is_told_what_has_no_type() {
    for (family, address, fields) in [
        (Family::Ip, Type::Ipv4Addr, [Field::IpSaddr, Field::IpDaddr]),
        (Family::Ip6, Type::Ipv6Addr, [Field::Ip6Saddr, Field::Ip6Daddr]),
    ] {
        let ns = TestNetns::new("nft");
        let table = Table::new(family, "t");
        let key = [address, Type::InetProto, Type::InetService, Type::Mark];
        let shown = [fields[0], Field::L4Proto, Field::Sport, Field::Random(9)];
        let (data, data_types) = ([fields[1], Field::Dport], [address, Type::InetService]);
        let map =
            Set { shown_as: Some((&shown, &data)), ..Set::map("numbered", &key, &data_types) };
        let ip: std::net::IpAddr =
            if family == Family::Ip { [10, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
        let element = Element::with_value(
            Key::new(ip).and(6u8).and(80u16).and(Value::host(1)),
            Key::new(ip).and(8080u16),
        );
        let mut batch = Batch::new();
        batch.add_table(table).add_set(table, &map).add_elements(table, "numbered", [&element]);
        open(&ns).commit(&batch).unwrap();
        let text = ns.cmd(&["nft", "list", "ruleset"]);
        let name = family.name();
        let line = format!(
            "typeof {name} saddr . meta l4proto . th sport . numgen random mod 9 : {name} daddr . th dport"
        );
        assert!(text.contains(&line) && text.contains(" . 80 . 1 : "), "{text}");
        let listed = open(&ns).sets(table).unwrap();
        assert!(map.is(&listed[0]));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("flush ruleset\n{text}")).unwrap();
        ns.cmd(&["nft", "-f", file.path().to_str().unwrap()]);
        assert_eq!(ns.cmd(&["nft", "list", "ruleset"]), text);
        assert!(open(&ns).has_element(table, "numbered", &element).unwrap(), "in the same bytes");
    }
}
