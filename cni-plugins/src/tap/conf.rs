//! What a configuration may say to `tap`.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{Error, ErrorCode, PluginConf};
use netns_tools::{MacAddr, link, selinux};

use crate::asked::{self, CNI_ARGS_MAC, Mac};

/// The kernel's limits for tap devices (`tun_set_iff` in drivers/net/tun.c): 65535 less the Ethernet header.
const MTU: std::ops::RangeInclusive<i64> = 68..=65521;

/// Where the container's MAC address comes from.
const MAC: Mac =
    Mac { sources: &["mac", CNI_ARGS_MAC, "runtimeConfig.mac"], refusal: asked::invalid_args };

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// Several files may be the device's other end at a time.
    pub multi_queue: bool,
    /// `None`: the kernel's default.
    pub mtu: Option<u32>,
    /// `None`: the kernel chooses.
    pub mac: Option<MacAddr>,
    /// The user who may open the device.
    pub owner: Option<u32>,
    /// The group that may.
    pub group: Option<u32>,
    /// The `SELinux` context of the device.
    pub selinux_context: Option<String>,
    /// The bridge in the container whose port it becomes.
    pub bridge: Option<String>,
    /// The IPAM plugin; `None`: layer 2 only.
    pub ipam: Option<String>,
}

impl Conf {
    /// Reads and checks everything, before anything is done.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        asked::refuse_unknown_args(call)?;
        let keys = &call.conf;
        Ok(Self {
            multi_queue: keys.is_on("multiQueue")?,
            mtu: mtu(keys.get("mtu")?.unwrap_or(0))?,
            mac: MAC.asked(call)?,
            owner: keys.get("owner")?,
            group: keys.get("group")?,
            selinux_context: selinux_context(keys)?,
            bridge: bridge(keys.text("bridge")?)?,
            ipam: keys.ipam_type.clone(),
        })
    }

    /// A context needs a kernel that knows what to do with it; without one the device would be less protected than the
    /// configuration says.
    pub fn refuse_missing_selinux(&self, code: ErrorCode) -> Result<(), Error> {
        if self.selinux_context.is_none() || selinux::is_enabled() {
            return Ok(());
        }
        let msg = "selinuxContext is set, and this kernel runs without SELinux";
        Err(Error::new(code, msg)
            .with_details("remove selinuxContext from the configuration of this node"))
    }

    /// The device that it asks for.
    pub fn device<'a>(&self, name: &'a str) -> netns_tools::Tap<'a> {
        netns_tools::Tap {
            name,
            multi_queue: self.multi_queue,
            // The reference makes the device in one of two ways, and only this one asks for it.
            vnet_hdr: self.owner.is_some()
                && self.group.is_some()
                && self.selinux_context.is_none(),
            owner: self.owner,
            group: self.group,
        }
    }
}

/// Written `selinuxcontext` in much of what is told about this plugin: the reference reads keys without regard to case.
fn selinux_context(keys: &PluginConf) -> Result<Option<String>, Error> {
    Ok(keys.text("selinuxContext")?.or(keys.text("selinuxcontext")?))
}

fn bridge(name: Option<String>) -> Result<Option<String>, Error> {
    let Some(name) = name else { return Ok(None) };
    link::check_name(&name).map_err(|error| {
        invalid(format!("bridge {name:?} cannot be the name of an interface"))
            .with_details(error.to_string())
    })?;
    Ok(Some(name))
}

/// 0 is the kernel's default.
fn mtu(mtu: i64) -> Result<Option<u32>, Error> {
    match u32::try_from(mtu) {
        Ok(0) => Ok(None),
        Ok(value) if MTU.contains(&mtu) => Ok(Some(value)),
        _ => {
            let (least, most) = (MTU.start(), MTU.end());
            Err(invalid(format!("invalid MTU {mtu}, must be 0 or [{least}, {most}]")))
        }
    }
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
