//! Cluster addresses and node ports: given in the manifest, or allocated here and kept on disk.
//!
//! Kubernetes' rule keeps the lower band of each range for addresses that people choose: allocation begins above it and
//! goes into it only when the rest is used up. Where it begins is a digest of the service's name, so that a service gets
//! the same address again even if the file is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnetwork::{IpNetwork, Ipv4Network};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pod::record::write_durably;

/// A service that cannot have what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    /// The file of allocations cannot be used.
    #[error("cannot {operation} the service allocations {}: {reason}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// IPv6, for now.
    #[error("network.service_cidr {0}: only IPv4 services are supported yet")]
    Family(IpNetwork),
    /// The address is not one of the range.
    #[error("spec.clusterIP: {ip} is not in network.service_cidr {cidr}")]
    AddressOutside {
        /// The address.
        ip: Ipv4Addr,
        /// The range.
        cidr: Ipv4Network,
    },
    /// Another service has the address.
    #[error("spec.clusterIP: {ip} belongs to service {owner}; choose another, or leave it out")]
    AddressTaken {
        /// The address.
        ip: Ipv4Addr,
        /// Who has it.
        owner: String,
    },
    /// The port is not one of the range.
    #[error("spec.ports[{index}].nodePort: {port} is not in network.node_ports {first}-{last}")]
    PortOutside {
        /// Which port of the service.
        index: usize,
        /// The number.
        port: i32,
        /// First of the range.
        first: u16,
        /// Last of the range.
        last: u16,
    },
    /// Another service has the port.
    #[error(
        "spec.ports[{index}].nodePort: {port} belongs to service {owner}; choose another, or leave it out"
    )]
    PortTaken {
        /// Which port of the service.
        index: usize,
        /// The number.
        port: u16,
        /// Who has it.
        owner: String,
    },
    /// Nothing is left.
    #[error("{0} has nothing left to allocate; make it larger")]
    Exhausted(&'static str),
}

/// What one service has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Allocation {
    cluster_ip: Option<Ipv4Addr>,
    /// By `port/protocol`.
    #[serde(default)]
    node_ports: BTreeMap<String, u16>,
}

/// What all services have.
#[derive(Debug)]
pub struct ServiceAllocator {
    path: PathBuf,
    cidr: Ipv4Network,
    node_ports: RangeInclusive<u16>,
    held: BTreeMap<String, Allocation>,
}

