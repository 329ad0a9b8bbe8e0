//! Ranges of addresses, joined so that none overlaps another: a set of the kernel takes no ranges that do.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;

/// The first and the last address.
pub type Range = (IpAddr, IpAddr);

/// The ranges of a family in order; those that overlap or touch are one.
pub fn joined(networks: impl IntoIterator<Item = IpNetwork>, family: Family) -> BTreeSet<Range> {
    let networks = networks.into_iter().filter(|network| family.has(network.ip()));
    let mut all: Vec<(u128, u128)> = networks.map(bounds).collect();
    all.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    let address = |number| address(number, family);
    joined.into_iter().map(|(first, last)| (address(first), address(last))).collect()
}

/// The fewest networks that hold the same addresses of a family, in order.
pub fn covering(networks: impl IntoIterator<Item = IpNetwork>, family: Family) -> Vec<IpNetwork> {
    joined(networks, family).into_iter().flat_map(|range| cidrs(range, family)).collect()
}

fn cidrs((first, last): Range, family: Family) -> Vec<IpNetwork> {
    let bits = match family {
        Family::V4 => 32,
        Family::V6 => u128::BITS,
    };
    let (mut next, last) = (number(first), number(last));
    let mut all = Vec::new();
    loop {
        // the largest one that begins here and is over in time
        let largest = next.trailing_zeros().min(bits);
        let fits = |host: &u32| end_of(next, *host) <= last;
        let host = (0..=largest).rev().find(fits).unwrap_or(0);
        let prefix = u8::try_from(bits - host).unwrap_or(0);
        all.extend(IpNetwork::new(address(next, family), prefix));
        match end_of(next, host) {
            end if end < last => next = end + 1,
            _ => return all,
        }
    }
}

fn end_of(first: u128, host_bits: u32) -> u128 {
    first | 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn bounds(network: IpNetwork) -> (u128, u128) {
    match network {
        IpNetwork::V4(v4) => (u32::from(v4.network()).into(), u32::from(v4.broadcast()).into()),
        IpNetwork::V6(v6) => (v6.network().into(), v6.broadcast().into()),
    }
}

fn address(number: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(text: &str) -> Vec<IpNetwork> {
        text.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    fn shown(ranges: &BTreeSet<Range>) -> String {
        let all: Vec<_> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        all.join(" ")
    }

    #[test]
    fn ranges_that_overlap_or_touch_are_one() {
        let table = [
            ("", "", ""),
            ("10.244.1.1/24", "10.244.1.0-10.244.1.255", "10.244.1.0/24"),
            ("10.244.0.0/16 10.244.7.0/24 fd00::/64", "10.244.0.0-10.244.255.255", "10.244.0.0/16"),
            (
                "10.0.1.0/24 10.0.0.0/24 10.0.3.0/24",
                "10.0.0.0-10.0.1.255 10.0.3.0-10.0.3.255",
                "10.0.0.0/23 10.0.3.0/24",
            ),
            (
                "10.0.0.128/25 10.0.1.0/24 10.0.2.0/24",
                "10.0.0.128-10.0.2.255",
                "10.0.0.128/25 10.0.1.0/24 10.0.2.0/24",
            ),
            ("0.0.0.0/0 10.0.0.0/8", "0.0.0.0-255.255.255.255", "0.0.0.0/0"),
            (
                "255.255.255.255/32 10.0.0.1/32",
                "10.0.0.1-10.0.0.1 255.255.255.255-255.255.255.255",
                "10.0.0.1/32 255.255.255.255/32",
            ),
        ];
        for (input, want, cidrs) in table {
            assert_eq!(shown(&joined(networks(input), Family::V4)), want, "{input}");
            assert_eq!(covering(networks(input), Family::V4), networks(cidrs), "{input}");
        }
        let v6 = "fd00:0:0:1::/64 10.0.0.0/8 fd00::/64 ::/0";
        assert_eq!(
            shown(&joined(networks(v6), Family::V6)),
            "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        );
        assert_eq!(covering(networks(v6), Family::V6), networks("::/0"));
    }

    proptest! {
        /// An address is in a range if and only if it is in a network, and no two ranges touch.
        #[test]
        fn nothing_is_lost_or_added(
            parts in proptest::collection::vec((0_u32..512, 23_u8..=32), 0..12), probe in 0_u32..600,
        ) {
            let at = |offset| Ipv4Addr::from(0x0a00_0000 + offset);
            let all: Vec<IpNetwork> =
                parts.iter().map(|(offset, prefix)| IpNetwork::new(at(*offset).into(), *prefix).unwrap()).collect();
            let probe = IpAddr::V4(at(probe));
            let want = all.iter().any(|network| network.contains(probe));
            let ranges = joined(all.clone(), Family::V4);
            prop_assert_eq!(ranges.iter().any(|(first, last)| (*first..=*last).contains(&probe)), want);
            prop_assert_eq!(covering(all, Family::V4).iter().any(|network| network.contains(probe)), want);
            let number = |ip: &IpAddr| match ip { IpAddr::V4(v4) => u64::from(u32::from(*v4)), IpAddr::V6(_) => 0 };
            for ((_, last), (first, _)) in ranges.iter().zip(ranges.iter().skip(1)) {
                prop_assert!(number(last) + 1 < number(first));
            }
        }
    }
}
