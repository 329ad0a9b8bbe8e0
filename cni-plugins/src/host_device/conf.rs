//! What a configuration may say to `host-device`.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use cni::plugin::Call;
use cni::{Error, ErrorCode, PluginConf};
use netns_tools::{MacAddr, link};

use crate::code;

/// Drivers that give a device to a program, so that it has no link: DPDK.
const USERSPACE_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// How the device is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// By its name.
    Device(String),
    /// By its Ethernet address.
    HwAddr(MacAddr),
    /// By its folder below `/sys/devices`.
    KernelPath(PathBuf),
    /// By its PCI address, such as `0000:00:1f.6`.
    Pci(String),
    /// By its name on the auxiliary bus, such as `mlx5_core.sf.4`.
    Auxiliary(String),
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// Which device.
    pub selector: Selector,
    /// A program drives it: there is no link to be moved.
    pub userspace: bool,
}

impl Conf {
    /// Reads and checks everything, before anything is done. `sys` is where devices are shown.
    pub fn parse(call: &Call<'_>, sys: &Path) -> Result<Self, Error> {
        let keys = &call.conf;
        let mut pci = keys.text("pciBusID")?;
        let mut auxiliary = None;
        if let Some(id) = keys.text("runtimeConfig.deviceID")? {
            (pci, auxiliary) = device_id(sys, id)?;
        }
        let userspace = pci.as_deref().map_or(Ok(false), |pci| is_userspace(sys, pci))?;
        let selector = named(keys, sys)?
            .or(pci.map(Selector::Pci))
            .or(auxiliary.map(Selector::Auxiliary))
            .ok_or_else(|| {
                invalid(r#"specify either "device", "hwaddr", "kernelpath" or "pciBusID""#)
            })?;
        Ok(Self { selector, userspace })
    }
}

/// The keys that win over PCI addresses, in their order.
fn named(keys: &PluginConf, sys: &Path) -> Result<Option<Selector>, Error> {
    if let Some(name) = keys.text("device")? {
        link::check_name(&name).map_err(|error| {
            invalid(format!("device {name:?} cannot be the name of an interface"))
                .with_details(error.to_string())
        })?;
        return Ok(Some(Selector::Device(name)));
    }
    if let Some(text) = keys.text("hwaddr")? {
        let mac = text.parse().map_err(|_| {
            invalid(format!("failed to parse MAC address {text:?}"))
                .with_details("hwaddr is written as 0a:58:0a:01:00:02")
        })?;
        return Ok(Some(Selector::HwAddr(mac)));
    }
    match keys.text("kernelpath")? {
        Some(path) => kernel_path(&path, sys).map(Some),
        None => Ok(None),
    }
}

fn kernel_path(text: &str, sys: &Path) -> Result<Selector, Error> {
    let below = Path::new(text).strip_prefix("/sys/devices/").ok();
    let sound =
        |path: &&Path| path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    let Some(below) = below.filter(sound) else {
        let msg =
            format!("kernel device path {text:?} must be absolute and begin with /sys/devices/");
        return Err(invalid(msg));
    };
    Ok(Selector::KernelPath(sys.join("devices").join(below)))
}

/// What `deviceID` names: a PCI device, else one of the auxiliary bus.
fn device_id(sys: &Path, id: String) -> Result<(Option<String>, Option<String>), Error> {
    check_id(&id)?;
    if sys.join("bus/pci/devices").join(&id).exists() {
        return Ok((Some(id), None));
    }
    if sys.join("bus/auxiliary/devices").join(&id).exists() {
        return Ok((None, Some(id)));
    }
    let msg = format!("runtime config DeviceID {id} not found or unsupported");
    let details = "it is neither in /sys/bus/pci/devices nor in /sys/bus/auxiliary/devices";
    Err(Error::new(code::NO_DEVICE, msg).with_details(details))
}

fn is_userspace(sys: &Path, pci: &str) -> Result<bool, Error> {
    check_id(pci)?;
    let link = sys.join("bus/pci/devices").join(pci).join("driver");
    let driver = fs::canonicalize(&link).map_err(|error| {
        Error::new(code::NO_DEVICE, format!("error with host device: {}: {error}", link.display()))
            .with_details("there must be a PCI device of this address, with a driver")
    })?;
    let name = driver.file_name().unwrap_or_default();
    Ok(USERSPACE_DRIVERS.iter().any(|known| name == *known))
}

/// It becomes a part of a path.
fn check_id(id: &str) -> Result<(), Error> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b":._-".contains(&byte);
    if id.bytes().all(sound) && !id.starts_with('.') {
        return Ok(());
    }
    Err(invalid(format!("{id:?} cannot be a device's id"))
        .with_details("it comes from pciBusID or runtimeConfig.deviceID; such as 0000:00:1f.6"))
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
