//! What the packet counters of the iptables rules have seen, read from the kernel for each answer.
//!
//! Where there are none, because the kernel has no `nfnetlink_acct` or no rule names them, nothing is told.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use netns_tools::nfacct;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use crate::proxy::iptables::counters::{INVALID, LOCALHOST};

/// Counters by kube-proxy's names, with the metric and its help.
const COUNTERS: [(&str, &str, &str); 2] = [
    (
        INVALID,
        "kubeproxy_iptables_ct_state_invalid_dropped_packets",
        "[ALPHA] packets dropped by iptables to work around conntrack problems",
    ),
    (
        LOCALHOST,
        "kubeproxy_iptables_localhost_nodeports_accepted_packets",
        "[ALPHA] Number of packets accepted on nodeports of loopback interface",
    ),
];

#[derive(Debug)]
pub(super) struct PacketCounters {
    /// Of the namespace that the proxy was started in.
    kernel: Mutex<Option<nfacct::PacketCounters>>,
}

impl Default for PacketCounters {
    fn default() -> Self {
        Self { kernel: Mutex::new(nfacct::PacketCounters::open().ok()) }
    }
}

impl Collector for PacketCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kernel) = kernel.as_mut() else { return Ok(()) };
        for (counter, name, help) in COUNTERS {
            let Ok(Some(count)) = kernel.get(counter) else { continue };
            let metric = ConstCounter::new(count.packets);
            let kind = metric.metric_type();
            // the registry ends help with a full stop, which is taken away again; a collector's help has none
            metric.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        Ok(())
    }
}
