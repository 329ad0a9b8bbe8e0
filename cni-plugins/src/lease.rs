//! What the delegated IPAM plugin answers.

use cni::plugin::Call;
use cni::{CniResult, Dns, Error};

use crate::code;
use crate::step::step;
use crate::undo::Undo;

/// Asks the IPAM plugin for addresses. A failure later on gives them back.
pub fn get<'a>(call: &'a Call<'a>, ipam: &'a str, undo: &mut Undo<'a>) -> Result<CniResult, Error> {
    step("get an address", || {
        let lease = call.delegate_add(ipam)?;
        undo.push("the address allocation", move || call.delegate_del(ipam));
        Ok(lease)
    })
}

/// Refuses an answer without addresses.
pub fn refuse_empty(ipam: &str, lease: &CniResult) -> Result<(), Error> {
    if lease.ips.is_empty() {
        return Err(Error::new(code::CONFLICT, "IPAM plugin returned missing IP config")
            .with_details(format!("{ipam} answered ADD without an address")));
    }
    Ok(())
}

/// The network's own name servers replace the IPAM plugin's as soon as one field is set.
pub fn name_servers(own: &Dns, leased: Dns) -> Dns {
    if own.is_empty() { leased } else { own.clone() }
}
