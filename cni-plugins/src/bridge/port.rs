//! The bridge and its port in the kernel: making them, and taking them away again.

use std::cell::RefCell;
use std::thread;
use std::time::Duration;

use cni::Error;
use netns_tools::{Bridge, Link, Netlink, OperState, Veth};

use super::conf::Conf;
use super::plan::AddressChange;
use crate::interface::kernel_error;
use crate::lock::NetnsLock;
use crate::veth::own_routes;
use crate::{code, veth};

/// Tries at a free random name, and at what comes and goes meanwhile.
const TRIES: usize = 10;
/// Waiting for a port to come up, in milliseconds: dense at first, as it takes the kernel less than one,
/// and as long as the reference in total.
const PORT_WAITS: [u64; 13] = [0, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1526];

/// What this ADD changed on the bridge, for its undoing.
#[derive(Default)]
pub struct BridgeChanges {
    /// This ADD made the bridge.
    pub created: bool,
    /// The interface of a VLAN's gateway, if this ADD made it.
    pub vlan_gateway: Option<u32>,
    /// Addresses that this ADD gave to or took from the link with this index.
    pub addresses: Vec<(u32, AddressChange)>,
}

/// Finds or makes the bridge, and sets it up. That it was made is noted at once, for the undoing of whatever fails next.
pub fn ensure_bridge(
    net: &mut Netlink,
    conf: &Conf,
    changes: &RefCell<BridgeChanges>,
) -> Result<Link, Error> {
    for _ in 0..TRIES {
        let Some(link) = find_bridge(net, &conf.bridge)? else {
            // With a MAC address given at its making the bridge keeps it; otherwise it would take over its
            // ports' and change as they come and go.
            let bridge = Bridge {
                name: &conf.bridge,
                mtu: conf.mtu,
                mac: Some(veth::random_mac()),
                vlan_filtering: conf.vlans.is_some(),
            };
            match net.add_bridge(&bridge) {
                Ok(()) => changes.borrow_mut().created = true,
                Err(error) if error.is_exists() => {}
                Err(error) => {
                    let what = format!("cannot add bridge {:?}", conf.bridge);
                    return Err(kernel_error(&what, &error));
                }
            }
            continue;
        };
        check_vlan_filtering(conf, &link)?;
        prepare_bridge(net, conf, &link)?;
        return Ok(link);
    }
    let msg = format!("bridge {:?} disappears as often as it is made", conf.bridge);
    Err(Error::new(code::CONFLICT, msg).with_details("another program removes it: stop that one"))
}

/// The bridge of that name; an error if the name is something else's.
pub fn find_bridge(net: &mut Netlink, name: &str) -> Result<Option<Link>, Error> {
    let link = net.link(name).map_err(|e| kernel_error(&format!("cannot look up {name:?}"), &e))?;
    match link {
        Some(link) if link.kind.as_deref() != Some("bridge") => {
            let msg = format!("{name:?} already exists but is not a bridge");
            let kind = link.kind.unwrap_or_else(|| "a physical or built-in device".into());
            let details = format!("it is: {kind}; remove it, or give another name as \"bridge\"");
            Err(Error::new(code::CONFLICT, msg).with_details(details))
        }
        link => Ok(link),
    }
}

/// A bridge that was there before may pass frames from any VLAN to any other; the reference does not mind.
pub fn check_vlan_filtering(conf: &Conf, bridge: &Link) -> Result<(), Error> {
    if conf.vlans.is_none() || bridge.vlan_filtering == Some(true) {
        return Ok(());
    }
    let msg = format!("bridge {:?} does not keep VLANs apart", conf.bridge);
    let details = if bridge.default_pvid.is_none() {
        "this kernel's bridges cannot filter VLANs (CONFIG_BRIDGE_VLAN_FILTERING)".to_owned()
    } else {
        format!("set it with `ip link set {} type bridge vlan_filtering 1`", conf.bridge)
    };
    Err(Error::new(code::CONFLICT, msg).with_details(details))
}

fn prepare_bridge(net: &mut Netlink, conf: &Conf, link: &Link) -> Result<(), Error> {
    if conf.promiscuous {
        net.set_promisc(link.index, true).map_err(|e| {
            kernel_error(&format!("cannot set promiscuous mode on {:?}", conf.bridge), &e)
        })?;
    }
    own_routes(&conf.bridge);
    if link.up {
        return Ok(());
    }
    net.set_up(link.index)
        .map_err(|e| kernel_error(&format!("cannot set bridge {:?} up", conf.bridge), &e))
}

/// Takes back what this ADD did to the bridge, unless another container is on it by now: that one relies on it. The lock keeps out
/// whoever is about to put a port onto it (`Add::connect`).
pub fn undo_bridge(name: &str, changes: &RefCell<BridgeChanges>) -> Result<(), Error> {
    let _lock = NetnsLock::exclusive()?;
    let mut net = Netlink::open().map_err(|e| kernel_error("cannot open netlink", &e))?;
    let failed = |e| kernel_error(&format!("cannot restore bridge {name:?}"), &e);
    let Some(bridge) = net.link(name).map_err(failed)? else { return Ok(()) };
    let links = net.links().map_err(failed)?;
    let changes = changes.borrow();
    let own_port =
        |link: &Link| changes.vlan_gateway.is_some() && link.peer_index == changes.vlan_gateway;
    if links.iter().any(|link| link.master == Some(bridge.index) && !own_port(link)) {
        return Ok(());
    }
    if let Some(gateway) = changes.vlan_gateway {
        net.delete_link(gateway)
            .or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })
            .map_err(failed)?;
    }
    if changes.created {
        return net.delete_link(bridge.index).map_err(failed);
    }
    for (index, change) in changes.addresses.iter().rev() {
        if Some(*index) == changes.vlan_gateway {
            continue;
        }
        match change {
            AddressChange::Add(address) => net.delete_address(*index, *address),
            AddressChange::Remove(address) => net.add_address(*index, *address),
        }
        .map_err(failed)?;
    }
    Ok(())
}

