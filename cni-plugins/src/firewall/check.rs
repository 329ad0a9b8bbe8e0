//! CHECK of `firewall`: what ADD promised against what is there now.

use cni::Error;
use cni::plugin::Call;

use super::apply::{no_result, ready, sees_bridged_packets, wanted};
use super::chains::TABLE;
use super::conf::{Conf, Policy, hosts, of_family};
use crate::code;
use crate::rules::{self, FAMILIES};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    let result = call.conf.prev_result.as_ref().ok_or_else(no_result)?;
    let bridge = conf.isolated_bridge(result)?;
    let all = hosts(Some(result));
    let mut found = Vec::new();
    let mut firewalld = ready(&conf, &[])?;
    if let Some(firewalld) = &mut firewalld {
        for host in &all {
            if !firewalld.has(&conf.zone, *host)? {
                found.push(format!("the address {host} is not in zone {}", conf.zone));
            }
        }
    }
    for family in FAMILIES {
        let hosts = of_family(&all, family);
        if hosts.is_empty() || (firewalld.is_some() && bridge.is_none()) {
            continue;
        }
        if conf.policy == Policy::Isolated
            && let Err(error) = sees_bridged_packets(family)
        {
            found.push(error.details);
        }
        let hosts = if firewalld.is_some() { Vec::new() } else { hosts };
        let table = rules::read(family, TABLE)?;
        let table = table.ok_or_else(|| rules::missing(family, "check the firewall's rules"))?;
        found.extend(wanted(&conf, hosts, bridge.as_deref()).differences(&table));
    }
    if found.is_empty() {
        return Ok(());
    }
    let msg = format!("the firewall is not as ADD left it for {:?}", call.container_id);
    Err(Error::new(code::DRIFT, msg).with_details(found.join("; ")))
}
