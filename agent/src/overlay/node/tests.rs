use serde_json::json;

use super::*;

fn node(value: serde_json::Value) -> NodeRecord {
    NodeRecord::read(&serde_json::from_value(value).unwrap(), true).unwrap()
}

#[test]
fn what_is_taken_of_an_object() {
    let record = node(json!({
        "metadata": {
            "name": "n1", "uid": "u-1", "creationTimestamp": "2026-01-02T03:04:05Z",
            "annotations": {"overlay.heddle.dev/node": r#"{"backend":"none"}"#},
        },
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
        "status": {"addresses": [
            {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "192.0.2.11"},
            {"type": "ExternalIP", "address": "198.51.100.1"},
            {"type": "InternalIP", "address": "2001:db8::11"},
        ]},
    }));
    let expected = NodeRecord {
        name: "n1".into(),
        created: Some(1_767_323_045),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
        internal_ips: vec!["192.0.2.11".parse().unwrap(), "2001:db8::11".parse().unwrap()],
        announced: Some(Announcement::default()),
        mistakes: vec![],
    };
    assert_eq!(record, expected);
    // as it is kept in a file
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<NodeRecord>(&text).unwrap(), record);
}

#[test]
fn pod_cidrs() {
    let of = |spec: serde_json::Value| {
        let record = node(json!({"metadata": {"name": "n1"}, "spec": spec}));
        let cidrs: Vec<_> = record.pod_cidrs.iter().map(ToString::to_string).collect();
        (cidrs.join(" "), record.mistakes.join("; "))
    };
    let right = |text: &str| (text.to_owned(), String::new());
    assert_eq!(of(json!({})), right(""));
    assert_eq!(of(json!({"podCIDR": "10.1.2.0/24"})), right("10.1.2.0/24"));
    assert_eq!(of(json!({"podCIDR": "10.1.2.0/24", "podCIDRs": []})), right("10.1.2.0/24"));
    assert_eq!(of(json!({"podCIDRs": ["fd00::/64"]})), right("fd00::/64"));
    assert_eq!(of(json!({"podCIDRs": ["10.1.2.3/24"]})), right("10.1.2.0/24"));
    let table = [
        ("10.1.2.0", "`10.1.2.0` is not a network such as 10.244.1.0/24"),
        ("10.1.2.0/33", "`10.1.2.0/33` is not a network such as 10.244.1.0/24"),
        ("x\ny/8", "`x\\ny/8` is not a network such as 10.244.1.0/24"),
        ("0.0.0.0/0", "`0.0.0.0/0` cannot be pods', because 0.0.0.0/8 has another meaning"),
        ("::/0", "`::/0` cannot be pods', because ::/96 has another meaning"),
        ("127.1.0.0/16", "`127.1.0.0/16` cannot be pods', because 127.0.0.0/8 has another meaning"),
        ("ff02::/64", "`ff02::/64` cannot be pods', because ff00::/8 has another meaning"),
        ("10.1.2.0/24", ""),
    ];
    for (text, mistake) in table {
        let (found, told) = of(json!({"podCIDRs": [text]}));
        let expected =
            if mistake.is_empty() { String::new() } else { format!("spec.podCIDRs: {mistake}") };
        assert_eq!((found.is_empty(), told), (!mistake.is_empty(), expected), "{text}");
    }
    let (found, told) = of(json!({"podCIDRs": ["10.1.2.0/24", "10.1.3.0/24"]}));
    assert_eq!(found, "10.1.2.0/24");
    assert_eq!(
        told,
        "spec.podCIDRs: `10.1.3.0/24` is the second of its family; only the first is used"
    );
}

#[test]
fn a_node_with_mistakes_is_a_record_with_mistakes() {
    let record = node(json!({
        "metadata": {"name": "n1", "annotations": {"overlay.heddle.dev/node": "{}"}},
        "spec": {"podCIDR": "10.1.2.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "here"}]},
    }));
    assert_eq!(record.pod_cidrs.len(), 1);
    assert_eq!(record.announced, None);
    assert_eq!(
        record.mistakes,
        [
            "status.addresses: InternalIP `here` is not an IP address",
            "annotation overlay.heddle.dev/node: missing field `backend` at line 1 column 2",
        ]
    );
    let nameless = NodeRecord::read(&Node::default(), true).unwrap_err();
    assert_eq!(nameless.to_string(), "a Node object has no metadata.name; give it one");
    let named = |name| serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let forged = NodeRecord::read(&named("a\nb is fine"), true).unwrap_err().to_string();
    assert!(
        forged.starts_with("metadata.name: `a\\nb is fine` is no name of a Node; give"),
        "{forged}"
    );
}

#[test]
fn addresses_by_name_are_unicast_local_and_differ() {
    let (one, other) = (derived_mac("n1"), derived_mac("n2"));
    assert_ne!(one, other);
    // peers compute it: it must never become another
    assert_eq!(one.to_string(), "02:67:6b:8b:b8:4c");
    assert!(one.is_unicast() && one.0[0] & 2 == 2);
}

#[test]
fn without_annotations_a_node_is_taken_to_be_like_this_one() {
    let ours = Announcement {
        backend: Backend::Vxlan,
        vni: 9,
        port: Some(4789),
        ..Announcement::default()
    };
    let mut record = NodeRecord {
        name: "n2".into(),
        internal_ips: ["2001:db8::2", "192.0.2.2", "192.0.2.3"]
            .map(|ip| ip.parse().unwrap())
            .into(),
        ..NodeRecord::default()
    };
    record.assume_like(&ours);
    let assumed = record.announced.clone().unwrap();
    assert_eq!((assumed.backend, assumed.vni, assumed.port), (Backend::Vxlan, 9, Some(4789)));
    assert_eq!(
        assumed.addresses,
        ["192.0.2.2", "2001:db8::2"].map(|ip| ip.parse::<IpAddr>().unwrap())
    );
    assert!(
        assumed.vteps.iter().all(|vtep| vtep.mac == derived_mac("n2")) && assumed.vteps.len() == 2
    );
    // what is announced counts
    record.assume_like(&Announcement::default());
    assert_eq!(record.announced, Some(assumed));
}

#[test]
fn networks_with_an_address_in_common() {
    let common = |one: &str, other: &str| overlaps(one.parse().unwrap(), other.parse().unwrap());
    assert!(common("10.0.0.0/8", "10.1.2.0/24") && common("10.1.2.0/24", "10.0.0.0/8"));
    assert!(common("::/0", "fd00::/64") && common("10.1.2.0/24", "10.1.2.0/24"));
    assert!(!common("10.1.2.0/24", "10.1.3.0/24") && !common("0.0.0.0/0", "fd00::/64"));
}

#[test]
fn a_node_that_is_full_of_nonsense_takes_little() {
    let addresses: Vec<_> = (0..20_000_u32)
        .map(|number| json!({"type": "InternalIP", "address": std::net::Ipv4Addr::from(number + 0x0a00_0000)}))
        .collect();
    let record = node(json!({
        "metadata": {"name": "n1", "annotations": {"overlay.heddle.dev/node": "nonsense"}},
        "spec": {"podCIDRs": vec!["x"; 50_000]},
        "status": {"addresses": addresses},
    }));
    assert_eq!((record.mistakes.len(), record.internal_ips.len()), (MISTAKES + 1, ADDRESSES));
    assert_eq!(record.mistakes.last().unwrap(), "and more");
}
