use proptest::prelude::*;

use super::*;

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn ours(text: &str) -> Result<Option<Announcement>, AnnotationError> {
    read(&annotations(&[(OURS, text)]), false)
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

/// Both families, VXLAN.
fn announcement() -> Announcement {
    let (v4, v6): (IpAddr, IpAddr) =
        ("192.0.2.11".parse().unwrap(), "2001:db8::11".parse().unwrap());
    Announcement {
        backend: Backend::Auto,
        vni: 7,
        port: Some(8472),
        vteps: vec![Vtep { address: v4, mac: mac(1) }, Vtep { address: v6, mac: mac(1) }],
        addresses: vec![v4, v6],
        networks: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
        probe_port: Some(8473),
    }
}

#[test]
fn ours_as_text() {
    let written = write(&announcement(), false);
    assert_eq!(written.len(), 1, "flannel's are left alone");
    insta::assert_snapshot!(written[OURS].as_deref().unwrap(), @r#"{"backend":"auto","vni":7,"port":8472,"vteps":[{"address":"192.0.2.11","mac":"02:00:00:00:00:01"},{"address":"2001:db8::11","mac":"02:00:00:00:00:01"}],"addresses":["192.0.2.11","2001:db8::11"],"networks":["192.0.2.0/24","2001:db8::/64"],"probePort":8473}"#);
    assert_eq!(ours(written[OURS].as_deref().unwrap()).unwrap(), Some(announcement()));
}

#[test]
fn what_newer_versions_add_is_skipped_and_what_is_left_out_has_a_meaning() {
    let text = r#"{"backend":"host-gw","addresses":["192.0.2.11"],"colour":"red","vteps":[]}"#;
    let expected = Announcement {
        backend: Backend::HostGw,
        addresses: vec!["192.0.2.11".parse().unwrap()],
        ..Announcement::default()
    };
    assert_eq!(ours(text).unwrap(), Some(expected));
    assert_eq!(read(&annotations(&[("else", "where")]), true).unwrap(), None);
}

#[test]
fn mistakes_in_ours_name_the_field() {
    let table = [
        ("", "annotation overlay.heddle.dev/node: EOF while parsing a value at line 1 column 0"),
        ("{}x", "annotation overlay.heddle.dev/node: missing field `backend` at line 1 column 2"),
        (
            r#"{"backend":"none"}x"#,
            "annotation overlay.heddle.dev/node: trailing characters at line 1 column 19",
        ),
        (
            r#"{"backend":"wireguard"}"#,
            "annotation overlay.heddle.dev/node, field backend: unknown variant `wireguard`, \
            expected one of `none`, `vxlan`, `host-gw`, `auto` at line 1 column 22",
        ),
        (
            r#"{"backend":"vxlan","vni":16777216}"#,
            "annotation overlay.heddle.dev/node, field vni: 16777216 is more than 16777215",
        ),
        (
            r#"{"backend":"vxlan","port":0}"#,
            "annotation overlay.heddle.dev/node, field port: 0 is not a port",
        ),
        (
            r#"{"backend":"vxlan","port":70000}"#,
            "annotation overlay.heddle.dev/node, field port: invalid value: \
            integer `70000`, expected u16 at line 1 column 31",
        ),
        (
            r#"{"backend":"vxlan","probePort":0}"#,
            "annotation overlay.heddle.dev/node, field probePort: 0 is not a port",
        ),
        (
            r#"{"backend":"vxlan","addresses":["127.0.0.1"]}"#,
            "annotation overlay.heddle.dev/node, field addresses[0]: \
            127.0.0.1 is a loopback address",
        ),
        (
            r#"{"backend":"vxlan","addresses":["192.0.2.1","192.0.2.2"]}"#,
            "annotation overlay.heddle.dev/node, \
            field addresses: at most one of each family, IPv4 first",
        ),
        (
            r#"{"backend":"vxlan","vteps":[{"address":"fe80::1","mac":"02:00:00:00:00:01"}]}"#,
            "annotation \
            overlay.heddle.dev/node, field vteps[0]: fe80::1 is a link-local address",
        ),
        (
            r#"{"backend":"vxlan","vteps":[{"address":"192.0.2.1","mac":"01:00:00:00:00:01"}]}"#,
            "annotation \
            overlay.heddle.dev/node, field vteps[0].mac: 01:00:00:00:00:01 is not a unicast address",
        ),
        (
            r#"{"backend":"vxlan","addresses":["::ffff:192.0.2.1"]}"#,
            "annotation overlay.heddle.dev/node, \
            field addresses[0]: ::ffff:192.0.2.1 is an IPv4 address written as IPv6",
        ),
        (
            r#"{"backend":"vxlan","networks":["10.0.0.0/8","10.0.0.0/9"]}"#,
            "annotation overlay.heddle.dev/node, \
            field networks: at most one of each family, IPv4 first",
        ),
    ];
    for (text, message) in table {
        assert_eq!(ours(text).unwrap_err().to_string(), message, "{text}");
    }
}

const FLANNEL: &[(&str, &str)] = &[
    (FLANNEL_MANAGED, "true"),
    (FLANNEL_TYPE, "vxlan"),
    (FLANNEL_IP, "192.0.2.12"),
    (FLANNEL_DATA, r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:0c"}"#),
    (FLANNEL_IPV6, "2001:db8::12"),
    (FLANNEL_V6_DATA, r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:0d"}"#),
];

#[test]
fn flannels_are_read_where_they_are_asked_for_and_ours_win() {
    let all = annotations(FLANNEL);
    assert_eq!(read(&all, false).unwrap(), None);
    let found = read(&all, true).unwrap().unwrap();
    let vtep = |address: &str, last| Vtep { address: address.parse().unwrap(), mac: mac(last) };
    let expected = Announcement {
        backend: Backend::Vxlan,
        vteps: vec![vtep("192.0.2.12", 0x0c), vtep("2001:db8::12", 0x0d)],
        addresses: vec!["192.0.2.12".parse().unwrap(), "2001:db8::12".parse().unwrap()],
        ..Announcement::default()
    };
    assert_eq!(found, expected);
    let mut both = all.clone();
    both.insert(OURS.into(), r#"{"backend":"none"}"#.into());
    assert_eq!(read(&both, true).unwrap(), Some(Announcement::default()));
    // flannel does not count a node without this either
    for managed in [None, Some("false")] {
        let mut without = all.clone();
        without.remove(FLANNEL_MANAGED);
        without.extend(managed.map(|text| (FLANNEL_MANAGED.into(), text.into())));
        assert_eq!(read(&without, true).unwrap(), None);
    }
}

#[test]
fn flannels_host_gw_says_null() {
    let all = annotations(&[
        (FLANNEL_MANAGED, "true"),
        (FLANNEL_TYPE, "host-gw"),
        (FLANNEL_IP, "192.0.2.12"),
        (FLANNEL_DATA, "null"),
    ]);
    let expected = Announcement {
        backend: Backend::HostGw,
        addresses: vec!["192.0.2.12".parse().unwrap()],
        ..Announcement::default()
    };
    assert_eq!(read(&all, true).unwrap(), Some(expected));
}

#[test]
fn mistakes_in_flannels_name_the_annotation() {
    let table = [
        (
            FLANNEL_TYPE,
            "wireguard",
            "annotation flannel.alpha.coreos.com/backend-type: `wireguard` is not supported; vxlan and host-gw are",
        ),
        (
            FLANNEL_IP,
            "2001:db8::1",
            "annotation flannel.alpha.coreos.com/public-ip: `2001:db8::1` is not an IPv4 address",
        ),
        (
            FLANNEL_IPV6,
            "192.0.2.1",
            "annotation flannel.alpha.coreos.com/public-ipv6: `192.0.2.1` is not an IPv6 address",
        ),
        (
            FLANNEL_IP,
            "0.0.0.0",
            "annotation flannel.alpha.coreos.com/public-ip: 0.0.0.0 is no host's address",
        ),
        (
            FLANNEL_DATA,
            r#"{"VNI":1}"#,
            "annotation flannel.alpha.coreos.com/backend-data: missing field `VtepMAC` at line 1 column 9",
        ),
        (
            FLANNEL_DATA,
            r#"{"VNI":1,"VtepMAC":"no"}"#,
            "annotation flannel.alpha.coreos.com/backend-data, field VtepMAC: \
            `no` is not a MAC address; expected six bytes such as 02:00:0a:f4:00:01 at line 1 column 24",
        ),
        (
            FLANNEL_DATA,
            r#"{"VNI":99999999,"VtepMAC":"02:00:00:00:00:01"}"#,
            "annotation flannel.alpha.coreos.com/backend-data, \
            field VNI: 99999999 is more than 16777215",
        ),
        (
            FLANNEL_V6_DATA,
            r#"{"VNI":2,"VtepMAC":"02:00:00:00:00:01"}"#,
            "annotation flannel.alpha.coreos.com/backend-v6-data, \
            field VNI: 2 here, and 1 in flannel.alpha.coreos.com/backend-data",
        ),
    ];
    for (key, value, message) in table {
        let mut all = annotations(FLANNEL);
        all.insert(key.into(), value.into());
        assert_eq!(read(&all, true).unwrap_err().to_string(), message, "{key}={value}");
    }
}

/// As an API server keeps them.
fn kept(written: BTreeMap<&'static str, Option<String>>) -> BTreeMap<String, String> {
    written.into_iter().filter_map(|(key, value)| Some((key.into(), value?))).collect()
}

#[test]
fn flannels_as_text() {
    let written = write(&announcement(), true);
    let shown: Vec<_> = written.iter().filter(|(key, _)| **key != OURS).collect();
    insta::assert_debug_snapshot!(shown);
    let direct = Announcement { backend: Backend::HostGw, vteps: Vec::new(), ..announcement() };
    let written = write(&direct, true);
    assert_eq!(written[FLANNEL_DATA].as_deref(), Some("null"));
    assert_eq!(written[FLANNEL_V6_DATA].as_deref(), Some("null"));
    // what would mislead flannel is taken away
    let nothing = write(&Announcement::default(), true);
    assert_eq!(nothing.values().filter(|value| value.is_some()).count(), 1);
    assert_eq!(nothing.len(), 7);
}

#[test]
fn flannel_reads_back_what_was_written() {
    for backend in [Backend::Vxlan, Backend::Auto, Backend::HostGw] {
        let vteps = if backend == Backend::HostGw { Vec::new() } else { announcement().vteps };
        let mut all =
            kept(write(&Announcement { backend, vteps: vteps.clone(), ..announcement() }, true));
        all.remove(OURS);
        let found = read(&all, true).unwrap().unwrap();
        assert_eq!((found.vteps, found.addresses), (vteps, announcement().addresses));
    }
}

prop_compose! {
    fn any_announcement()(
        backend in prop::sample::select(vec![Backend::None, Backend::Vxlan, Backend::HostGw, Backend::Auto]),
        vni in 0..=VNI_MAX, port in proptest::option::of(1_u16..), probe_port in proptest::option::of(1_u16..),
        v4 in proptest::option::of(any::<[u8; 2]>()), v6 in proptest::option::of(1_u64..), last: [u8; 5],
    ) -> Announcement {
        let v4 = v4.map(|[high, low]| IpAddr::from([10, 0, high, low]));
        let v6 = v6.map(|bits| IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(bits)).to_be_bytes()));
        let addresses: Vec<_> = v4.into_iter().chain(v6).collect();
        let mac = MacAddr([2, last[0], last[1], last[2], last[3], last[4]]);
        let vteps = addresses.iter().map(|address| Vtep { address: *address, mac }).collect();
        let networks = addresses.iter().map(|address| (*address).into()).collect();
        Announcement { backend, vni, port, vteps, addresses, networks, probe_port }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn ours_is_read_as_it_was_written(announcement in any_announcement(), flannel: bool) {
        prop_assert_eq!(read(&kept(write(&announcement, flannel)), flannel), Ok(Some(announcement)));
    }

    /// Whatever somebody writes there: no panic, and a message that is one line of a bearable length.
    #[test]
    fn anything_is_read_or_refused(
        key in prop::sample::select(vec![OURS, FLANNEL_TYPE, FLANNEL_DATA, FLANNEL_V6_DATA, FLANNEL_IP, FLANNEL_IPV6]),
        text in r#"(?s).{0,400}|[\[\]{}":,0-9a-z]{0,60}"#,
    ) {
        let mut all = annotations(FLANNEL);
        all.insert(key.into(), text);
        if let Err(error) = read(&all, true) {
            let message = error.to_string();
            prop_assert!(message.starts_with(&format!("annotation {key}")), "{}", message);
            prop_assert!(!message.contains('\n') && message.chars().count() < 600, "{}", message);
        }
    }

    /// One byte of a good document changed.
    #[test]
    fn a_damaged_document_is_read_or_refused(announcement in any_announcement(), place: prop::sample::Index, byte in 32_u8..127) {
        let mut bytes = write(&announcement, false)[OURS].clone().unwrap().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(Some(found)) = ours(&String::from_utf8(bytes).unwrap()) {
            prop_assert_eq!(check(&found), Ok(()));
        }
    }
}
