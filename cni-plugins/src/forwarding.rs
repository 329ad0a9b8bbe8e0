//! Whether the host passes packets on.

use std::net::IpAddr;

use cni::Error;
use netns_tools::sysctl;

use crate::interface::kernel_error;

/// Makes the host forward packets of the family of `address`. Never undone: others may rely on it by then.
pub fn enable(address: IpAddr) -> Result<(), Error> {
    let key =
        if address.is_ipv4() { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" };
    sysctl::ensure(key, "1").map(drop).map_err(|e| kernel_error("failed to enable forwarding", &e))
}
