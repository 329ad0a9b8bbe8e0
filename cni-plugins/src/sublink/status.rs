//! STATUS: could ADD be served now?

use cni::Error;
use cni::plugin::Call;
use netns_tools::Netlink;

use super::{Kind, Sublink, parent};
use crate::interface::kernel_error;
use crate::readiness::{not_available, unavailable};

/// Asks the kernel for the kind of link, looks for the master if it is on the host, and asks the IPAM plugin.
pub fn status(call: &Call<'_>, wanted: &Sublink) -> Result<(), Error> {
    let net = Netlink::open().map_err(|e| kernel_error("cannot open netlink", &e));
    let mut net = net.map_err(unavailable)?;
    ask_for_kind(&mut net, wanted.kind).map_err(unavailable)?;
    if !wanted.in_container {
        let parent = parent::find(wanted, &mut net).map_err(unavailable)?;
        if parent.is_some() {
            parent::mtu(wanted, parent.as_ref()).map_err(unavailable)?;
        }
    }
    call.conf.ipam_type.as_deref().map_or(Ok(()), |ipam| call.delegate_status(ipam))
}

fn ask_for_kind(net: &mut Netlink, kind: Kind) -> Result<(), Error> {
    let name = kind.name();
    let module = if name == "vlan" { "8021q" } else { name };
    let what = format!("cannot ask the kernel for {name} interfaces");
    if net.has_link_kind(name).map_err(|e| kernel_error(&what, &e))? {
        return Ok(());
    }
    let msg = format!("this kernel cannot make {name} interfaces");
    let details = format!(
        "its module {module} is not there: try \"modprobe {module}\", or install the kernel's further modules"
    );
    Err(not_available(msg, details))
}
