//! Numbers of the overlay, in Prometheus' text format.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::run::{Observer, Outcome};
use super::status::{Board, way_of};
use crate::proxy::ops::exposition;

type Number = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Way {
    way: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// All numbers.
#[derive(Debug)]
struct Numbers {
    registry: Registry,
    syncs: Family<Kind, Counter>,
    failures: Counter,
    duration: Family<Kind, Histogram, fn() -> Histogram>,
    last: Number,
    peers: Family<Way, Number>,
    unreachable: Number,
    refused: Number,
    problems: Number,
    mtu: Number,
}

/// The metrics. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    numbers: Arc<Numbers>,
    board: Board,
}

/// Buckets of 0.1 ms to 6.5 s.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 17))
}

impl Metrics {
    /// Of that board.
    pub fn new(board: Board) -> Self {
        let mut numbers = Numbers {
            registry: Registry::default(),
            syncs: Family::default(),
            failures: Counter::default(),
            duration: Family::new_with_constructor(buckets),
            last: Number::default(),
            peers: Family::default(),
            unreachable: Number::default(),
            refused: Number::default(),
            problems: Number::default(),
            mtu: Number::default(),
        };
        numbers.register();
        Self { numbers: Arc::new(numbers), board }
    }

    /// All of them, as they are now.
    pub fn text(&self) -> String {
        self.numbers.look_at(&self.board);
        let mut open = String::new();
        // writing to a string does not fail
        let _ =
            prometheus_client::encoding::text::encode_registry(&mut open, &self.numbers.registry);
        exposition::prometheus(&open)
    }
}

impl Numbers {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let mut gauge = |name: &str, help: &str, metric: &Number| {
            registry.register(name, help, metric.clone());
        };
        gauge(
            "heddle_overlay_last_sync_timestamp_seconds",
            "When the kernel was last known to be as it should be",
            &self.last,
        );
        gauge(
            "heddle_overlay_unreachable_peers",
            "Nodes to whose pods, or some of them, there is no way",
            &self.unreachable,
        );
        gauge(
            "heddle_overlay_refused_claims",
            "Pod CIDRs and addresses of nodes that an older node has",
            &self.refused,
        );
        gauge("heddle_overlay_problems", "What is wrong, as status tells it", &self.problems);
        gauge("heddle_overlay_pod_mtu_bytes", "The MTU of pods' interfaces", &self.mtu);
        let peers = "Other nodes, by the way to their pods";
        registry.register("heddle_overlay_peers", peers, self.peers.clone());
        let syncs = "Times that the kernel was made to follow, by whether all was compared";
        registry.register("heddle_overlay_syncs", syncs, self.syncs.clone());
        let failures = "Times that this failed, at least in part";
        registry.register("heddle_overlay_sync_failures", failures, self.failures.clone());
        let duration = "How long it took";
        registry.register("heddle_overlay_sync_duration_seconds", duration, self.duration.clone());
    }

    fn look_at(&self, board: &Board) {
        let facts = board.facts();
        let mut ways = BTreeMap::from([("vxlan", 0), ("direct", 0), ("none", 0)]);
        for peer in facts.peers.values() {
            *ways.entry(way_of(peer)).or_default() += 1;
        }
        for (way, count) in ways {
            self.peers.get_or_create(&Way { way: way.to_owned() }).set(number(count));
        }
        let lacking = facts.peers.values().filter(|peer| !peer.problems.is_empty()).count();
        self.unreachable.set(number(lacking));
        self.refused.set(number(facts.refused.values().map(Vec::len).sum()));
        self.problems.set(number(facts.problems.values().map(Vec::len).sum()));
        self.mtu.set(facts.status.lease.as_ref().map_or(0.0, |lease| lease.mtu.into()));
    }
}

fn number(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

impl Observer for Metrics {
    fn worked(&self, outcome: &Outcome) {
        let kind = Kind { kind: if outcome.full { "full" } else { "change" } };
        self.numbers.syncs.get_or_create(&kind).inc();
        self.numbers.duration.get_or_create(&kind).observe(outcome.took.as_secs_f64());
        if outcome.connected {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.numbers.last.set(now.as_secs_f64());
        }
        if !outcome.well {
            self.numbers.failures.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::overlay::desired;
    use crate::overlay::plan::{Peer, Unreachable};
    use crate::overlay::status::Origin;

    #[test]
    fn numbers_are_told() {
        let board = Board::new("vxlan");
        let metrics = Metrics::new(board.clone());
        let address = IpAddr::from([192, 0, 2, 2]);
        let way = desired::Way::Direct { gateway: address, link: 1, source: address };
        let route = desired::Route { destination: address.into(), way, mtu: None };
        let silent = || vec![Unreachable::Silent];
        for (name, routes, problems) in [
            ("b", vec![route.clone()], vec![]),
            ("c", vec![route], silent()),
            ("d", vec![], silent()),
        ] {
            board.facts().peers.insert(name.into(), Arc::new(Peer { routes, problems }));
        }
        board.complain(Origin::Source, vec!["away".to_owned()]);
        let took = Duration::from_millis(3);
        metrics.worked(&Outcome { well: true, connected: true, took, ..Outcome::default() });
        metrics.worked(&Outcome { full: true, took, ..Outcome::default() });
        let text = metrics.text();
        for line in [
            "heddle_overlay_peers{way=\"direct\"} 2",
            "heddle_overlay_peers{way=\"none\"} 1",
            "heddle_overlay_peers{way=\"vxlan\"} 0",
            "heddle_overlay_unreachable_peers 2",
            "heddle_overlay_problems 1",
            "heddle_overlay_syncs_total{kind=\"change\"} 1",
            "heddle_overlay_sync_failures_total 1",
            "heddle_overlay_sync_duration_seconds_count{kind=\"full\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n---\n{text}");
        }
    }
}
