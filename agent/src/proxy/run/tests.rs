//! The loop with backends that have no kernel, in time that the test passes.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep, timeout};

use super::fake::Fake;
use super::*;
use crate::proxy::model::{self, Service, Slice};

/// What an observer was told, as text.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn of(&self, kind: &str) -> Vec<String> {
        self.all().into_iter().filter(|text| text.starts_with(kind)).collect()
    }
}

impl Observer for Told {
    fn queued(&self, _: Family, _: SystemTime) {
        self.note("queued".into());
    }

    fn synced(&self, _: Family, synced: &Synced<'_>) {
        let (full, caused) = (synced.report.full, synced.triggered.len());
        self.note(format!("synced full {full} waited {} caused {caused}", synced.queued.is_some()));
    }

    fn failed(&self, _: Family, failure: &Failure) {
        self.note(format!("failed {} {}", failure.attempts, failure.reason));
    }

    fn lost(&self, _: Family) {
        self.note("lost".into());
    }

    fn health_checks(&self, checks: &BTreeMap<ServiceName, HealthCheck>) {
        let all = checks.iter().map(|(name, check)| format!("{name}={}", check.local_endpoints));
        self.note(format!("health {}", all.collect::<Vec<_>>().join(" ")));
    }

    fn pending(&self, family: Family, services: usize, slices: usize) {
        self.note(format!("pending {family:?} {services} {slices}"));
    }

    fn node_changed(&self, node: &Node) {
        self.note(format!("node {} {}", node.name, node.zone));
    }
}

struct Bench {
    events: mpsc::Sender<Event>,
    options: watch::Sender<RuleOptions>,
    told: Arc<Told>,
    v4: Fake,
    v6: Fake,
    running: JoinHandle<()>,
}

const PACE: Pace = Pace { least: Duration::ZERO, resync: Duration::from_hours(1) };

impl Bench {
    fn new(pace: Pace) -> Self {
        Self::with(pace, Some(Node::named("here")), None)
    }

    fn with(pace: Pace, node: Option<Node>, alarm: Option<Alarm>) -> Self {
        let (sender, events) = mpsc::channel(8192);
        let (options, received) = watch::channel(RuleOptions::default());
        let notified = alarm.is_some();
        let (v4, v6) = (Fake::new(Family::V4, notified), Fake::new(Family::V6, notified));
        let told = Arc::new(Told::default());
        let families = vec![v4.parts(), v6.parts()];
        let observer = told.clone();
        let parts = Parts { events, options: received, node, families, pace, observer, alarm };
        let running = tokio::spawn(Runner::new(parts).run());
        Self { events: sender, options, told, v4, v6, running }
    }

    async fn send(&self, event: Event) {
        self.events.send(event).await.unwrap();
    }

    async fn settle(&self) {
        sleep(Duration::from_millis(1)).await;
    }

    /// A bench whose first sync is done.
    async fn synced(pace: Pace) -> Self {
        let bench = Self::new(pace);
        bench.begin().await;
        bench
    }

    async fn begin(&self) {
        self.send(Event::AllServices(vec![service("web")])).await;
        self.send(Event::AllSlices(vec![slice("web", "10.1.0.1")])).await;
        self.settle().await;
        assert_eq!(self.syncs(), ["full"]);
    }

    /// The syncs of IPv4: `full`, or how many ports changed.
    fn syncs(&self) -> Vec<String> {
        let syncs = &self.v4.state().syncs;
        let word = |asked: &fake::Asked| {
            if asked.full { "full".to_owned() } else { asked.changed.to_string() }
        };
        syncs.iter().map(word).collect()
    }

    /// Where the port of `web` leads.
    fn endpoints(&self) -> Vec<String> {
        let state = self.v4.state();
        let ports = state.ports.values().filter(|port| port.id.service.as_str() == "default/web");
        ports.flat_map(|port| &port.endpoints.cluster).map(|one| one.address.to_string()).collect()
    }
}

fn service(name: &str) -> Service {
    let number = name.bytes().map(u32::from).sum::<u32>() % 200;
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": {
        "clusterIP": format!("10.96.0.{number}"), "ports": [{"port": 80}]}});
    Service::of(&serde_json::from_value(object).unwrap()).unwrap().unwrap()
}

