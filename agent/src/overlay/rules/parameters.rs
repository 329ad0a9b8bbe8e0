//! Kernel parameters: which, why, and what could not be set. See the table in [`super`].

use netns_tools::cause::one_line;
use netns_tools::iptables::Family;
use netns_tools::netlink::Netlink;
use netns_tools::sysctl::{self, SysctlError};

use super::input::RuleInput;
use crate::proxy::host;

/// A parameter as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    key: String,
    value: &'static str,
    /// What does not work without it.
    without: &'static str,
    /// It belongs to a device that may not be there yet, or not have that family.
    of_device: bool,
}

const NOT_FORWARDED: &str = "packets of pods are not forwarded";

/// All that should be so. Pure.
pub(super) fn plan(input: &RuleInput) -> Vec<Parameter> {
    let forwarding =
        [(Family::V4, "net/ipv4/ip_forward"), (Family::V6, "net/ipv6/conf/all/forwarding")];
    let used = forwarding.into_iter().filter(|(family, _)| uses(input, *family));
    let mut all: Vec<_> = used
        .map(|(_, key)| Parameter {
            key: key.to_owned(),
            value: "1",
            without: NOT_FORWARDED,
            of_device: false,
        })
        .collect();
    let devices = input.tunnel.iter().flat_map(|tunnel| &tunnel.devices);
    all.extend(devices.flat_map(|name| of_device(name)));
    all
}

fn of_device(name: &str) -> [Parameter; 3] {
    let slow = "addresses of the device are usable late";
    let useless = "the device gets addresses that nobody in the tunnel can reach";
    [("accept_dad", "0", slow), ("addr_gen_mode", "1", useless), ("accept_ra", "0", useless)].map(
        |(parameter, value, without)| Parameter {
            key: format!("net/ipv6/conf/{name}/{parameter}"),
            value,
            without,
            of_device: true,
        },
    )
}

/// Where reverse paths are filtered strictly: loosely. Where they are not filtered at all it stays so, as it costs each packet a search
/// for its way back.
fn loosened(name: &str) -> Option<Parameter> {
    (rp_filter(name)? == 1).then(|| Parameter {
        key: rp_filter_key(name),
        value: "2",
        without: "packets that other nodes send are dropped where their way back is another",
        of_device: true,
    })
}

fn rp_filter_key(link: &str) -> String {
    format!("net/ipv4/conf/{link}/rp_filter")
}

/// How a link filters reverse paths: 0 not, 1 strictly, 2 loosely; the larger of its own and what is for all counts. `None`: it is not there.
fn rp_filter(link: &str) -> Option<u8> {
    let value = |link: &str| sysctl::read(&rp_filter_key(link)).ok()?.parse::<u8>().ok();
    Some(value(link)?.max(value("all").unwrap_or(0)))
}

/// The tunnel's devices that are to be loosened.
fn strict_devices(input: &RuleInput) -> impl Iterator<Item = Parameter> {
    let devices = input.tunnel.iter().flat_map(|tunnel| &tunnel.devices);
    devices.filter_map(|name| loosened(name))
}

fn uses(input: &RuleInput, family: Family) -> bool {
    input.all_pods().any(|range| family.has(range.ip()))
}

/// Sets the parameters of a VXLAN device: best between making it and setting it up. Answers what could not be set, in words. A device that
/// is not there is no matter.
pub fn prepare_device(name: &str) -> Vec<String> {
    let all = of_device(name).into_iter().chain(loosened(name));
    all.filter_map(|parameter| parameter.ensure().err()).collect()
}

/// Sets what can be set, in the calling thread's network namespace, and answers what is not as it should be, in words with the remedy.
pub(super) fn ensure(input: &RuleInput) -> Vec<String> {
    let mut problems = keep_routers(input);
    let all = plan(input).into_iter().chain(strict_devices(input));
    problems.extend(all.filter_map(|parameter| parameter.ensure().err()));
    problems.extend(strict_underlay(input));
    problems.extend(bridges(input));
    problems
}

/// Whether all is as [`ensure`] makes it, as far as that can be read.
pub(super) fn are_set(input: &RuleInput) -> bool {
    plan(input).iter().all(|parameter| {
        sysctl::read(&parameter.key).map_or(true, |value| value == parameter.value)
    }) && strict_devices(input).next().is_none()
}

