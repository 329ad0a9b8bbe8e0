//! The host that the proxy runs on: kernel parameters, bridges, addresses.
//!
//! Nothing here is fatal: what is not as services need it is told in words, with the remedy.
//!
//! | file | what |
//! | --- | --- |
//! | `parameters` | kernel parameters: which, how much, why |
//! | `bridge` | whether packets that stay on a bridge are seen by rules; set where the node is ours |
//! | `addresses` | this host's addresses, kept up to date |
//! | `local` | where pods' traffic is not recognised |

mod addresses;
mod bridge;
mod local;
mod parameters;

use std::net::IpAddr;
use std::num::NonZero;

use netns_tools::Link;
use netns_tools::cause::one_line;
use netns_tools::iptables::Family;
use netns_tools::netlink::Netlink;
use netns_tools::sysctl::{self, SysctlError};

pub use addresses::{AddressError, addresses, watch_addresses};
pub use bridge::show_bridged;
pub use local::blind_spots;
pub use parameters::{ConntrackConfig, HostConfig};

/// Where parameters are read and written.
trait Kernel {
    fn read(&self, key: &str) -> Result<String, SysctlError>;
    fn write(&mut self, key: &str, value: &str) -> Result<(), SysctlError>;
}

/// The calling thread's network namespace.
struct ThisNamespace;

impl Kernel for ThisNamespace {
    fn read(&self, key: &str) -> Result<String, SysctlError> {
        sysctl::read(key)
    }

    fn write(&mut self, key: &str, value: &str) -> Result<(), SysctlError> {
        sysctl::write(key, value)
    }
}

/// What the host is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// What is not as services need it, each in words with the remedy.
    pub problems: Vec<String>,
    /// Whether conntrack accepts packets that are out of window, as configured or as somebody else set it; such packets must not be
    /// dropped then (`RuleOptions::drop_invalid` false).
    pub tcp_is_liberal: bool,
}

/// Sets what can be set, in the calling thread's network namespace, and looks at the rest. Blocking.
pub fn prepare(config: &HostConfig) -> Prepared {
    let (families, links, mut problems) = look_around(&config.families);
    let config = HostConfig { families, ..config.clone() };
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let plan = parameters::plan(&config, processors.try_into().unwrap_or(u32::MAX));
    let kernel = &mut ThisNamespace;
    problems.extend(plan.iter().filter_map(|parameter| parameter.apply(kernel).err()));
    problems.extend(bridge::look(&config, &links, kernel));
    let liberal = kernel.read("net/netfilter/nf_conntrack_tcp_be_liberal");
    Prepared { problems, tcp_is_liberal: liberal.is_ok_and(|value| value.trim() != "0") }
}

/// The families that are in use here, the links, and what could not be seen.
fn look_around(families: &[Family]) -> (Vec<Family>, Vec<Link>, Vec<String>) {
    let seen = Netlink::open()
        .map_err(AddressError::List)
        .and_then(|mut netlink| Ok((addresses(&mut netlink)?, netlink.links())));
    match seen {
        Ok((addresses, Ok(links))) => (in_use(families, &addresses), links, Vec::new()),
        Ok((addresses, Err(error))) => {
            let problem = format!("bridges cannot be looked for: {}", one_line(&error));
            (in_use(families, &addresses), Vec::new(), vec![problem])
        }
        Err(error) => (families.to_vec(), Vec::new(), vec![one_line(&error)]),
    }
}

/// A host of IPv4 alone should not be told what it would need for IPv6, though rules are written for both.
fn in_use(families: &[Family], addresses: &[IpAddr]) -> Vec<Family> {
    let counts = |ip: &IpAddr| match ip {
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    };
    let has_v6 = addresses.iter().any(counts);
    families.iter().copied().filter(|family| *family == Family::V4 || has_v6).collect()
}

#[cfg(test)]
mod tests;
