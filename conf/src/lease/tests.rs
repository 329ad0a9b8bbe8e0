use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ipnetwork::{Ipv4Network, Ipv6Network};
use proptest::prelude::*;

use super::*;

const BOTH: &str = "HEDDLE_NETWORK=10.244.0.0/16\nHEDDLE_SUBNET=10.244.1.1/24\nHEDDLE_IPV6_NETWORK=fd00:244::/48\n\
    HEDDLE_IPV6_SUBNET=fd00:244:0:1::1/64\nHEDDLE_MTU=1450\nHEDDLE_IPMASQ=true\n";

fn nets(list: &[&str]) -> Vec<IpNetwork> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn mistakes(text: &str) -> Vec<String> {
    match Lease::parse(text) {
        Ok(lease) => panic!("{text:?} is {lease}"),
        Err(LeaseError::Mistakes(mistakes)) => mistakes.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn both_families() {
    let lease = Lease::parse(BOTH).unwrap();
    assert_eq!(lease.networks(), nets(&["10.244.0.0/16", "fd00:244::/48"]));
    assert_eq!(lease.subnets(), nets(&["10.244.1.1/24", "fd00:244:0:1::1/64"]));
    assert_eq!((lease.mtu(), lease.masquerade()), (1450, true));
    assert!(lease.render().ends_with(BOTH), "{}", lease.render());
    assert_eq!(
        lease.to_string(),
        "10.244.1.1/24, fd00:244:0:1::1/64 of 10.244.0.0/16, fd00:244::/48, MTU 1450, masqueraded by the agent"
    );
}

/// As flannel writes it, with one family, and with several networks as its newer versions allow.
#[test]
fn flannels() {
    let one = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.2.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\nFLANNEL_NEW=1\n";
    let lease = Lease::parse(one).unwrap();
    assert_eq!(lease.subnets(), nets(&["10.244.2.1/24"]));
    assert!(!lease.masquerade());
    let v6 = "FLANNEL_IPV6_NETWORK=2001:cafe:42::/56\nFLANNEL_IPV6_SUBNET=2001:cafe:42:1::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n";
    assert_eq!(Lease::parse(v6).unwrap().networks(), nets(&["2001:cafe:42::/56"]));
    let several = one.replace("10.244.0.0/16", "10.5.0.0/16,10.244.0.0/16");
    assert_eq!(Lease::parse(&several).unwrap().networks(), nets(&["10.5.0.0/16", "10.244.0.0/16"]));
    // an agent may leave a file for both; then ours counts, even where flannel's would be wrong
    let lease = Lease::parse(&format!("FLANNEL_MTU=x\n{one}{BOTH}")).unwrap();
    assert_eq!(lease, Lease::parse(BOTH).unwrap());
}

#[test]
fn what_people_write() {
    let text = "# mine\n\nexport HEDDLE_NETWORK=\"10.244.0.0/16\"   # all\nHEDDLE_SUBNET='10.244.1.0/24'\r\nPATH=$PATH:/x\n\
        \tHEDDLE_MTU=1450\nHEDDLE_IPMASQ=true";
    let lease = Lease::parse(text).unwrap();
    // the range stands for its first address
    assert_eq!(lease.subnets(), nets(&["10.244.1.1/24"]));
    let odd = text.replace("10.244.0.0/16", "10.244.7.7/16").replace("1.0/24", "1.9/24");
    let lease = Lease::parse(&odd).unwrap();
    assert_eq!(
        (lease.networks(), lease.subnets()),
        (&*nets(&["10.244.0.0/16"]), &*nets(&["10.244.1.9/24"]))
    );
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let wrong = "HEDDLE_NETWORK=10.244.0.0\nHEDDLE_SUBNET=fd00::/64\nHEDDLE_MTU='14\nHEDDLE_IPMASQ=yes\nHEDDLE_MTUU=1\nHEDDLE_MTU=1400\n";
    assert_eq!(
        mistakes(wrong),
        [
            "line 1: HEDDLE_NETWORK: \"10.244.0.0\" is no address with a prefix length, such as 10.244.1.1/24",
            "line 2: HEDDLE_SUBNET: fd00::/64 is not of IPv4; write an address such as 10.244.1.1/24",
            "line 3: HEDDLE_MTU: a quote is not closed; close it in the same line",
            "line 4: HEDDLE_IPMASQ: \"yes\" is neither true nor false",
            "line 5: HEDDLE_MTUU: no such key; the keys are: HEDDLE_NETWORK, HEDDLE_SUBNET, HEDDLE_IPV6_NETWORK, HEDDLE_IPV6_SUBNET, HEDDLE_MTU, HEDDLE_IPMASQ",
            "line 6: HEDDLE_MTU: is there twice, first in line 3; leave one",
        ]
    );
}

#[test]
fn one_wrong_value() {
    for (from, to, told) in [
        ("HEDDLE_MTU=1450\n", "", "HEDDLE_MTU: is missing"),
        ("HEDDLE_IPMASQ=true\n", "", "HEDDLE_IPMASQ: is missing"),
        ("HEDDLE_NETWORK=10.244.0.0/16\n", "", "HEDDLE_NETWORK: is missing"),
        ("HEDDLE_SUBNET=10.244.1.1/24\n", "", "HEDDLE_SUBNET: is missing"),
        ("HEDDLE_IPV6_SUBNET=fd00:244:0:1::1/64\n", "", "HEDDLE_IPV6_SUBNET: is missing"),
        (
            "MTU=1450",
            "MTU=1279",
            "line 5: HEDDLE_MTU: 1279 is not between 1280 and 65535, as an MTU with IPv6 is",
        ),
        ("MTU=1450", "MTU=65536", "line 5: HEDDLE_MTU: 65536 is not between"),
        ("MTU=1450", "MTU=-1", "line 5: HEDDLE_MTU: \"-1\" is not a number"),
        ("MTU=1450", "MTU=", "line 5: HEDDLE_MTU: \"\" is not a number"),
        (
            "10.244.1.1/24",
            "10.245.1.1/24",
            "line 2: HEDDLE_SUBNET: 10.245.1.1/24 is not inside the pods' network 10.244.0.0/16",
        ),
        ("10.244.1.1/24", "10.244.0.1/15", "is not inside"),
        ("10.244.1.1/24", "10.244.1.1/31", "has no room for pods; take at most /30"),
        ("10.244.1.1/24", "10.244.1.255/24", "the broadcast address cannot be the gateway's"),
        ("fd00:244:0:1::1/64", "fd00:244:0:1::1/127", "has no room for pods; take at most /126"),
        ("10.244.0.0/16", "0.0.0.0/0", "line 1: HEDDLE_NETWORK: 0.0.0.0/0 is everything"),
        ("10.244.0.0/16", "127.0.0.0/8", "127.0.0.0/8 is the loopback's"),
        ("10.244.0.0/16", "224.0.0.0/8", "is for multicast"),
        ("10.244.0.0/16", "169.254.0.0/16", "is for links"),
        ("fd00:244::/48", "fe80::/48", "is for links"),
        ("10.244.0.0/16", "10.244.0.0/16,", "\"\" is no address"),
        ("10.244.0.0/16", "$NET", "not expanded"),
    ] {
        assert!(BOTH.contains(from), "{from}");
        let found = mistakes(&BOTH.replacen(from, to, 1)).join("\n");
        assert!(found.contains(told), "{from:?} -> {to:?}: {found}");
    }
    // what follows from a value that cannot be read is not told as well
    assert_eq!(mistakes(&BOTH.replacen("10.244.0.0/16", "x", 1)).len(), 1);
    assert_eq!(mistakes("nothing\n").len(), 3);
}

#[test]
fn made_by_hand_it_is_checked_the_same() {
    let made = |networks: &[&str], subnets: &[&str], mtu| {
        Lease::new(nets(networks), nets(subnets), mtu, true)
    };
    let lease =
        made(&["fd00:244::/48", "10.244.0.0/16"], &["fd00:244:0:1::/64", "10.244.1.0/24"], 1450);
    assert_eq!(lease.unwrap(), Lease::parse(BOTH).unwrap());
    let wrong = made(&["10.244.0.0/16"], &["10.244.1.0/24", "10.244.2.0/24"], 1450).unwrap_err();
    assert_eq!(wrong.to_string(), "HEDDLE_SUBNET: 2 subnets of one family; a node has one");
    assert!(made(&[], &[], 1450).unwrap_err().to_string().contains("HEDDLE_NETWORK: is missing"));
}

#[test]
fn files_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/heddle/subnet.env");
    assert!(matches!(Lease::read(&path), Err(LeaseError::Missing(_))));
    let lease = Lease::parse(BOTH).unwrap();
    lease.write(&path).unwrap();
    assert_eq!(Lease::read(&path).unwrap(), lease);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    let other = Lease::new(nets(&["10.5.0.0/16"]), nets(&["10.5.1.0/24"]), 1500, false).unwrap();
    other.write(&path).unwrap();
    assert_eq!(Lease::read(&path).unwrap(), other);
    // nothing else is left
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_reader_sees_the_one_or_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("subnet.env");
    let leases = [1400, 1450].map(|mtu| {
        Lease::new(nets(&["10.244.0.0/16"]), nets(&["10.244.1.0/24"]), mtu, true).unwrap()
    });
    leases[0].write(&path).unwrap();
    std::thread::scope(|scope| {
        for lease in &leases {
            scope.spawn(|| (0..50).for_each(|_| lease.write(&path).unwrap()));
        }
        for _ in 0..200 {
            assert!(leases.contains(&Lease::read(&path).unwrap()));
        }
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("subnet.env");
    let told = |path: &Path| {
        let error = Lease::read(path).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}")
    };
    assert!(told(folder.path()).contains("it is no regular file"));
    fs::write(&path, "\n").unwrap();
    assert!(told(&path).contains("subnet.env: is empty"), "{}", told(&path));
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(told(&path).contains("UTF-8"), "{}", told(&path));
    fs::write(&path, "#".repeat(70_000)).unwrap();
    assert!(told(&path).contains("more than 65536 bytes"), "{}", told(&path));
    fs::write(&path, "HEDDLE_NETWORK=10.244.0.0/16\nHEDDLE_SUBNET=10.2").unwrap();
    let name = path.display();
    let expected = format!("{name}:2: HEDDLE_SUBNET: \"10.2\" is no address");
    assert!(told(&path).starts_with(&expected), "{}", told(&path));
    assert!(told(&path).contains(&format!("; {name}: HEDDLE_MTU is missing")), "{}", told(&path));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let lease = Lease::parse(BOTH).unwrap();
    let failed = lease.write(&path).unwrap_err().to_string();
    assert_eq!(failed, format!("cannot write {name}"));
    let below = Path::new("/proc/version/subnet.env");
    assert_eq!(lease.write(below).unwrap_err().to_string(), "cannot write /proc/version");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

fn v4() -> impl Strategy<Value = (IpNetwork, IpNetwork)> {
    (0x0100_0000_u32..0x7f00_0000, 1_u8..=24, 0_u8..=14, any::<u32>()).prop_filter_map(
        "a gateway",
        |(ip, prefix, more, within)| {
            let network = Ipv4Network::new(ip.into(), prefix).ok()?;
            let subnet = (prefix + more).clamp(prefix, 30);
            let host = u32::from(network.network()) | (within & !u32::from(network.mask()));
            let subnet = Ipv4Network::new(host.into(), subnet).ok()?;
            let usable = subnet.ip() != subnet.network() && subnet.ip() != subnet.broadcast();
            let network = IpNetwork::from(Ipv4Network::new(network.network(), prefix).ok()?);
            (usable && unusable(network).is_none()).then(|| (network, subnet.into()))
        },
    )
}

fn v6() -> impl Strategy<Value = (IpNetwork, IpNetwork)> {
    (any::<u64>(), 8_u8..=64, 0_u8..=62, 1_u64..).prop_map(|(low, prefix, more, host)| {
        let ip = (0xfd_u128 << 120) | (u128::from(low) << 56) | u128::from(host);
        let network = Ipv6Network::new(ip.into(), prefix).unwrap();
        let subnet = Ipv6Network::new((ip | 1).into(), (prefix + more).min(126)).unwrap();
        (masked(network.into()), subnet.into())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_is_written_comes_back(one in proptest::option::of(v4()), other in proptest::option::of(v6()), mtu in 1280_u32..=65535, masquerade: bool) {
        let families: Vec<_> = one.into_iter().chain(other).collect();
        prop_assume!(!families.is_empty());
        let (networks, subnets): (Vec<_>, Vec<_>) = families.into_iter().unzip();
        let lease = Lease::new(networks.clone(), subnets.clone(), mtu, masquerade).unwrap();
        prop_assert_eq!(lease.networks(), networks);
        prop_assert_eq!(lease.subnets(), subnets);
        prop_assert_eq!(&Lease::parse(&lease.render()).unwrap(), &lease);
        prop_assert_eq!(Lease::parse(&lease.render().replace("HEDDLE_", "FLANNEL_")).unwrap(), lease);
    }

    #[test]
    fn nothing_makes_it_panic(text in "(HEDDLE_(NETWORK|SUBNET|IPV6_NETWORK|IPV6_SUBNET|MTU|IPMASQ)=[0-9a-f:./,'\"\\\\ #$]{0,24}\n|\\PC{0,20}\n){0,8}") {
        if let Ok(lease) = Lease::parse(&text) {
            prop_assert_eq!(Lease::parse(&lease.render()).unwrap(), lease);
        }
    }
}
