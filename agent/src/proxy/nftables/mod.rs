//! Services as nftables: one table per family, `ip heddle` and `ip6 heddle`, written straight over netlink.
//!
//! | file | what |
//! | --- | --- |
//! | `layout` | the sets and maps |
//! | `skeleton` | base chains, and the chains that they lead to |
//! | `route`, `registers` | the chains that choose an endpoint |
//! | `affinity` | those that remember who went where |
//! | `port` | what one port of a service adds |
//! | `state` | what was committed, and what a change means for it |
//! | `objects`, `transaction` | a table, and changes of one, as plain data |
//! | `listed`, `summary` | what the kernel holds, and whether that is right |
//! | `difference` | what it takes to make it right |
//! | `text` | all of it in the words of nft(8) |
//!
//! # Layout
//! ```text
//! services, nodeports    address . protocol . port → goto cluster-3
//! chain cluster-3        dnat to address . protocol . port . numgen random mod 3 map @backends
//! backends               address . protocol . port . number → endpoint
//! ```
//! The modulus is a constant of the rule, so there is a chain for each number of endpoints that some service has (and each way in):
//! a handful, made when first needed and deleted with the last user. A changed endpoint is two elements, a
//! packet costs two look-ups, whatever the number of services. Endpoints of policy Local have numbers from 65536 on. Two tables
//! rather than one `inet`: each family is synced, repaired and removed by itself, and no rule asks for the family.
//!
//! What was tried (Linux 6.18, 10 000 services with 2 endpoints each; milliseconds of processor time for all of a sync, kernel
//! included, unoptimised build on a busy machine with 2 cores):
//!
//! | layout | first sync | endpoint replaced | added | removed |
//! | --- | --- | --- | --- | --- |
//! | this one | 160 | 1.7 | 4.8 | 1.6 |
//! | a first map leads to the service's own key, a second to its route, a third to the endpoint | 218 | 2.9 | 5.2 | 1.0 |
//!
//! Another verdict in `services` takes the kernel 3.5 ms with 10 000 services and 0.2 ms with 100.
//!
//! The second is the better one for the kernel: external addresses share the endpoints' elements, and `services` holds data, so
//! that the kernel need not validate every chain that its verdicts lead to whenever one is added (all that grows here with the
//! number of services). But a map's answer that is the key of the next map ends nft(8) (1.0.6, an assertion in
//! `netlink_parse_concat_expr`), also when it was to list the whole ruleset, so the first thing that an operator tries would fail.
//! For that nft a map's answer has no length, also masked: neither a key nor what a dynamic map is told may come from one.
//!
//! # Session affinity
//! Therefore a service that remembers its clients has chains of its own and a set for each endpoint, as kube-proxy's have
//! (`affinity`). All its addresses and node ports share them. The sets are adopted at a restart with who is in them; an endpoint
//! that goes takes its set along, and another time-out makes other sets, which are empty. 65535 clients of an endpoint are
//! remembered; more are served without.
//!
//! The price, on the same machine (milliseconds of processor time, kernel included; all services with affinity):
//!
//! | services × endpoints | first sync | endpoint replaced |
//! | --- | --- | --- |
//! | 1 × 100 | 10 | 4 |
//! | 1 × 1 000 | 150 | 60 |
//! | 100 × 10 | 170 | 3 |
//! | 1 000 × 2 | 610 | 4 |
//! | 1 000 × 10 | 9 200 | 31 |
//!
//! What grows is the kernel's search for a set by its name, which goes through all of a table, for each rule that uses one. A packet
//! that is the first of its connection asks the sets of its service one after the other: 4 µs with 100 endpoints, 40 µs with 1 000.
//!
//! No size of these sets is told to the kernel, which would take 2 MiB of memory for each at once (`layout::clients`).
//!
//! # What differs from kube-proxy
//! TCP that nobody serves is refused by a reset; kube-proxy says "port unreachable" for all protocols. With IPv6 the kernel of a client
//! only takes note of such an error while `connect` still holds the socket (`tcp_v6_err`): over a veth that is always so, and the
//! client learns a second later, from the answer to its second SYN, what a reset tells it at once. In iptables mode, whose rules
//! kube-proxy may continue, it is as kube-proxy has it.
//!
//! SCTP needs nothing here but the kernel's own support; without that its elements match nothing.

mod affinity;
mod difference;
mod layout;
mod listed;
mod objects;
mod port;
mod registers;
mod route;
mod skeleton;
mod state;
mod summary;
mod text;
mod transaction;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use netns_tools::iptables::Family;
use netns_tools::netns::NetNs;
use netns_tools::nftables::{Batch, NftError, Nftables};

