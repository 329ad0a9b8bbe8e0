//! What a configuration may say to `bridge`.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{Error, ErrorCode};
use netns_tools::{MacAddr, link};

use super::spoof;
use super::vlan::Vlans;
use crate::asked::{self, CNI_ARGS_MAC, Mac};
use crate::masquerade::{self, Backend};
use crate::veth;

const DEFAULT_BRIDGE: &str = "cni0";
/// Where the container's MAC address comes from.
const MAC: Mac = Mac {
    sources: &[CNI_ARGS_MAC, "args.cni.mac", "runtimeConfig.mac"],
    refusal: asked::not_a_mac,
};

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, as the protocol has them")]
pub struct Conf {
    /// The bridge's name.
    pub bridge: String,
    /// The bridge gets the gateway's address, and the host forwards.
    pub gateway: bool,
    /// The container gets a default route to the gateway. Implies `gateway`.
    pub default_gateway: bool,
    /// Replace another address of the bridge.
    pub force_address: bool,
    /// Masquerade what leaves the container's network, and with what.
    pub masquerade: Option<Backend>,
    /// MTU of the veth pair and of a new bridge; `None`: the kernel's default.
    pub mtu: Option<u32>,
    /// The bridge sends frames back to the port that they came from.
    pub hairpin: bool,
    /// The bridge receives every frame.
    pub promiscuous: bool,
    /// The container reaches the bridge, and what is behind it, but no other container that is isolated.
    pub isolated: bool,
    /// The container's frames must carry its interface's MAC address.
    pub spoof_check: bool,
    /// The VLANs of the container's port; `None`: the bridge does not separate any.
    pub vlans: Option<Vlans>,
    /// The container interface's MAC address; `None`: the kernel chooses.
    pub mac: Option<MacAddr>,
    /// IPv6 duplicate address detection in the container.
    pub dad: bool,
    /// Leave the container's interface down.
    pub container_down: bool,
    /// The IPAM plugin; `None`: layer 2 only.
    pub ipam: Option<String>,
}

impl Conf {
    /// Reads and checks everything, before anything is done.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        asked::refuse_unknown_args(call)?;
        let keys = &call.conf;
        let default_gateway = keys.is_on("isDefaultGateway")?;
        let conf = Self {
            bridge: bridge_name(keys.text("bridge")?)?,
            gateway: keys.is_on("isGateway")? || default_gateway,
            default_gateway,
            force_address: keys.is_on("forceAddress")?,
            masquerade: masquerade::wanted(keys)?,
            mtu: veth::mtu(keys)?,
            hairpin: keys.is_on("hairpinMode")?,
            promiscuous: keys.is_on("promiscMode")?,
            isolated: keys.is_on("portIsolation")?,
            spoof_check: keys.is_on("macspoofchk")?,
            vlans: Vlans::parse(keys)?,
            mac: MAC.asked(call)?,
            dad: keys.is_on("enabledad")?,
            container_down: keys.is_on("disableContainerInterface")?,
            ipam: call.conf.ipam_type.clone(),
        };
        conf.check_combinations()?;
        if conf.spoof_check {
            spoof::check_names(&call.container_id, &call.ifname)?;
        }
        Ok(conf)
    }

    fn check_combinations(&self) -> Result<(), Error> {
        if self.ipam.is_some() && self.container_down {
            let msg = "cannot use IPAM when DisableContainerInterface flag is set";
            return Err(invalid(msg));
        }
        if self.hairpin && self.promiscuous {
            let msg = "cannot set hairpin mode and promiscuous mode at the same time";
            return Err(invalid(msg));
        }
        if self.gateway
            && let Some(name) = self.vlan_gateway()
        {
            link::check_name(&name).map_err(|error| {
                invalid(&format!(
                    "bridge {:?} leaves no room for the name of the VLAN's gateway",
                    self.bridge
                ))
                .with_details(error.to_string())
            })?;
        }
        Ok(())
    }

    /// The interface that has the gateway's address, if it is not the bridge itself.
    pub fn vlan_gateway(&self) -> Option<String> {
        let access = self.vlans.as_ref()?.access?;
        Some(format!("{}.{access}", self.bridge))
    }
}

/// What DEL needs. It must work with a configuration that ADD would refuse by now.
#[derive(Debug, PartialEq, Eq)]
pub struct Teardown {
    /// The bridge's name.
    pub bridge: String,
    /// There may be masquerading rules to remove.
    pub masquerade: bool,
    /// There may be rules about its MAC address to remove.
    pub spoof_check: bool,
}

impl Teardown {
    /// Reads what DEL needs. A key that cannot be read is no reason to leave anything: it is taken as if there were rules.
    pub fn parse(call: &Call<'_>) -> Self {
        let keys = &call.conf;
        let bridge = keys.text("bridge").ok().flatten();
        Self {
            bridge: bridge.unwrap_or_else(|| DEFAULT_BRIDGE.to_owned()),
            masquerade: keys.is_on("ipMasq").unwrap_or(true),
            spoof_check: keys.is_on("macspoofchk").unwrap_or(true),
        }
    }
}

fn bridge_name(name: Option<String>) -> Result<String, Error> {
    let name = name.unwrap_or_else(|| DEFAULT_BRIDGE.to_owned());
    link::check_name(&name).map(|()| name.clone()).map_err(|error| {
        invalid(&format!("bridge {name:?} cannot be the name of an interface"))
            .with_details(error.to_string())
    })
}

fn invalid(msg: &str) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
