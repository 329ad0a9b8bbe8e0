//! What a configuration may say to `tuning`.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use cni::plugin::Call;
use cni::{Error, ErrorCode, PluginConf};
use netns_tools::MacAddr;

use super::change::Change;
use super::sysctls::{self, Sysctl};

/// The same folder as the reference's.
const DATA_DIR: &str = "/run/cni/tuning";
/// As in `bridge`: what is for the IPAM plugin is no error.
const KNOWN_ARGS: [&str; 3] = ["GATEWAY", "IP", "MAC"];

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// Kernel parameters, in the order in which to set them.
    pub sysctls: Vec<Sysctl>,
    /// Properties of the interface, in the order in which to set them.
    pub changes: Vec<Change>,
    /// Where the old properties are kept.
    pub data_dir: PathBuf,
}

impl Conf {
    /// Reads and checks everything, before anything is done.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        call.args.refuse_unknown(&KNOWN_ARGS)?;
        let keys = &call.conf;
        let sysctls = sysctls::read(&call.stdin)?;
        for sysctl in &sysctls {
            // GC and STATUS have no interface; any name does to see where a key leads.
            let ifname = if call.ifname.is_empty() { "eth0" } else { &call.ifname };
            sysctl.places(ifname)?;
        }
        Ok(Self {
            sysctls,
            changes: changes(keys, call.args.get("MAC"))?,
            data_dir: keys.text("dataDir")?.unwrap_or_else(|| DATA_DIR.to_owned()).into(),
        })
    }
}

/// The folder alone: DEL must work with a configuration that ADD would refuse.
pub fn data_dir(keys: &PluginConf) -> PathBuf {
    keys.text("dataDir").ok().flatten().unwrap_or_else(|| DATA_DIR.to_owned()).into()
}

/// Every property that is configured. The order is the reference's.
fn changes(keys: &PluginConf, mac_from_args: Option<&str>) -> Result<Vec<Change>, Error> {
    let promisc = keys.get("args.cni.promisc")?.or(keys.get("promisc")?).unwrap_or(false);
    let mtu = number(keys, "mtu", 1)?.filter(|mtu| *mtu != 0);
    let txqlen = number(keys, "txQLen", 0)?;
    let allmulti = keys.get("args.cni.allmulti")?.or(keys.get("allmulti")?);
    let changes = [
        mac(keys, mac_from_args)?.map(Change::Mac),
        promisc.then_some(Change::Promisc(true)),
        mtu.map(Change::Mtu),
        txqlen.map(Change::TxQLen),
        allmulti.map(Change::Allmulti),
    ];
    Ok(changes.into_iter().flatten().collect())
}

/// A number of the configuration, or of `args.cni`, which wins.
fn number(keys: &PluginConf, key: &str, least: i64) -> Result<Option<u32>, Error> {
    let own: Option<i64> = keys.get(key)?;
    let Some(value) = keys.get(&format!("args.cni.{key}"))?.or(own) else { return Ok(None) };
    let given = u32::try_from(value).ok().filter(|_| value == 0 || value >= least);
    given.map(Some).ok_or_else(|| {
        let msg = format!("invalid {key} {value}, must be [{least}, {}]", u32::MAX);
        Error::new(ErrorCode::InvalidConfig, msg)
    })
}

/// The last one given wins: `mac`, `CNI_ARGS`, `runtimeConfig`, `args.cni`. An empty one in `args.cni` takes the others back.
fn mac(keys: &PluginConf, from_args: Option<&str>) -> Result<Option<MacAddr>, Error> {
    let from_args = from_args.filter(|mac| !mac.is_empty()).map(str::to_owned);
    let own = keys.text("runtimeConfig.mac")?.or(from_args).or(keys.text("mac")?);
    let given = keys.get::<String>("args.cni.mac")?.or(own).filter(|mac| !mac.is_empty());
    let Some(text) = given else { return Ok(None) };
    let source = "it comes from mac, CNI_ARGS MAC, runtimeConfig.mac or args.cni.mac";
    let refuse = |why: &str| {
        let msg = format!("invalid args {text} for MAC addr: {why}");
        Error::new(ErrorCode::InvalidConfig, msg).with_details(source)
    };
    let mac: MacAddr = text.parse().map_err(|_| refuse("it is not a MAC address"))?;
    if !mac.is_unicast() {
        return Err(refuse("it is a group's or all zero"));
    }
    Ok(Some(mac))
}
