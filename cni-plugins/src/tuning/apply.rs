//! ADD of `tuning`: what was is written down first, and set back when a step fails.

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode};
use netns_tools::{Link, MacAddr, NetNs, Netlink, sysctl};

use super::allowlist;
use super::backup::{Backup, BackupFile, Owner};
use super::change::Change;
use super::conf::Conf;
use super::sysctls::Sysctl;
use crate::interface::kernel_error;
use crate::step::step;
use crate::undo::Undo;
use crate::{code, sandbox};

/// Sets what is configured, and answers with what the chain made before, brought up to date.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
    let prev = promised(call)?;
    allowlist::check(&conf.sysctls)?;
    let ns = sandbox::open(call)?;
    let mut undo = Undo::default();
    let outcome = Add::new(call, &conf, &ns).and_then(|mut add| add.run(&mut undo));
    undo.settle(outcome)?;
    Ok(updated(prev.clone(), &call.ifname, &conf.changes))
}

/// What the chain made before, which ADD and CHECK need.
pub fn promised<'a>(call: &'a Call<'_>) -> Result<&'a CniResult, Error> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "Required prevResult missing")
            .with_details("tuning changes what an earlier plugin of the chain made")
    })
}

/// One ADD under way.
struct Add<'a> {
    call: &'a Call<'a>,
    conf: &'a Conf,
    ns: &'a NetNs,
    inside: Netlink,
    /// The interface; `None` if nothing of it is to be changed.
    link: Option<Link>,
    settings: Vec<Setting>,
}

impl<'a> Add<'a> {
    fn new(call: &'a Call<'a>, conf: &'a Conf, ns: &'a NetNs) -> Result<Self, Error> {
        let inside = Netlink::open_in(ns);
        let mut inside = inside.map_err(|e| kernel_error("cannot open netlink", &e))?;
        let link =
            if conf.changes.is_empty() { None } else { Some(find(&mut inside, &call.ifname)?) };
        let settings = Setting::find_all(ns, &conf.sysctls, &call.ifname)?;
        Ok(Self { call, conf, ns, inside, link, settings })
    }

