//! A host without a kernel, for tests of the loop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnetwork::IpNetwork;
use netns_tools::NetlinkError;

use super::Host;
use crate::overlay::desired::{Change, Desired, Route};
use crate::overlay::kernel::{Failed, Report, SyncError};
use crate::overlay::rules::fake::FakeNodeRules;
use crate::overlay::rules::{NodeRules, RuleError, RuleInput, RuleReport};
use crate::overlay::underlay::{Reason, Underlay, UnderlayError, Underlays, Wanted};

/// What the fake kernel holds, and how it is to misbehave.
#[derive(Debug, Default)]
pub struct State {
    /// What was written; `None`: nothing was synced yet.
    pub desired: Option<Desired>,
    /// In order: `sync` with the number of routes, or `update` with the number of changes.
    pub calls: Vec<(&'static str, usize)>,
    /// This host's address; `None`: it has none.
    pub address: Option<IpNetwork>,
    /// How often the carrier of its link changed.
    pub carrier_changes: u32,
    /// So many of the next calls fail.
    pub failures: u32,
    /// The next call panics.
    pub panics: bool,
    /// The devices whose names begin so cannot be made.
    pub no_devices: Option<&'static str>,
    /// This host's IPv6 address, if it has one.
    pub address_v6: Option<IpNetwork>,
    /// This destination cannot be written.
    pub refused: Option<IpNetwork>,
    /// None can.
    pub refuses_all: bool,
    /// A file, and whether it was there when each call began.
    pub watched: Option<PathBuf>,
    pub was_there: Vec<bool>,
    pub rules: FakeNodeRules,
}

/// The host. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct FakeHost(Arc<Mutex<State>>);

impl FakeHost {
    /// With an address on its link.
    pub fn at(address: &str) -> Self {
        let host = Self::default();
        host.state().address = Some(address.parse().unwrap());
        host
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Destinations, in order.
    pub fn routes(&self) -> Vec<String> {
        let state = self.state();
        let routes = state.desired.iter().flat_map(|desired| &desired.routes);
        routes.map(|route| route.destination.to_string()).collect()
    }

    /// How often was called what, since the last time that this was asked.
    pub fn take_calls(&self) -> Vec<(&'static str, usize)> {
        std::mem::take(&mut self.state().calls)
    }
}

impl State {
    fn begin(&mut self, call: &'static str, size: usize) -> Result<(), SyncError> {
        self.calls.push((call, size));
        self.was_there.extend(self.watched.as_ref().map(|file| file.exists()));
        assert!(!std::mem::take(&mut self.panics), "the fake is told to panic");
        if self.failures > 0 {
            self.failures -= 1;
            self.desired = None;
            return Err(SyncError::NotSynced);
        }
        Ok(())
    }

    fn lacks(&self, device: &str) -> bool {
        self.no_devices.is_some_and(|start| device.starts_with(start))
    }

    fn put(&mut self, route: &Route, report: &mut Report) {
        if self.refuses_all || self.refused == Some(route.destination) {
            let object = format!("route {}", route.destination);
            report.failed.push(Failed { object, reason: "the fake refuses it".to_owned() });
            return;
        }
        let Some(desired) = &mut self.desired else { return };
        if !desired.routes.contains(route) {
            desired.routes.retain(|known| known.destination != route.destination);
            desired.routes.push(route.clone());
            desired.routes.sort_by_key(|route| route.destination);
            report.put += 1;
        }
    }
}

impl Host for FakeHost {
    fn underlay(&mut self, _: &Wanted<'_>) -> Result<Underlays, UnderlayError> {
        let State { address, address_v6, carrier_changes, .. } = *self.state();
        let address = address.ok_or(UnderlayError::Nothing { candidates: Vec::new() })?;
        let of = |address| {
            let (link, name, mtu, reason) = (2, "eth0".to_owned(), 1500, Reason::DefaultRoute);
            Underlay { link, name, address, mtu, carrier_changes, gateway: None, reason }
        };
        Ok(Underlays { v4: Some(of(address)), v6: address_v6.map(of) })
    }

    fn sync(&mut self, desired: &Desired) -> Result<Report, SyncError> {
        let mut state = self.state();
        state.begin("sync", desired.routes.len())?;
        let before = state.desired.take().unwrap_or_default();
        let mut report = Report::default();
        if before.devices != desired.devices {
            report.devices.push("devices are made".to_owned());
        }
        let is_known = |route: &Route| {
            desired.routes.iter().any(|known| known.destination == route.destination)
        };
        let stays = |route: &&Route| {
            desired.routes.contains(route) || (desired.partial && !is_known(route))
        };
        let kept: Vec<_> = before.routes.iter().filter(stays).cloned().collect();
        report.removed = before.routes.len() - kept.len();
        for device in &desired.devices {
            if state.lacks(&device.name) {
                let object = format!("device {}", device.name);
                report.failed.push(Failed { object, reason: "flannel.1 is in the way".to_owned() });
            }
        }
        let (devices, partial) = (desired.devices.clone(), desired.partial);
        state.desired = Some(Desired { devices, routes: kept, partial });
        for route in &desired.routes {
            state.put(route, &mut report);
        }
        Ok(report)
    }

    fn update(&mut self, changes: &[Change]) -> Result<Report, SyncError> {
        let mut state = self.state();
        state.begin("update", changes.len())?;
        if state.desired.is_none() {
            return Err(SyncError::NotSynced);
        }
        let mut report = Report::default();
        for change in changes {
            match change {
                Change::Put(route) => state.put(route, &mut report),
                Change::Gone(gone) => {
                    let routes = &mut state.desired.as_mut().unwrap().routes;
                    routes.retain(|route| route.destination != *gone);
                    report.removed += 1;
                }
            }
        }
        Ok(report)
    }

    fn devices(&mut self, names: &[String]) -> BTreeMap<String, u32> {
        let state = self.state();
        let there = names.iter().filter(|name| !state.lacks(name));
        there.cloned().zip(7..).collect()
    }

    fn checksum_offload(&mut self, _: &str) -> Option<bool> {
        Some(true)
    }

    fn set_checksum_offload(&mut self, _: &str, _: bool) -> Result<(), NetlinkError> {
        let mut state = self.state();
        state.calls.push(("offload", 1));
        assert!(!std::mem::take(&mut state.panics), "the fake is told to panic");
        Ok(())
    }
}

impl NodeRules for FakeHost {
    fn sync(&mut self, input: &RuleInput) -> Result<RuleReport, RuleError> {
        self.state().rules.sync(input)
    }

    fn update_nodes(
        &mut self,
        added: &[std::net::IpAddr],
        removed: &[std::net::IpAddr],
    ) -> Result<(), RuleError> {
        self.state().rules.update_nodes(added, removed)
    }

    fn is_intact(&mut self) -> Result<bool, RuleError> {
        self.state().rules.is_intact()
    }

    fn dropped(&mut self) -> Result<u64, RuleError> {
        self.state().rules.dropped()
    }

    fn cleanup(&mut self) -> Result<Vec<String>, RuleError> {
        self.state().rules.cleanup()
    }
}
