//! Makes the kernel of this node hold what is desired, and nothing else of ours.
//!
//! Ours are the VXLAN devices `heddle.VNI` and `heddle-v6.VNI` with all that they know, and the main table's routes of protocol
//! [`PROTOCOL`]. Nothing else is touched; what is in the way is told with its owner.

mod device;
mod difference;
mod echoes;
mod entries;
pub mod host;
mod model;

use std::collections::BTreeSet;

use netns_tools::cause::one_line;
use netns_tools::netlink::batch::{Change as KernelChange, Object, Refused, Verb};
use netns_tools::{Link, NetNs, Netlink, NetlinkError, Route};

use self::device::{Alteration, Step};
use self::difference::{Foreign, difference, replacement};
pub use self::echoes::Echoes;
use self::entries::{Devices, Found, Wanted};
use self::host::Host;
use self::model::Model;
use super::desired::{Change, Desired, Device};

/// The number by which our routes are known (`RTA_PROTOCOL`, rtnetlink(7)).
pub const PROTOCOL: u8 = 104;

/// The kernel's network of one namespace. Its calls block; make them on a blocking thread.
#[derive(Debug)]
pub struct Kernel<H = Netlink> {
    host: H,
    /// What was made; `None` before the first [`Self::sync`].
    model: Option<Model>,
    echoes: Echoes,
}

/// Why nothing could be done at all.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The kernel does not answer, or answers nonsense.
    #[error("cannot read the kernel's network")]
    Read(#[source] NetlinkError),
    /// The socket failed amid a batch.
    #[error("cannot change the kernel's network")]
    Write(#[source] NetlinkError),
    /// Nothing is known yet to which a change could be made.
    #[error("a change of the overlay needs a full comparison before it")]
    NotSynced,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was done to devices, in words.
    pub devices: Vec<String>,
    /// How many routes, neighbours, forwarding entries and addresses were made or changed.
    pub put: usize,
    /// How many of them were removed.
    pub removed: usize,
    /// What could not be done. Everything else was. Where this is not empty, another [`Kernel::sync`] should follow a while later.
    pub failed: Vec<Failed>,
}

impl Report {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn fail(&mut self, object: impl Into<String>, error: &NetlinkError) {
        self.failed.push(Failed { object: object.into(), reason: one_line(error) });
    }
}

/// One object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {reason}")]
pub struct Failed {
    /// Which, such as `route 10.244.1.0/24`.
    pub object: String,
    /// Why, and what to do about it.
    pub reason: String,
}

impl Kernel {
    /// Of the calling thread's namespace.
    pub fn open() -> Result<Self, SyncError> {
        Netlink::open().map(Self::with).map_err(SyncError::Read)
    }

    /// Of another namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self, SyncError> {
        Netlink::open_in(ns).map(Self::with).map_err(SyncError::Read)
    }
}

impl<H: Host> Kernel<H> {
    /// Of whatever `host` leads to.
    pub fn with(host: H) -> Self {
        Self { host, model: None, echoes: Echoes::default() }
    }

    /// Tells which notifications are of changes made here.
    pub fn echoes(&self) -> Echoes {
        self.echoes.clone()
    }

    /// Compares all of the kernel's with `desired` and makes it so. To be called at start, after a notification that something of ours
    /// changed, when a [`Report`] had failures, and now and then. With an empty `desired` everything of ours is removed. What stays because `desired` is partial is not known to
    /// [`Self::update`], which takes its place all the same when it is told to.
    pub fn sync(&mut self, desired: &Desired) -> Result<Report, SyncError> {
        // whatever fails on the way, what was known does not hold any more
        self.model = None;
        self.echoes.forget();
        let mut report = Report::default();
        let links = self.host.links().map_err(SyncError::Read)?;
        let stale = self.sync_devices(&links, &desired.devices, &mut report);
        let links = self.host.links().map_err(SyncError::Read)?;
        let devices = usable(&links, &desired.devices);
        self.sync_addresses(&devices, &desired.devices, &mut report);

        let mut wanted = Wanted::of(desired.routes.iter(), &devices);
        wanted.partial = desired.partial;
        let waiting = desired.routes.len() - wanted.routes.len();
        if waiting > 0 {
            let reason = format!("{waiting} of them wait for their device");
            report.failed.push(Failed { object: "routes".into(), reason });
        }
        let found = Found::read(&mut self.host, &devices, &wanted).map_err(SyncError::Read)?;
        let difference = difference(&found, &wanted, &stale);
        let mut model = Model::new(devices, desired.routes.iter().cloned());
        for foreign in &difference.foreign {
            report.failed.push(foreign.describe(name_of(&links, foreign)));
            if foreign.blocks && !found.routes.contains_key(&foreign.route.dst) {
                model.forget(foreign.route.dst);
            }
        }
        self.apply(&difference.changes, &mut model, &mut report)?;
        self.remove_devices(&links, &desired.devices, &mut report);
        self.model = Some(model);
        Ok(report)
    }