impl Parameter {
    fn ensure(&self) -> Result<(), String> {
        match sysctl::ensure(&self.key, self.value) {
            Ok(false) => Ok(()),
            Ok(true) => {
                tracing::info!(
                    parameter = self.dotted(),
                    value = self.value,
                    "kernel parameter set"
                );
                Ok(())
            }
            Err(error) if self.of_device && error.is_not_found() => Ok(()),
            Err(error) => Err(self.problem(sysctl::read(&self.key).ok().as_deref(), &error)),
        }
    }

    /// As sysctl(8) writes it.
    fn dotted(&self) -> String {
        dotted(&self.key)
    }

    fn problem(&self, found: Option<&str>, error: &SysctlError) -> String {
        let Self { value, without, .. } = self;
        let key = self.dotted();
        let is = found.map(|found| format!("is {found} and ")).unwrap_or_default();
        let remedy = if error.is_not_found() {
            "the kernel was built or started without it: boot without ipv6.disable=1, or use no range of that family".to_owned()
        } else {
            format!(
                "set it on the host: `sysctl -w {key}={value}` (a container may have /proc/sys read-only)"
            )
        };
        format!("{key} {is}cannot be set to {value} ({}): {without}; {remedy}", one_line(error))
    }
}

/// A dot in the name of a device is a slash to sysctl(8).
fn dotted(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        })
        .collect()
}

/// A host that learns its default route of IPv6 from other routers forgets it when it becomes a router itself, unless it is told to
/// listen nevertheless (`accept_ra` 2, `Documentation/networking/ip-sysctl.rst`).
fn keep_routers(input: &RuleInput) -> Vec<String> {
    let off = sysctl::read("net/ipv6/conf/all/forwarding").is_ok_and(|value| value == "0");
    if !off || !uses(input, Family::V6) {
        return Vec::new();
    }
    let parameter = |name: &String| Parameter {
        key: format!("net/ipv6/conf/{name}/accept_ra"),
        value: "2",
        without: "the default route that routers announce is lost",
        of_device: true,
    };
    let listens =
        |parameter: &Parameter| sysctl::read(&parameter.key).is_ok_and(|value| value == "1");
    let listening = input.underlay.iter().map(parameter).filter(listens);
    listening.filter_map(|parameter| parameter.ensure().err()).collect()
}

/// A node that sends directly what is answered through the tunnel: strict filtering at the underlay drops it, as the way back is another.
fn strict_underlay(input: &RuleInput) -> Vec<String> {
    if input.tunnel.is_none() || !input.direct || !uses(input, Family::V4) {
        return Vec::new();
    }
    let strict = input.underlay.iter().filter(|link| rp_filter(link) == Some(1));
    strict
        .map(|link| {
            let key = dotted(&rp_filter_key(link));
            format!(
                "rp_filter of {link} is strict (1, by {key} or net.ipv4.conf.all.rp_filter): what a node sends directly while this one sends to it \
                 through the tunnel is dropped; `sysctl -w {key}=2`, or the same overlay.backend on all nodes"
            )
        })
        .collect()
}

/// Where pods are at a bridge, packets from one of its ports to another must be shown to rules.
fn bridges(input: &RuleInput) -> Vec<String> {
    let mut problems = Vec::new();
    for (bridge, family) in pod_bridges(input).unwrap_or_default() {
        problems.extend(host::show_bridged(family, &bridge));
    }
    problems
}

/// The bridges that have an address of this node's pod CIDRs, by family. With routed veths there are none.
fn pod_bridges(input: &RuleInput) -> netns_tools::netlink::Result<Vec<(String, Family)>> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let bridges: Vec<_> =
        links.iter().filter(|link| link.kind.as_deref() == Some("bridge")).collect();
    if bridges.is_empty() {
        return Ok(Vec::new());
    }
    let addresses = netlink.addresses(None)?;
    let mut found = Vec::new();
    for family in [Family::V4, Family::V6] {
        let of_pods = addresses.iter().filter(|address| {
            family.has(address.net.ip())
                && input.local.iter().any(|range| range.contains(address.net.ip()))
        });
        let of_pods: Vec<u32> = of_pods.map(|address| address.index).collect();
        let bridge = bridges.iter().find(|bridge| of_pods.contains(&bridge.index));
        found.extend(bridge.map(|bridge| (bridge.name.clone(), family)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
