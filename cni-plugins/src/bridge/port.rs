//! The bridge and its port in the kernel: making them, and taking them away again.

use std::cell::RefCell;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread;
use std::time::Duration;

use cni::{Error, ErrorCode};
use netns_tools::{Bridge, Link, MacAddr, NetNs, Netlink, OperState, Veth, sysctl};
use nix::fcntl::{Flock, FlockArg};

use super::conf::Conf;
use super::plan::AddressChange;
use crate::code;
use crate::interface::kernel_error;

/// Tries at a free random name, and at a bridge that comes and goes meanwhile.
const TRIES: usize = 10;
/// Waiting for a port to come up, in milliseconds: dense at first, as it takes the kernel less than one,
/// and as long as the reference in total.
const PORT_WAITS: [u64; 13] = [0, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1526];

/// What this ADD changed on the bridge, for its undoing.
#[derive(Default)]
pub struct BridgeChanges {
    /// This ADD made the bridge.
    pub created: bool,
    /// Addresses that this ADD gave or took.
    pub addresses: Vec<AddressChange>,
}

/// Keeps an ADD that puts a port onto a bridge and one that takes an empty bridge away (because it failed) apart.
///
/// It is a lock on the network namespace that the bridge is in, so it needs no file anywhere and ends with
/// the process.
pub struct BridgeLock(#[expect(dead_code, reason = "held, not read: unlocks on drop")] Flock<File>);

impl BridgeLock {
    /// For putting a port onto a bridge: any number at a time.
    pub fn shared() -> Result<Self, Error> {
        Self::lock(FlockArg::LockShared)
    }

    fn exclusive() -> Result<Self, Error> {
        Self::lock(FlockArg::LockExclusive)
    }

    fn lock(how: FlockArg) -> Result<Self, Error> {
        const PATH: &str = "/proc/thread-self/ns/net";
        let failed = |error: &dyn std::error::Error| {
            Error::new(ErrorCode::Io, format!("cannot lock the network namespace ({PATH})"))
                .with_details(error.to_string())
        };
        let mut file = File::open(PATH).map_err(|e| failed(&e))?;
        loop {
            file = match Flock::lock(file, how) {
                Ok(lock) => return Ok(Self(lock)),
                Err((file, nix::Error::EINTR)) => file,
                Err((_, errno)) => return Err(failed(&errno)),
            }
        }
    }
}

/// Finds or makes the bridge, and sets it up. The flag says whether it was made.
pub fn ensure_bridge(net: &mut Netlink, conf: &Conf) -> Result<(Link, bool), Error> {
    let mut created = false;
    for _ in 0..TRIES {
        let Some(link) = find_bridge(net, &conf.bridge)? else {
            // With a MAC address given at its making the bridge keeps it; otherwise it would take over its
            // ports' and change as they come and go.
            let bridge = Bridge { name: &conf.bridge, mtu: conf.mtu, mac: Some(random_mac()) };
            match net.add_bridge(&bridge) {
                Ok(()) => created = true,
                Err(error) if error.is_exists() => {}
                Err(error) => {
                    let what = format!("cannot add bridge {:?}", conf.bridge);
                    return Err(kernel_error(&what, &error));
                }
            }
            continue;
        };
        prepare_bridge(net, conf, &link)?;
        return Ok((link, created));
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

/// The plugin makes the routes of its interfaces, not router advertisements.
fn own_routes(name: &str) {
    // Fails without IPv6 in the kernel, and then there are no advertisements either.
    let _ = sysctl::ensure(&format!("net/ipv6/conf/{name}/accept_ra"), "0");
}

/// Takes back what this ADD did to the bridge, unless another container is on it by now: that one relies on it.
pub fn undo_bridge(name: &str, changes: &RefCell<BridgeChanges>) -> Result<(), Error> {
    let _lock = BridgeLock::exclusive()?;
    let mut net = Netlink::open().map_err(|e| kernel_error("cannot open netlink", &e))?;
    let failed = |e| kernel_error(&format!("cannot restore bridge {name:?}"), &e);
    let Some(bridge) = net.link(name).map_err(failed)? else { return Ok(()) };
    let links = net.links().map_err(failed)?;
    if links.iter().any(|link| link.master == Some(bridge.index)) {
        return Ok(());
    }
    let changes = changes.borrow();
    if changes.created {
        return net.delete_link(bridge.index).map_err(failed);
    }
    for change in changes.addresses.iter().rev() {
        match change {
            AddressChange::Add(address) => net.delete_address(bridge.index, *address),
            AddressChange::Remove(address) => net.add_address(bridge.index, *address),
        }
        .map_err(failed)?;
    }
    Ok(())
}

/// The two ends of a veth pair.
pub struct Pair {
    /// The host's end.
    pub host: Link,
    /// The container's end, as seen in the container.
    pub container: Link,
}

/// Makes a veth pair, one end placed straight into the container's namespace.
pub fn make_pair(
    host: &mut Netlink,
    inside: &mut Netlink,
    ns: &NetNs,
    conf: &Conf,
    ifname: &str,
) -> Result<Pair, Error> {
    let name = add_veth(host, inside, ns, conf, ifname)?;
    let found = |link: Result<Option<Link>, _>, name: &str| {
        let link = link.map_err(|e| kernel_error(&format!("cannot look up {name:?}"), &e))?;
        link.ok_or_else(|| {
            Error::new(code::KERNEL, format!("{name:?} is gone right after its making"))
        })
    };
    Ok(Pair {
        host: found(host.link(&name), &name)?,
        container: found(inside.link(ifname), ifname)?,
    })
}

fn add_veth(
    host: &mut Netlink,
    inside: &mut Netlink,
    ns: &NetNs,
    conf: &Conf,
    ifname: &str,
) -> Result<String, Error> {
    let mut name = String::new();
    for _ in 0..TRIES {
        name = format!("veth{:08x}", random() >> 32);
        let veth = Veth {
            name: &name,
            peer: ifname,
            peer_ns: Some(ns),
            mtu: conf.mtu,
            mac: None,
            peer_mac: conf.mac,
        };
        match host.add_veth(&veth) {
            Ok(()) => return Ok(name),
            Err(error) if error.is_exists() => refuse_existing(inside, ifname, &name)?,
            Err(error) => {
                let what = format!("cannot make veth pair {name:?} and {ifname:?}");
                return Err(kernel_error(&what, &error));
            }
        }
    }
    let msg = format!("cannot find a free name for the host's end of {ifname:?}");
    Err(Error::new(code::CONFLICT, msg)
        .with_details(format!("the last of {TRIES} tries was {name:?}")))
}

/// "Exists" may mean either end; the container's is an error, the host's another try.
pub fn refuse_existing(inside: &mut Netlink, ifname: &str, peer: &str) -> Result<(), Error> {
    let link = inside.link(ifname);
    if link.map_err(|e| kernel_error(&format!("cannot look up {ifname:?}"), &e))?.is_none() {
        return Ok(());
    }
    let msg = format!("container veth name ({ifname:?}) peer provided ({peer:?}) already exists");
    let details = "the container has an interface of this name: call DEL for it first, or attach under another name";
    Err(Error::new(code::CONFLICT, msg).with_details(details))
}

/// Makes the host's end a port of the bridge.
pub fn attach(net: &mut Netlink, conf: &Conf, bridge: &Link, port: &Link) -> Result<(), Error> {
    own_routes(&port.name);
    net.set_up(port.index)
        .map_err(|e| kernel_error(&format!("cannot set {:?} up", port.name), &e))?;
    net.set_master(port.index, Some(bridge.index)).map_err(|e| {
        kernel_error(&format!("cannot connect {:?} to bridge {:?}", port.name, conf.bridge), &e)
    })?;
    if conf.hairpin {
        net.set_hairpin(port.index, true).map_err(|e| {
            kernel_error(&format!("cannot set hairpin mode on {:?}", port.name), &e)
        })?;
    }
    Ok(())
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

/// A locally administered address of one interface.
fn random_mac() -> MacAddr {
    let [_, _, first, rest @ ..] = random().to_be_bytes();
    let mut mac = [(first & 0xfc) | 0x02, 0, 0, 0, 0, 0];
    mac[1..].copy_from_slice(&rest);
    MacAddr(mac)
}

/// The standard library seeds its hashers from the kernel's random numbers: enough for names that are only
/// to differ, without another dependency.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
