//! Connections from the host's own 127.0.0.1 to a mapped port.
//!
//! The kernel takes packets with a loopback address for Martians anywhere but on the loopback, unless `route_localnet` is set
//! on the link by which they leave.

use cni::Error;
use ipnetwork::IpNetwork;
use netns_tools::{Netlink, NetlinkError, sysctl};

use crate::code;
use crate::interface::kernel_error;

/// Allows them on the link towards the container. It stays: other containers behind that link rely on it.
pub fn allow(container: IpNetwork) -> Result<(), Error> {
    let Some(key) = key(container)? else { return Ok(()) };
    sysctl::ensure(&key, "1").map(drop).map_err(|e| {
        let error = Error::from_source(code::KERNEL, &e);
        let msg = format!("unable to enable route_localnet: {}", error.msg);
        Error::new(code::KERNEL, msg).with_details(error.details)
    })
}

/// Whether they are allowed, in words if not.
pub fn difference(container: IpNetwork) -> Result<Option<String>, Error> {
    let Some(key) = key(container)? else { return Ok(None) };
    let value = sysctl::read(&key).map_err(|e| Error::from_source(code::KERNEL, &e))?;
    Ok((value != "1").then(|| format!("{key} is {value}")))
}

/// `None`: no route leads to the container, as in the reference.
fn key(container: IpNetwork) -> Result<Option<String>, Error> {
    let failed = |e: NetlinkError| {
        kernel_error(&format!("cannot find the link towards {}", container.ip()), &e)
    };
    let mut net = Netlink::open().map_err(failed)?;
    let Some(index) = net.link_towards(container.ip()).map_err(failed)? else { return Ok(None) };
    let link = net.link_by_index(index).map_err(failed)?;
    Ok(link.map(|link| format!("net/ipv4/conf/{}/route_localnet", link.name)))
}
