//! What a configuration may say to `vlan`.

#[cfg(test)]
mod tests;

use cni::Error;
use cni::plugin::Call;

use crate::sublink::{Addresses, Kind, Master, Sublink, invalid};

/// The greatest VLAN ID; 4095 is reserved (IEEE 802.1Q).
const LAST_ID: u16 = 4094;

/// Reads and checks everything that can be checked without the master.
pub fn parse(call: &Call<'_>) -> Result<Sublink, Error> {
    let keys = &call.conf;
    let Master::Named(master) = Master::parse(keys)? else {
        let msg = "\"master\" field is required. It specifies the host interface name to create the VLAN for";
        return Err(invalid(msg));
    };
    let Some(ipam) = keys.ipam_type.clone() else {
        let details = "add an \"ipam\" section; this plugin makes no interfaces without addresses";
        return Err(invalid("vlan requires an IPAM configuration").with_details(details));
    };
    Ok(Sublink {
        kind: Kind::Vlan(vlan_id(keys.get("vlanId")?.unwrap_or(0))?),
        master: Master::Named(master),
        in_container: keys.is_on("linkInContainer")?,
        mtu: keys.get("mtu")?.unwrap_or(0),
        mac: None,
        addresses: Addresses::Ipam(ipam),
    })
}

fn vlan_id(id: i64) -> Result<u16, Error> {
    u16::try_from(id)
        .ok()
        .filter(|id| *id <= LAST_ID)
        .ok_or_else(|| invalid(&format!("invalid VLAN ID {id} (must be between 0 and {LAST_ID})")))
}
