//! DEL and GC of `firewall`: nobody is let through any more who is not there.

use cni::Error;
use cni::plugin::Call;
use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;

use super::apply::owner;
use super::chains::{TABLE, removals};
use super::conf::{Backend, asked_for, data_dir_or_default, hosts, of_family, zone_or_default};
use super::firewalld::Firewalld;
use super::records::{Owner, Record, Records};
use crate::rules::{self, FAMILIES};
use crate::step::step;

/// Removes what lets an attachment through: the addresses of its result, and those that were noted.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let records = Records::new(data_dir_or_default(&call.conf));
    let owner = owner(call);
    let noted = records.read(&owner);
    let mut all = hosts(call.conf.prev_result.as_ref());
    all.extend(noted.iter().flat_map(|record| &record.hosts).copied());
    all.sort_unstable();
    all.dedup();
    let removal = Removal { records: &records, owner: &owner, hosts: &all };
    // Without a note the backend of its time is a guess: what is in neither costs but a look.
    let asked_for = if noted.is_some() { None } else { asked_for(&call.conf) };
    let zone = match (&noted, asked_for) {
        (Some(record), _) => record.zone.clone(),
        (None, Some(Backend::Iptables)) => None,
        (None, _) => Some(zone_or_default(&call.conf)),
    };
    let (iptables, firewalld) = match asked_for {
        Some(backend) => (backend == Backend::Iptables, backend == Backend::Firewalld),
        None => (noted.as_ref().is_none_or(|record| record.zone.is_none()), zone.is_some()),
    };
    removal.run(iptables, zone.filter(|_| firewalld).as_deref())
}

/// Removes what lets attachments of this network through that are not among the valid ones. Which they are is known of those
/// that our own ADD made.
pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let records = Records::new(data_dir_or_default(&call.conf));
    let mut result = Ok(());
    for owner in records.owners(&call.conf.name)? {
        let is_valid = call
            .valid_attachments
            .iter()
            .any(|valid| valid.container_id == owner.container_id && valid.ifname == owner.ifname);
        if is_valid {
            continue;
        }
        let record = records.read(&owner).unwrap_or(Record { hosts: Vec::new(), zone: None });
        let removal = Removal { records: &records, owner: &owner, hosts: &record.hosts };
        result = result.and(removal.run(record.zone.is_none(), record.zone.as_deref()));
    }
    result
}

/// What is to go.
struct Removal<'a> {
    records: &'a Records,
    owner: &'a Owner,
    hosts: &'a [IpNetwork],
}

impl Removal<'_> {
    /// Removes it from iptables, from a zone of firewalld, or from both. What fails does not keep the rest; the note stays then,
    /// for the next time.
    fn run(&self, iptables: bool, zone: Option<&str>) -> Result<(), Error> {
        let mut result = Ok(());
        if let Some(zone) = zone {
            result = result
                .and(step("remove the addresses from firewalld's zone", || self.sources(zone)));
        }
        for family in FAMILIES.into_iter().filter(|_| iptables) {
            let name = match family {
                Family::V4 => "remove the rules for IPv4",
                Family::V6 => "remove the rules for IPv6",
            };
            let hosts = of_family(self.hosts, family);
            if !hosts.is_empty() {
                result = result.and(step(name, || self.rules(family, &hosts)));
            }
        }
        result?;
        step("forget whose addresses they were", || self.records.remove(self.owner))
    }

    fn rules(&self, family: Family, hosts: &[IpNetwork]) -> Result<(), Error> {
        rules::remove(family, TABLE, |table| {
            // Within the lock, so that nobody claims an address meanwhile.
            Ok(removals(table, &self.records.unclaimed(self.owner, hosts)?))
        })
    }

    /// Without firewalld nobody is let through by it.
    fn sources(&self, zone: &str) -> Result<(), Error> {
        let Some(mut firewalld) = Firewalld::if_running() else { return Ok(()) };
        let unclaimed = self.records.unclaimed(self.owner, self.hosts)?;
        unclaimed.into_iter().map(|host| firewalld.remove(zone, host)).fold(Ok(()), Result::and)
    }
}