/// The interface that has the addresses of a VLAN's gateway: one end of a veth pair whose other end is a port of the bridge in
/// that VLAN, as in the reference. That it was made is noted at once.
pub fn ensure_vlan_gateway(
    net: &mut Netlink,
    conf: &Conf,
    bridge: &Link,
    name: &str,
    changes: &RefCell<BridgeChanges>,
) -> Result<Link, Error> {
    let failed = |e| kernel_error(&format!("cannot look up {name:?}"), &e);
    let mut created = false;
    for _ in 0..TRIES {
        let Some(link) = net.link(name).map_err(failed)? else {
            created |= add_vlan_gateway(net, name, bridge)?;
            continue;
        };
        let port = match link.peer_index {
            Some(peer) if link.kind.as_deref() == Some("veth") => {
                net.link_by_index(peer).map_err(failed)?
            }
            _ => None,
        };
        let Some(port) = port else {
            let msg = format!("{name:?} already exists but is not a VLAN's gateway");
            let details = format!(
                "remove it, or give another name as \"bridge\": the gateway of VLANs of {:?} is named so",
                conf.bridge
            );
            return Err(Error::new(code::CONFLICT, msg).with_details(details));
        };
        changes.borrow_mut().vlan_gateway = created.then_some(link.index);
        // Also if another ADD made it: that one may still be on its way.
        join(net, &conf.bridge, bridge, &port)?;
        if let Some(id) = conf.vlans.as_ref().and_then(|vlans| vlans.access) {
            let access =
                super::vlan::Vlans { access: Some(id), trunk: Vec::new(), keep_default: false };
            set_vlans(net, &access, bridge, &port)?;
        }
        veth::set_up(net, &link)?;
        return Ok(link);
    }
    let msg = format!("{name:?} disappears as often as it is made");
    Err(Error::new(code::CONFLICT, msg).with_details("another program removes it: stop that one"))
}

/// `false`: one of the names is taken.
fn add_vlan_gateway(net: &mut Netlink, name: &str, bridge: &Link) -> Result<bool, Error> {
    let peer = veth::random_name();
    let pair = Veth { mtu: Some(bridge.mtu), ..Veth::new(name, &peer) };
    match net.add_veth(&pair) {
        Ok(()) => Ok(true),
        Err(error) if error.is_exists() => Ok(false),
        Err(error) => {
            Err(kernel_error(&format!("cannot make the VLAN's gateway {name:?}"), &error))
        }
    }
}

/// Makes the host's end a port of the bridge.
pub fn attach(net: &mut Netlink, conf: &Conf, bridge: &Link, port: &Link) -> Result<(), Error> {
    join(net, &conf.bridge, bridge, port)?;
    if conf.hairpin {
        net.set_hairpin(port.index, true).map_err(|e| {
            kernel_error(&format!("cannot set hairpin mode on {:?}", port.name), &e)
        })?;
    }
    if conf.isolated {
        net.set_isolated(port.index, true)
            .map_err(|e| kernel_error(&format!("cannot isolate {:?}", port.name), &e))?;
    }
    conf.vlans.as_ref().map_or(Ok(()), |vlans| set_vlans(net, vlans, bridge, port))
}

fn join(net: &mut Netlink, name: &str, bridge: &Link, port: &Link) -> Result<(), Error> {
    own_routes(&port.name);
    // One request instead of two: each waits for the lock that every ADD of the host wants.
    net.set_up_on(port.index, bridge.index).map_err(|e| {
        kernel_error(&format!("cannot connect {:?} to bridge {name:?}", port.name), &e)
    })
}

fn set_vlans(
    net: &mut Netlink,
    vlans: &super::vlan::Vlans,
    bridge: &Link,
    port: &Link,
) -> Result<(), Error> {
    if let Some(vlan) = vlans.unwanted(bridge.default_pvid) {
        match net.delete_port_vlan(port.index, vlan) {
            Err(error) if !error.is_not_found() => {
                let what = format!("failed to remove default vlan on interface {:?}", port.name);
                return Err(kernel_error(&what, &error));
            }
            _ => {}
        }
    }
    vlans.wanted().into_iter().try_for_each(|vlan| {
        net.add_port_vlan(port.index, vlan).map_err(|error| {
            kernel_error(&format!("failed to setup vlan tag on interface {:?}", port.name), &error)
        })
    })
}

/// Waits until the port forwards frames: from then on the container is reached.
pub fn wait_for_port(net: &mut Netlink, port: &Link) -> Result<(), Error> {
    let mut state = OperState::Unknown;
    for wait in PORT_WAITS {
        thread::sleep(Duration::from_millis(wait));
        let link = net.link_by_index(port.index);
        let link =
            link.map_err(|e| kernel_error(&format!("cannot look up {:?}", port.name), &e))?;
        let Some(link) = link else {
            let msg = format!("{:?} disappeared while it was set up", port.name);
            return Err(Error::new(code::CONFLICT, msg));
        };
        if link.oper_state == OperState::Up {
            return Ok(());
        }
        state = link.oper_state;
    }
    let msg = format!("bridge port in error state: {state:?}");
    let details =
        format!("{:?} did not come up within {} ms", port.name, PORT_WAITS.iter().sum::<u64>());
    Err(Error::new(code::KERNEL, msg).with_details(details))
}
