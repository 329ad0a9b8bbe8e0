//! What the controller asks of this host. The kernel's in earnest; with state and without a kernel in tests.

use std::collections::BTreeMap;

use netns_tools::{Netlink, NetlinkError};

use crate::overlay::desired::{Change, Desired};
use crate::overlay::kernel::{Echoes, Kernel, Report, SyncError};
use crate::overlay::underlay::{self, UnderlayError, Underlays};

/// Blocking; used by one thread at a time.
pub trait Host: Send {
    /// By which link and addresses this host speaks to other nodes.
    fn underlay(&mut self, wanted: &underlay::Wanted<'_>) -> Result<Underlays, UnderlayError>;

    /// Makes devices, routes, neighbours and forwarding entries what `desired` says, and removes what else is the overlay's.
    fn sync(&mut self, desired: &Desired) -> Result<Report, SyncError>;

    /// Makes these changes to what the last [`Host::sync`] made.
    fn update(&mut self, changes: &[Change]) -> Result<Report, SyncError>;

    /// Those of the VXLAN devices of these names that are there and up, with their indexes.
    fn devices(&mut self, names: &[String]) -> BTreeMap<String, u32>;

    /// Whether a device leaves checksums of what it sends to hardware; `None`: it is not there, or cannot.
    fn checksum_offload(&mut self, device: &str) -> Option<bool>;

    /// Sets whether a device leaves checksums of what it sends to hardware.
    fn set_checksum_offload(&mut self, device: &str, on: bool) -> Result<(), NetlinkError>;
}

/// By what a controller knows its own changes among the kernel's notifications.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// The number of the socket that it writes with ([`netns_tools::monitor::Filter`]); 0 if it cannot be had: then its changes are told.
    pub port: u32,
    /// Of those whose notifications name no socket.
    pub echoes: Echoes,
}

/// This host, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct KernelHost {
    netlink: Netlink,
    kernel: Kernel,
    port: u32,
}

impl KernelHost {
    /// Of the calling thread's namespace.
    pub fn open() -> Result<Self, SyncError> {
        let open = || Netlink::open().map_err(SyncError::Read);
        let (netlink, mut writer) = (open()?, open()?);
        let port = writer.port_id().unwrap_or_default();
        Ok(Self { netlink, kernel: Kernel::with(writer), port })
    }

    /// By what its own changes are known among the kernel's notifications.
    pub fn own(&self) -> Own {
        Own { port: self.port, echoes: self.kernel.echoes() }
    }
}

impl Host for KernelHost {
    fn underlay(&mut self, wanted: &underlay::Wanted<'_>) -> Result<Underlays, UnderlayError> {
        underlay::choose(&underlay::Host::read(&mut self.netlink)?, wanted)
    }

    fn sync(&mut self, desired: &Desired) -> Result<Report, SyncError> {
        self.kernel.sync(desired)
    }

    fn update(&mut self, changes: &[Change]) -> Result<Report, SyncError> {
        self.kernel.update(changes)
    }

    fn devices(&mut self, names: &[String]) -> BTreeMap<String, u32> {
        let device = |name: &String| {
            let link = self.netlink.link(name).ok()??;
            (link.vxlan.is_some() && link.up).then_some((link.name, link.index))
        };
        names.iter().filter_map(device).collect()
    }

    fn checksum_offload(&mut self, device: &str) -> Option<bool> {
        let link = self.netlink.link(device).ok()??;
        self.netlink.tx_checksum_offload(link.index).ok()?
    }

    fn set_checksum_offload(&mut self, device: &str, on: bool) -> Result<(), NetlinkError> {
        match self.netlink.link(device)? {
            Some(link) => self.netlink.set_tx_checksum_offload(link.index, on),
            // it is as wanted when it is made again
            None => Ok(()),
        }
    }
}