    /// Makes `changes` to what was made before, without reading it again: a change costs what it is, not what there is. Somebody
    /// else's route to the same destination that wins against ours by its metric is told by the next [`Self::sync`] only.
    pub fn update(&mut self, changes: &[Change]) -> Result<Report, SyncError> {
        let mut model = self.model.take().ok_or(SyncError::NotSynced)?;
        let mut report = Report::default();
        let (found, wanted, waiting) = model.step(changes);
        report.failed.extend(waiting.into_iter().map(|(destination, device)| Failed {
            object: format!("route {destination}"),
            reason: format!("its device {device} is not there"),
        }));
        let difference = difference(&found, &wanted, &BTreeSet::new());
        self.apply(&difference.changes, &mut model, &mut report)?;
        self.model = Some(model);
        Ok(report)
    }

    /// Makes devices and changes them. Returns those whose forwarding entries must be written again.
    fn sync_devices(
        &mut self,
        links: &[Link],
        wanted: &[Device],
        report: &mut Report,
    ) -> BTreeSet<u32> {
        let mut stale = BTreeSet::new();
        for device in wanted {
            match device::compare(links, device) {
                Step::Make => self.make(device, "made", report),
                Step::MakeAnew(index, reason) => self.make_anew(index, device, &reason, report),
                Step::NotOurs(failed) => report.failed.push(failed),
                Step::Alter(index, all) => {
                    if self.alter(index, device, &all, report) {
                        stale.insert(index);
                    }
                }
            }
        }
        stale
    }

    fn make(&mut self, device: &Device, how: &str, report: &mut Report) {
        let made = self.host.add_device(device).and_then(|()| {
            let links = self.host.links()?;
            let made = links.iter().find(|link| link.name == device.name);
            made.map_or(Ok(()), |link| self.host.set_up(link.index))
        });
        match made {
            Ok(()) => report.devices.push(format!("{} {how}", device.name)),
            Err(error) => report.fail(format!("device {}", device.name), &error),
        }
    }

    fn make_anew(&mut self, index: u32, device: &Device, reason: &str, report: &mut Report) {
        match self.host.delete_link(index) {
            Err(error) if !error.is_not_found() => {
                report.fail(format!("device {}", device.name), &error);
            }
            _ => self.make(device, &format!("made anew: it {reason}"), report),
        }
    }

    /// Returns whether its local address changed.
    fn alter(
        &mut self,
        index: u32,
        device: &Device,
        all: &[Alteration],
        report: &mut Report,
    ) -> bool {
        let mut moved = false;
        for alteration in all {
            let done = match alteration {
                Alteration::Mac(mac) => self.host.set_mac(index, *mac),
                Alteration::Mtu(mtu) => self.host.set_mtu(index, *mtu),
                Alteration::Vxlan(changes) => self.host.change_vxlan(index, changes),
                Alteration::Up => self.host.set_up(index),
            };
            match (done, alteration) {
                (Ok(()), _) => {
                    moved |= matches!(alteration, Alteration::Vxlan(_));
                    report.devices.push(format!("{} set {alteration}", device.name));
                }
                // older kernels change less
                (Err(error), Alteration::Vxlan(_)) => {
                    self.make_anew(
                        index,
                        device,
                        &format!("could not be changed ({})", one_line(&error)),
                        report,
                    );
                    return false;
                }
                (Err(error), _) => report.fail(format!("device {}", device.name), &error),
            }
        }
        moved
    }

    /// New ones before old ones go: with the last address of a family the kernel takes the device's routes of that family.
    fn sync_addresses(&mut self, devices: &Devices, wanted: &[Device], report: &mut Report) {
        for device in wanted {
            let Some(index) = devices.get(&device.name) else { continue };
            if let Err(error) = self.sync_addresses_of(*index, device, report) {
                report.fail(format!("addresses of {}", device.name), &error);
            }
        }
    }

    fn sync_addresses_of(
        &mut self,
        index: u32,
        device: &Device,
        report: &mut Report,
    ) -> Result<(), NetlinkError> {
        let found = self.host.addresses(index)?;
        let (missing, superfluous) = device::addresses(&found, &device.addresses);
        for address in missing {
            match self.host.add_address(index, address) {
                Ok(()) => report.put += 1,
                Err(error) => report.fail(format!("address {address} of {}", device.name), &error),
            }
        }
        for address in superfluous {
            match self.host.delete_address(index, address) {
                Ok(()) => report.removed += 1,
                Err(error) if error.is_not_found() => {}
                Err(error) => report.fail(format!("address {address} of {}", device.name), &error),
            }
        }
        Ok(())
    }

    /// After the routes: until then packets may still go that way.
    fn remove_devices(&mut self, links: &[Link], wanted: &[Device], report: &mut Report) {
        for link in device::superfluous(links, wanted) {
            match self.host.delete_link(link.index) {
                Ok(()) => report.devices.push(format!("{} removed", link.name)),
                Err(error) if error.is_not_found() => {}
                Err(error) => report.fail(format!("device {}", link.name), &error),
            }
        }
    }

