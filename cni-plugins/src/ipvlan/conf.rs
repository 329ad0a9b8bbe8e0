//! What a configuration may say to `ipvlan`.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{CniResult, Command, Error};
use netns_tools::IpvlanMode;

use crate::sublink::{Addresses, Kind, Master, Sublink, invalid};

/// Reads and checks everything that can be checked without the master.
pub fn parse(call: &Call<'_>) -> Result<Sublink, Error> {
    let keys = &call.conf;
    let wanted = Sublink {
        kind: Kind::Ipvlan(mode(keys.text("mode")?)?),
        master: master(call)?,
        in_container: keys.is_on("linkInContainer")?,
        mtu: keys.get("mtu")?.unwrap_or(0),
        mac: None,
        addresses: addresses(keys.ipam_type.as_deref(), keys.prev_result.as_ref()),
    };
    if call.command == Command::Add && wanted.addresses == Addresses::None {
        let msg = "ipvlan requires an IPAM configuration, or a prevResult with IP addresses";
        return Err(invalid(msg).with_details("its interfaces differ by their IP addresses only"));
    }
    Ok(wanted)
}

fn mode(name: Option<String>) -> Result<IpvlanMode, Error> {
    match name.as_deref() {
        None | Some("l2") => Ok(IpvlanMode::L2),
        Some("l3") => Ok(IpvlanMode::L3),
        Some("l3s") => Ok(IpvlanMode::L3s),
        Some(other) => {
            Err(invalid(&format!("unknown ipvlan mode: {other:?}"))
                .with_details("it is l2, l3 or l3s"))
        }
    }
}

/// Without a name: the interface of the plugin before it in the chain, or the default route's if it is the first. Only ADD knows
/// which: CHECK's prevResult is its own, STATUS has none.
fn master(call: &Call<'_>) -> Result<Master, Error> {
    let keys = &call.conf;
    match (Master::parse(keys)?, call.command, &keys.prev_result) {
        (Master::DefaultRoute, Command::Add, Some(prev)) => chained(prev),
        (Master::DefaultRoute, Command::Add, None) => Ok(Master::DefaultRoute),
        (Master::DefaultRoute, ..) => Ok(Master::Chain),
        (named, ..) => Ok(named),
    }
}

fn chained(prev: &CniResult) -> Result<Master, Error> {
    match &prev.interfaces[..] {
        [only] if !only.name.is_empty() => Master::named(only.name.clone()),
        _ => Err(invalid("chained master failure. PrevResult lacks a single named interface")
            .with_details("name the interface as \"master\"")),
    }
}

/// The IPAM plugin, or without one the addresses of the plugin before it in the chain.
fn addresses(ipam: Option<&str>, prev: Option<&CniResult>) -> Addresses {
    match (ipam, prev) {
        (Some(ipam), _) => Addresses::Ipam(ipam.to_owned()),
        (None, Some(prev)) if !prev.ips.is_empty() => Addresses::Given(Box::new(prev.clone())),
        _ => Addresses::None,
    }
}
