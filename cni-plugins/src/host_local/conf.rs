//! What a configuration may say to `host-local`.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode, Route, Version};
use ipam::{DEFAULT_DATA_DIR, RangeConf, RangeSet, range_sets};
use serde::Deserialize;
use serde_json::{Value, json};

/// The keys, unchecked. `null` counts as absent, as in the reference plugin.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    ipam: Option<IpamKeys>,
    args: Option<ArgsKeys>,
    runtime_config: Option<RuntimeKeys>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IpamKeys {
    /// The old way: one range, directly under `ipam`.
    #[serde(flatten)]
    range: RangeConf,
    ranges: Option<Vec<Vec<RangeConf>>>,
    routes: Option<Value>,
    data_dir: Option<PathBuf>,
    resolv_conf: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
struct ArgsKeys {
    cni: Option<IpsKey>,
}

#[derive(Default, Deserialize)]
struct IpsKey {
    ips: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeKeys {
    ip_ranges: Option<Vec<Vec<RangeConf>>>,
    ips: Option<Vec<String>>,
}

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
    pub resolv_conf: Option<PathBuf>,
}

impl Place {
    /// Reads the place only.
    pub fn parse(call: &Call) -> Result<Self, Error> {
        let ipam = call.conf.keys::<PlaceKeys>()?.ipam.ok_or_else(missing_ipam)?;
        Ok(Self::new(call, ipam.data_dir))
    }

    fn new(call: &Call, data_dir: Option<PathBuf>) -> Self {
        let data_dir = data_dir.filter(|dir| dir != Path::new(""));
        let data_dir = data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into());
        Self { network: call.conf.name.clone(), data_dir }
    }
}

#[derive(Deserialize)]
struct PlaceKeys {
    ipam: Option<DataDirKey>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataDirKey {
    data_dir: Option<PathBuf>,
}

impl Conf {
    /// Reads and checks everything.
    pub fn parse(call: &Call) -> Result<Self, Error> {
        let keys: Keys = call.conf.keys()?;
        let ipam = keys.ipam.ok_or_else(missing_ipam)?;
        let runtime = keys.runtime_config.unwrap_or_default();

        // The order decides which result address is which: the runtime's ranges, the single one, the list.
        let mut ranges = runtime.ip_ranges.unwrap_or_default();
        if !ipam.range.is_unset() {
            ranges.push(vec![ipam.range]);
        }
        ranges.extend(ipam.ranges.unwrap_or_default());
        let sets = range_sets(&ranges)
            .map_err(|error| Error::from_source(ErrorCode::InvalidConfig, &error))?;
        check_families(&sets, call.conf.cni_version)?;

        let from_args = call.args.get("IP").map(str::to_owned);
        let from_conf = keys.args.unwrap_or_default().cni.unwrap_or_default().ips;
        let requested = from_args
            .into_iter()
            .chain(from_conf.unwrap_or_default())
            .chain(runtime.ips.unwrap_or_default())
            .filter(|text| !text.is_empty())
            .map(|text| requested_address(&text))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            place: Place::new(call, ipam.data_dir),
            sets,
            requested,
            routes: routes(ipam.routes)?,
            resolv_conf: ipam.resolv_conf.filter(|path| path != Path::new("")),
        })
    }
}

fn missing_ipam() -> Error {
    Error::new(ErrorCode::InvalidConfig, "IPAM config missing 'ipam' key")
}

/// Routes are written as they are in a result of the latest version.
fn routes(routes: Option<Value>) -> Result<Vec<Route>, Error> {
    let Some(routes) = routes.filter(|routes| !routes.is_null()) else { return Ok(Vec::new()) };
    let result = json!({ "cniVersion": Version::LATEST.as_str(), "routes": routes });
    let parsed = CniResult::from_json(&result, Version::LATEST);
    parsed.map(|result| result.routes).map_err(|error| {
        Error::new(error.code, format!("ipam.routes: {}", error.msg)).with_details(error.details)
    })
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
