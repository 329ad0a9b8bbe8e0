//! The result of an ADD: one internal form (that of 1.1.0), converted on the way in and out.
//!
//! Forms on the wire: `ip4`/`ip6` objects up to 0.2.0; `interfaces` and `ips` with a `version` from 0.3.0; without it from
//! 1.0.0; `mtu`, `socketPath`, `pciID` and the attributes of routes from 1.1.0 (SPEC.md "Result", CONVENTIONS of each release).

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
    pub name: String,
    /// Its hardware address; empty if it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes (1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The path of the namespace that it is in; empty on the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// A vhost-user socket (1.1.0).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// A PCI device (1.1.0).
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index into the interfaces; an IPAM plugin gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address with its prefix length; host bits are kept.
    pub address: IpNetwork,
    /// The gateway of the subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    pub dst: IpNetwork,
    /// The next hop; none means the gateway of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    ip: IpNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

/// Everything that a result of any version can hold. JSON `null` for a list means an empty one: Go writes it so.
#[derive(Deserialize)]
struct AnyResult {
    #[serde(default)]
    interfaces: Option<Vec<Interface>>,
    #[serde(default)]
    ips: Option<Vec<IpConfig>>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
    #[serde(default)]
    dns: Option<Dns>,
    #[serde(default)]
    ip4: Option<OldAddress>,
    #[serde(default)]
    ip6: Option<OldAddress>,
}

impl CniResult {
    /// Reads a result of the given version.
    pub fn from_json(value: &Value, version: Version) -> Result<Self, Error> {
        let any = AnyResult::deserialize(value).map_err(|error| {
            Error::new(ErrorCode::Decode, format!("cannot decode a result of CNI {version}"))
                .with_details(error.to_string())
        })?;
        let dns = any.dns.unwrap_or_default();
        if version < Version::V0_3_0 {
            return Ok(Self::from_old(any.ip4.into_iter().chain(any.ip6), dns));
        }
        let result = Self {
            interfaces: any.interfaces.unwrap_or_default(),
            ips: any.ips.unwrap_or_default(),
            routes: any.routes.unwrap_or_default(),
            dns,
        };
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> CniResult {
        CniResult {
            interfaces: vec![
                Interface {
                    name: "cni0".into(),
                    mac: "02:00:00:00:00:01".into(),
                    ..Interface::default()
                },
                Interface {
                    name: "eth0".into(),
                    mac: "02:00:00:00:00:02".into(),
                    mtu: Some(1450),
                    sandbox: "/run/netns/x".into(),
                    ..Interface::default()
                },
            ],
            ips: vec![IpConfig {
                interface: Some(1),
                address: "10.1.0.5/24".parse().unwrap(),
                gateway: Some("10.1.0.1".parse().unwrap()),
            }],
            routes: vec![Route {
                mtu: Some(1400),
                ..Route::new("0.0.0.0/0".parse().unwrap(), None)
            }],
            dns: Dns { nameservers: vec!["10.96.0.10".into()], ..Dns::default() },
        }
    }

    #[test]
    fn forms_of_the_versions() {
        let old = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1",
            "routes": [{"dst": "0.0.0.0/0"}]}, "dns": {"nameservers": ["10.96.0.10"]}});
        assert_eq!(sample().to_json(Version::V0_2_0).unwrap(), old);
        let v4 = sample().to_json(Version::V0_4_0).unwrap();
        assert_eq!(
            v4["ips"][0],
            json!({"interface": 1, "address": "10.1.0.5/24", "gateway": "10.1.0.1", "version": "4"})
        );
        assert_eq!(v4["interfaces"][1].get("mtu"), None);
        let v1 = sample().to_json(Version::V1_0_0).unwrap();
        assert_eq!((v1["ips"][0].get("version"), v1["routes"][0].get("mtu")), (None, None));
        let newest = sample().to_json(Version::V1_1_0).unwrap();
        assert_eq!(
            (&newest["interfaces"][1]["mtu"], &newest["routes"][0]["mtu"]),
            (&json!(1450), &json!(1400))
        );
    }

    #[test]
    fn what_cannot_be_converted_says_why() {
        let error = CniResult::default().to_json(Version::V0_2_0).unwrap_err();
        assert_eq!(error.msg, "cannot convert: no valid IP addresses");
        let mut two = sample();
        two.ips.push(two.ips[0].clone());
        assert!(
            two.to_json(Version::V0_1_0)
                .unwrap_err()
                .msg
                .contains("more than 1 address per family")
        );
    }

    #[test]
    fn nulls_of_go_and_bad_indices() {
        let nulls = json!({"cniVersion": "1.0.0", "interfaces": null, "ips": null, "dns": {}});
        assert_eq!(CniResult::from_json(&nulls, Version::V1_0_0).unwrap(), CniResult::default());
        let bad = json!({"interfaces": [{"name": "a"}], "ips": [{"address": "10.0.0.1/8", "interface": 4}]});
        assert!(
            CniResult::from_json(&bad, Version::V1_0_0).unwrap_err().msg.contains("10.0.0.1/8")
        );
    }

    proptest! {
        #[test]
        fn the_newest_form_loses_nothing(a: u32, prefix in 0u8..=32, gw: Option<[u8; 4]>, mtu: Option<u32>, table: Option<u32>) {
            let mut result = sample();
            result.ips[0].address = IpNetwork::new(IpAddr::from(a.to_be_bytes()), prefix).unwrap();
            result.ips[0].gateway = gw.map(IpAddr::from);
            result.interfaces[0].mtu = mtu;
            result.routes[0].table = table;
            let json = result.to_json(Version::V1_1_0).unwrap();
            prop_assert_eq!(CniResult::from_json(&json, Version::V1_1_0).unwrap(), result);
        }

        #[test]
        fn hostile_documents_never_panic(text in "\\PC{0,200}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                for version in Version::ALL {
                    CniResult::from_json(&value, *version).ok();
                }
            }
        }
    }
}
