//! Which of this node's devices are there, and what peers are told of them.

use super::{Outcome, Worker};
use crate::overlay::node::Announcement;
use crate::overlay::plan::Plan;

impl Worker {
    /// What peers are told: the ends of tunnels that are there, so that they use the family that works. What was announced before,
    /// perhaps by flannel, whose device is in the way still, holds until there is something to send to instead.
    pub(super) fn announcement(&self) -> Option<Announcement> {
        let (local, missing) = (self.plan.as_ref()?.local(), self.missing.as_ref()?);
        let devices = local.devices();
        if !devices.is_empty() && devices.iter().all(|device| missing.contains(&device.name)) {
            return None;
        }
        // it names no port
        let by_flannel = |announced: &&Announcement| announced.port.is_none();
        let announced = self.nodes.own().and_then(|own| own.announced.as_ref());
        let held: Vec<_> = announced
            .filter(by_flannel)
            .into_iter()
            .flat_map(|announced| announced.vteps.iter().map(|vtep| vtep.address.is_ipv4()))
            .collect();
        let mut waiting = devices.iter().filter(|device| missing.contains(&device.name));
        let is_held = waiting.any(|device| held.contains(&device.local.is_ipv4()));
        (!is_held).then(|| local.announcement())
    }

    /// Looks which of the plan's devices are there. Whether the plan is another for it: where one of two cannot be made, all that can
    /// goes by the other.
    pub(super) fn look_at_devices(&mut self, outcome: &mut Outcome) -> bool {
        let Some(plan) = &mut self.plan else { return false };
        let devices = plan.local().devices();
        let names: Vec<_> = devices.into_iter().map(|device| device.name).collect();
        let there = self.host.devices(&names);
        let missing: Vec<_> = names.into_iter().filter(|name| !there.contains_key(name)).collect();
        outcome.links = Some(there.into_values().collect());
        let local = plan.local().clone().without(&missing);
        self.missing = Some(missing);
        if *plan.local() == local {
            return false;
        }
        tracing::info!("this node's side of the overlay is {local} now");
        *plan = Plan::new(local, self.nodes.cluster(), self.mtus.clone());
        true
    }
}
