//! What is counted, under kube-proxy's names with its types, labels, buckets and help
//! (`pkg/proxy/metrics`, 1.36; <https://kubernetes.io/docs/reference/instrumentation/metrics/>).
//!
//! kube-proxy has no counts of its nftables rules; ours are told as `heddle_proxy_*`.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use netns_tools::iptables::Family as IpFamily;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use super::packets::PacketCounters;
use super::process::ProcessCollector;
use super::{Mode, exposition, family_name};

/// A number that goes up and down.
type Number = Gauge<f64, AtomicU64>;
type ByFamily<M> = Family<FamilyLabel, M>;
type Histograms = Family<FamilyLabel, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FamilyLabel {
    ip_family: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabels {
    ip_family: &'static str,
    table: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    ip_family: &'static str,
    traffic_policy: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    arch: &'static str,
}

pub(super) fn label(family: IpFamily) -> FamilyLabel {
    FamilyLabel { ip_family: family_name(family) }
}

/// All numbers.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    mode: Mode,
    pub(super) sync: Histograms,
    pub(super) full_sync: Histograms,
    pub(super) partial_sync: Histograms,
    pub(super) programming: Histograms,
    pub(super) conntrack: Histograms,
    pub(super) conntrack_deleted: ByFamily<Counter>,
    pub(super) last_sync: ByFamily<Number>,
    pub(super) last_queued: ByFamily<Number>,
    pub(super) endpoints_pending: Number,
    pub(super) endpoints_total: Counter,
    pub(super) services_pending: Number,
    pub(super) services_total: Counter,
    pub(super) failures: ByFamily<Counter>,
    pub(super) partial_failures: ByFamily<Counter>,
    rules: Family<TableLabels, Number>,
    rules_written: Family<TableLabels, Number>,
    no_local: Family<PolicyLabels, Number>,
    healthz: Family<CodeLabel, Counter>,
    livez: Family<CodeLabel, Counter>,
}

/// Buckets of 1 ms to 16 s.
fn sync_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// Buckets of 0.25 s to 5 min, finest around a second.
fn programming_histogram() -> Histogram {
    let steps = |from: u16, by: u16, count: u16| (0..count).map(move |i| f64::from(from + by * i));
    let fine = [0.25, 0.5].into_iter();
    let coarse = steps(1, 1, 59).chain(steps(60, 5, 12)).chain(steps(120, 30, 7));
    Histogram::new(fine.chain(coarse))
}

fn of_sync() -> Histograms {
    Family::new_with_constructor(sync_histogram as fn() -> Histogram)
}

