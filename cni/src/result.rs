//! The result of an ADD: one internal form (that of 1.1.0), converted on the way in and out.
//!
//! Forms on the wire: `ip4`/`ip6` objects up to 0.2.0; `interfaces` and `ips` with a `version` from 0.3.0; without it from
//! 1.0.0; `mtu`, `socketPath`, `pciID` and the attributes of routes from 1.1.0 (SPEC.md "Result", CONVENTIONS of each release).

mod wire;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorCode};
use crate::version::Version;

/// What an ADD made, or what a chain has made so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniResult {
    /// The interfaces, host side and container side.
    pub interfaces: Vec<Interface>,
    /// The addresses.
    pub ips: Vec<IpConfig>,
    /// The routes inside the container.
    pub routes: Vec<Route>,
    /// What the container should resolve names with.
    pub dns: Dns,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Interface {
    /// Its name.
    #[serde(deserialize_with = "wire::nullable")]
    pub name: String,
    /// Its hardware address; empty if it has none.
    #[serde(deserialize_with = "wire::nullable", skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes (1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The path of the namespace that it is in; empty on the host.
    #[serde(deserialize_with = "wire::nullable", skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// A vhost-user socket (1.1.0).
    #[serde(deserialize_with = "wire::nullable", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// A PCI device (1.1.0).
    #[serde(
        rename = "pciID",
        deserialize_with = "wire::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub pci_id: String,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index into the interfaces; an IPAM plugin gives none.
    #[serde(default, deserialize_with = "wire::index", skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address with its prefix length; host bits are kept.
    #[serde(deserialize_with = "wire::cidr")]
    pub address: IpNetwork,
    /// The gateway of the subnet.
    #[serde(default, deserialize_with = "wire::address", skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    #[serde(deserialize_with = "wire::cidr")]
    pub dst: IpNetwork,
    /// The next hop; none means the gateway of the address.
    #[serde(default, deserialize_with = "wire::address", skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Maximal segment size to advertise, in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric; lower wins (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope, 0 to 255 (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

impl Route {
    /// A route without attributes.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// Name resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers, best first.
    #[serde(deserialize_with = "wire::nullable", skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(deserialize_with = "wire::nullable", skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search list.
    #[serde(deserialize_with = "wire::nullable", skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(deserialize_with = "wire::nullable", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `ip4` or `ip6` of 0.1.0 and 0.2.0.
#[derive(Serialize, Deserialize)]
struct OldAddress {
    #[serde(deserialize_with = "wire::cidr")]
    ip: IpNetwork,
    #[serde(default, deserialize_with = "wire::address", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "wire::nullable", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

/// Everything that a result of any version can hold.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AnyResult {
    #[serde(deserialize_with = "wire::nullable")]
    interfaces: Vec<Interface>,
    #[serde(deserialize_with = "wire::nullable")]
    ips: Vec<IpConfig>,
    #[serde(deserialize_with = "wire::nullable")]
    routes: Vec<Route>,
    #[serde(deserialize_with = "wire::nullable")]
    dns: Dns,
    ip4: Option<OldAddress>,
    ip6: Option<OldAddress>,
}

impl CniResult {
    /// Reads a result that says its version itself, as a `prevResult` or another plugin's answer normally does; `version` holds
    /// if it does not.
    pub fn read(value: &Value, version: Version) -> Result<Self, Error> {
        Self::from_json(value, own_version(value).unwrap_or(version))
    }

    /// Reads a result of the given version.
    ///
    /// Up to 0.2.0 a result without `ip4` and `ip6` is read in the form of 0.3.0: some reference plugins (`loopback`) print
    /// that form whatever the version is.
    pub fn from_json(value: &Value, version: Version) -> Result<Self, Error> {
        if !value.is_object() {
            // serde would also take a list of the fields' values
            let msg = format!("cannot decode a result of CNI {version}");
            return Err(Error::new(ErrorCode::Decode, msg).with_details("it is not an object"));
        }
        let any = AnyResult::deserialize(value).map_err(|error| {
            Error::new(ErrorCode::Decode, format!("cannot decode a result of CNI {version}"))
                .with_details(error.to_string())
        })?;
        if version < Version::V0_3_0 && (any.ip4.is_some() || any.ip6.is_some()) {
            return Ok(Self::from_old(any.ip4.into_iter().chain(any.ip6), any.dns));
        }
        let AnyResult { interfaces, ips, routes, dns, .. } = any;
        let result = Self { interfaces, ips, routes, dns };
        result.check_indices()?;
        Ok(result)
    }

    fn from_old(addresses: impl Iterator<Item = OldAddress>, dns: Dns) -> Self {
        let mut result = Self { dns, ..Self::default() };
        for old in addresses {
            result.ips.push(IpConfig { interface: None, address: old.ip, gateway: old.gateway });
            result.routes.extend(old.routes);
        }
        result
    }

    fn check_indices(&self) -> Result<(), Error> {
        let outside =
            |ip: &&IpConfig| ip.interface.is_some_and(|index| index >= self.interfaces.len());
        // An IPAM result has no interfaces, yet some plugins set an index in it for the caller's list.
        if self.interfaces.is_empty() {
            return Ok(());
        }
        match self.ips.iter().find(outside) {
            None => Ok(()),
            Some(ip) => Err(Error::new(
                ErrorCode::Decode,
                format!("ips: {} names an interface that the result does not have", ip.address),
            )),
        }
    }

    /// Writes the result in the form of a version. An address is needed up to 0.2.0, and at most one of a family.
    pub fn to_json(&self, version: Version) -> Result<Value, Error> {
        let mut map = Map::new();
        map.insert("cniVersion".to_owned(), json!(version.as_str()));
        if version < Version::V0_3_0 {
            self.write_old(&mut map, version)?;
        } else {
            self.write_new(&mut map, version);
        }
        if !self.dns.is_empty() {
            map.insert("dns".to_owned(), json!(self.dns));
        }
        Ok(Value::Object(map))
    }

    fn write_old(&self, map: &mut Map<String, Value>, version: Version) -> Result<(), Error> {
        let refuse = |msg: &str| Error::new(ErrorCode::IncompatibleVersion, msg);
        for (key, is_v4) in [("ip4", true), ("ip6", false)] {
            let mut of_family = self.ips.iter().filter(|ip| ip.address.is_ipv4() == is_v4);
            let Some(ip) = of_family.next() else { continue };
            if of_family.next().is_some() {
                return Err(refuse(&format!(
                    "CNI version {version} does not support more than 1 address per family"
                )));
            }
            let routes = self.routes.iter().filter(|r| r.dst.is_ipv4() == is_v4);
            let routes = routes.map(|r| Route::new(r.dst, r.gw)).collect();
            map.insert(
                key.to_owned(),
                json!(OldAddress { ip: ip.address, gateway: ip.gateway, routes }),
            );
        }
        if self.ips.is_empty() {
            return Err(refuse("cannot convert: no valid IP addresses").with_details(format!(
                "a result of CNI {version} needs an address; set cniVersion to 0.3.0 or newer"
            )));
        }
        Ok(())
    }

    fn write_new(&self, map: &mut Map<String, Value>, version: Version) {
        let full = version >= Version::V1_1_0;
        if !self.interfaces.is_empty() {
            let interfaces: Vec<_> = self
                .interfaces
                .iter()
                .map(|i| if full { i.clone() } else { i.without_new_fields() })
                .collect();
            map.insert("interfaces".to_owned(), json!(interfaces));
        }
        if !self.ips.is_empty() {
            let mut ips = json!(self.ips);
            if version < Version::V1_0_0 {
                for (value, ip) in ips.as_array_mut().into_iter().flatten().zip(&self.ips) {
                    value["version"] = json!(if ip.address.is_ipv4() { "4" } else { "6" });
                }
            }
            map.insert("ips".to_owned(), ips);
        }
        if !self.routes.is_empty() {
            let routes: Vec<_> = self
                .routes
                .iter()
                .map(|r| if full { r.clone() } else { Route::new(r.dst, r.gw) })
                .collect();
            map.insert("routes".to_owned(), json!(routes));
        }
    }
}

/// The version that a result is marked with, if it is a known one.
pub(crate) fn own_version(value: &Value) -> Option<Version> {
    value.get("cniVersion")?.as_str()?.parse().ok()
}

impl Interface {
    fn without_new_fields(&self) -> Self {
        Self {
            name: self.name.clone(),
            mac: self.mac.clone(),
            sandbox: self.sandbox.clone(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
#[path = "result/tests.rs"]
mod tests;
