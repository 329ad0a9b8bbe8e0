//! What may be given out, and in which order.
//!
//! Kubernetes documentation, "Service ClusterIP allocation" and "Avoiding collisions in assigning ports to NodePort Services": the lower
//! part of a range is for who chooses himself; what is given out comes from above it as long as there is something.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use super::{AllocateError, Family};

/// The ranges of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Of cluster addresses; the family of the first is the cluster's default.
    pub services: Vec<IpNetwork>,
    /// Of node ports.
    pub node_ports: RangeInclusive<u16>,
}

/// Numbers that nobody needs to guess: they keep servers that plan at the same time from choosing the same (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From any number, such as `rand::random()`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: u128) -> u128 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(word ^ (word >> 31)) % bound.max(1)
    }
}

impl Ranges {
    /// Checks ranges: at least one, none so small that nothing can be given out, none that overlaps with a range of pods.
    pub fn check(&self, pods: &[IpNetwork]) -> Result<(), AllocateError> {
        for service in &self.services {
            if size(*service) < 4 {
                return Err(AllocateError::Range(*service, "it holds fewer than four addresses"));
            }
            if let Some(pod) = pods.iter().find(|pod| overlap(**pod, *service)) {
                return Err(AllocateError::Overlap { service: *service, pod: *pod });
            }
        }
        Ok(())
    }

    /// The families that the cluster has, the default one first.
    pub fn families(&self) -> Vec<Family> {
        let mut families = Vec::new();
        for network in &self.services {
            let family = Family::of(network.network());
            if !families.contains(&family) {
                families.push(family);
            }
        }
        families
    }

    /// The address of `default/kubernetes`: the first one of each family.
    pub fn first_addresses(&self) -> Vec<IpAddr> {
        let of = |family| self.of(family).next().map(|network| nth(network, 1));
        self.families().into_iter().filter_map(of).collect()
    }

    /// Whether an address may be a Service's.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.services.iter().any(|network| {
            network.contains(address) && usable(*network).contains(&offset(*network, address))
        })
    }

    /// An address of a family that is not taken; `None` when all are.
    pub fn free_address(
        &self,
        family: Family,
        dice: &mut Dice,
        taken: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        self.of(family).find_map(|network| {
            let free = |at: u128| !taken(nth(network, at));
            let band = band(size(network), 16, 256);
            free_in(usable(network), band, dice, free).map(|at| nth(network, at))
        })
    }

    /// A node port that is not taken; `None` when all are.
    pub fn free_port(&self, dice: &mut Dice, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let (first, last) =
            (u128::from(*self.node_ports.start()), u128::from(*self.node_ports.end()));
        let port = |at: u128| u16::try_from(at).unwrap_or(u16::MAX);
        let band = band((last + 1).saturating_sub(first), 32, 128);
        free_in(first..=last, band, dice, |at| !taken(port(at))).map(port)
    }

    fn of(&self, family: Family) -> impl Iterator<Item = IpNetwork> {
        let networks = self.services.iter().copied();
        networks.filter(move |network| Family::of(network.network()) == family)
    }
}

/// How much of the lower end is not given out at first: 16 at least, `most` at most, in between one in `step`; nothing of a range of 16 or fewer.
fn band(size: u128, step: u128, most: u128) -> u128 {
    if size <= 16 { 0 } else { (size / step).clamp(16, most) }
}

/// Walks from a random place of the upper part through it, then through the lower part. Each step is a look-up, and there are at most
/// as many steps as there are taken numbers, and one.
fn free_in(
    all: RangeInclusive<u128>,
    band: u128,
    dice: &mut Dice,
    free: impl Fn(u128) -> bool,
) -> Option<u128> {
    let (first, last) = (*all.start(), *all.end());
    let upper = first.saturating_add(band).min(last);
    let start = upper + dice.below(last.saturating_sub(upper).saturating_add(1));
    let parts = [start..=last, upper..=start.saturating_sub(1), first..=upper.saturating_sub(1)];
    parts.into_iter().flatten().find(|at| free(*at))
}

/// How many addresses a network has.
fn size(network: IpNetwork) -> u128 {
    let bits = if network.is_ipv4() { 32 } else { 128 };
    1_u128.checked_shl(bits - u32::from(network.prefix())).unwrap_or(u128::MAX)
}

/// Which offsets are Services': not the network's own address, nor an IPv4 network's broadcast address.
fn usable(network: IpNetwork) -> RangeInclusive<u128> {
    let size = size(network);
    1..=if network.is_ipv4() { size.saturating_sub(2) } else { size - 1 }
}

