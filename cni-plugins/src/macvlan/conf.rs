//! What a configuration may say to `macvlan`.

#[cfg(test)]
mod tests;

use cni::Error;
use cni::plugin::Call;
use netns_tools::{Macvlan, MacvlanMode};

use crate::asked::{self, CNI_ARGS_MAC, Mac};
use crate::sublink::{Addresses, Kind, Master, Sublink, invalid};

/// Where the container's MAC address comes from.
const MAC: Mac =
    Mac { sources: &["mac", CNI_ARGS_MAC, "runtimeConfig.mac"], refusal: asked::not_a_mac };

/// Reads and checks everything that can be checked without the master.
pub fn parse(call: &Call<'_>) -> Result<Sublink, Error> {
    asked::refuse_unknown_args(call)?;
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
        mac: MAC.asked(call)?,
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
