//! Cluster addresses and node ports: given in the manifest, or allocated here and kept on disk.

mod families;
mod range;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use netns_tools::iptables::Family;
use serde::{Deserialize, Serialize};

pub use families::{FamilyPolicy, chosen, family_of, parse as parse_family};

use crate::pod::record::write_durably;

/// The key of a health check's node port among a service's others.
const HEALTH_CHECK: &str = "healthCheck";

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
    /// There is no range of the family.
    #[error(
        "spec.ipFamilies: network.service_cidr has no range of {0}; add one, or use the other family"
    )]
    NoRange(&'static str),
    /// There is one family only.
    #[error(
        "spec.ipFamilyPolicy: RequireDualStack needs a range of each family in network.service_cidr; add one, or use PreferDualStack"
    )]
    NotDual,
    /// The address is not one of the range.
    #[error("{field}: {ip} is not in network.service_cidr {cidr}")]
    AddressOutside {
        /// Where the service says so.
        field: String,
        /// The address.
        ip: IpAddr,
        /// The range.
        cidr: IpNetwork,
    },
    /// Another service has the address.
    #[error("{field}: {ip} belongs to service {owner}; choose another, or leave it out")]
    AddressTaken {
        /// Where the service says so.
        field: String,
        /// The address.
        ip: IpAddr,
        /// Who has it.
        owner: String,
    },
    /// The port is not one of the range.
    #[error("{field}: {port} is not in network.node_ports {first}-{last}")]
    PortOutside {
        /// Where the service says so.
        field: String,
        /// The number.
        port: i32,
        /// First of the range.
        first: u16,
        /// Last of the range.
        last: u16,
    },
    /// Another service has the port.
    #[error("{field}: {port} belongs to service {owner}; choose another, or leave it out")]
    PortTaken {
        /// Where the service says so.
        field: String,
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
#[serde(from = "Written")]
struct Allocation {
    cluster_ips: Vec<IpAddr>,
    /// By `port/protocol`.
    node_ports: BTreeMap<String, u16>,
}

/// As it is on disk. Before there were two families there was one address.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    cluster_ips: Vec<IpAddr>,
    #[serde(default)]
    cluster_ip: Option<IpAddr>,
    #[serde(default)]
    node_ports: BTreeMap<String, u16>,
}

impl From<Written> for Allocation {
    fn from(written: Written) -> Self {
        let Written { mut cluster_ips, cluster_ip, node_ports } = written;
        if cluster_ips.is_empty() {
            cluster_ips.extend(cluster_ip);
        }
        Self { cluster_ips, node_ports }
    }
}

/// What all services have.
#[derive(Debug)]
pub struct ServiceAllocator {
    path: PathBuf,
    /// At most one of each family, the default one first.
    cidrs: Vec<IpNetwork>,
    node_ports: RangeInclusive<u16>,
    held: BTreeMap<String, Allocation>,
}

/// The service that something is found for.
struct Claimant<'a> {
    key: &'a str,
    before: Allocation,
}

impl ServiceAllocator {
    /// Reads what was allocated before. `cidrs`: at most one range of each family, the default one first.
    pub fn open(
        path: &Path,
        cidrs: Vec<IpNetwork>,
        node_ports: RangeInclusive<u16>,
    ) -> Result<Self, AllocateError> {
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
        Ok(Self { path: path.to_owned(), cidrs, node_ports, held })
    }