use super::backend::{Backend, BackendError, Comparison, Scope, SyncReport};
use super::model::{PortId, Ports};
use super::options::RuleOptions;
pub use layout::{COMMENT, SetName, TABLE, clients};
pub use objects::{ChainObject, Elements, Objects, objects};
use state::State;
use summary::{Hashes, Summary};
use transaction::Encoder;
pub use transaction::{Change, Sink, Transaction};

/// How often a transaction is made anew because somebody else changed rules of theirs meanwhile.
const ATTEMPTS: usize = 5;

type Result<T> = std::result::Result<T, BackendError>;

/// The table of one family in one network namespace.
pub struct NftablesBackend {
    family: Family,
    kernel: Nftables,
    committed: Option<Committed>,
}

/// What was committed last.
struct Committed {
    state: State,
    /// The number of the kernel's rules when ours were last known to be in force.
    generation: u32,
    /// The table's own number: another one of the same name is not ours.
    handle: u64,
}

impl NftablesBackend {
    /// The table in this thread's namespace.
    pub fn open(family: Family) -> Result<Self> {
        Ok(Self::new(family, Nftables::open()?))
    }

    /// The table in another namespace.
    pub fn open_in(family: Family, ns: &NetNs) -> Result<Self> {
        Ok(Self::new(family, Nftables::open_in(ns)?))
    }

    fn new(family: Family, kernel: Nftables) -> Self {
        Self { family, kernel, committed: None }
    }

    /// The whole of it, compared with the kernel.
    fn sync_all(&mut self, ports: &Ports, options: &RuleOptions) -> Result<SyncReport> {
        self.committed = None;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let generation = self.kernel.generation()?;
            let Prepared { state, batch, changes, written } =
                self.prepare(ports, options, generation)?;
            match self.send(batch.as_ref(), generation) {
                Err(NftError::Changed) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
                Ok(generation) => {
                    let handle = listed::handle(&mut self.kernel, self.family)?.unwrap_or(0);
                    let report = report(&state, (changes, written), true);
                    self.committed = Some(Committed { state, generation, handle });
                    return Ok(report);
                }
            }
        }
    }

    /// What a full sync has to say to the kernel. The two cases that are common hold none of it in memory: a table that is not there
    /// yet, and one that is right.
    fn prepare(
        &mut self,
        ports: &Ports,
        options: &RuleOptions,
        generation: u32,
    ) -> Result<Prepared> {
        let (family, hashes) = (self.family, Hashes::default());
        let mut batch = Batch::at_generation(generation);
        match listed::summary(&mut self.kernel, family, &hashes)? {
            listed::Found::Nothing => {
                let mut encoder = Encoder::new(family, &mut batch);
                let state = State::begin_into(family, ports, options, &mut encoder);
                let (changes, written) = encoder.finish();
                return Ok(Prepared { state, batch: Some(batch), changes, written });
            }
            listed::Found::Table(actual) => {
                let mut desired = Summary::new(&hashes);
                let state = State::begin_into(family, ports, options, &mut desired);
                if actual.agrees_with(&desired) {
                    return Ok(Prepared { state, batch: None, changes: 0, written: 0 });
                }
            }
            listed::Found::Other => {}
        }
        let (state, transaction) = self.full(ports, options)?;
        transaction.encode(family, &mut batch);
        let (changes, written) = (transaction.changes.len(), transaction.written());
        Ok(Prepared { state, batch: (changes > 0).then_some(batch), changes, written })
    }

    /// What the table must be, and what it takes to make it so.
    fn full(&mut self, ports: &Ports, options: &RuleOptions) -> Result<(State, Transaction)> {
        let (state, fresh) = State::begin(self.family, ports, options);
        let transaction = match listed::look(&mut self.kernel, self.family)? {
            listed::Found::Nothing => fresh,
            listed::Found::Other => difference::instead(fresh),
            listed::Found::Table(actual) => {
                let mut desired = Objects::default();
                desired.take_in(fresh);
                let repair = difference::between(&actual, &desired);
                // somebody hung our chains elsewhere
                repair.unwrap_or_else(|| {
                    difference::instead(State::begin(self.family, ports, options).1)
                })
            }
        };
        Ok((state, transaction))
    }

    fn sync_changed(
        &mut self,
        mut committed: Committed,
        ports: &Ports,
        changed: &super::model::Changed,
    ) -> Result<SyncReport> {
        let transaction = committed.state.follow(ports, changed);
        let counts = (transaction.changes.len(), transaction.written());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let generation = self.kernel.generation()?;
            match self.commit(&transaction, generation) {
                Err(NftError::Changed) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
                Ok(next) => {
                    // if somebody committed since we last looked, a look is still due
                    if committed.generation == generation {
                        committed.generation = next;
                    }
                    let report = report(&committed.state, counts, false);
                    self.committed = Some(committed);
                    return Ok(report);
                }
            }
        }
    }

    /// Makes the changes if the kernel's rules are still of this generation; answers which they are of then.
    fn commit(
        &mut self,
        transaction: &Transaction,
        generation: u32,
    ) -> std::result::Result<u32, NftError> {
        let mut batch = Batch::at_generation(generation);
        transaction.encode(self.family, &mut batch);
        self.send((!transaction.is_empty()).then_some(&batch), generation)
    }

    /// See [`Self::commit`]; `None`: there is nothing to say.
    fn send(
        &mut self,
        batch: Option<&Batch>,
        generation: u32,
    ) -> std::result::Result<u32, NftError> {
        let Some(batch) = batch else { return Ok(generation) };
        self.kernel.commit(batch)?;
        // the kernel leaves 0 out
        Ok(generation.wrapping_add(1).max(1))
    }

    /// Somebody changed rules, perhaps not ours: whether the table is the one that we made, with the rules that we made, and
    /// with something in each map that has something. Costs as much as there are chains, however many services there are.
    fn look(&mut self) -> Result<bool> {
        let Some(committed) = &self.committed else { return Ok(false) };
        let generation = self.kernel.generation()?;
        if generation == committed.generation {
            return Ok(true);
        }
        let handle = listed::handle(&mut self.kernel, self.family)?;
        if handle != Some(committed.handle)
            || !listed::has_rules(&mut self.kernel, self.family, committed.state.chains())?
            || !listed::has_elements(&mut self.kernel, self.family, &committed.state)?
        {
            return Ok(false);
        }
        if let Some(committed) = &mut self.committed {
            committed.generation = generation;
        }
        Ok(true)
    }
}

