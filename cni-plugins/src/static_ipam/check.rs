//! CHECK of `static`: what ADD said, and what the chain says now.

#[cfg(test)]
mod tests;

use cni::{CniResult, Error, ErrorCode};

use super::conf::Conf;
use crate::code;

/// Compares everything that ADD promised with the result of the chain.
///
/// The reference compares only the gateways of the addresses that it finds: one that is missing goes unnoticed.
pub fn check(conf: &Conf, previous: Option<&CniResult>, ifname: &str) -> Result<(), Error> {
    let previous = previous.ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "Required prevResult missing")
            .with_details("CHECK compares with what ADD answered: the runtime must pass it on")
    })?;
    let found = differences(conf, previous);
    let Some((first, others)) = found.split_first() else { return Ok(()) };
    let msg = format!("static: Failed to match addr {} on interface {ifname}", first.0);
    let told = std::iter::once(first).chain(others).map(|(_, difference)| difference.as_str());
    Err(Error::new(code::DRIFT, msg).with_details(told.collect::<Vec<_>>().join("; ")))
}

/// Each with the address or the network that it is about.
fn differences(conf: &Conf, previous: &CniResult) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for wanted in &conf.ips {
        let ip = wanted.address.ip();
        let difference = match previous.ips.iter().find(|other| other.address.ip() == ip) {
            None => format!("prevResult has no address {}", wanted.address),
            Some(other) if other.address != wanted.address => {
                format!("prevResult has {} instead of {}", other.address, wanted.address)
            }
            Some(other) if wanted.gateway.is_some() && other.gateway != wanted.gateway => format!(
                "the gateway of {} is {} in prevResult instead of {}",
                wanted.address,
                other.gateway.map_or("none".to_owned(), |gateway| gateway.to_string()),
                wanted.gateway.map_or(String::new(), |gateway| gateway.to_string()),
            ),
            Some(_) => continue,
        };
        found.push((ip.to_string(), difference));
    }
    for wanted in &conf.routes {
        let same = |other: &&cni::Route| {
            other.dst == wanted.dst && (wanted.gw.is_none() || other.gw == wanted.gw)
        };
        if previous.routes.iter().find(same).is_none() {
            let via = wanted.gw.map_or(String::new(), |gw| format!(" via {gw}"));
            let difference = format!("prevResult has no route {}{via}", wanted.dst);
            found.push((wanted.dst.to_string(), difference));
        }
    }
    found
}