    /// Fills in what a service does not say, and checks what it says. On disk before this returns.
    pub fn assign(&mut self, service: &mut Service) -> Result<(), AllocateError> {
        let key = key(service);
        let spec = service.spec.get_or_insert_default();
        if spec.type_.as_deref() == Some("ExternalName") || is_headless(spec) {
            return self.keep(&key, Allocation::default());
        }
        let before = self.held.get(&key).cloned().unwrap_or_default();
        let claimant = Claimant { key: &key, before };
        let (families, policy) = families::families(spec, &self.families())?;
        let cluster_ips = self.cluster_ips(&claimant, &chosen(spec), &families)?;
        let mut ports = spec.ports.clone().unwrap_or_default();
        let (node_ports, health_check) = self.all_node_ports(&claimant, spec, &mut ports)?;
        self.keep(&key, Allocation { cluster_ips: cluster_ips.clone(), node_ports })?;
        let texts: Vec<_> = cluster_ips.iter().map(ToString::to_string).collect();
        spec.cluster_ip = texts.first().cloned();
        spec.cluster_ips = Some(texts);
        spec.ip_families =
            Some(families.into_iter().map(|family| families::word(family).to_owned()).collect());
        spec.ip_family_policy = Some(policy.as_str().to_owned());
        spec.health_check_node_port = health_check.map(i32::from);
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

    fn families(&self) -> Vec<Family> {
        self.cidrs.iter().map(|cidr| family_of(cidr.network())).collect()
    }

    fn cluster_ips(
        &self,
        claimant: &Claimant<'_>,
        chosen: &[IpAddr],
        families: &[Family],
    ) -> Result<Vec<IpAddr>, AllocateError> {
        let address = |family: &Family| {
            let is_ours = |ip: &IpAddr| family_of(*ip) == *family;
            let cidr = self.cidrs.iter().find(|cidr| is_ours(&cidr.network()));
            let cidr = *cidr.ok_or(AllocateError::NoRange(families::word(*family)))?;
            match chosen.iter().position(is_ours) {
                Some(index) => self.chosen_ip(claimant, cidr, index, chosen[index]),
                None => self.free_ip(claimant, cidr),
            }
        };
        families.iter().map(address).collect()
    }

    fn owner(&self, key: &str, ip: IpAddr) -> Option<&String> {
        let mut others = self.held.iter().filter(|(other, _)| *other != key);
        others.find(|(_, held)| held.cluster_ips.contains(&ip)).map(|(other, _)| other)
    }

    fn chosen_ip(
        &self,
        claimant: &Claimant<'_>,
        cidr: IpNetwork,
        index: usize,
        ip: IpAddr,
    ) -> Result<IpAddr, AllocateError> {
        let field = if index == 0 {
            "spec.clusterIP".to_owned()
        } else {
            format!("spec.clusterIPs[{index}]")
        };
        if !range::is_usable(cidr, ip) {
            return Err(AllocateError::AddressOutside { field, ip, cidr });
        }
        match self.owner(claimant.key, ip) {
            Some(owner) => Err(AllocateError::AddressTaken { field, ip, owner: owner.clone() }),
            None => Ok(ip),
        }
    }

    fn free_ip(&self, claimant: &Claimant<'_>, cidr: IpNetwork) -> Result<IpAddr, AllocateError> {
        let usable = |ip: &IpAddr| range::is_usable(cidr, *ip);
        let mut before = claimant.before.cluster_ips.iter().copied().filter(usable);
        if let Some(ip) = before.find(|ip| self.owner(claimant.key, *ip).is_none()) {
            return Ok(ip);
        }
        let taken: BTreeSet<_> = self.held.values().flat_map(|held| &held.cluster_ips).collect();
        range::addresses(cidr, claimant.key)
            .find(|ip| !taken.contains(ip))
            .ok_or(AllocateError::Exhausted("network.service_cidr"))
    }

    /// The node ports by key, and the health check's among them. Those of the ports are also written to the ports.
    fn all_node_ports(
        &self,
        claimant: &Claimant<'_>,
        spec: &ServiceSpec,
        ports: &mut [ServicePort],
    ) -> Result<(BTreeMap<String, u16>, Option<u16>), AllocateError> {
        let mut all = BTreeMap::new();
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        if !matches!(kind, "NodePort" | "LoadBalancer") {
            return Ok((all, None));
        }
        let mut taken = self.ports_of_others(claimant.key);
        let mut find = |name: String, field: String, wanted: Option<i32>| {
            let number = self.node_port(claimant, &name, field, wanted, &taken)?;
            taken.insert(number, claimant.key.to_owned());
            all.insert(name, number);
            Ok::<_, AllocateError>(number)
        };
        let asked = spec.allocate_load_balancer_node_ports != Some(false) || kind == "NodePort";
        for (index, port) in ports.iter_mut().enumerate() {
            let wanted = port.node_port.filter(|number| *number != 0);
            if asked || wanted.is_some() {
                let field = format!("spec.ports[{index}].nodePort");
                port.node_port = Some(find(port_key(port), field, wanted)?.into());
            }
        }
        let local = spec.external_traffic_policy.as_deref() == Some("Local");
        let health_check = if kind == "LoadBalancer" && local {
            let wanted = spec.health_check_node_port.filter(|number| *number != 0);
            Some(find(HEALTH_CHECK.to_owned(), "spec.healthCheckNodePort".to_owned(), wanted)?)
        } else {
            None
        };
        Ok((all, health_check))
    }

    fn ports_of_others(&self, key: &str) -> BTreeMap<u16, String> {
        let others = self.held.iter().filter(|(other, _)| *other != key);
        others
            .flat_map(|(other, held)| held.node_ports.values().map(|port| (*port, other.clone())))
            .collect()
    }

    fn node_port(
        &self,
        claimant: &Claimant<'_>,
        name: &str,
        field: String,
        wanted: Option<i32>,
        taken: &BTreeMap<u16, String>,
    ) -> Result<u16, AllocateError> {
        let (first, last) = (*self.node_ports.start(), *self.node_ports.end());
        if let Some(port) = wanted {
            let number = u16::try_from(port).ok().filter(|number| self.node_ports.contains(number));
            let Some(number) = number else {
                return Err(AllocateError::PortOutside { field, port, first, last });
            };
            // the ports of one service may share a number for different protocols
            return match taken.get(&number).filter(|owner| *owner != claimant.key) {
                Some(owner) => {
                    Err(AllocateError::PortTaken { field, port: number, owner: owner.clone() })
                }
                None => Ok(number),
            };
        }
        let known = claimant.before.node_ports.get(name).copied();
        known
            .into_iter()
            .filter(|number| self.node_ports.contains(number))
            .chain(range::ports(first, last, &format!("{} {name}", claimant.key)))
            .find(|number| !taken.contains_key(number))
            .ok_or(AllocateError::Exhausted("network.node_ports"))
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

/// Whether a service is to have no address.
pub fn is_headless(spec: &ServiceSpec) -> bool {
    let listed = spec.cluster_ips.iter().flatten().any(|ip| ip == "None");
    listed || spec.cluster_ip.as_deref() == Some("None")
}

fn key(service: &Service) -> String {
    let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
    format!("{namespace}/{}", service.metadata.name.as_deref().unwrap_or_default())
}

fn port_key(port: &ServicePort) -> String {
    format!("{}/{}", port.port, port.protocol.as_deref().unwrap_or("TCP"))
}