impl Backend for NftablesBackend {
    fn family(&self) -> Family {
        self.family
    }

    fn sync(
        &mut self,
        ports: &Ports,
        options: &RuleOptions,
        scope: Scope<'_>,
    ) -> Result<SyncReport> {
        // what is taken out is put back only after a commit, so whatever fails makes the next one a full one
        match (scope, self.committed.take()) {
            (Scope::Changed(changed), Some(committed)) if committed.state.options() == options => {
                self.sync_changed(committed, ports, changed)
            }
            _ => self.sync_all(ports, options),
        }
    }

    fn plan(&mut self, ports: &Ports, options: &RuleOptions) -> Result<String> {
        let (_, transaction) = self.full(ports, options)?;
        Ok(text::transaction(self.family, &transaction))
    }

    fn compare(
        &mut self,
        ports: &Ports,
        options: &RuleOptions,
        only: &dyn Fn(&PortId) -> bool,
    ) -> Result<Comparison> {
        let chosen: Ports = ports
            .iter()
            .filter(|(id, _)| only(id))
            .map(|(id, port)| (id.clone(), std::sync::Arc::clone(port)))
            .collect();
        let actual = match listed::look(&mut self.kernel, self.family)? {
            listed::Found::Table(actual) => *actual,
            listed::Found::Nothing | listed::Found::Other => Objects::default(),
        };
        let desired = objects(self.family, &chosen, options);
        let whole = chosen.len() == ports.len();
        Ok(difference::comparison(self.family, &desired, &actual, whole))
    }

    fn is_intact(&mut self) -> Result<bool> {
        self.look()
    }

    fn cleanup(&mut self) -> Result<()> {
        self.committed = None;
        let table = layout::table(self.family);
        if self.kernel.has_table(table)? {
            let mut batch = Batch::new();
            // after this it is there, even if somebody was quicker than we
            batch.add_table(table).delete_table(table);
            self.kernel.commit(&batch)?;
        }
        Ok(())
    }
}

/// What a full sync is about to do.
struct Prepared {
    state: State,
    /// `None`: all is as it should be.
    batch: Option<Batch>,
    changes: usize,
    /// Of them: rules and elements that are added.
    written: usize,
}

fn report(state: &State, (changes, written): (usize, usize), full: bool) -> SyncReport {
    let (rules, elements) = state.count();
    SyncReport {
        full,
        changes,
        rules: vec![(TABLE, rules + elements)],
        written: vec![(TABLE, written)],
    }
}