impl ServiceAllocator {
    /// Reads what was allocated before.
    pub fn open(
        path: &Path,
        cidr: IpNetwork,
        node_ports: RangeInclusive<u16>,
    ) -> Result<Self, AllocateError> {
        let IpNetwork::V4(cidr) = cidr else { return Err(AllocateError::Family(cidr)) };
        let fail = |reason: String| AllocateError::File {
            operation: "read",
            path: path.to_owned(),
            reason,
        };
        let held = match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| fail(format!("{error}; remove it to allocate anew")))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(fail(error.to_string())),
        };
        Ok(Self { path: path.to_owned(), cidr, node_ports, held })
    }

    /// Fills in what a service does not say, and checks what it says. On disk before this returns.
    pub fn assign(&mut self, service: &mut Service) -> Result<(), AllocateError> {
        let key = key(service);
        let spec = service.spec.get_or_insert_default();
        let kind = spec.type_.clone().unwrap_or_else(|| "ClusterIP".to_owned());
        if kind == "ExternalName" || spec.cluster_ip.as_deref() == Some("None") {
            return self.keep(&key, Allocation::default());
        }
        let before = self.held.get(&key).cloned().unwrap_or_default();
        let mut next = Allocation::default();
        let ip = self.cluster_ip(
            &key,
            spec.cluster_ip.as_deref().unwrap_or_default(),
            before.cluster_ip,
        )?;
        next.cluster_ip = Some(ip);
        let mut ports = spec.ports.clone().unwrap_or_default();
        if kind == "NodePort" {
            let mut taken = self.ports_of_others(&key);
            for (index, port) in ports.iter_mut().enumerate() {
                let number = self.node_port(&key, index, port, &before, &mut taken)?;
                next.node_ports.insert(port_key(port), number);
                port.node_port = Some(i32::from(number));
            }
        }
        self.keep(&key, next)?;
        spec.cluster_ip = Some(ip.to_string());
        spec.ports = Some(ports);
        Ok(())
    }

    /// Frees what services that are not among these have.
    pub fn retain(&mut self, services: &[Service]) -> Result<(), AllocateError> {
        let known: BTreeSet<_> = services.iter().map(key).collect();
        let before = self.held.len();
        self.held.retain(|key, _| known.contains(key));
        if self.held.len() == before { Ok(()) } else { self.write() }
    }

    fn cluster_ip(
        &self,
        key: &str,
        wanted: &str,
        before: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, AllocateError> {
        let owner = |ip: Ipv4Addr| {
            let found =
                self.held.iter().find(|(other, held)| *other != key && held.cluster_ip == Some(ip));
            found.map(|(other, _)| other.clone())
        };
        let usable = |ip: &Ipv4Addr| {
            self.cidr.contains(*ip) && *ip != self.cidr.network() && *ip != self.cidr.broadcast()
        };
        if let Ok(ip) = wanted.parse::<Ipv4Addr>() {
            if !usable(&ip) {
                return Err(AllocateError::AddressOutside { ip, cidr: self.cidr });
            }
            return match owner(ip) {
                Some(owner) => Err(AllocateError::AddressTaken { ip, owner }),
                None => Ok(ip),
            };
        }
        if let Some(ip) = before.filter(|ip| usable(ip) && owner(*ip).is_none()) {
            return Ok(ip);
        }
        let hosts = u64::from(self.cidr.size()).saturating_sub(2);
        let first = u64::from(u32::from(self.cidr.network())) + 1;
        let taken: BTreeSet<_> = self.held.values().filter_map(|held| held.cluster_ip).collect();
        // the band that people choose from (KEP-3070)
        let band = (hosts / 16).clamp(16, 256).min(hosts);
        let address = |offset: u64| u32::try_from(first + offset).map(Ipv4Addr::from).ok();
        candidates(key, hosts, band)
            .filter_map(address)
            .find(|ip| !taken.contains(ip))
            .ok_or(AllocateError::Exhausted("network.service_cidr"))
    }

    fn ports_of_others(&self, key: &str) -> BTreeMap<u16, String> {
        let others = self.held.iter().filter(|(other, _)| *other != key);
        others
            .flat_map(|(other, held)| held.node_ports.values().map(|port| (*port, other.clone())))
            .collect()
    }

    fn node_port(
        &self,
        key: &str,
        index: usize,
        port: &ServicePort,
        before: &Allocation,
        taken: &mut BTreeMap<u16, String>,
    ) -> Result<u16, AllocateError> {
        let (first, last) = (*self.node_ports.start(), *self.node_ports.end());
        let number = if let Some(wanted) = port.node_port.filter(|number| *number != 0) {
            let number =
                u16::try_from(wanted).ok().filter(|number| self.node_ports.contains(number));
            let number =
                number.ok_or(AllocateError::PortOutside { index, port: wanted, first, last })?;
            if let Some(owner) = taken.get(&number) {
                return Err(AllocateError::PortTaken { index, port: number, owner: owner.clone() });
            }
            number
        } else {
            let known = before.node_ports.get(&port_key(port)).copied();
            let size = u64::from(last - first) + 1;
            // the band that people choose from (KEP-3668)
            let band = (size / 32).clamp(16, 128).min(size);
            let fresh = candidates(&format!("{key} {}", port_key(port)), size, band)
                .filter_map(|offset| Some(first + u16::try_from(offset).ok()?));
            known
                .into_iter()
                .filter(|number| self.node_ports.contains(number))
                .chain(fresh)
                .find(|number| !taken.contains_key(number))
                .ok_or(AllocateError::Exhausted("network.node_ports"))?
        };
        taken.insert(number, key.to_owned());
        Ok(number)
    }

    fn keep(&mut self, key: &str, next: Allocation) -> Result<(), AllocateError> {
        if self.held.get(key) == Some(&next) {
            return Ok(());
        }
        self.held.insert(key.to_owned(), next);
        self.write()
    }

    fn write(&self) -> Result<(), AllocateError> {
        let text = serde_json::to_vec_pretty(&self.held).map_err(std::io::Error::from);
        text.and_then(|text| write_durably(&self.path, &text)).map_err(|error| {
            AllocateError::File {
                operation: "write",
                path: self.path.clone(),
                reason: error.to_string(),
            }
        })
    }
}

/// Every offset of a range once: from a point above the band that depends on the name, around, then the band.
fn candidates(name: &str, size: u64, band: u64) -> impl Iterator<Item = u64> + use<> {
    let digest = Sha256::digest(name);
    let seed = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let upper = size - band;
    let above = (0..upper).map(move |step| band + (seed % upper.max(1) + step) % upper.max(1));
    above.chain(0..band)
}

