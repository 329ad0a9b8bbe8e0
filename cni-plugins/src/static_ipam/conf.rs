//! What a configuration may say to `static`.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use cni::plugin::Call;
use cni::{CniResult, Dns, Error, ErrorCode, IpConfig, PluginConf, Route, Version};
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::asked;

/// A checked configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Conf {
    /// The addresses, in the order of the result.
    pub ips: Vec<IpConfig>,
    /// The routes of the result.
    pub routes: Vec<Route>,
    /// The name servers of the result.
    pub dns: Dns,
}

/// An entry of `ipam.addresses` as it is written.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    address: String,
    gateway: Option<String>,
}

impl Conf {
    /// Reads and checks everything.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        asked::refuse_unknown_args(call)?;
        let keys = &call.conf;
        if keys.get::<Map<String, Value>>("ipam")?.is_none() {
            return Err(invalid("IPAM config missing 'ipam' key"));
        }
        let ips = match replacements(keys)? {
            Some(ips) => ips,
            None => named(keys, call.args.get("IP"), call.args.get("GATEWAY"))?,
        };
        check_families(&ips, keys.cni_version)?;
        Ok(Self {
            ips,
            routes: keys.get("ipam.routes")?.unwrap_or_default(),
            dns: keys.get("ipam.dns")?.unwrap_or_default(),
        })
    }

    /// The result of an ADD. IPAM plugins name no interfaces.
    pub fn into_result(self) -> CniResult {
        CniResult { ips: self.ips, routes: self.routes, dns: self.dns, ..CniResult::default() }
    }
}

/// The runtime's addresses take the place of all others, gateways included: `runtimeConfig.ips`, else `args.cni.ips`.
fn replacements(keys: &PluginConf) -> Result<Option<Vec<IpConfig>>, Error> {
    for path in ["runtimeConfig.ips", "args.cni.ips"] {
        let texts: Vec<String> = keys.get(path)?.unwrap_or_default();
        if texts.is_empty() {
            continue;
        }
        let ips = texts.iter().map(|text| {
            let address = cidr(text).ok_or_else(|| {
                let msg =
                    format!("an entry in the 'ips' field is NOT in CIDR notation, got: '{text}'");
                invalid(&msg).with_details(format!("it stands in {path}; {EXAMPLE}"))
            })?;
            Ok(IpConfig { interface: None, address, gateway: None })
        });
        return ips.collect::<Result<_, _>>().map(Some);
    }
    Ok(None)
}

/// The addresses of the configuration, then those of `CNI_ARGS`; of which also come gateways, each for the addresses in
/// whose network it is.
fn named(
    keys: &PluginConf,
    addresses: Option<&str>,
    gateways: Option<&str>,
) -> Result<Vec<IpConfig>, Error> {
    let mut ips = Vec::new();
    for entry in keys.get::<Vec<Entry>>("ipam.addresses")?.unwrap_or_default() {
        let address = expect_cidr("address", &entry.address)?;
        let gateway = entry.gateway.filter(|text| !text.is_empty());
        let gateway = gateway.as_deref().map(gateway_address).transpose()?;
        ips.push(IpConfig { interface: None, address, gateway });
    }
    for text in listed(addresses) {
        let address = expect_cidr("ip", text.trim())?;
        ips.push(IpConfig { interface: None, address, gateway: None });
    }
    for text in listed(gateways) {
        let gateway = gateway_address(text)?;
        let near = ips.iter_mut().filter(|ip| ip.address.contains(gateway));
        near.for_each(|ip| ip.gateway = Some(gateway));
    }
    Ok(ips)
}

fn listed(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.filter(|text| !text.is_empty()).into_iter().flat_map(|text| text.split(','))
}

/// The results of the first versions have room for one address of each family.
fn check_families(ips: &[IpConfig], version: Version) -> Result<(), Error> {
    let v4 = ips.iter().filter(|ip| ip.address.is_ipv4()).count();
    if version >= Version::V0_3_0 || (v4 <= 1 && ips.len() - v4 <= 1) {
        return Ok(());
    }
    let msg =
        format!("CNI version {} does not support more than 1 address per family", version.as_str());
    Err(invalid(&msg))
}

const EXAMPLE: &str = "write an address with its prefix length, such as 10.1.0.5/24";

fn expect_cidr(field: &str, text: &str) -> Result<IpNetwork, Error> {
    cidr(text).ok_or_else(|| {
        let msg = format!("the '{field}' field is expected to be in CIDR notation, got: '{text}'");
        invalid(&msg).with_details(EXAMPLE)
    })
}

fn gateway_address(text: &str) -> Result<IpAddr, Error> {
    let parsed = text.trim().parse::<IpAddr>();
    parsed
        .map(|ip| ip.to_canonical())
        .map_err(|_| invalid(&format!("invalid gateway address: {text}")))
}

/// An address with a prefix length; the address keeps its host bits. Neither a bare address nor a mask is one.
fn cidr(text: &str) -> Option<IpNetwork> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let prefix: u8 = prefix.parse().ok()?;
    let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
    let prefix = if mapped { prefix.checked_sub(96)? } else { prefix };
    IpNetwork::new(address.to_canonical(), prefix).ok()
}

fn invalid(msg: &str) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