    fn run(&mut self, undo: &mut Undo<'a>) -> Result<(), Error> {
        if let Some(link) = self.link.clone() {
            step("write down what was", || self.back_up(&link, undo))?;
        }
        for setting in std::mem::take(&mut self.settings) {
            step("set a sysctl", || {
                setting.write(self.ns, &setting.value)?;
                let ns = self.ns;
                undo.push("the sysctl", move || match &setting.old {
                    Some(old) => setting.write(ns, old),
                    None => Ok(()),
                });
                Ok(())
            })?;
        }
        let Some(link) = self.link.clone() else { return Ok(()) };
        for change in self.conf.changes.iter().copied() {
            step(change.step(), || {
                change.make(&mut self.inside, &link)?;
                let (ns, link) = (self.ns, link.clone());
                undo.push("the interface's property", move || restore(ns, &link, change));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn back_up(&self, link: &Link, undo: &mut Undo<'a>) -> Result<(), Error> {
        let file = BackupFile::new(&self.conf.data_dir, &self.call.container_id, &self.call.ifname);
        let earlier = file.read()?;
        let owner = Owner::new(self.call, self.ns, link);
        file.write(&Backup::new(owner, &self.conf.changes, link, earlier.clone()))?;
        undo.push("the backup file", move || match earlier {
            Some(earlier) => file.write(&earlier),
            None => file.remove(),
        });
        Ok(())
    }
}

/// Sets back one property to what `before` says.
fn restore(ns: &NetNs, before: &Link, change: Change) -> Result<(), Error> {
    let Some(old) = change.as_it_is(before) else { return Ok(()) };
    let failed = |e| kernel_error("cannot look at the interface", &e);
    let mut inside = Netlink::open_in(ns).map_err(failed)?;
    match inside.link_by_index(before.index).map_err(failed)? {
        Some(now) => old.make(&mut inside, &now),
        None => Ok(()),
    }
}

/// The interface, which must be there.
pub fn find(inside: &mut Netlink, ifname: &str) -> Result<Link, Error> {
    let link = inside.link(ifname);
    let link = link.map_err(|e| kernel_error(&format!("cannot look up {ifname:?}"), &e))?;
    link.ok_or_else(|| {
        Error::new(code::CONFLICT, format!("failed to get {ifname:?}: there is none"))
            .with_details("an earlier plugin of the chain must have made it in the container")
    })
}

/// A kernel parameter that is there.
struct Setting {
    /// Below `/proc/sys`.
    place: String,
    value: String,
    /// `None`: it can only be written.
    old: Option<String>,
}

impl Setting {
    /// Finds all of them, before any is changed.
    fn find_all(ns: &NetNs, sysctls: &[Sysctl], ifname: &str) -> Result<Vec<Self>, Error> {
        if sysctls.is_empty() {
            return Ok(Vec::new());
        }
        let found = ns.visit(|| sysctls.iter().map(|sysctl| Self::find(sysctl, ifname)).collect());
        found.map_err(|e| kernel_error("cannot enter the container's network namespace", &e))?
    }

    fn find(sysctl: &Sysctl, ifname: &str) -> Result<Self, Error> {
        for place in sysctl.places(ifname)? {
            let old = match sysctl::read(&place) {
                Err(error) if error.is_not_found() => continue,
                read => read.ok(),
            };
            return Ok(Self { place, value: sysctl.value.clone(), old });
        }
        let msg = format!("there is no sysctl {:?} in the container", sysctl.key);
        let details = "it may belong to a protocol or an interface that this kernel or the container does not have";
        Err(Error::new(code::CONFLICT, msg).with_details(details))
    }

    fn write(&self, ns: &NetNs, value: &str) -> Result<(), Error> {
        let written = ns.visit(|| sysctl::write(&self.place, value));
        written
            .map_err(|e| kernel_error("cannot enter the container's network namespace", &e))?
            .map_err(|e| kernel_error(&format!("cannot set sysctl {}", self.place), &e))
    }
}

/// The value that a kernel parameter has now, for CHECK.
pub fn current(ns: &NetNs, sysctl: &Sysctl, ifname: &str) -> Result<(String, String), Error> {
    let found = ns.visit(|| {
        let setting = Setting::find(sysctl, ifname)?;
        Ok((format!("/proc/sys/{}", setting.place), setting.old.unwrap_or_default()))
    });
    found.map_err(|e| kernel_error("cannot enter the container's network namespace", &e))?
}

/// The result of the chain with the interface's new address and MTU.
fn updated(mut result: CniResult, ifname: &str, changes: &[Change]) -> CniResult {
    let mac = changes.iter().find_map(|change| match change {
        Change::Mac(mac) => Some(MacAddr::to_string(mac)),
        _ => None,
    });
    let mtu = changes.iter().find_map(|change| match change {
        Change::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    // The host may have an interface of this name as well. Some plugins do not name the sandbox, though.
    let in_sandbox = result.interfaces.iter().any(|i| i.name == ifname && !i.sandbox.is_empty());
    let own = result
        .interfaces
        .iter_mut()
        .filter(|i| i.name == ifname && (!in_sandbox || !i.sandbox.is_empty()));
    for interface in own {
        if let Some(mac) = &mac {
            interface.mac.clone_from(mac);
        }
        // Said only where it was said before: 1.1.0 leaves it to the plugin that makes the interface.
        if interface.mtu.is_some() {
            interface.mtu = mtu.or(interface.mtu);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use cni::Interface;

    use super::*;

    fn interface(name: &str, mac: &str, sandbox: &str, mtu: Option<u32>) -> Interface {
        Interface {
            name: name.into(),
            mac: mac.into(),
            sandbox: sandbox.into(),
            mtu,
            ..Interface::default()
        }
    }

    #[test]
    fn the_result_tells_the_new_values() {
        let changes =
            [Change::Mac(MacAddr([2, 0, 0, 0, 0, 9])), Change::Mtu(1400), Change::Promisc(true)];
        let prev = CniResult {
            interfaces: vec![
                interface("eth0", "02:00:00:00:00:01", "", Some(1500)),
                interface("eth0", "02:00:00:00:00:02", "/x", Some(1500)),
                interface("net1", "02:00:00:00:00:03", "/x", None),
            ],
            ..CniResult::default()
        };
        let result = updated(prev.clone(), "eth0", &changes);
        assert_eq!(result.interfaces[0], prev.interfaces[0], "the host's");
        assert_eq!(result.interfaces[1], interface("eth0", "02:00:00:00:00:09", "/x", Some(1400)));
        assert_eq!(result.interfaces[2], prev.interfaces[2]);
        let result = updated(prev.clone(), "net1", &changes);
        assert_eq!(result.interfaces[2], interface("net1", "02:00:00:00:00:09", "/x", None));
        assert_eq!(updated(prev.clone(), "eth0", &[]), prev);
    }

    #[test]
    fn without_a_sandbox_the_name_must_do() {
        let prev = CniResult {
            interfaces: vec![interface("eth0", "02:00:00:00:00:01", "", None)],
            ..CniResult::default()
        };
        let result = updated(prev, "eth0", &[Change::Mac(MacAddr([2, 0, 0, 0, 0, 9]))]);
        assert_eq!(result.interfaces[0].mac, "02:00:00:00:00:09");
    }
}
