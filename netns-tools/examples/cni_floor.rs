//! The floor under a CNI plugin: what the kernel alone takes to attach a container to a bridge, and to detach it.
//!
//! The same requests as `bridge` with `host-local` and `isDefaultGateway` makes, over this crate's blocking socket, and nothing else: no
//! configuration, no allocation of addresses, no files, no answer. `ci/bench cni` compares the plugins with it.
//!
//! ```text
//! cni_floor add /run/netns/POD BRIDGE HOST-END 10.99.0.2/16 10.99.0.1
//! cni_floor del /run/netns/POD
//! ```

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use netns_tools::{Bridge, MacAddr, NetNs, Netlink, OperState, Route, Veth};

type Outcome = Result<(), Box<dyn Error>>;

const IFNAME: &str = "eth0";

fn main() -> Outcome {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["add", ns, bridge, host_end, address, gateway] => {
            add(&NetNs::open(ns)?, bridge, host_end, address.parse()?, gateway.parse()?)
        }
        ["del", ns] => del(&NetNs::open(ns)?),
        _ => Err("usage: cni_floor add NETNS BRIDGE HOST-END ADDRESS GATEWAY | del NETNS".into()),
    }
}

fn add(ns: &NetNs, bridge: &str, name: &str, address: IpNetwork, gateway: IpAddr) -> Outcome {
    let mut host = Netlink::open()?;
    let bridge = ensure_bridge(&mut host, bridge, IpNetwork::new(gateway, address.prefix())?)?;
    host.add_veth(&Veth { peer_ns: Some(ns), ..Veth::new(name, IFNAME) })?;
    let end = host.link(name)?.ok_or("the host's end is gone")?.index;
    host.set_up(end)?;
    host.set_master(end, Some(bridge))?;

    let mut inside = Netlink::open_in(ns)?;
    let index = inside.link(IFNAME)?.ok_or("the container's end is gone")?.index;
    inside.add_address(index, address)?;
    inside.set_up(index)?;
    let gateway = Some(gateway);
    inside.add_route(&Route { gateway, oif: Some(index), ..Route::default() })?;
    while host.link_by_index(end)?.ok_or("the host's end is gone")?.oper_state != OperState::Up {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The index of the bridge, which others may be making at the same time.
fn ensure_bridge(
    host: &mut Netlink,
    name: &str,
    address: IpNetwork,
) -> Result<u32, Box<dyn Error>> {
    if let Some(bridge) = host.link(name)?.filter(|bridge| bridge.up) {
        return Ok(bridge.index);
    }
    let mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
    match host.add_bridge(&Bridge { name, mac, ..Bridge::default() }) {
        Err(error) if !error.is_exists() => return Err(error.into()),
        _ => {}
    }
    let index = host.link(name)?.ok_or("the bridge is gone")?.index;
    match host.add_address(index, address) {
        Err(error) if !error.is_exists() => return Err(error.into()),
        _ => {}
    }
    host.set_up(index)?;
    Ok(index)
}

fn del(ns: &NetNs) -> Outcome {
    let mut inside = Netlink::open_in(ns)?;
    if let Some(link) = inside.link(IFNAME)? {
        inside.delete_link(link.index)?;
    }
    Ok(())
}
