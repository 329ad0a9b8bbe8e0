//! What a configuration may say to `host-local`.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;

use cni::plugin::Call;
use cni::{Error, ErrorCode, PluginConf, Route, Version};
use ipam::{DEFAULT_DATA_DIR, RangeConf, RangeSet, range_sets};
use serde_json::{Map, Value};

use crate::asked;

/// Where the leases of a network are: all that DEL and GC need, so that they work with a
/// configuration whose ranges are wrong by now.
#[derive(Debug)]
pub struct Place {
    /// The network's name.
    pub network: String,
    /// The directory of the networks.
    pub data_dir: PathBuf,
}

/// A checked configuration.
#[derive(Debug)]
pub struct Conf {
    /// Where the leases are.
    pub place: Place,
    /// What to hand out addresses from; one of each set.
    pub sets: Vec<RangeSet>,
    /// Addresses that were asked for.
    pub requested: Vec<IpAddr>,
    /// Routes for the result.
    pub routes: Vec<Route>,
    /// The file with the name servers for the result.
    pub name_servers: Option<PathBuf>,
}

impl Place {
    /// Reads the place only.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let keys = &call.conf;
        if keys.get::<Map<String, Value>>("ipam")?.is_none() {
            let msg = "IPAM config missing 'ipam' key";
            return Err(Error::new(ErrorCode::InvalidConfig, msg));
        }
        let data_dir = keys.text("ipam.dataDir")?;
        let data_dir = data_dir.map_or_else(|| DEFAULT_DATA_DIR.into(), PathBuf::from);
        Ok(Self { network: call.conf.name.clone(), data_dir })
    }
}

impl Conf {
    /// Reads and checks everything.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        asked::refuse_unknown_args(call)?;
        let keys = &call.conf;
        Ok(Self {
            place: Place::parse(call)?,
            sets: sets(keys, call.conf.cni_version)?,
            requested: requested(keys, call.args.get("IP"))?,
            routes: routes(keys)?,
            name_servers: keys.text("ipam.resolvConf")?.map(PathBuf::from),
        })
    }
}

/// The order decides which address of the result is which: the runtime's ranges, the single one, the list.
fn sets(keys: &PluginConf, version: Version) -> Result<Vec<RangeSet>, Error> {
    let mut ranges: Vec<Vec<RangeConf>> = keys.get("runtimeConfig.ipRanges")?.unwrap_or_default();
    if let Some(subnet) = keys.text("ipam.subnet")? {
        ranges.push(vec![RangeConf {
            subnet,
            range_start: keys.text("ipam.rangeStart")?.unwrap_or_default(),
            range_end: keys.text("ipam.rangeEnd")?.unwrap_or_default(),
            gateway: keys.text("ipam.gateway")?.unwrap_or_default(),
        }]);
    }
    ranges.extend(keys.get::<Vec<Vec<RangeConf>>>("ipam.ranges")?.unwrap_or_default());
    let sets = range_sets(&ranges);
    let sets = sets.map_err(|error| Error::from_source(ErrorCode::InvalidConfig, &error))?;
    check_families(&sets, version)?;
    Ok(sets)
}

/// Every request counts, wherever it comes from.
fn requested(keys: &PluginConf, from_args: Option<&str>) -> Result<Vec<IpAddr>, Error> {
    let list = |path| keys.get::<Vec<String>>(path).map(Option::unwrap_or_default);
    let mut texts: Vec<String> = from_args.into_iter().map(str::to_owned).collect();
    texts.extend(list("args.cni.ips")?);
    texts.extend(list("runtimeConfig.ips")?);
    let given = texts.iter().filter(|text| !text.is_empty());
    given.map(|text| requested_address(text)).collect()
}

/// Routes are written as they are in a result of the latest version.
fn routes(keys: &PluginConf) -> Result<Vec<Route>, Error> {
    Ok(keys.get("ipam.routes")?.unwrap_or_default())
}

/// The results of the first versions have room for one address of each family.
fn check_families(sets: &[RangeSet], version: Version) -> Result<(), Error> {
    let v4 = sets.iter().filter(|set| set.is_ipv4()).count();
    if version >= Version::V0_3_0 || (v4 <= 1 && sets.len() - v4 <= 1) {
        return Ok(());
    }
    let msg =
        format!("CNI version {} does not support more than 1 address per family", version.as_str());
    Err(Error::new(ErrorCode::InvalidConfig, msg))
}

/// An address, alone or with a prefix length, which does not count.
fn requested_address(text: &str) -> Result<IpAddr, Error> {
    let address = match text.split_once('/') {
        Some((address, prefix)) if prefix.parse::<u8>().is_ok_and(|bits| bits <= 128) => address,
        _ => text,
    };
    address.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| {
        let msg = format!("requested IP {text:?} is not an IP address");
        Error::new(ErrorCode::InvalidConfig, msg)
            .with_details("requests come from CNI_ARGS IP, args.cni.ips and runtimeConfig.ips")
    })
}
