//! A backend without a kernel: it does what a test tells it and remembers what it was asked.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use netns_tools::NetlinkError;
use netns_tools::conntrack::{Filter, Flow};
use netns_tools::iptables::Family;
use netns_tools::netlink::Action;

use super::{FamilyParts, Predecessor};
use crate::proxy::backend::{Backend, BackendError, Comparison, Scope, SyncReport};
use crate::proxy::conntrack::Flows;
use crate::proxy::model::{PortId, Ports};
use crate::proxy::options::RuleOptions;

/// One sync, as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Everything, or what changed.
    pub full: bool,
    /// How many ports changed; of a full one, 0.
    pub changed: usize,
    /// When.
    pub at: tokio::time::Instant,
}

/// What the kernel would have, and what happens next.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own for a test")]
pub struct FakeState {
    /// The ports in force.
    pub ports: Ports,
    /// The options in force.
    pub options: RuleOptions,
    /// Every sync.
    pub syncs: Vec<Asked>,
    /// How often it was looked at.
    pub looks: usize,
    /// What the next syncs fail with.
    pub failures: VecDeque<String>,
    /// The next sync panics.
    pub panics: bool,
    /// A sync waits while somebody else holds the lock of the tables.
    pub locked: bool,
    /// Somebody took the rules away.
    pub flushed: bool,
    /// How often tracked flows were listed.
    pub listings: usize,
    /// The next listing fails.
    pub listing_fails: bool,
    /// What the backend doubts.
    pub doubts: Vec<String>,
    /// Predecessors that were removed, and how many ports were in force then.
    pub removed: Vec<usize>,
}

/// A handle for the test; the backend has another.
#[derive(Clone, Debug)]
pub struct Fake {
    family: Family,
    notified: bool,
    state: Arc<(Mutex<FakeState>, Condvar)>,
}

impl Fake {
    /// Of a family. `notified`: as if of nf_tables.
    pub fn new(family: Family, notified: bool) -> Self {
        Self { family, notified, state: Arc::default() }
    }

    /// The state.
    pub fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.0.lock().unwrap()
    }

    /// Lets a sync that waits go on.
    pub fn unlock(&self) {
        self.state().locked = false;
        self.state.1.notify_all();
    }

    /// What a runner needs.
    pub fn parts(&self) -> FamilyParts {
        FamilyParts {
            backend: Box::new(self.clone()),
            flows: Box::new(self.clone()),
            predecessors: vec![Box::new(self.clone())],
        }
    }
}

impl Backend for Fake {
    fn family(&self) -> Family {
        self.family
    }

    fn sync(
        &mut self,
        ports: &Ports,
        options: &RuleOptions,
        scope: Scope<'_>,
    ) -> Result<SyncReport, BackendError> {
        let (full, changed) = match scope {
            Scope::Full => (true, 0),
            Scope::Changed(changed) => (false, changed.len()),
        };
        let mut state = self.state();
        state.syncs.push(Asked { full, changed, at: tokio::time::Instant::now() });
        let mut state = self.state.1.wait_while(state, |state| state.locked).unwrap();
        if let Some(reason) = state.failures.pop_front() {
            return Err(BackendError::Host(reason));
        }
        if std::mem::take(&mut state.panics) {
            drop(state);
            panic!("on purpose");
        }
        state.ports = ports.clone();
        state.options = options.clone();
        state.flushed = false;
        Ok(SyncReport { full, changes: changed, ..SyncReport::default() })
    }

    fn plan(&mut self, ports: &Ports, _: &RuleOptions) -> Result<String, BackendError> {
        Ok(format!("{} ports", ports.len()))
    }

    fn compare(
        &mut self,
        _: &Ports,
        _: &RuleOptions,
        _: &dyn Fn(&PortId) -> bool,
    ) -> Result<Comparison, BackendError> {
        Ok(Comparison::default())
    }

    fn is_intact(&mut self) -> Result<bool, BackendError> {
        let mut state = self.state();
        state.looks += 1;
        Ok(!state.flushed)
    }

    fn is_notified(&self) -> bool {
        self.notified
    }

    fn doubts(&mut self) -> Vec<String> {
        self.state().doubts.clone()
    }

    fn cleanup(&mut self) -> Result<(), BackendError> {
        self.state().ports.clear();
        Ok(())
    }
}

/// Nothing is tracked.
impl Flows for Fake {
    fn list(&mut self, _: &Filter, _: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, NetlinkError> {
        let mut state = self.state();
        state.listings += 1;
        if std::mem::take(&mut state.listing_fails) {
            let action = Action { operation: "list flows".into(), object: String::new() };
            return Err(NetlinkError::Refused { action, errno: 1, text: None });
        }
        Ok(Vec::new())
    }

    fn delete(&mut self, _: &Flow) -> Result<bool, NetlinkError> {
        Ok(false)
    }

    fn is_local(&mut self, _: IpAddr) -> Result<bool, NetlinkError> {
        Ok(false)
    }
}

impl Predecessor for Fake {
    fn name(&self) -> &'static str {
        "rules of another mode"
    }

    fn remove(&mut self) -> Result<(), BackendError> {
        let mut state = self.state();
        let in_force = state.ports.len();
        state.removed.push(in_force);
        Ok(())
    }
}
