//! A veth pair from the host into a container: making it, and taking it away again.

use std::hash::{BuildHasher, Hasher, RandomState};

use cni::{Error, ErrorCode, PluginConf};
use netns_tools::{Link, MacAddr, NetNs, Netlink, Veth, sysctl};

use crate::code;
use crate::interface::kernel_error;

/// Tries at a free random name.
const TRIES: usize = 10;
/// The kernel's limits for veth and bridge devices.
const MTU: std::ops::RangeInclusive<i64> = 68..=65535;

/// The two ends of a veth pair.
pub struct Pair {
    /// The host's end.
    pub host: Link,
    /// The container's end, as seen in the container.
    pub container: Link,
}

/// A veth pair to be made.
pub struct Wanted<'a> {
    /// Where the container's end is put.
    pub ns: &'a NetNs,
    /// Its name there.
    pub ifname: &'a str,
    /// MTU of both ends in bytes; `None`: the kernel's default.
    pub mtu: Option<u32>,
    /// The container's MAC address; `None`: the kernel chooses.
    pub mac: Option<MacAddr>,
}

impl Wanted<'_> {
    /// Makes the pair, the container's end straight in its namespace; the host's gets a random name. Both are down.
    pub fn make(&self, host: &mut Netlink, inside: &mut Netlink) -> Result<Pair, Error> {
        let name = self.add(host, inside)?;
        self.find(host, inside, &name).inspect_err(|_| {
            // The first cause is what is told.
            if let Ok(Some(link)) = host.link(&name) {
                let _ = host.delete_link(link.index);
            }
        })
    }

    fn find(&self, host: &mut Netlink, inside: &mut Netlink, name: &str) -> Result<Pair, Error> {
        let found = |link: Result<Option<Link>, _>, name: &str| {
            let link = link.map_err(|e| kernel_error(&format!("cannot look up {name:?}"), &e))?;
            link.ok_or_else(|| {
                Error::new(code::KERNEL, format!("{name:?} is gone right after its making"))
            })
        };
        Ok(Pair {
            host: found(host.link(name), name)?,
            container: found(inside.link(self.ifname), self.ifname)?,
        })
    }

    fn add(&self, host: &mut Netlink, inside: &mut Netlink) -> Result<String, Error> {
        let mut name = String::new();
        for _ in 0..TRIES {
            name = random_name();
            let veth = Veth {
                name: &name,
                peer: self.ifname,
                peer_ns: Some(self.ns),
                mtu: self.mtu,
                mac: None,
                peer_mac: self.mac,
            };
            match host.add_veth(&veth) {
                Ok(()) => return Ok(name),
                Err(error) if error.is_exists() => refuse_existing(inside, self.ifname, &name)?,
                Err(error) => {
                    let what = format!("cannot make veth pair {name:?} and {:?}", self.ifname);
                    return Err(kernel_error(&what, &error));
                }
            }
        }
        let msg = format!("cannot find a free name for the host's end of {:?}", self.ifname);
        Err(Error::new(code::CONFLICT, msg)
            .with_details(format!("the last of {TRIES} tries was {name:?}")))
    }
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

/// Removes a pair by the index of its host's end; one that is gone is removed.
pub fn remove(host_end: u32) -> Result<(), Error> {
    let mut net = Netlink::open().map_err(|e| kernel_error("cannot open netlink", &e))?;
    match net.delete_link(host_end) {
        Err(error) if !error.is_not_found() => {
            Err(kernel_error("cannot remove the veth pair", &error))
        }
        _ => Ok(()),
    }
}

/// The plugin makes the routes of its interfaces, not router advertisements.
pub fn own_routes(name: &str) {
    // Fails without IPv6 in the kernel, and then there are no advertisements either.
    let _ = sysctl::ensure(&format!("net/ipv6/conf/{name}/accept_ra"), "0");
}

/// Sets the host's end up.
pub fn set_up(net: &mut Netlink, end: &Link) -> Result<(), Error> {
    own_routes(&end.name);
    net.set_up(end.index).map_err(|e| kernel_error(&format!("cannot set {:?} up", end.name), &e))
}

/// The key `mtu`; 0 is the kernel's default.
pub fn mtu(keys: &PluginConf) -> Result<Option<u32>, Error> {
    let mtu: i64 = keys.get("mtu")?.unwrap_or(0);
    match u32::try_from(mtu) {
        Ok(0) => Ok(None),
        Ok(value) if MTU.contains(&mtu) => Ok(Some(value)),
        _ => {
            let msg = format!("invalid MTU {mtu}, must be 0 or [{}, {}]", MTU.start(), MTU.end());
            Err(Error::new(ErrorCode::InvalidConfig, msg))
        }
    }
}

/// A name for a host's end, like the reference's.
pub fn random_name() -> String {
    format!("veth{:08x}", random() >> 32)
}

/// A locally administered address of one interface.
pub fn random_mac() -> MacAddr {
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