    /// Makes changes. What is refused for a reason that can be mended is tried once more.
    fn apply(
        &mut self,
        changes: &[KernelChange],
        model: &mut Model,
        report: &mut Report,
    ) -> Result<(), SyncError> {
        let (mut again, mut failed) = (Vec::new(), Vec::new());
        for refused in self.send(changes, report)? {
            match taken(&changes[refused.position], &refused.error) {
                Some(route) => again.push(route.clone()),
                None => failed.push((changes[refused.position].clone(), refused.error)),
            }
        }
        if !again.is_empty() {
            let changes = self.reconsider(again, model, report)?;
            let refused = self.send(&changes, report)?.into_iter();
            failed
                .extend(refused.map(|refused| (changes[refused.position].clone(), refused.error)));
        }
        for (change, error) in failed {
            if let Object::Route(route) = &change.object {
                model.forget(route.dst);
            }
            report.fail(describe(&change.object), &error);
        }
        Ok(())
    }

    /// Sends changes, counts them, and returns the refused ones that matter: what is to be deleted and is not there, is not.
    fn send(
        &mut self,
        changes: &[KernelChange],
        report: &mut Report,
    ) -> Result<Vec<Refused>, SyncError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        // they may be heard before the batch has ended
        self.echoes.expect(changes);
        let outcome = self.host.apply(changes).map_err(SyncError::Write)?;
        if outcome.unknown > 0 {
            let reason = format!("the kernel's answers to {} changes were lost", outcome.unknown);
            report.failed.push(Failed { object: "a batch".into(), reason });
        }
        let deletes = |change: &KernelChange| change.verb == Verb::Delete;
        let count = |all: &mut dyn Iterator<Item = &KernelChange>| {
            let (gone, put): (Vec<_>, Vec<_>) = all.partition(|change| deletes(change));
            (put.len(), gone.len())
        };
        let (put, removed) = count(&mut changes.iter());
        let (not_put, not_removed) =
            count(&mut outcome.refused.iter().map(|refused| &changes[refused.position]));
        report.put += put - not_put;
        report.removed += removed - not_removed;
        let matters = |refused: &Refused| {
            !(deletes(&changes[refused.position]) && refused.error.is_not_found())
        };
        Ok(outcome.refused.into_iter().filter(matters).collect())
    }

    /// Routes whose place or gateway is taken: by somebody else's route, which is told, or by our own, which is replaced.
    fn reconsider(
        &mut self,
        taken: Vec<Route>,
        model: &mut Model,
        report: &mut Report,
    ) -> Result<Vec<KernelChange>, SyncError> {
        let routes = taken.into_iter().map(|route| (route.dst, route)).collect();
        let mut wanted = Wanted { routes, ..Wanted::default() };
        let found =
            Found::read(&mut self.host, &Devices::new(), &wanted).map_err(SyncError::Read)?;
        let links = self.host.links().map_err(SyncError::Read)?;
        for foreign in difference(&found, &wanted, &BTreeSet::new()).foreign {
            report.failed.push(foreign.describe(name_of(&links, &foreign)));
            if foreign.blocks {
                model.forget(foreign.route.dst);
                wanted.routes.remove(&foreign.route.dst);
            }
        }
        Ok(wanted.routes.values().flat_map(|route| replacement(route, None)).collect())
    }
}

/// The route that could not be made because something has its place already, or its gateway (see [`replacement`]).
fn taken<'a>(change: &'a KernelChange, error: &NetlinkError) -> Option<&'a Route> {
    let Object::Route(route) = &change.object else { return None };
    let place = change.verb == Verb::Add && error.is_exists();
    let gateway = change.verb != Verb::Delete
        && route.dst.is_ipv6()
        && error.errno() == Some(nix::libc::EINVAL);
    (place || gateway).then_some(route)
}

/// The wanted devices that are there and up, as they are now: nothing can be routed by one that could not be set up.
fn usable(links: &[Link], wanted: &[Device]) -> Devices {
    let named = wanted.iter().filter_map(|device| {
        let usable = |link: &&Link| link.name == device.name && link.vxlan.is_some() && link.up;
        let link = links.iter().find(usable)?;
        Some((link.name.clone(), link.index))
    });
    named.collect()
}

fn name_of<'a>(links: &'a [Link], foreign: &Foreign) -> Option<&'a str> {
    let link = links.iter().find(|link| Some(link.index) == foreign.route.oif);
    link.map(|link| link.name.as_str())
}

fn describe(object: &Object) -> String {
    match object {
        Object::Route(route) => format!("route {}", route.dst),
        Object::Neighbour(neighbour) => format!("neighbour {}", neighbour.address),
        Object::Fdb(entry) => format!("forwarding entry {}", entry.mac),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
