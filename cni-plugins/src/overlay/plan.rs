//! Pure decisions of `overlay`: the configuration that the delegate gets.
//!
//! The rules are those that flannel's plugin documents; what is new is named in the README.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use conf::lease::Lease;
use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

use super::conf::{BRIDGE, Conf, PTP};

/// What the runtime says to the plugin at each call, the delegate is told as well.
const PASSED_ON: [&str; 5] = ["cniVersion", "name", "args", "runtimeConfig", "prevResult"];
/// The specification's own keys, such as `cni.dev/valid-attachments`.
const PASSED_ON_PREFIX: &str = "cni.dev/";
const HOST_LOCAL: &str = "host-local";

/// The delegate's configuration. `call` is ours. Without a lease it is good enough for DEL and GC: rules are looked for whether or
/// not there are any, and addresses are given back by their owner's name.
pub fn delegate(
    call: &Map<String, Value>,
    conf: &Conf,
    lease: Option<&Lease>,
) -> Map<String, Value> {
    let mut keys = conf.delegate.clone();
    keys.insert("type".into(), conf.plugin.clone().into());
    let mut default = |key: &str, value: Value| {
        keys.entry(key).or_insert(value);
    };
    default("ipMasq", lease.is_none_or(|lease| !lease.masquerade()).into());
    if let Some(lease) = lease {
        default("mtu", lease.mtu().into());
    }
    if let Some(dns) = call.get("dns") {
        default("dns", dns.clone());
    }
    if conf.plugin == BRIDGE {
        default("isGateway", true.into());
        default("isDefaultGateway", (conf.switch("isGateway") != Some(false)).into());
        // the one excludes the other
        default("hairpinMode", (conf.switch("promiscMode") != Some(true)).into());
    }
    keys.insert("ipam".into(), ipam(conf, lease).into());
    pass_on(call, &mut keys);
    keys
}

/// What this call says takes the place of what an earlier one said.
pub fn pass_on(call: &Map<String, Value>, keys: &mut Map<String, Value>) {
    for (key, value) in call {
        if PASSED_ON.contains(&key.as_str()) || key.starts_with(PASSED_ON_PREFIX) {
            keys.insert(key.clone(), value.clone());
        }
    }
}

/// What does not matter to DEL or GC of another call, or is another at each.
pub fn without_passing(mut keys: Map<String, Value>) -> Map<String, Value> {
    keys.retain(|key, _| {
        let passing = ["args", "runtimeConfig", "prevResult"].contains(&key.as_str());
        !passing && !key.starts_with(PASSED_ON_PREFIX)
    });
    keys
}

fn ipam(conf: &Conf, lease: Option<&Lease>) -> Map<String, Value> {
    let mut ipam = conf.ipam.clone();
    ipam.entry("type").or_insert(HOST_LOCAL.into());
    let Some(lease) = lease else { return ipam };
    let ranges: Vec<_> = lease.subnets().iter().map(|subnet| json!([range(*subnet)])).collect();
    ipam.insert("ranges".into(), ranges.into());
    let given = ipam.remove("routes");
    let mut routes = given.and_then(|list| list.as_array().cloned()).unwrap_or_default();
    for dst in lease.networks().iter().copied().chain(default_routes(conf, lease)) {
        let dst = Value::from(dst.to_string());
        if !routes.iter().any(|route| route["dst"] == dst) {
            routes.push(json!({ "dst": dst }));
        }
    }
    ipam.insert("routes".into(), routes.into());
    ipam
}

/// The gateway is named only if it is not the one that `host-local` takes by itself, the first address.
fn range(subnet: IpNetwork) -> Value {
    let network = format!("{}/{}", subnet.network(), subnet.prefix());
    let first = match subnet.network() {
        IpAddr::V4(ip) => IpAddr::from(std::net::Ipv4Addr::from(u32::from(ip).wrapping_add(1))),
        IpAddr::V6(ip) => IpAddr::from(std::net::Ipv6Addr::from(u128::from(ip).wrapping_add(1))),
    };
    if subnet.ip() == first {
        json!({ "subnet": network })
    } else {
        json!({ "subnet": network, "gateway": subnet.ip() })
    }
}

/// `bridge` makes them itself; `ptp` has no key for it.
fn default_routes(conf: &Conf, lease: &Lease) -> Vec<IpNetwork> {
    if conf.plugin != PTP || conf.switch("isDefaultGateway") == Some(false) {
        return Vec::new();
    }
    let any = |net: &IpNetwork| match net {
        IpNetwork::V4(_) => "0.0.0.0/0",
        IpNetwork::V6(_) => "::/0",
    };
    lease.subnets().iter().filter_map(|net| any(net).parse().ok()).collect()
}