impl Metrics {
    pub(super) fn new(mode: Mode) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            mode,
            sync: of_sync(),
            full_sync: of_sync(),
            partial_sync: of_sync(),
            programming: Family::new_with_constructor(programming_histogram),
            conntrack: of_sync(),
            conntrack_deleted: Family::default(),
            last_sync: Family::default(),
            last_queued: Family::default(),
            endpoints_pending: Gauge::default(),
            endpoints_total: Counter::default(),
            services_pending: Gauge::default(),
            services_total: Counter::default(),
            failures: Family::default(),
            partial_failures: Family::default(),
            rules: Family::default(),
            rules_written: Family::default(),
            no_local: Family::default(),
            healthz: Family::default(),
            livez: Family::default(),
        };
        metrics.register_syncs();
        metrics.register_changes();
        metrics.register_rules();
        metrics.register_process();
        metrics
    }

    /// kube-proxy tells with each of its own metrics that its meaning may still change.
    fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(format!("kubeproxy_{name}"), format!("[ALPHA] {help}"), metric);
    }

    fn register_syncs(&mut self) {
        const LATENCY: &str = "SyncProxyRules latency in seconds";
        self.add("sync_proxy_rules_duration_seconds", LATENCY, self.sync.clone());
        let help = format!("{LATENCY} for full resyncs");
        self.add("sync_full_proxy_rules_duration_seconds", &help, self.full_sync.clone());
        let help = format!("{LATENCY} for partial resyncs");
        self.add("sync_partial_proxy_rules_duration_seconds", &help, self.partial_sync.clone());
        let help = "The last time proxy rules were successfully synced";
        self.add("sync_proxy_rules_last_timestamp_seconds", help, self.last_sync.clone());
        let help = "The last time a sync of proxy rules was queued";
        self.add("sync_proxy_rules_last_queued_timestamp_seconds", help, self.last_queued.clone());
        let help = "In Cluster Network Programming Latency in seconds";
        self.add("network_programming_duration_seconds", help, self.programming.clone());
        let help = "ReconcileConntrackFlowsLatency latency in seconds";
        self.add("conntrack_reconciler_sync_duration_seconds", help, self.conntrack.clone());
        let help = "Cumulative conntrack flows deleted by conntrack reconciler";
        self.add("conntrack_reconciler_deleted_entries", help, self.conntrack_deleted.clone());
    }

    fn register_changes(&mut self) {
        let help = "Pending proxy rules Endpoint changes";
        self.add("sync_proxy_rules_endpoint_changes_pending", help, self.endpoints_pending.clone());
        let help = "Cumulative proxy rules Endpoint changes";
        self.add("sync_proxy_rules_endpoint_changes", help, self.endpoints_total.clone());
        let help = "Pending proxy rules Service changes";
        self.add("sync_proxy_rules_service_changes_pending", help, self.services_pending.clone());
        let help = "Cumulative proxy rules Service changes";
        self.add("sync_proxy_rules_service_changes", help, self.services_total.clone());
        let help = "Number of services with a Local traffic policy and no endpoints";
        self.add("sync_proxy_rules_no_local_endpoints_total", help, self.no_local.clone());
        let help = "Cumulative proxy healthz HTTP status";
        self.add("proxy_healthz", help, self.healthz.clone());
        self.add("proxy_livez", "Cumulative proxy livez HTTP status", self.livez.clone());
    }

    fn register_rules(&mut self) {
        match self.mode {
            Mode::Iptables => self.register_iptables(),
            Mode::Nftables => self.register_nftables(),
        }
    }

    fn register_iptables(&mut self) {
        let help = "Total number of iptables rules owned by kube-proxy";
        self.add("sync_proxy_rules_iptables_total", help, self.rules.clone());
        let help = "Number of iptables rules written by kube-proxy in last sync";
        self.add("sync_proxy_rules_iptables_last", help, self.rules_written.clone());
        let help = "Cumulative proxy iptables restore failures";
        self.add("sync_proxy_rules_iptables_restore_failures", help, self.failures.clone());
        let help = "Cumulative proxy iptables partial restore failures";
        let name = "sync_proxy_rules_iptables_partial_restore_failures";
        self.add(name, help, self.partial_failures.clone());
        self.registry.register_collector(Box::new(PacketCounters::default()));
    }

    fn register_nftables(&mut self) {
        let help = "Cumulative proxy nftables sync failures";
        self.add("sync_proxy_rules_nftables_sync_failures", help, self.failures.clone());
        let help = "Rules and elements of ours in nftables";
        self.registry.register("heddle_proxy_nftables_objects", help, self.rules.clone());
        let help = "Rules and elements of ours that the last transaction wrote";
        self.registry.register("heddle_proxy_nftables_written", help, self.rules_written.clone());
    }

    fn register_process(&mut self) {
        let build: Family<BuildLabels, Number> = Family::default();
        let labels =
            BuildLabels { version: env!("CARGO_PKG_VERSION"), arch: std::env::consts::ARCH };
        build.get_or_create(&labels).set(1.0);
        let help = "A metric with a constant '1' value, with what this program was built from";
        self.registry.register("heddle_build_info", help, build);
        self.registry.register_collector(Box::new(ProcessCollector));
    }

    /// All of it in Prometheus' text format.
    pub(super) fn text(&self) -> String {
        let mut open = String::new();
        // writing to a string does not fail
        let _ = prometheus_client::encoding::text::encode_registry(&mut open, &self.registry);
        exposition::prometheus(&open)
    }

    /// A sync was made.
    pub(super) fn synced(&self, family: IpFamily, full: bool, took: Duration, now: SystemTime) {
        let label = label(family);
        let kind = if full { &self.full_sync } else { &self.partial_sync };
        for histogram in [&self.sync, kind] {
            histogram.get_or_create(&label).observe(took.as_secs_f64());
        }
        self.last_sync.get_or_create(&label).set(unix_seconds(now));
    }

    /// A change asks for a sync.
    pub(super) fn queued(&self, family: IpFamily, now: SystemTime) {
        self.last_queued.get_or_create(&label(family)).set(unix_seconds(now));
    }

    /// How many rules there are and how many were written, by table.
    pub(super) fn set_rules(
        &self,
        family: IpFamily,
        all: &[(&'static str, usize)],
        written: &[(&'static str, usize)],
    ) {
        let ip_family = family_name(family);
        for (numbers, by_table) in [(&self.rules, all), (&self.rules_written, written)] {
            for (table, count) in by_table {
                numbers.get_or_create(&TableLabels { ip_family, table }).set(number(*count));
            }
        }
    }

    /// How many services have no endpoint here under the policy Local.
    pub(super) fn set_no_local(&self, family: IpFamily, policy: &'static str, count: usize) {
        let labels = PolicyLabels { ip_family: family_name(family), traffic_policy: policy };
        self.no_local.get_or_create(&labels).set(number(count));
    }

    /// A health question was answered.
    pub(super) fn answered(&self, live: bool, code: u16) {
        let counters = if live { &self.livez } else { &self.healthz };
        counters.get_or_create(&CodeLabel { code }).inc();
    }
}

/// A count as a metric's value, exact up to 2³².
pub(super) fn number(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
