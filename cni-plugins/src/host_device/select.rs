//! Which link of the host is meant.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use cni::Error;
use netns_tools::{Link, Netlink};

use super::conf::Selector;
use crate::code;
use crate::interface::kernel_error;

impl Selector {
    /// The link on the host; `None`: it is not there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find(&self, host: &mut Netlink, sys: &Path) -> Result<Option<Link>, Error> {
        let failed = |e| kernel_error("failed to find host device", &e);
        match self {
            Self::Device(name) => host.link(name).map_err(failed),
            Self::HwAddr(mac) => {
                let links = host.links().map_err(failed)?;
                Ok(links.into_iter().find(|link| link.mac == Some(*mac) && !link.loopback))
            }
            Self::KernelPath(_) | Self::Pci(_) | Self::Auxiliary(_) => {
                let Some(name) = self.folder(sys).and_then(|folder| first_name(&folder)) else {
                    return Ok(None);
                };
                host.link(&name).map_err(failed)
            }
        }
    }

    /// The link on the host, which must be there.
    pub fn require(&self, host: &mut Netlink, sys: &Path) -> Result<Link, Error> {
        self.find(host, sys)?.ok_or_else(|| {
            let msg = format!("failed to find host device: {}", self.absence());
            let details = "it may be with another container, or have another name on this node";
            Error::new(code::NO_DEVICE, msg).with_details(details)
        })
    }

    /// The folder that has a folder for each link of the device.
    fn folder(&self, sys: &Path) -> Option<PathBuf> {
        match self {
            Self::Device(_) | Self::HwAddr(_) => None,
            Self::KernelPath(path) => Some(path.join("net")),
            Self::Auxiliary(id) => Some(sys.join("bus/auxiliary/devices").join(id).join("net")),
            Self::Pci(id) => {
                let device = sys.join("bus/pci/devices").join(id);
                let own = device.join("net");
                if own.exists() { Some(own) } else { virtio_folder(&device) }
            }
        }
    }

    fn absence(&self) -> String {
        match self {
            Self::Device(name) => format!("Link not found: {name}"),
            Self::HwAddr(mac) => format!("failed to find physical interface with address {mac}"),
            Self::KernelPath(path) => {
                format!("failed to find network devices at \"{}\"", path.join("net").display())
            }
            Self::Pci(id) => format!("no net directory under pci device {id}"),
            Self::Auxiliary(id) => format!("no net directory under auxiliary device {id}"),
        }
    }
}

/// Between a virtio device on PCI and its link there is a bus of its own: `…/virtio0/net`.
fn virtio_folder(device: &Path) -> Option<PathBuf> {
    let below = names(device).into_iter().filter(|name| name.starts_with("virtio"));
    below.map(|name| device.join(name).join("net")).find(|folder| folder.exists())
}

fn first_name(folder: &Path) -> Option<String> {
    names(folder).into_iter().next()
}

/// The names in a folder, sorted; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
