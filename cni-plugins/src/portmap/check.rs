//! CHECK of `portmap`: what ADD promised against what the kernel says now.

use cni::Error;
use cni::plugin::Call;
use ipnetwork::IpNetwork;

use super::chains::{Names, TABLE, Wanted};
use super::conf::{Backend, Conf, family_of};
use super::{localnet, nftables};
use crate::{code, drift, rules};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    drift::promised(call)?;
    if conf.mappings.is_empty() {
        return Ok(());
    }
    let names = Names::new(&call.conf.name, &call.container_id);
    let backend = conf.choose_backend()?;
    let mut found = Vec::new();
    for container in &conf.containers {
        found.extend(match backend {
            Backend::Iptables => in_iptables(&conf, *container, &names)?,
            Backend::Nftables => in_nftables(call, &conf, *container)?,
        });
        if conf.snat && container.is_ipv4() {
            found.extend(localnet::difference(*container)?);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let msg = format!("the port mappings of {:?} are not as ADD left them", call.container_id);
    Err(Error::new(code::DRIFT, msg).with_details(found.join("; ")))
}

fn in_iptables(conf: &Conf, container: IpNetwork, names: &Names) -> Result<Vec<String>, Error> {
    let family = family_of(container.ip());
    let table = rules::read(family, TABLE)?;
    let table = table.ok_or_else(|| rules::missing(family, "check mapped ports"))?;
    Ok(Wanted::new(conf, container, names).differences(&table))
}

fn in_nftables(call: &Call<'_>, conf: &Conf, container: IpNetwork) -> Result<Vec<String>, Error> {
    let names = nftables::Names::new(&call.conf.name, &call.container_id);
    nftables::Wanted::new(conf, container, &names).differences()
}
