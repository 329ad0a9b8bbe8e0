//! What a configuration may say to `tuning`.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use cni::plugin::Call;
use cni::{Error, ErrorCode, PluginConf};
use netns_tools::MacAddr;

use super::change::Change;
use super::sysctls::{self, Sysctl};
use crate::asked::{self, CNI_ARGS_MAC, Mac};

/// The same folder as the reference's.
const DATA_DIR: &str = "/run/cni/tuning";

/// Where the interface's MAC address comes from.
const MAC: Mac = Mac {
    sources: &["mac", CNI_ARGS_MAC, "runtimeConfig.mac", "args.cni.mac"],
    refusal: asked::invalid_args,
};

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
        asked::refuse_unknown_args(call)?;
        let keys = &call.conf;
        let sysctls = sysctls::read(&call.stdin)?;
        for sysctl in &sysctls {
            // GC and STATUS have no interface; any name does to see where a key leads.
            let ifname = if call.ifname.is_empty() { "eth0" } else { &call.ifname };
            sysctl.places(ifname)?;
        }
        Ok(Self {
            sysctls,
            changes: changes(call)?,
            data_dir: keys.text("dataDir")?.unwrap_or_else(|| DATA_DIR.to_owned()).into(),
        })
    }
}

/// The folder alone: DEL must work with a configuration that ADD would refuse.
pub fn data_dir(keys: &PluginConf) -> PathBuf {
    keys.text("dataDir").ok().flatten().unwrap_or_else(|| DATA_DIR.to_owned()).into()
}

/// Every property that is configured. The order is the reference's.
fn changes(call: &Call<'_>) -> Result<Vec<Change>, Error> {
    let keys = &call.conf;
    let promisc = keys.get("args.cni.promisc")?.or(keys.get("promisc")?).unwrap_or(false);
    let mtu = number(keys, "mtu", 1)?.filter(|mtu| *mtu != 0);
    let txqlen = number(keys, "txQLen", 0)?;
    let allmulti = keys.get("args.cni.allmulti")?.or(keys.get("allmulti")?);
    let changes = [
        mac(call)?.map(Change::Mac),
        promisc.then_some(Change::Promisc(true)),
        mtu.map(Change::Mtu),
        txqlen.map(Change::TxQLen),
        allmulti.map(Change::Allmulti),
    ];
    Ok(changes.into_iter().flatten().collect())
}

/// An empty one in `args.cni` takes the others back.
fn mac(call: &Call<'_>) -> Result<Option<MacAddr>, Error> {
    match call.conf.get::<String>("args.cni.mac")? {
        Some(empty) if empty.is_empty() => Ok(None),
        _ => MAC.asked(call),
    }
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
