//! The servers and what they tell; `served` has real sockets in namespaces.

mod served;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use axum::Router;
use axum::body::{Body as RequestBody, to_bytes};
use axum::http::{HeaderMap, Request};
use serde_json::json;
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::*;
use crate::proxy::backend::SyncReport;
use crate::proxy::model::{Event, FAMILIES, HealthCheck, Model, Node, Service, Slice};
use crate::proxy::options::{Pace, RuleOptions};
use crate::proxy::run::fake::Fake;
use crate::proxy::run::{Failure, Observer, Parts, Runner, Synced};

/// A clock that is set by hand, in seconds.
#[derive(Clone, Default)]
struct HandClock(Arc<AtomicU64>);

impl HandClock {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Moment {
        let steady = Duration::from_secs(self.0.load(Ordering::Relaxed));
        Moment { wall: SystemTime::UNIX_EPOCH + steady, steady }
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn ops(mode: Mode) -> (Ops, HandClock) {
    let clock = HandClock::default();
    let health_timeout = Duration::from_mins(1);
    let settings = Settings { mode, health_timeout, configuration: json!({"mode": mode.name()}) };
    (Ops::with_clock(settings, Box::new(clock.clone())), clock)
}

fn synced(ops: &Ops, family: Family, queued: Option<u64>) {
    let (report, queued) = (&SyncReport::default(), queued.map(at));
    let at = ops.0.clock.now().wall;
    ops.synced(family, &Synced { report, took: Duration::ZERO, at, queued, triggered: &[] });
}

fn failure(full: bool) -> Failure {
    Failure { reason: String::new(), full, attempts: 1 }
}

async fn get(router: Router, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::get(path).body(RequestBody::empty()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// What happens at a second, and whether the rules keep up afterwards.
enum Step {
    Queued(Family, u64),
    Synced(Family, Option<u64>),
    Failed(Family),
    Nothing,
}

#[test]
fn a_change_may_wait_for_a_minute() {
    use Family::{V4, V6};
    use Step::{Failed, Nothing, Queued, Synced};
    let table = [
        ("nothing to do", vec![(0, Nothing, true), (1000, Nothing, true)]),
        ("the first sync is under way", vec![(0, Queued(V4, 0), true), (1000, Nothing, true)]),
        (
            "a change is followed",
            vec![
                (0, Synced(V4, None), true),
                (100, Queued(V4, 100), true),
                (159, Nothing, true),
                (160, Nothing, false),
                (170, Queued(V4, 100), false),
                (171, Synced(V4, Some(100)), true),
                (1000, Nothing, true),
            ],
        ),
        (
            "what comes during a sync waits since then",
            vec![
                (0, Synced(V4, None), true),
                (10, Queued(V4, 10), true),
                (50, Queued(V4, 50), true),
                (69, Nothing, true),
                (70, Synced(V4, Some(10)), true),
                (109, Nothing, true),
                (110, Nothing, false),
                (111, Synced(V4, Some(50)), true),
            ],
        ),
        (
            "what failed waits with what came meanwhile",
            vec![
                (0, Synced(V4, None), true),
                (10, Queued(V4, 10), true),
                (50, Queued(V4, 50), true),
                (60, Failed(V4), true),
                (61, Queued(V4, 10), true),
                (70, Failed(V4), false),
                (80, Synced(V4, Some(10)), true),
                (1000, Nothing, true),
            ],
        ),
        (
            "one family is enough",
            vec![
                (0, Synced(V4, None), true),
                (0, Synced(V6, None), true),
                (10, Queued(V6, 10), true),
                (60, Synced(V4, None), true),
                (70, Nothing, false),
            ],
        ),
        (
            "a sync that carried no change leaves what waits",
            vec![
                (0, Synced(V4, None), true),
                (10, Queued(V4, 10), true),
                (69, Synced(V4, None), true),
                (70, Nothing, false),
            ],
        ),
    ];
    for (name, steps) in table {
        let (ops, clock) = ops(Mode::Nftables);
        for (second, step, healthy) in steps {
            clock.set(second);
            match step {
                Queued(family, since) => ops.queued(family, at(since)),
                Synced(family, queued) => synced(&ops, family, queued),
                Failed(family) => ops.failed(family, &failure(true)),
                Nothing => {}
            }
            assert_eq!(ops.health().is_healthy(), healthy, "{name}, second {second}");
        }
    }
}

#[test]
fn a_clock_that_jumps_makes_nothing_late() {
    let mut health = Health::new(Duration::from_mins(1));
    let moment = |wall, steady| Moment { wall: at(wall), steady: Duration::from_secs(steady) };
    health.updated(Family::V4, None, moment(100, 0));
    health.queued(Family::V4, at(100), moment(100, 0));
    assert!(health.report(moment(100_000, 1)).is_healthy());
    assert!(!health.report(moment(5, 60)).is_healthy());
}

#[tokio::test]
async fn health_documents_are_kube_proxys() {
    let (ops, clock) = ops(Mode::Iptables);
    let ask = |path: &'static str| get(routes::health(ops.clone()), path);
    let (status, headers, body) = ask("/healthz").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let want = r#"{"lastUpdated":"1970-01-01T00:00:00Z","currentTime":"1970-01-01T00:00:00Z","nodeEligible":true,"healthy":true}"#;
    assert_eq!(body, want);

    synced(&ops, Family::V4, None);
    ops.queued(Family::V4, at(0));
    synced(&ops, Family::V6, None);
    clock.set(70);
    let (status, _, body) = ask("/healthz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let want = r#"{"lastUpdated":"1970-01-01T00:00:00Z","currentTime":"1970-01-01T00:01:10Z","nodeEligible":true,"healthy":false,"status":{"IPv4":{"lastUpdated":"1970-01-01T00:00:00Z","healthy":false},"IPv6":{"lastUpdated":"1970-01-01T00:00:00Z","healthy":true}}}"#;
    assert_eq!(body, want);
    assert_eq!(ask("/livez").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask("/other").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_node_that_leaves_lives_but_gets_no_traffic() {
    let (ops, _) = ops(Mode::Iptables);
    let leaving = Node { leaving: true, ..Node::named("n") };
    ops.node_changed(&leaving);
    let ask = |path: &'static str| get(routes::health(ops.clone()), path);
    let (status, _, body) = ask("/healthz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    // never written: Go's zero time, which clients of kube-proxy know
    let want = r#"{"lastUpdated":"0001-01-01T00:00:00Z","currentTime":"1970-01-01T00:00:00Z","nodeEligible":false,"healthy":true}"#;
    assert_eq!(body, want);
    let (status, _, body) = ask("/livez").await;
    assert_eq!(status, StatusCode::OK);
    assert!(!body.contains("nodeEligible"), "{body}");
    ops.node_changed(&Node::named("n"));
    assert_eq!(ask("/healthz").await.0, StatusCode::OK);
    let text = ops.metrics_text();
    for line in [
        r#"kubeproxy_proxy_healthz_total{code="503"} 1"#,
        r#"kubeproxy_proxy_healthz_total{code="200"} 1"#,
        r#"kubeproxy_proxy_livez_total{code="200"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_metrics_server_tells_mode_and_configuration() {
    for mode in [Mode::Iptables, Mode::Nftables] {
        let (ops, _) = ops(mode);
        let ask = |path: &'static str| get(routes::metrics(ops.clone()), path);
        let (status, headers, body) = ask("/proxyMode").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, mode.name()));
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        let (_, headers, body) = ask("/configz").await;
        assert_eq!(headers["content-type"], "application/json");
        let want = format!(r#"{{"kubeproxy.config.k8s.io":{{"mode":"{}"}}}}"#, mode.name());
        assert_eq!(body, want);
        assert_eq!(ask("/healthz").await.2, "ok");
        let (_, headers, body) = ask("/metrics").await;
        assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        assert!(body.contains("\nprocess_start_time_seconds "), "{body}");
    }
}

/// Everything that can be told, once per family.
fn told(mode: Mode) -> Ops {
    let (ops, clock) = ops(mode);
    clock.set(100);
    for family in FAMILIES {
        ops.queued(family, at(99));
        ops.pending(family, 3, 4);
        let tables = vec![("filter", 9), ("nat", 20)];
        let report = SyncReport { full: true, changes: 1, rules: tables.clone(), written: tables };
        let took = Duration::from_millis(3);
        let triggered = &[at(98), at(200)];
        let full = Synced { report: &report, took, at: at(100), queued: None, triggered };
        ops.synced(family, &full);
        let report = &SyncReport { full: false, ..report.clone() };
        let took = Duration::from_secs(20);
        ops.synced(family, &Synced { report, took, queued: Some(at(99)), triggered: &[], ..full });
        ops.failed(family, &failure(true));
        ops.failed(family, &failure(false));
        ops.flows_forgotten(family, 5, Duration::from_millis(1));
        ops.0.metrics.set_no_local(family, "internal", 1);
        ops.0.metrics.set_no_local(family, "external", 2);
    }
    for code in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
        ops.count_answer(true, code);
        ops.count_answer(false, code);
    }
    ops
}

/// What differs from run to run is left out: the process's own numbers.
fn stable(text: &str) -> String {
    let own =
        |line: &&str| !line.starts_with("process_") && !line.starts_with("heddle_build_info{");
    text.lines().filter(own).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn metrics_of_iptables_are_as_recorded() {
    let text = stable(&told(Mode::Iptables).metrics_text());
    assert_eq!(text, include_str!("metrics-iptables.txt"));
}

#[test]
fn metrics_of_nftables_are_others_only_in_its_rules() {
    let headers = |mode| {
        let text = stable(&told(mode).metrics_text());
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (iptables, nftables) = (headers(Mode::Iptables), headers(Mode::Nftables));
    let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>();
    let want = [
        "heddle_proxy_nftables_objects gauge",
        "heddle_proxy_nftables_written gauge",
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total counter",
    ];
    assert_eq!(only(&nftables, &iptables), want);
    let want = [
        "kubeproxy_sync_proxy_rules_iptables_last gauge",
        "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total counter",
        "kubeproxy_sync_proxy_rules_iptables_restore_failures_total counter",
        "kubeproxy_sync_proxy_rules_iptables_total gauge",
    ];
    assert_eq!(only(&iptables, &nftables), want);
}

#[test]
fn every_metric_that_kube_proxy_was_seen_to_have_is_there() {
    let names = include_str!("../../fixtures/kube-proxy-metrics.txt");
    let text = told(Mode::Iptables).metrics_text();
    // those are read from the kernel, where a rule counts; `served` has them
    let read = ["iptables_ct_state_invalid", "iptables_localhost_nodeports"];
    for name in names.lines().filter(|name| !read.iter().any(|part| name.contains(part))) {
        assert!(text.contains(&format!("\n# TYPE {name} ")), "{name} is not in\n{text}");
    }
}

fn service(internal_local: bool) -> Event {
    let policy = if internal_local { "Local" } else { "Cluster" };
    let object = json!({
        "metadata": {"namespace": "ns", "name": "svc"},
        "spec": {
            "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "type": "NodePort",
            "internalTrafficPolicy": policy, "externalTrafficPolicy": policy,
            "ports": [
                {"name": "a", "port": 80, "nodePort": 30080, "protocol": "TCP"},
                {"name": "b", "port": 81, "nodePort": 30081, "protocol": "TCP"},
            ],
        },
    });
    let object = serde_json::from_value(object).unwrap();
    Event::Service(Service::of(&object).unwrap().unwrap())
}

fn slice(node: &str) -> Event {
    let object = json!({
        "metadata": {"namespace": "ns", "name": "svc-1", "labels": {"kubernetes.io/service-name": "svc"}},
        "addressType": "IPv4",
        "ports": [{"name": "a", "port": 80, "protocol": "TCP"}, {"name": "b", "port": 81, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": node, "conditions": {"ready": true}}],
    });
    let object = serde_json::from_value(object).unwrap();
    Event::Slice(Slice::of(&object).unwrap())
}

#[test]
fn services_without_endpoints_here_are_counted_once_whatever_their_ports() {
    let (ops, _) = ops(Mode::Nftables);
    let mut model = Model::new(Node::named("here"));
    let mut counts = |event| {
        model.apply(event);
        let changes = model.take_changes();
        ops.changed(&model, &changes);
        let text = ops.metrics_text();
        let of = |policy: &str| {
            let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
            let line = format!("{name}{{ip_family=\"IPv4\",traffic_policy=\"{policy}\"}} ");
            let value = text.lines().find_map(|found| found.strip_prefix(&line)).unwrap();
            value.to_owned()
        };
        (of("internal"), of("external"))
    };
    let both = |count: &str| (count.to_owned(), count.to_owned());
    assert_eq!(counts(service(true)), both("0"), "nobody serves at all");
    assert_eq!(counts(slice("there")), both("1"));
    assert_eq!(counts(slice("here")), both("0"));
    assert_eq!(counts(slice("there")), both("1"));
    assert_eq!(counts(service(false)), both("0"));
    let text = ops.metrics_text();
    assert!(text.contains("\nkubeproxy_sync_proxy_rules_service_changes_total 2\n"), "{text}");
    assert!(text.contains("\nkubeproxy_sync_proxy_rules_endpoint_changes_total 3\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_loop_tells_what_it_does() {
    let (ops, clock) = ops(Mode::Nftables);
    let backend = Fake::new(Family::V4, false);
    let (events, received) = mpsc::channel(8);
    let options = watch::channel(RuleOptions::default()).1;
    let parts = Parts {
        events: received,
        options,
        node: None,
        families: vec![backend.parts()],
        pace: Pace { least: Duration::ZERO, resync: Duration::from_hours(1) },
        observer: Arc::new(ops.clone()),
        alarm: None,
    };
    let running = tokio::spawn(Runner::new(parts).run());
    let tell = async |event| {
        events.send(event).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    tell(Event::Node(Node { leaving: true, ..Node::named("here") })).await;
    tell(Event::AllSlices(Vec::new())).await;
    tell(Event::AllServices(Vec::new())).await;
    backend.state().failures = vec!["on purpose".to_owned(); 100].into();
    tell(service(true)).await;
    tell(slice("there")).await;
    let text = ops.metrics_text();
    for line in [
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_proxy_rules_service_changes_total 1",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 1",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 1",
        "kubeproxy_sync_proxy_rules_service_changes_pending 1",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"} 1",
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} is not in\n{text}");
    }
    clock.set(60);
    let report = ops.health();
    assert!(!report.is_healthy() && !report.node_eligible);
    backend.state().failures.clear();
    tokio::time::sleep(LATER).await;
    assert!(ops.health().is_healthy());
    drop(events);
    running.await.unwrap();
}

/// Longer than the loop waits after a failure.
const LATER: Duration = Duration::from_mins(1);