fn nth(network: IpNetwork, at: u128) -> IpAddr {
    match network.network() {
        IpAddr::V4(base) => {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            IpAddr::V4(Ipv4Addr::from_bits(base.to_bits().saturating_add(at)))
        }
        IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from_bits(base.to_bits().saturating_add(at))),
    }
}

fn offset(network: IpNetwork, address: IpAddr) -> u128 {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    number(address).saturating_sub(number(network.network()))
}

fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ranges(services: &[&str]) -> Ranges {
        let services = services.iter().map(|text| text.parse().unwrap()).collect();
        Ranges { services, node_ports: 30_000..=32_767 }
    }

    #[test]
    fn bands_are_those_of_the_documentation() {
        let addresses = |prefix: u32| band(1 << (32 - prefix), 16, 256);
        assert_eq!((addresses(24), addresses(20), addresses(16)), (16, 256, 256));
        assert_eq!((addresses(23), addresses(28), addresses(12)), (32, 0, 256));
        assert_eq!(band(2768, 32, 128), 86);
        assert_eq!(band(16, 32, 128), 0);
    }

    /// The first address that is given out comes from above the band; when that is full, from the band; then there is none.
    #[test]
    fn the_upper_part_is_given_out_first_and_then_the_rest() {
        for (network, lower, count) in
            [("10.0.0.0/24", 16, 254), ("10.0.0.0/28", 0, 14), ("fd00::/120", 16, 255)]
        {
            let ranges = ranges(&[network]);
            let family = ranges.families()[0];
            let base = ranges.services[0];
            let (mut taken, mut dice) = (BTreeSet::new(), Dice::new(7));
            while let Some(address) =
                ranges.free_address(family, &mut dice, |one| taken.contains(&one))
            {
                let at = offset(base, address);
                let upper_count = count - lower;
                assert_eq!(
                    at <= lower,
                    taken.len() >= usize::try_from(upper_count).unwrap(),
                    "{address}"
                );
                assert!(ranges.holds(address) && taken.insert(address));
            }
            assert_eq!(taken.len(), usize::try_from(count).unwrap(), "{network}");
        }
        let ports = ranges(&["10.0.0.0/24"]);
        let (mut taken, mut dice) = (BTreeSet::new(), Dice::new(9));
        while let Some(port) = ports.free_port(&mut dice, |one| taken.contains(&one)) {
            assert_eq!(port < 30_086, taken.len() >= 2768 - 86, "{port}");
            assert!(taken.insert(port));
        }
        assert_eq!(taken.len(), 2768);
    }

    #[test]
    fn what_is_no_services_address() {
        let ranges = ranges(&["10.96.0.0/12", "fd00::/108"]);
        for (address, expected) in [
            ("10.96.0.0", false),
            ("10.96.0.1", true),
            ("10.111.255.254", true),
            ("10.111.255.255", false),
            ("10.112.0.1", false),
            ("fd00::", false),
            ("fd00::1", true),
            ("fd00::f:ffff", true),
            ("fd00::10:0", false),
        ] {
            assert_eq!(ranges.holds(address.parse().unwrap()), expected, "{address}");
        }
        let first: Vec<_> = ranges.first_addresses().iter().map(ToString::to_string).collect();
        assert_eq!(first, ["10.96.0.1", "fd00::1"]);
    }

    #[test]
    fn a_huge_or_second_range_is_no_trouble() {
        let huge = ranges(&["::/0"]);
        let mut dice = Dice::new(1);
        assert!(huge.free_address(Family::V6, &mut dice, |_| false).is_some());
        let two = ranges(&["10.0.0.0/30", "10.1.0.0/30"]);
        let mut taken = BTreeSet::new();
        while let Some(address) =
            two.free_address(Family::V4, &mut dice, |one| taken.contains(&one))
        {
            taken.insert(address);
        }
        let texts: Vec<_> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.1", "10.0.0.2", "10.1.0.1", "10.1.0.2"]);
    }

    #[test]
    fn services_and_pods_have_ranges_of_their_own() {
        let pods = |text: &str| [text.parse().unwrap()];
        let ranges = ranges(&["10.96.0.0/12", "fd00::/108"]);
        assert_eq!(ranges.check(&pods("10.244.0.0/16")), Ok(()));
        for pod in ["10.100.0.0/16", "10.0.0.0/8", "fd00::/64"] {
            let refused = ranges.check(&pods(pod)).unwrap_err().to_string();
            assert!(refused.contains(pod) && refused.contains("overlap"), "{refused}");
        }
        let tiny = Ranges { services: vec!["10.0.0.0/31".parse().unwrap()], ..ranges };
        assert!(tiny.check(&[]).is_err());
    }
}
