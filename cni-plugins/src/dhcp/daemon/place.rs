//! The container's interface, as the daemon finds it. Nothing of it is kept open longer than an exchange takes.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cni::Error;
use netns_tools::{MacAddr, NetNs, Netlink, NetnsId, OperState, PacketError, PacketSocket};

use crate::code;
use crate::dhcp::datagram::CLIENT;
use crate::interface::kernel_error;

/// How long a link that was set up may take to pass traffic; what is sent before is lost.
const READY: Duration = Duration::from_secs(3);

/// An interface in a namespace.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    namespace: NetnsId,
    ifname: String,
    index: u32,
    mac: MacAddr,
}

impl Place {
    /// Finds the interface.
    pub fn find(path: PathBuf, ifname: &str) -> Result<Self, Error> {
        let (ns, mut net) = open(&path)?;
        let failed = |error| kernel_error(&format!("error looking up {ifname:?}"), &error);
        let link = net.link(ifname).map_err(failed)?.ok_or_else(|| {
            Error::new(code::CONFLICT, format!("error looking up {ifname:?}: Link not found"))
                .with_details(format!(
                    "in {}: IPAM comes after the interface is made",
                    path.display()
                ))
        })?;
        let mac = link.mac.ok_or_else(|| {
            let msg = format!("{ifname:?} has no Ethernet address");
            Error::new(code::CONFLICT, msg).with_details("DHCP needs an Ethernet interface")
        })?;
        Ok(Self { namespace: ns.id(), ifname: ifname.to_owned(), index: link.index, mac, path })
    }

    /// The namespace.
    pub fn namespace(&self) -> NetnsId {
        self.namespace
    }

    /// The interface's index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The interface's Ethernet address.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Whether the interface is certainly not there any more. Another interface of its name is another one.
    pub fn has_vanished(&self) -> bool {
        let Ok(ns) = NetNs::open(&self.path) else { return true };
        if ns.id() != self.namespace {
            return true;
        }
        let link = Netlink::open_in(&ns).and_then(|mut net| net.link(&self.ifname));
        link.is_ok_and(|link| link.is_none_or(|link| link.index != self.index))
    }

    /// Sets the interface up and waits until traffic passes. Whether it was down before.
    pub fn set_up(&self) -> Result<bool, Error> {
        let (_ns, mut net) = self.open()?;
        let failed = |error| kernel_error(&format!("cannot set {:?} up", self.ifname), &error);
        let link = net.link_by_index(self.index).map_err(failed)?;
        let was_down = link.is_some_and(|link| !link.up);
        if was_down {
            net.set_up(self.index).map_err(failed)?;
        }
        let start = Instant::now();
        while start.elapsed() < READY {
            let link = net.link_by_index(self.index).map_err(failed)?;
            if link.is_none_or(|link| matches!(link.oper_state, OperState::Up | OperState::Unknown))
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(was_down)
    }

    /// Sets the interface down, if it is there.
    pub fn set_down(&self) -> Result<(), Error> {
        let (_ns, mut net) = self.open()?;
        match net.set_down(self.index) {
            Err(error) if !error.is_not_found() => {
                Err(kernel_error(&format!("cannot set {:?} down", self.ifname), &error))
            }
            _ => Ok(()),
        }
    }

    /// Opens what an exchange needs.
    pub fn listen(&self) -> Result<Ear, PacketError> {
        let ns = NetNs::open(&self.path)?;
        let socket = PacketSocket::open_in(&ns, self.index, CLIENT)?;
        // Best effort: a client of the container's own may have the port.
        let sink = ns.visit(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENT)).ok())?;
        Ok(Ear { socket, _sink: sink })
    }

    fn open(&self) -> Result<(NetNs, Netlink), Error> {
        let (ns, net) = open(&self.path)?;
        if ns.id() == self.namespace {
            return Ok((ns, net));
        }
        let msg = format!("{} is another namespace by now", self.path.display());
        Err(Error::new(code::INVALID_NETNS, msg))
    }
}

fn open(path: &std::path::Path) -> Result<(NetNs, Netlink), Error> {
    let failed = |error: &dyn std::error::Error| Error {
        code: code::INVALID_NETNS,
        ..kernel_error(&format!("failed to open netns {:?}", path.display().to_string()), error)
    };
    let ns = NetNs::open(path).map_err(|error| failed(&error))?;
    let net = Netlink::open_in(&ns).map_err(|error| failed(&error))?;
    Ok((ns, net))
}

/// What is open during an exchange.
pub struct Ear {
    /// Hears answers, for whatever address they are.
    pub socket: PacketSocket,
    /// Takes in what is for the container's own address: without it, the container would answer the server's answer with
    /// "port unreachable".
    _sink: Option<UdpSocket>,
}
