//! ADD of `firewall`.

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode};
use ipnetwork::IpNetwork;
use netns_tools::iptables::{Family, Iptables};
use netns_tools::sysctl;

use super::chains::{TABLE, Wanted, removals};
use super::conf::{Backend, Conf, Policy, hosts, of_family};
use super::firewalld::Firewalld;
use super::records::{Owner, Record, Records};
use crate::code;
use crate::rules::{self, FAMILIES};
use crate::step::step;
use crate::undo::Undo;

/// Lets the container through and passes the result of the chain so far on.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
    let result = call.conf.prev_result.clone().ok_or_else(no_result)?;
    // A result that this version cannot express is an error now, not after everything is done.
    result.to_json(call.conf.cni_version)?;
    let bridge = conf.isolated_bridge(&result)?;
    let hosts = hosts(Some(&result));
    let families: Vec<_> =
        FAMILIES.into_iter().filter(|family| !of_family(&hosts, *family).is_empty()).collect();
    let firewalld = ready(&conf, &families)?;
    let mut undo = Undo::default();
    let add = Add { conf: &conf, owner: owner(call), hosts: &hosts, bridge: bridge.as_deref() };
    let outcome = add.run(&families, firewalld, &mut undo);
    undo.settle(outcome)?;
    Ok(result)
}

/// The attachment of a call.
pub fn owner(call: &Call<'_>) -> Owner {
    Owner {
        network: call.conf.name.clone(),
        container_id: call.container_id.clone(),
        ifname: call.ifname.clone(),
    }
}

/// Whether everything is there that ADD needs for these families; firewalld if it is to be used.
pub fn ready(conf: &Conf, families: &[Family]) -> Result<Option<Firewalld>, Error> {
    let firewalld = match conf.backend {
        Some(Backend::Iptables) => None,
        None => Firewalld::if_running(),
        Some(Backend::Firewalld) => Some(
            Firewalld::if_running()
                .map_or_else(|| Firewalld::connect().and_then(|_| Err(not_running())), Ok)?,
        ),
    };
    let needs_iptables = firewalld.is_none() || conf.policy != Policy::Open;
    for family in families.iter().filter(|_| needs_iptables) {
        if !Iptables::is_installed(*family) {
            return Err(rules::missing(*family, "let containers through"));
        }
        if conf.policy == Policy::Isolated {
            sees_bridged_packets(*family)?;
        }
    }
    Ok(firewalld)
}

/// Packets within a bridge meet rules only if the bridge is told so. (The reference does not look, and then does not isolate.)
pub fn sees_bridged_packets(family: Family) -> Result<(), Error> {
    let key = match family {
        Family::V4 => "net/bridge/bridge-nf-call-iptables",
        Family::V6 => "net/bridge/bridge-nf-call-ip6tables",
    };
    let why = match sysctl::read(key) {
        Ok(value) if value == "1" => return Ok(()),
        Ok(value) => format!("{key} is {value}"),
        Err(error) => error.to_string(),
    };
    let msg = "ingress policy \"isolated\" cannot keep the containers of a bridge apart here";
    let remedy = format!("modprobe br_netfilter && sysctl -w {}=1", key.replace('/', "."));
    Err(Error::new(code::KERNEL, msg).with_details(format!("{why}; run: {remedy}")))
}

fn not_running() -> Error {
    Error::new(code::RULES, "firewalld is not running").with_details(
        "nobody on the system's bus is org.fedoraproject.FirewallD1: start firewalld, or set \"backend\": \"iptables\"",
    )
}

/// One ADD under way.
struct Add<'a> {
    conf: &'a Conf,
    owner: Owner,
    hosts: &'a [IpNetwork],
    bridge: Option<&'a str>,
}

impl<'a> Add<'a> {
    /// Not undone after a failure, because others may rely on it by then: chains that all containers share, and the isolation of
    /// the bridge.
    fn run(
        &self,
        families: &[Family],
        firewalld: Option<Firewalld>,
        undo: &mut Undo<'a>,
    ) -> Result<(), Error> {
        step("note whose addresses they are", || self.note(firewalld.is_some(), undo))?;
        let with_firewalld = firewalld.is_some();
        if let Some(mut firewalld) = firewalld {
            for host in self.hosts {
                step("add the address to firewalld's zone", || {
                    self.add_source(&mut firewalld, *host, undo)
                })?;
            }
        }
        for family in families.iter().filter(|_| !with_firewalld || self.bridge.is_some()) {
            let name = match family {
                Family::V4 => "make the rules for IPv4",
                Family::V6 => "make the rules for IPv6",
            };
            step(name, || self.make_rules(*family, with_firewalld, undo))?;
        }
        Ok(())
    }

    fn note(&self, with_firewalld: bool, undo: &mut Undo<'a>) -> Result<(), Error> {
        let zone = with_firewalld.then(|| self.conf.zone.clone());
        let record = Record { hosts: self.hosts.to_vec(), zone };
        self.records().write(&self.owner, &record)?;
        let (records, owner) = (self.records(), self.owner.clone());
        undo.push("the note of whose addresses they are", move || records.remove(&owner));
        Ok(())
    }

    fn add_source(
        &self,
        firewalld: &mut Firewalld,
        host: IpNetwork,
        undo: &mut Undo<'a>,
    ) -> Result<(), Error> {
        firewalld.add(&self.conf.zone, host)?;
        let (records, owner, zone) = (self.records(), self.owner.clone(), self.conf.zone.clone());
        undo.push("the address in firewalld's zone", move || {
            if records.unclaimed(&owner, &[host])?.is_empty() {
                return Ok(());
            }
            Firewalld::connect()?.remove(&zone, host)
        });
        Ok(())
    }

    fn make_rules(
        &self,
        family: Family,
        with_firewalld: bool,
        undo: &mut Undo<'a>,
    ) -> Result<(), Error> {
        let hosts = if with_firewalld { Vec::new() } else { of_family(self.hosts, family) };
        let wanted = wanted(self.conf, hosts.clone(), self.bridge);
        rules::change(
            family,
            TABLE,
            "let containers through",
            |table| Ok(wanted.additions(table)),
        )?;
        let (records, owner) = (self.records(), self.owner.clone());
        undo.push("the rules", move || {
            rules::remove(family, TABLE, |table| {
                Ok(removals(table, &records.unclaimed(&owner, &hosts)?))
            })
        });
        Ok(())
    }

    fn records(&self) -> Records {
        Records::new(self.conf.data_dir.clone())
    }
}

/// The rules for addresses of one family.
pub fn wanted<'a>(conf: &'a Conf, hosts: Vec<IpNetwork>, bridge: Option<&'a str>) -> Wanted<'a> {
    let isolation = bridge.map(|bridge| (bridge, conf.policy));
    Wanted { hosts, admin_chain: &conf.admin_chain, isolation }
}

/// The error of an ADD or CHECK that is not behind another plugin.
pub fn no_result() -> Error {
    Error::new(ErrorCode::InvalidConfig, "missing prevResult from earlier plugin").with_details(
        "firewall lets the addresses through that an earlier plugin gave: put it behind one that makes an interface",
    )
}
