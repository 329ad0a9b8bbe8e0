//! Packet counters that rules refer to by name (`-m nfacct`), under kube-proxy's names; `ops` tells what they have seen.
//!
//! A counter must be there before a rule that names it, so they are made before a full sync. A kernel or an iptables that knows no such
//! counters gets rules without them, as from kube-proxy.

use netns_tools::NetlinkError;
use netns_tools::iptables::{BulkRules, IptablesError};
use netns_tools::nfacct::PacketCounters;

/// Packets that conntrack found invalid, and that were dropped.
pub const INVALID: &str = "ct_state_invalid_dropped_pkts";
/// Packets that node ports took at 127.0.0.1, the first of each connection.
pub const LOCALHOST: &str = "localhost_nps_accepted_pkts";

/// The match by which a rule counts.
pub fn counted(name: &str) -> String {
    format!("-m nfacct --nfacct-name {name}")
}

/// Where counters are made.
pub trait Counters: Send {
    /// Whether there can be any. Makes none.
    fn are_known(&mut self) -> bool;
    /// Makes one that is not there.
    fn ensure(&mut self, name: &str) -> Result<(), NetlinkError>;
    /// Removes one; that there is none is a success.
    fn remove(&mut self, name: &str) -> Result<(), NetlinkError>;
}

impl Counters for PacketCounters {
    fn are_known(&mut self) -> bool {
        self.get(INVALID).is_ok()
    }

    fn ensure(&mut self, name: &str) -> Result<(), NetlinkError> {
        PacketCounters::ensure(self, name)
    }

    fn remove(&mut self, name: &str) -> Result<(), NetlinkError> {
        self.delete(name).map(|_| ())
    }
}

/// Those of the calling thread's namespace; `None`: netfilter cannot be spoken to.
pub fn of_this_namespace() -> Option<Box<dyn Counters>> {
    PacketCounters::open().ok().map(|counters| Box::new(counters) as Box<dyn Counters>)
}

/// Whether this iptables, and the kernel behind it, know rules that count.
pub fn can_count(rules: &mut dyn BulkRules) -> Result<bool, IptablesError> {
    let probe = format!("*filter\n-A FORWARD {}\nCOMMIT\n", counted(INVALID));
    match rules.check(&probe) {
        Ok(()) => Ok(true),
        Err(IptablesError::Failed { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Makes all of them; whether rules may name them.
pub fn are_made(counters: &mut dyn Counters) -> bool {
    let made = [INVALID, LOCALHOST].into_iter().try_for_each(|name| counters.ensure(name));
    if let Err(error) = &made {
        let reason = netns_tools::cause::one_line(error);
        tracing::debug!(reason, "packets are not counted; rules are written without counters");
    }
    made.is_ok()
}
