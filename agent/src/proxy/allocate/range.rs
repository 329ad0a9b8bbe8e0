//! Ranges to allocate from. Pure.
//!
//! Kubernetes' rule keeps the lower band of each range for what people choose: allocation begins above it and goes into it only when
//! the rest is used up. Where it begins is a digest of the service's name, so that a service gets the same again even if the
//! file is lost.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};

/// Addresses of larger ranges than this are not all used.
const MOST: u64 = 1 << 32;

/// Whether a service may have an address of a range: not the network's own, nor IPv4's broadcast address.
pub fn is_usable(range: IpNetwork, ip: IpAddr) -> bool {
    range.contains(ip) && ip != range.network() && !(ip.is_ipv4() && ip == range.broadcast())
}

/// Every usable address of a range once, in the order in which the service of that name should try them.
pub fn addresses(range: IpNetwork, name: &str) -> impl Iterator<Item = IpAddr> + use<> {
    let bits = if range.is_ipv4() { 32 } else { 128 } - u32::from(range.prefix());
    let size = 1_u64.checked_shl(bits).unwrap_or(MOST).min(MOST);
    let hosts = size.saturating_sub(if range.is_ipv4() { 2 } else { 1 });
    // the band that people choose from (KEP-3070)
    let band = (hosts / 16).clamp(16, 256).min(hosts);
    let network = range.network();
    candidates(name, hosts, band).filter_map(move |offset| after(network, offset + 1))
}

/// The address that comes so many after another.
fn after(ip: IpAddr, offset: u64) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => {
            let number = u32::from(ip).checked_add(u32::try_from(offset).ok()?)?;
            Some(Ipv4Addr::from(number).into())
        }
        IpAddr::V6(ip) => Some(Ipv6Addr::from(u128::from(ip).checked_add(offset.into())?).into()),
    }
}

/// Every port of a range once, in the order in which the service port of that name should try them.
pub fn ports(first: u16, last: u16, name: &str) -> impl Iterator<Item = u16> + use<> {
    let size = u64::from(last - first) + 1;
    // the band that people choose from (KEP-3668)
    let band = (size / 32).clamp(16, 128).min(size);
    candidates(name, size, band)
        .filter_map(move |offset| first.checked_add(u16::try_from(offset).ok()?))
}

/// Every offset of a range once: from a point above the band that depends on the name, around, then the band.
fn candidates(name: &str, size: u64, band: u64) -> impl Iterator<Item = u64> + use<> {
    let digest = Sha256::digest(name);
    let seed = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let upper = size - band;
    let above = (0..upper).map(move |step| band + (seed % upper.max(1) + step) % upper.max(1));
    above.chain(0..band)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_usable_address_is_tried_once() {
        for (range, count) in [("10.0.0.0/27", 30), ("fd00::/123", 31), ("10.0.0.1/32", 0)] {
            let range: IpNetwork = range.parse().unwrap();
            let all: Vec<_> = addresses(range, "default/web").collect();
            assert!(all.iter().all(|ip| is_usable(range, *ip)), "{range}");
            assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (count, count));
        }
    }

    #[test]
    fn huge_ranges_are_no_trouble() {
        for range in ["fd00::/8", "::/0", "fd00::/64"] {
            let range: IpNetwork = range.parse().unwrap();
            let first = addresses(range, "default/web").next().unwrap();
            assert!(is_usable(range, first), "{first}");
        }
    }
}
