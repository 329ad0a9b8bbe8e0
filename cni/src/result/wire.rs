//! How the parts of a result are read. The reference is a Go program, and so are most plugins: JSON `null` or an empty string
//! stands for an absent value, and a prefix is needed where a prefix is meant.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::de::{Deserialize, Deserializer, Error};

/// An address with its prefix length. `10.0.0.1` alone is refused, as the reference does: a forgotten prefix is a mistake, not a
/// network of one.
pub(super) fn cidr<'de, D: Deserializer<'de>>(from: D) -> Result<IpNetwork, D::Error> {
    let text = String::deserialize(from)?;
    parse_cidr(&text).ok_or_else(|| D::Error::custom(format!("invalid CIDR address: {text:?}")))
}

fn parse_cidr(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.split_once('/')?;
    if !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    IpNetwork::new(address.parse().ok()?, length.parse().ok()?).ok()
}

/// An address that may be absent, `null` or empty.
pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty());
    let parse = |text: String| {
        text.parse().map_err(|_| D::Error::custom(format!("invalid IP address: {text:?}")))
    };
    text.map(parse).transpose()
}

/// An index that may be absent. Plugins written for 0.3.0 say -1 for none.
pub(super) fn index<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    match Option::<i64>::deserialize(from)? {
        None | Some(i64::MIN..0) => Ok(None),
        Some(index) => usize::try_from(index).map(Some).map_err(D::Error::custom),
    }
}

/// Anything with a default that may be `null`.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
