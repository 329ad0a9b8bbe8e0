//! What is needed of the kernel's network: a netlink socket, or in tests a fake that refuses what the kernel refuses.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::fdb::FdbEntry;
use netns_tools::link::vxlan::{Changes, Vxlan};
use netns_tools::netlink::Result;
use netns_tools::netlink::batch::{Change, Outcome};
use netns_tools::{Address, Link, MacAddr, Neighbour, Netlink, NewLink, Route};

use crate::overlay::desired::Device;

/// The network of one namespace. See [`Netlink`] for what each of them does.
pub trait Host {
    /// Every link.
    fn links(&mut self) -> Result<Vec<Link>>;
    /// The addresses of one link.
    fn addresses(&mut self, link: u32) -> Result<Vec<Address>>;
    /// The routes of every table.
    fn routes(&mut self) -> Result<Vec<Route>>;
    /// What one link knows of addresses.
    fn neighbours(&mut self, link: u32) -> Result<Vec<(IpAddr, Neighbour)>>;
    /// The forwarding entries of one link.
    fn fdb(&mut self, link: u32) -> Result<Vec<FdbEntry>>;
    /// Makes a VXLAN device; it is down and has no addresses.
    fn add_device(&mut self, device: &Device) -> Result<()>;
    /// Deletes a link.
    fn delete_link(&mut self, link: u32) -> Result<()>;
    /// Sets a link's Ethernet address.
    fn set_mac(&mut self, link: u32, mac: MacAddr) -> Result<()>;
    /// Sets a link's MTU, in bytes.
    fn set_mtu(&mut self, link: u32, mtu: u32) -> Result<()>;
    /// Changes what can be changed of a VXLAN device.
    fn change_vxlan(&mut self, link: u32, changes: &Changes) -> Result<()>;
    /// Sets a link up.
    fn set_up(&mut self, link: u32) -> Result<()>;
    /// Gives a link an address.
    fn add_address(&mut self, link: u32, address: IpNetwork) -> Result<()>;
    /// Takes an address off a link.
    fn delete_address(&mut self, link: u32, address: IpNetwork) -> Result<()>;
    /// Makes changes, each whether the others are refused or not.
    fn apply(&mut self, changes: &[Change]) -> Result<Outcome>;
}

impl Host for Netlink {
    fn links(&mut self) -> Result<Vec<Link>> {
        Self::links(self)
    }

    fn addresses(&mut self, link: u32) -> Result<Vec<Address>> {
        Self::addresses(self, Some(link))
    }

    fn routes(&mut self) -> Result<Vec<Route>> {
        Self::routes(self)
    }

    fn neighbours(&mut self, link: u32) -> Result<Vec<(IpAddr, Neighbour)>> {
        Self::neighbours(self, link)
    }

    fn fdb(&mut self, link: u32) -> Result<Vec<FdbEntry>> {
        Self::fdb(self, link)
    }

    fn add_device(&mut self, device: &Device) -> Result<()> {
        let link =
            NewLink { mac: Some(device.mac), mtu: Some(device.mtu), ..NewLink::new(&device.name) };
        let vxlan = Vxlan {
            port: device.port,
            underlay: Some(device.underlay),
            ..Vxlan::new(device.vni, device.local)
        };
        self.add_vxlan(&link, &vxlan)
    }

    fn delete_link(&mut self, link: u32) -> Result<()> {
        Self::delete_link(self, link)
    }

    fn set_mac(&mut self, link: u32, mac: MacAddr) -> Result<()> {
        Self::set_mac(self, link, mac)
    }

    fn set_mtu(&mut self, link: u32, mtu: u32) -> Result<()> {
        Self::set_mtu(self, link, mtu)
    }

    fn change_vxlan(&mut self, link: u32, changes: &Changes) -> Result<()> {
        Self::change_vxlan(self, link, changes)
    }

    fn set_up(&mut self, link: u32) -> Result<()> {
        Self::set_up(self, link)
    }

    fn add_address(&mut self, link: u32, address: IpNetwork) -> Result<()> {
        self.add_address_without_dad(link, address)
    }

    fn delete_address(&mut self, link: u32, address: IpNetwork) -> Result<()> {
        Self::delete_address(self, link, address)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Outcome> {
        Self::apply(self, changes.iter().cloned())
    }
}