fn key(service: &Service) -> String {
    let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
    format!("{namespace}/{}", service.metadata.name.as_deref().unwrap_or_default())
}

fn port_key(port: &ServicePort) -> String {
    format!("{}/{}", port.port, port.protocol.as_deref().unwrap_or("TCP"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(name: &str, spec: Value) -> Service {
        serde_json::from_value(
            json!({"metadata": {"namespace": "default", "name": name}, "spec": spec}),
        )
        .unwrap()
    }

    fn open(folder: &Path, cidr: &str) -> ServiceAllocator {
        ServiceAllocator::open(&folder.join("services.json"), cidr.parse().unwrap(), 30000..=30099)
            .unwrap()
    }

    fn ip(service: &Service) -> String {
        service.spec.as_ref().unwrap().cluster_ip.clone().unwrap()
    }

    #[test]
    fn what_is_allocated_stays_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let asks = || {
            service(
                "web",
                json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}),
            )
        };
        let (mut first, mut second) = (asks(), asks());
        open(folder.path(), "10.96.0.0/12").assign(&mut first).unwrap();
        open(folder.path(), "10.96.0.0/12").assign(&mut second).unwrap();
        assert_eq!(first, second);
        let ports: BTreeSet<_> =
            first.spec.unwrap().ports.unwrap().iter().map(|port| port.node_port).collect();
        assert_eq!(ports.len(), 2);
        assert!(
            ports.iter().all(|port| port.is_some_and(|port| (30016..=30099).contains(&port))),
            "{ports:?}"
        );
    }

    #[test]
    fn choices_are_checked_and_both_services_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut allocator = open(folder.path(), "10.96.0.0/24");
        let ask = |name: &str, ip: &str, port: i32| {
            service(
                name,
                json!({"type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": port}]}),
            )
        };
        allocator.assign(&mut ask("a", "10.96.0.10", 30080)).unwrap();
        let cases = [
            (
                ask("b", "10.96.0.10", 30081),
                "spec.clusterIP: 10.96.0.10 belongs to service default/a",
            ),
            (
                ask("b", "10.97.0.10", 30081),
                "spec.clusterIP: 10.97.0.10 is not in network.service_cidr 10.96.0.0/24",
            ),
            (ask("b", "10.96.0.0", 30081), "spec.clusterIP: 10.96.0.0 is not in"),
            (
                ask("b", "10.96.0.11", 30080),
                "spec.ports[0].nodePort: 30080 belongs to service default/a",
            ),
            (
                ask("b", "10.96.0.11", 80),
                "spec.ports[0].nodePort: 80 is not in network.node_ports 30000-30099",
            ),
        ];
        for (mut service, expected) in cases {
            let error = allocator.assign(&mut service).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        allocator.retain(&[]).unwrap();
        allocator.assign(&mut ask("b", "10.96.0.10", 30080)).unwrap();
    }

    #[test]
    fn every_address_is_given_once_and_the_lower_band_last() {
        let folder = tempfile::tempdir().unwrap();
        let mut allocator = open(folder.path(), "10.96.0.0/27");
        let mut seen = BTreeSet::new();
        for number in 0..30 {
            let mut service = service(&format!("s{number}"), json!({"ports": [{"port": 80}]}));
            allocator.assign(&mut service).unwrap();
            let last: u8 = ip(&service).rsplit('.').next().unwrap().parse().unwrap();
            assert_eq!(last > 16, number < 14, "service {number} has .{last}");
            assert!(seen.insert(last));
        }
        let error =
            allocator.assign(&mut service("more", json!({"ports": [{"port": 80}]}))).unwrap_err();
        assert!(error.to_string().contains("network.service_cidr has nothing left"), "{error}");
    }

    #[test]
    fn headless_services_need_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut headless = service("h", json!({"clusterIP": "None"}));
        open(folder.path(), "10.96.0.0/12").assign(&mut headless).unwrap();
        assert_eq!(ip(&headless), "None");
    }

    #[test]
    fn a_broken_file_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("services.json"), "{").unwrap();
        let error = ServiceAllocator::open(
            &folder.path().join("services.json"),
            "10.96.0.0/12".parse().unwrap(),
            1..=2,
        )
        .unwrap_err();
        assert!(error.to_string().contains("remove it to allocate anew"), "{error}");
    }
}
