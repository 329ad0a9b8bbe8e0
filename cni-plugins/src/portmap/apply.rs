//! ADD of `portmap`.

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode};
use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;

use super::chains::{Names, TABLE, Wanted, removals};
use super::conf::{Backend, Conf, family_of};
use super::{flows, localnet, nftables};
use crate::rules;
use crate::step::step;
use crate::undo::Undo;

/// Makes the mappings and passes the result of the chain so far on.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
    let result = call.conf.prev_result.clone().ok_or_else(not_chained)?;
    // A result that this version cannot express is an error now, not after everything is done.
    result.to_json(call.conf.cni_version)?;
    if conf.mappings.is_empty() {
        return Ok(result);
    }
    if conf.containers.is_empty() {
        eprintln!("no port is mapped: prevResult has no address on {:?}", call.ifname);
        return Ok(result);
    }
    let backend = conf.choose_backend()?;
    if backend == Backend::Nftables {
        conf.refuse_unreadable_conditions()?;
    }
    let mut undo = Undo::default();
    let outcome = map(call, &conf, backend, &mut undo);
    undo.settle(outcome)?;
    Ok(result)
}

/// Not undone after a failure, because others may rely on it by then: chains that all containers share, and that the link
/// towards the container lets loopback addresses through.
fn map(call: &Call<'_>, conf: &Conf, backend: Backend, undo: &mut Undo<'_>) -> Result<(), Error> {
    let names = Names::new(&call.conf.name, &call.container_id);
    for container in &conf.containers {
        let name = match family_of(container.ip()) {
            Family::V4 => "map the ports over IPv4",
            Family::V6 => "map the ports over IPv6",
        };
        step(name, || match backend {
            Backend::Iptables => with_iptables(conf, *container, &names, undo),
            Backend::Nftables => with_nftables(call, conf, *container, undo),
        })?;
        if conf.snat && container.is_ipv4() {
            step("let the host's loopback through", || localnet::allow(*container))?;
        }
    }
    let families: Vec<_> = conf.containers.iter().map(|net| family_of(net.ip())).collect();
    let stale = flows::of_mappings(&conf.mappings, &families);
    if !stale.is_empty() {
        step("forget stale UDP flows", || {
            flows::forget(&stale);
            Ok(())
        })?;
    }
    Ok(())
}

fn with_iptables(
    conf: &Conf,
    container: IpNetwork,
    names: &Names,
    undo: &mut Undo<'_>,
) -> Result<(), Error> {
    let family = family_of(container.ip());
    let wanted = Wanted::new(conf, container, names);
    rules::change(family, TABLE, "map ports", |table| wanted.additions(table))?;
    let names = names.clone();
    undo.push("the port mappings", move || {
        rules::remove(family, TABLE, |table| Ok(removals(table, &names)))
    });
    Ok(())
}

fn with_nftables(
    call: &Call<'_>,
    conf: &Conf,
    container: IpNetwork,
    undo: &mut Undo<'_>,
) -> Result<(), Error> {
    let names = nftables::Names::new(&call.conf.name, &call.container_id);
    nftables::Wanted::new(conf, container, &names).set_up()?;
    undo.push("the port mappings", move || {
        let ip = container.ip();
        nftables::tear_down(family_of(ip), &names, Some(ip), &mut Vec::new())
    });
    Ok(())
}

fn not_chained() -> Error {
    Error::new(ErrorCode::InvalidConfig, "must be called as chained plugin").with_details(
        "portmap leads ports to the address that an earlier plugin gave: put it behind one that makes an interface",
    )
}