fn slice(service: &str, address: &str) -> Slice {
    let object = json!({
        "metadata": {"namespace": "default", "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2100-01-01T00:00:00Z"}},
        "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "nodeName": "here"}]});
    Slice::of(&serde_json::from_value(object).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_services_slices_and_the_node_are_known() {
    let bench = Bench::with(PACE, None, None);
    let three = [
        Event::AllSlices(vec![slice("web", "10.1.0.1")]),
        Event::Node(Node::named("here")),
        Event::AllServices(vec![service("web")]),
    ];
    for event in three {
        bench.send(event).await;
        assert!(bench.syncs().is_empty());
        sleep(Duration::from_secs(5)).await;
        if bench.syncs().is_empty() {
            assert_eq!(bench.v4.state().looks, 0, "nor is anything looked at");
        }
    }
    assert_eq!(bench.syncs(), ["full"]);
    assert_eq!(bench.endpoints(), ["10.1.0.1:8080"]);
    assert_eq!(bench.v6.state().syncs.len(), 1, "the other family has its canaries too");
    let told = bench.told.of("synced full true waited true");
    assert_eq!(told.len(), 1, "the other family had nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_followed_at_once_and_duplicates_do_nothing() {
    let bench = Bench::synced(PACE).await;
    let change = Event::Slice(slice("web", "10.1.0.2"));
    bench.send(change.clone()).await;
    bench.settle().await;
    assert_eq!(
        (bench.syncs(), bench.endpoints()),
        (vec!["full".into(), "1".into()], vec!["10.1.0.2:8080".to_owned()])
    );
    bench.send(change).await;
    bench.send(Event::NoService(ServiceName::new("default", "unknown"))).await;
    let unknown: Arc<str> = "default/unknown-1".into();
    bench.send(Event::NoSlice { name: unknown, service: None }).await;
    bench.settle().await;
    assert_eq!(bench.syncs().len(), 2);
    assert_eq!(bench.v6.state().syncs.len(), 1, "nothing changed there");
}

#[tokio::test(start_paused = true)]
async fn the_cause_of_a_change_is_told_unless_it_is_older_than_the_proxy() {
    let bench = Bench::synced(PACE).await;
    for (address, triggered) in
        [("10.1.0.2", SystemTime::UNIX_EPOCH), ("10.1.0.3", SystemTime::now())]
    {
        let slice = Slice { triggered: Some(triggered), ..slice("web", address) };
        bench.send(Event::Slice(slice)).await;
        bench.settle().await;
    }
    let expected =
        ["synced full false waited true caused 0", "synced full false waited true caused 1"];
    let told = bench.told.of("synced full false");
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn events_out_of_order_end_in_the_same_rules() {
    let bench = Bench::new(PACE);
    bench.send(Event::Slice(slice("web", "10.1.0.9"))).await;
    bench.send(Event::AllSlices(vec![slice("web", "10.1.0.1")])).await;
    bench.send(Event::NoService(ServiceName::new("default", "web"))).await;
    bench.send(Event::AllServices(Vec::new())).await;
    bench.send(Event::Slice(slice("web", "10.1.0.3"))).await;
    bench.send(Event::Service(service("web"))).await;
    bench.settle().await;
    assert_eq!(bench.endpoints(), ["10.1.0.3:8080"]);
}

#[tokio::test(start_paused = true)]
async fn what_arrives_while_a_sync_runs_is_one_next_sync_and_the_loop_goes_on() {
    let bench = Bench::synced(PACE).await;
    bench.v4.state().locked = true;
    bench.send(Event::Slice(slice("web", "10.1.0.2"))).await;
    // the clock stands still while the sync waits for the lock
    while bench.syncs().len() < 2 {
        tokio::task::yield_now().await;
    }
    for number in 0..5000_u32 {
        let (name, last) = (format!("s{}", number % 10), number % 250 + 1);
        bench.send(Event::Service(service(&name))).await;
        bench.send(Event::Slice(slice(&name, &format!("10.1.1.{last}")))).await;
    }
    let taken = async || {
        while bench.events.capacity() < bench.events.max_capacity() {
            tokio::task::yield_now().await;
        }
    };
    taken().await;
    let mut renewed = service("web");
    renewed.internal_local = true;
    bench.send(Event::Service(renewed)).await;
    // or the sync that ends could be seen before it
    taken().await;
    assert_eq!(bench.syncs().len(), 2, "nothing more is started while the lock is held");
    bench.v4.unlock();
    bench.settle().await;
    assert_eq!(bench.syncs()[..3], ["full", "1", "11"]);
    assert_eq!(bench.v4.state().ports.len(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_one_family_waits_for_does_not_hold_the_other() {
    let bench = Bench::synced(PACE).await;
    bench.v4.state().locked = true;
    let mut both = service("web");
    both.cluster_ips = vec!["10.96.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
    bench.send(Event::Service(both)).await;
    while bench.v6.state().ports.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bench.v4.state().ports.values().next().unwrap().cluster_ip,
        service("web").cluster_ips[0]
    );
    bench.v4.unlock();
    bench.settle().await;
    assert_eq!(bench.v4.state().ports.values().next().unwrap().cluster_ip.to_string(), "10.96.0.9");
}

#[tokio::test(start_paused = true)]
async fn five_thousand_changes_a_second_are_few_syncs_where_a_least_time_is_set() {
    let bench = Bench::synced(Pace { least: Duration::from_millis(100), ..PACE }).await;
    for number in 0..5000_u32 {
        bench.send(Event::Slice(slice("web", &format!("10.1.1.{}", number % 250 + 1)))).await;
        sleep(Duration::from_micros(200)).await;
    }
    sleep(Duration::from_millis(200)).await;
    // time passes in steps of a millisecond, so the 5000 changes take five seconds here
    let syncs = bench.v4.state().syncs.clone();
    assert!((40..=52).contains(&syncs.len()), "{}", syncs.len());
    for pair in syncs.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(100));
    }
    assert_eq!(bench.endpoints(), ["10.1.1.250:8080"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_everything_is_compared_at_growing_intervals() {
    let bench = Bench::synced(PACE).await;
    let start = tokio::time::Instant::now();
    bench.v4.state().failures = (0..10).map(|_| "the table is away".to_owned()).collect();
    bench.send(Event::Slice(slice("web", "10.1.0.2"))).await;
    sleep(Duration::from_mins(3)).await;
    let syncs = bench.v4.state().syncs.clone();
    let at: Vec<u64> = syncs[1..].iter().map(|sync| (sync.at - start).as_secs()).collect();
    assert_eq!(at, [0, 0, 0, 1, 3, 7, 15, 31, 61, 91, 121]);
    assert_eq!((syncs[1].full, syncs[1].changed), (false, 1));
    assert!(syncs[2..].iter().all(|sync| sync.full));
    assert_eq!(bench.endpoints(), ["10.1.0.2:8080"]);
    assert_eq!(bench.told.of("failed").len(), 10);
    assert_eq!(bench.told.of("failed")[9], "failed 10 the table is away");
    let synced = bench.told.of("synced");
    assert_eq!(
        synced.last().unwrap(),
        "synced full true waited true caused 1",
        "what waited is told with the sync that carried it"
    );
    // and then it is as before
    bench.send(Event::Slice(slice("web", "10.1.0.3"))).await;
    bench.settle().await;
    assert_eq!(bench.syncs().last().unwrap(), "1");
}

/// Told with each sync until a full one finds nothing, so that the loop, which tells what is new, tells it once.
#[test]
fn what_a_backend_doubts_is_a_complaint_until_a_full_sync_finds_nothing() {
    let fake = Fake::new(Family::V4, false);
    let mut worker = Worker::new(fake.parts(), RuleOptions::default());
    let mut complaints = |doubts: &[&str], full| {
        fake.state().doubts = doubts.iter().map(|doubt| (*doubt).to_owned()).collect();
        let (updates, changed) = (Vec::new(), model::Changed::new());
        let task = worker::Task::Sync { updates, changed, options: None, full };
        let done =
            std::mem::replace(&mut worker, Worker::new(fake.parts(), RuleOptions::default()));
        let done = done.run(task);
        worker = done.worker;
        done.complaints
    };
    assert_eq!(complaints(&[], true), [""; 0]);
    assert_eq!(complaints(&["a rival"], false), [""; 0], "only a full sync looks");
    assert_eq!(complaints(&["a rival"], true), ["a rival"]);
    assert_eq!(complaints(&[], false), ["a rival"]);
    assert_eq!(complaints(&[], true), [""; 0]);
}

/// What could not be written still waits, with what came meanwhile.
#[tokio::test(start_paused = true)]
async fn changes_are_pending_until_they_are_in_force() {
    let bench = Bench::synced(PACE).await;
    let pending = || bench.told.of("pending V4").pop().unwrap();
    assert_eq!(pending(), "pending V4 0 0");
    bench.v4.state().failures = (0..3).map(|_| "the table is away".to_owned()).collect();
    bench.send(Event::Slice(slice("web", "10.1.0.2"))).await;
    bench.settle().await;
    assert_eq!((bench.told.of("failed").len(), pending().as_str()), (1, "pending V4 0 1"));
    bench.send(Event::Service(service("db"))).await;
    bench.settle().await;
    assert_eq!(pending(), "pending V4 1 1");
    sleep(Duration::from_millis(300)).await;
    assert_eq!((bench.told.of("failed").len(), pending().as_str()), (2, "pending V4 1 1"));
    sleep(Duration::from_mins(1)).await;
    assert_eq!((bench.told.of("failed").len(), pending().as_str()), (3, "pending V4 0 0"));
}

#[tokio::test(start_paused = true)]
async fn changes_that_are_being_written_are_pending() {
    let bench = Bench::synced(PACE).await;
    bench.v4.state().locked = true;
    bench.send(Event::Slice(slice("web", "10.1.0.2"))).await;
    while bench.syncs().len() < 2 {
        tokio::task::yield_now().await;
    }
    bench.send(Event::Slice(slice("web", "10.1.0.3"))).await;
    while bench.told.of("pending V4").last().is_none_or(|told| told != "pending V4 0 2") {
        tokio::task::yield_now().await;
    }
    bench.v4.unlock();
    bench.settle().await;
    assert_eq!(bench.told.of("pending V4").last().unwrap(), "pending V4 0 0");
}

#[tokio::test(start_paused = true)]
async fn a_mistake_in_a_backend_is_a_failure_like_any_other() {
    let bench = Bench::synced(PACE).await;
    bench.v4.state().panics = true;
    bench.send(Event::Slice(slice("web", "10.1.0.2"))).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.told.of("failed"), ["failed 1 a mistake in this program: on purpose"]);
    assert_eq!(bench.endpoints(), ["10.1.0.2:8080"]);
}

#[tokio::test(start_paused = true)]
async fn rules_that_were_taken_away_are_back_within_a_second() {
    let bench = Bench::synced(PACE).await;
    for _ in 0..3 {
        bench.v4.state().flushed = true;
        sleep(Duration::from_secs(1)).await;
        assert!(!bench.v4.state().flushed);
    }
    assert_eq!(bench.told.of("lost").len(), 3);
    assert_eq!(bench.syncs(), ["full"; 4]);
    assert_eq!(bench.v6.state().syncs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_leads_to_a_look_and_many_to_few() {
    let (alarm, bell, listening, _alive) = Alarm::unconnected();
    let bench = Bench::with(PACE, Some(Node::named("here")), Some(alarm));
    assert!(!*listening.borrow());
    bench.begin().await;
    assert!(*listening.borrow(), "once its own rules are written");
    sleep(Duration::from_mins(10)).await;
    assert_eq!(bench.v4.state().looks, 0, "without an alarm nobody looks");
    bench.v4.state().flushed = true;
    bell.notify_one();
    sleep(Duration::from_millis(10)).await;
    assert!(!bench.v4.state().flushed);
    bench.v4.state().looks = 0;
    for _ in 0..1000 {
        bell.notify_one();
        sleep(Duration::from_millis(2)).await;
    }
    let looks = bench.v4.state().looks;
    assert!((5..=8).contains(&looks), "{looks} looks in two seconds");
}

#[tokio::test(start_paused = true)]
async fn options_that_change_are_followed_by_a_full_sync() {
    let bench = Bench::synced(PACE).await;
    bench.options.send_modify(|options| options.masquerade_all = true);
    bench.settle().await;
    assert_eq!(bench.syncs(), ["full", "full"]);
    assert!(bench.v4.state().options.masquerade_all && bench.v6.state().options.masquerade_all);
    drop(bench.options);
    sleep(Duration::from_millis(1)).await;
    assert!(!bench.running.is_finished(), "options that never change again are no end");
}

#[tokio::test(start_paused = true)]
async fn everything_is_compared_now_and_then() {
    let often = Bench::synced(Pace { resync: Duration::from_secs(30), ..PACE }).await;
    sleep(Duration::from_mins(9)).await;
    assert_eq!(often.syncs(), ["full"], "a comparison is dear");
    sleep(Duration::from_mins(22)).await;
    assert_eq!(often.syncs(), ["full"; 4]);
    let seldom = Bench::synced(Pace { resync: Duration::from_mins(20), ..PACE }).await;
    sleep(Duration::from_mins(41)).await;
    assert_eq!(seldom.syncs(), ["full"; 3]);
}

#[tokio::test(start_paused = true)]
async fn others_rules_go_once_ours_are_in_force() {
    let bench = Bench::new(PACE);
    bench.v4.state().failures = ["not yet".to_owned()].into();
    bench.send(Event::AllServices(vec![service("web")])).await;
    bench.send(Event::AllSlices(Vec::new())).await;
    bench.settle().await;
    assert!(bench.v4.state().removed.is_empty());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.v4.state().removed, [1], "one port was in force by then");
    bench.send(Event::Slice(slice("web", "10.1.0.2"))).await;
    bench.settle().await;
    assert_eq!(bench.v4.state().removed, [1], "once is enough");
}

#[tokio::test(start_paused = true)]
async fn flows_are_compared_with_all_rules_where_changes_are_not_enough() {
    let bench = Bench::new(PACE);
    let udp = |address: Option<&str>| {
        let mut slice = slice("dns", address.unwrap_or("10.1.0.1"));
        slice.ports[0].protocol = crate::proxy::model::Protocol::Udp;
        if address.is_none() {
            slice.endpoints = Box::new([]);
        }
        slice
    };
    let mut dns = service("dns");
    dns.ports[0].protocol = crate::proxy::model::Protocol::Udp;
    bench.v4.state().listing_fails = true;
    bench.send(Event::AllServices(vec![dns, service("web")])).await;
    bench.send(Event::AllSlices(vec![udp(Some("10.1.0.1"))])).await;
    bench.settle().await;
    let listings = || std::mem::take(&mut bench.v4.state().listings);
    assert!(listings() > 0, "a start compares");
    bench.send(Event::Slice(slice("web", "10.1.0.7"))).await;
    bench.settle().await;
    assert!(listings() > 0, "the first could not be listed");
    bench.send(Event::Slice(slice("web", "10.1.0.8"))).await;
    bench.settle().await;
    assert_eq!(listings(), 0, "TCP needs nothing");
    bench.send(Event::Slice(udp(None))).await;
    bench.settle().await;
    assert!(listings() > 0, "an endpoint went");
}

#[tokio::test(start_paused = true)]
async fn health_checks_and_the_node_are_told_when_they_change() {
    let bench = Bench::with(PACE, None, None);
    let balanced = json!({"metadata": {"namespace": "default", "name": "web"}, "spec": {
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
        "clusterIP": "10.96.0.5", "ports": [{"port": 80, "nodePort": 30080}]}});
    let balanced = Service::of(&serde_json::from_value(balanced).unwrap()).unwrap().unwrap();
    bench.send(Event::AllServices(vec![balanced])).await;
    bench.send(Event::AllSlices(vec![slice("web", "10.1.0.1")])).await;
    bench.settle().await;
    assert!(bench.told.of("health").is_empty(), "nothing is in force yet");
    bench.send(Event::Node(Node::named("here"))).await;
    bench.settle().await;
    bench.send(Event::Node(Node::named("here"))).await;
    bench.send(Event::Slice(slice("web", "10.1.0.2"))).await;
    let unknown: Arc<str> = "default/web-1".into();
    bench.send(Event::NoSlice { name: unknown, service: None }).await;
    bench.settle().await;
    assert_eq!(bench.told.of("health"), ["health default/web=1", "health default/web=0"]);
    assert_eq!(bench.told.of("node"), ["node here "]);
}

#[tokio::test(start_paused = true)]
async fn the_loop_ends_with_its_source_and_leaves_the_rules() {
    let bench = Bench::synced(PACE).await;
    let (v4, running) = (bench.v4.clone(), bench.running);
    drop(bench.events);
    timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
    assert_eq!(v4.state().ports.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_model_needs_the_same() {
    let (sender, mut events) = mpsc::channel(8);
    sender.send(Event::AllServices(vec![service("web")])).await.unwrap();
    sender.send(Event::AllSlices(vec![slice("web", "10.1.0.1")])).await.unwrap();
    let model = first_model(&mut events, Some(Node::named("here"))).await.unwrap();
    assert_eq!(model.ports(Family::V4).len(), 1);
    drop(sender);
    advance(Duration::from_secs(1)).await;
    assert!(first_model(&mut events, Some(Node::named("here"))).await.is_none());
}
