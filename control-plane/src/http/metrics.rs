//! What is counted, under kube-apiserver's names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::auth::audit::Counts;

/// What a request was about. Every value is one that the server knows, so that clients cannot make series without end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct About {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestKind {
    request_kind: &'static str,
}

impl About {
    /// A request for a resource that is served; texts are the server's own.
    pub fn resource(verb: &str, path: &super::route::Path) -> Self {
        let scope = match (path.name.as_str(), path.namespace.as_str()) {
            ("", "") => "cluster",
            ("", _) => "namespace",
            _ => "resource",
        };
        Self {
            verb: verb.to_ascii_uppercase(),
            group: path.group.clone(),
            version: path.version.clone(),
            resource: path.plural.clone(),
            subresource: path.subresource.clone(),
            scope: scope.to_owned(),
        }
    }

    /// Any other request.
    pub fn other(method: &hyper::Method) -> Self {
        let known = matches!(method.as_str(), "GET" | "PUT" | "POST" | "PATCH" | "DELETE" | "HEAD");
        let verb = if known { method.as_str() } else { "OTHER" };
        Self { verb: verb.to_owned(), ..Self::default() }
    }
}

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<About, Histogram>,
    running: Family<About, Gauge>,
    in_flight: Family<RequestKind, Gauge>,
    /// Of the audit log.
    pub audit: Counts,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = || {
            Histogram::new([
                0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0,
                10.0, 30.0, 60.0,
            ])
        };
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(buckets as fn() -> Histogram),
            running: Family::default(),
            in_flight: Family::default(),
            audit: Counts::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "apiserver_request",
            "Requests by verb, resource and code",
            metrics.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to answer, watches not counted",
            metrics.durations.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches and snapshots that are running",
            metrics.running.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests that are under way",
            metrics.in_flight.clone(),
        );
        metrics.audit.register(registry);
        metrics
    }
}

/// A gauge that goes down again when this is dropped.
#[derive(Debug)]
pub struct Raised(Gauge);

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn raised(gauge: Gauge) -> Raised {
    gauge.inc();
    Raised(gauge)
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, about: &About, code: u16, took: Option<Duration>) {
        let About { verb, group, version, resource, subresource, scope } = about.clone();
        self.requests
            .get_or_create(&Answered { verb, group, version, resource, subresource, scope, code })
            .inc();
        if let Some(took) = took {
            self.durations.get_or_create(about).observe(took.as_secs_f64());
        }
    }

    /// A watch runs as long as what this returns lives.
    pub fn watch(&self, about: &About) -> Raised {
        raised(self.running.get_or_create(about).clone())
    }

    /// A request is under way as long as what this returns lives.
    pub fn under_way(&self, reads: bool) -> Raised {
        let request_kind = if reads { "readOnly" } else { "mutating" };
        raised(self.in_flight.get_or_create(&RequestKind { request_kind }).clone())
    }

    /// All of them, as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // writing to a String does not fail
        let _ = encode(&mut text, &self.registry);
        text
    }
}
