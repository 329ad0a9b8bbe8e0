//! Addresses and networks: `ip("10.0.0.1")`, `cidr("10.0.0.0/8")`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::budget::{Budget, Fault};
use super::super::value::{Result, Val};
use super::{Answer, convert};

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], _: &Budget) -> Answer<'a> {
    match (name, args) {
        ("ip", [Val::String(text)]) => Some(address(text).map(Val::Ip)),
        ("isIP", [Val::String(text)]) => Some(Ok(Val::Bool(address(text).is_ok()))),
        ("ip.isCanonical", [Val::String(text)]) => {
            Some(address(text).map(|address| Val::Bool(address.to_string() == **text)))
        }
        ("cidr", [Val::String(text)]) => {
            Some(network(text).map(|(address, length)| Val::Cidr(address, length)))
        }
        ("isCIDR", [Val::String(text)]) => Some(Ok(Val::Bool(network(text).is_ok()))),
        (_, [Val::Ip(address)]) => of_address(name, *address).map(Ok),
        (_, [Val::Cidr(address, length), rest @ ..]) => of_network(name, *address, *length, rest),
        _ => None,
    }
}

/// Reads an address; one of IPv4 that is written as IPv6, and one with a zone, are none.
fn address(text: &str) -> Result<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Fault::error(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        Ok(address) => Ok(address),
        Err(error) => {
            let text = convert::short(text);
            Fault::error(format!(
                "IP Address {text:?} parse error during conversion from string: {error}"
            ))
        }
    }
}

fn network(text: &str) -> Result<(IpAddr, u8)> {
    let wrong = || {
        let text = convert::short(text);
        Fault::Error(format!("network address parse error during conversion from string: {text:?}"))
    };
    let (base, length) = text.split_once('/').ok_or_else(wrong)?;
    let base = address(base)?;
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (length.len() > 1 && length.starts_with('0')) {
        return Err(wrong());
    }
    let length = length.parse().ok().filter(|length| *length <= width(base)).ok_or_else(wrong)?;
    Ok((base, length))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address without what is behind the prefix.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or_default();
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or_default();
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

fn of_address<'a>(name: &str, address: IpAddr) -> Option<Val<'a>> {
    Some(match name {
        "family" => Val::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Val::Bool(address.is_unspecified()),
        "isLoopback" => Val::Bool(address.is_loopback()),
        "isLinkLocalMulticast" => Val::Bool(match address {
            IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
            IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
        }),
        "isLinkLocalUnicast" => Val::Bool(link_local(address)),
        "isGlobalUnicast" => Val::Bool(
            !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && !link_local(address)
                && address != IpAddr::V4(Ipv4Addr::BROADCAST),
        ),
        _ => return None,
    })
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn of_network<'a>(name: &str, base: IpAddr, length: u8, rest: &[Val<'a>]) -> Answer<'a> {
    let within = |other: IpAddr, least: u8| {
        let same = base.is_ipv4() == other.is_ipv4() && least >= length;
        Val::Bool(same && masked(other, length) == masked(base, length))
    };
    Some(Ok(match (name, rest) {
        ("ip", []) => Val::Ip(base),
        ("masked", []) => Val::Cidr(masked(base, length), length),
        ("prefixLength", []) => Val::Int(i64::from(length)),
        ("containsIP", [Val::Ip(other)]) => within(*other, width(*other)),
        ("containsIP", [Val::String(text)]) => {
            return Some(address(text).map(|other| within(other, width(other))));
        }
        ("containsCIDR", [Val::Cidr(other, least)]) => within(*other, *least),
        ("containsCIDR", [Val::String(text)]) => {
            return Some(network(text).map(|(other, least)| within(other, least)));
        }
        _ => return None,
    }))
}
