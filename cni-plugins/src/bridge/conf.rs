//! What a configuration may say to `bridge`.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{Error, ErrorCode};
use netns_tools::{MacAddr, link};
use serde::Deserialize;
use serde_json::Value;

const DEFAULT_BRIDGE: &str = "cni0";
/// The kernel's limits for veth and bridge devices.
const MTU: std::ops::RangeInclusive<i64> = 68..=65535;
const VLAN: std::ops::RangeInclusive<i64> = 0..=4094;

/// The keys, unchecked. `null` counts as absent, as in the reference plugin.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    bridge: Option<String>,
    is_gateway: Option<bool>,
    is_default_gateway: Option<bool>,
    force_address: Option<bool>,
    ip_masq: Option<bool>,
    ip_masq_backend: Option<String>,
    mtu: Option<i64>,
    hairpin_mode: Option<bool>,
    promisc_mode: Option<bool>,
    vlan: Option<i64>,
    vlan_trunk: Option<Vec<Value>>,
    #[serde(rename = "macspoofchk")]
    mac_spoof_check: Option<bool>,
    #[serde(rename = "enabledad")]
    enable_dad: Option<bool>,
    disable_container_interface: Option<bool>,
    port_isolation: Option<bool>,
    args: Option<ArgsKeys>,
    runtime_config: Option<MacKey>,
}

#[derive(Default, Deserialize)]
struct ArgsKeys {
    cni: Option<MacKey>,
}

#[derive(Default, Deserialize)]
struct MacKey {
    mac: Option<String>,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// The bridge's name.
    pub bridge: String,
    /// The bridge gets the gateway's address, and the host forwards.
    pub gateway: bool,
    /// The container gets a default route to the gateway. Implies `gateway`.
    pub default_gateway: bool,
    /// Replace another address of the bridge.
    pub force_address: bool,
    /// Masquerade what leaves the container's network.
    pub masquerade: bool,
    /// MTU of the veth pair and of a new bridge; `None`: the kernel's default.
    pub mtu: Option<u32>,
    /// The bridge sends frames back to the port that they came from.
    pub hairpin: bool,
    /// The bridge receives every frame.
    pub promiscuous: bool,
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
    pub fn parse(call: &Call) -> Result<Self, Error> {
        let keys: Keys = call.conf.keys()?;
        let on = |key: Option<bool>| key.unwrap_or(false);
        let conf = Self {
            bridge: bridge_name(keys.bridge.as_deref())?,
            gateway: on(keys.is_gateway) || on(keys.is_default_gateway),
            default_gateway: on(keys.is_default_gateway),
            force_address: on(keys.force_address),
            masquerade: on(keys.ip_masq),
            mtu: mtu(keys.mtu.unwrap_or(0))?,
            hairpin: on(keys.hairpin_mode),
            promiscuous: on(keys.promisc_mode),
            mac: mac(&keys, call.args.get("MAC"))?,
            dad: on(keys.enable_dad),
            container_down: on(keys.disable_container_interface),
            ipam: call.conf.ipam_type.clone().filter(|name| !name.is_empty()),
        };
        refuse_unsupported(&keys)?;
        conf.check_combinations()?;
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
        Ok(())
    }
}

/// What DEL needs. It must work with a configuration that ADD would refuse by now.
#[derive(Debug, PartialEq, Eq)]
pub struct Teardown {
    /// The bridge's name.
    pub bridge: String,
    /// There may be rules to remove.
    pub masquerade: bool,
}

impl Teardown {
    /// Reads what DEL needs.
    pub fn parse(call: &Call) -> Result<Self, Error> {
        let keys: TeardownKeys = call.conf.keys()?;
        let bridge = keys.bridge.filter(|name| !name.is_empty());
        Ok(Self {
            bridge: bridge.unwrap_or_else(|| DEFAULT_BRIDGE.to_owned()),
            masquerade: keys.ip_masq.unwrap_or(false),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TeardownKeys {
    bridge: Option<String>,
    ip_masq: Option<bool>,
}

fn bridge_name(name: Option<&str>) -> Result<String, Error> {
    let name = name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_BRIDGE);
    link::check_name(name).map(|()| name.to_owned()).map_err(|error| {
        invalid(&format!("bridge {name:?} cannot be the name of an interface"))
            .with_details(error.to_string())
    })
}

/// 0 is the kernel's default.
fn mtu(mtu: i64) -> Result<Option<u32>, Error> {
    match u32::try_from(mtu) {
        Ok(0) => Ok(None),
        Ok(value) if MTU.contains(&mtu) => Ok(Some(value)),
        _ => {
            let msg = format!("invalid MTU {mtu}, must be 0 or [{}, {}]", MTU.start(), MTU.end());
            Err(invalid(&msg))
        }
    }
}

/// The last one given wins: `CNI_ARGS`, then `args.cni`, then `runtimeConfig`.
fn mac(keys: &Keys, from_args: Option<&str>) -> Result<Option<MacAddr>, Error> {
    let of =
        |key: Option<&MacKey>| key.and_then(|key| key.mac.clone()).filter(|mac| !mac.is_empty());
    let given = of(keys.runtime_config.as_ref())
        .or_else(|| of(keys.args.as_ref().and_then(|args| args.cni.as_ref())))
        .or_else(|| from_args.filter(|mac| !mac.is_empty()).map(str::to_owned));
    let Some(text) = given else { return Ok(None) };
    let source = "it comes from CNI_ARGS MAC, args.cni.mac or runtimeConfig.mac";
    let mac: MacAddr = text.parse().map_err(|_| {
        invalid(&format!("{text:?} is not a MAC address such as \"0a:58:0a:01:00:02\""))
            .with_details(source)
    })?;
    if !mac.is_unicast() {
        let msg =
            format!("MAC address {mac} cannot be an interface's: it is a group's or all zero");
        return Err(invalid(&msg).with_details(source));
    }
    Ok(Some(mac))
}

/// Keys that we know and cannot do are refused: without them the container would be less separated than its
/// configuration says.
fn refuse_unsupported(keys: &Keys) -> Result<(), Error> {
    let vlan = keys.vlan.unwrap_or(0);
    if !VLAN.contains(&vlan) {
        let msg = format!("invalid VLAN ID {vlan} (must be between 0 and 4094)");
        return Err(invalid(&msg));
    }
    let masquerade = keys.ip_masq == Some(true);
    let backend = keys.ip_masq_backend.as_deref().filter(|_| masquerade).unwrap_or_default();
    if !matches!(backend, "" | "iptables" | "nftables") {
        return Err(invalid(&format!("unknown ipmasq backend {backend:?}")));
    }
    let set = [
        ("vlan", vlan != 0),
        ("vlanTrunk", keys.vlan_trunk.as_ref().is_some_and(|trunk| !trunk.is_empty())),
        ("macspoofchk", keys.mac_spoof_check == Some(true)),
        ("portIsolation", keys.port_isolation == Some(true)),
        ("ipMasqBackend", backend == "nftables"),
    ];
    let named: Vec<_> = set.iter().filter(|(_, set)| *set).map(|(key, _)| *key).collect();
    if named.is_empty() {
        return Ok(());
    }
    let msg = format!("unsupported field: {}", named.join(", "));
    let details = "this version of bridge has no VLANs, MAC spoof check, port isolation or nftables masquerading; remove the key, or use the reference plugin for this network";
    Err(Error::new(ErrorCode::UnsupportedField, msg).with_details(details))
}

fn invalid(msg: &str) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
