//! What a configuration may say to `macvlan`.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{Error, PluginConf};
use netns_tools::{MacAddr, Macvlan, MacvlanMode};

use crate::sublink::{Addresses, Kind, Master, Sublink, invalid};

/// What `CNI_ARGS` may hold without `IgnoreUnknown`. The reference knows `MAC` only, so `IP=…`, which is for the IPAM plugin,
/// makes it fail; a quirk that is not copied.
const KNOWN_ARGS: [&str; 3] = ["GATEWAY", "IP", "MAC"];

/// Reads and checks everything that can be checked without the master.
pub fn parse(call: &Call<'_>) -> Result<Sublink, Error> {
    call.args.refuse_unknown(&KNOWN_ARGS)?;
    let keys = &call.conf;
    let settings = Macvlan {
        mode: mode(keys.text("mode")?)?,
        bc_queue_len: keys.get("bcqueuelen")?.filter(|length| *length != 0),
    };
    Ok(Sublink {
        kind: Kind::Macvlan(settings),
        master: Master::parse(keys)?,
        in_container: keys.is_on("linkInContainer")?,
        mtu: keys.get("mtu")?.unwrap_or(0),
        mac: mac(keys, call.args.get("MAC"))?,
        addresses: keys.ipam_type.clone().map_or(Addresses::None, Addresses::Ipam),
    })
}

fn mode(name: Option<String>) -> Result<MacvlanMode, Error> {
    match name.as_deref() {
        None | Some("bridge") => Ok(MacvlanMode::Bridge),
        Some("private") => Ok(MacvlanMode::Private),
        Some("vepa") => Ok(MacvlanMode::Vepa),
        Some("passthru") => Ok(MacvlanMode::Passthru),
        Some(other) => Err(invalid(&format!("unknown macvlan mode: {other:?}"))
            .with_details("it is bridge, private, vepa or passthru")),
    }
}

/// The last one given wins: `mac`, then `CNI_ARGS`, then `runtimeConfig`.
fn mac(keys: &PluginConf, from_args: Option<&str>) -> Result<Option<MacAddr>, Error> {
    let from_args = from_args.filter(|mac| !mac.is_empty()).map(str::to_owned);
    let given = keys.text("runtimeConfig.mac")?.or(from_args).or(keys.text("mac")?);
    let Some(text) = given else { return Ok(None) };
    let source = "it comes from mac, CNI_ARGS MAC or runtimeConfig.mac";
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
