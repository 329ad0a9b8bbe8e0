mod access;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service as Object;
use kube::runtime::watcher::Event as Told;
use netns_tools::cause::one_line;
use netns_tools::iptables::Family;
use serde_json::{Value, json};
use test_api_server::generate::{Plan, objects, service, slice};
use test_api_server::{Resource, Server};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::*;
use crate::proxy::config::ApiAccess;
use crate::proxy::model::{Model, Node, PortId, Protocol, ServiceName};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must happen to say that nothing happens.
const QUIET: Duration = Duration::from_millis(400);

/// A server, and a model that follows it.
struct Fixture {
    server: Server,
    events: mpsc::Receiver<Event>,
    model: Model,
    lists: usize,
    _informers: Informers,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn start(prepare: impl FnOnce(&Server)) -> Self {
        let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        prepare(&server);
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
        let access = ApiAccess { kubeconfig: Some(kubeconfig), master: None };
        let client = connect(&access).await.unwrap();
        let (sender, events) = mpsc::channel(1024);
        let retry = Retry { first: Duration::from_millis(20), most: Duration::from_millis(100) };
        let informers = follow_with(&client, "node", &sender, retry);
        let model = Model::default();
        Self { server, events, model, lists: 0, _informers: informers, _folder: folder }
    }

    /// Takes events in until the model is as it should be.
    async fn until(&mut self, what: &str, reached: impl Fn(&Model) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !reached(&self.model) {
            let left = end.saturating_duration_since(Instant::now());
            let event = timeout(left, self.events.recv()).await;
            let known = (self.model.service_names().count(), self.model.node());
            let event = event.unwrap_or_else(|_| panic!("{what}; known are {known:?}"));
            self.take(event.unwrap());
        }
    }

    fn take(&mut self, event: Event) {
        if matches!(event, Event::AllServices(_) | Event::AllSlices(_)) {
            self.lists += 1;
        }
        self.model.apply(event);
    }

    async fn synced(&mut self) {
        while self.lists < 2 || self.model.node().name.is_empty() {
            let event = timeout(PATIENCE, self.events.recv()).await.expect("the first lists");
            self.take(event.unwrap());
        }
    }

    /// Takes in what comes until nothing does.
    async fn settle(&mut self) {
        while let Ok(Some(event)) = timeout(QUIET, self.events.recv()).await {
            self.take(event);
        }
    }

    fn endpoints(&self) -> BTreeMap<String, Vec<String>> {
        endpoints(&self.model)
    }
}

fn endpoints(model: &Model) -> BTreeMap<String, Vec<String>> {
    let ports = model.ports(Family::V4).iter();
    let of = |port: &crate::proxy::model::ServicePort| {
        port.endpoints.cluster.iter().map(|endpoint| endpoint.address.to_string()).collect()
    };
    ports.map(|(id, port)| (id.service.as_str().to_owned(), of(port))).collect()
}

fn plan(services: u32) -> Plan {
    Plan { services, endpoints: 2, ..Plan::default() }
}

fn with_endpoint(number: u32, address: &str) -> Value {
    let mut changed = slice(&plan(9), number, 0);
    changed["endpoints"] = json!([{"addresses": [address], "conditions": {"ready": true}}]);
    changed
}

fn node(zone: &str) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": "node", "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    })
}

#[tokio::test]
async fn everything_is_listed_in_pages_then_followed() {
    let mut fixture = Fixture::start(|server| {
        server.put(node("a"));
        server.put(json!({"kind": "Node", "metadata": {"name": "other"}}));
        server.put_all(objects(&plan(600)));
    })
    .await;
    fixture.synced().await;
    assert_eq!(fixture.lists, 2);
    let endpoints = fixture.endpoints();
    assert_eq!(endpoints.len(), 600);
    assert!(endpoints.values().all(|addresses| addresses.len() == 2));
    assert_eq!((&*fixture.model.node().name, &*fixture.model.node().zone), ("node", "a"));
    let asked = fixture.server.take_requests();
    let of = |word: &str| asked.iter().filter(|request| request.contains(word)).count();
    let pages = |kind: &str| {
        asked.iter().filter(|asked| asked.contains(kind) && asked.contains("limit=250")).count()
    };
    assert_eq!((pages("/services?"), pages("/endpointslices?")), (3, 3), "{asked:#?}");
    assert!(of("fieldSelector=metadata.name%3Dnode") >= 1, "{asked:#?}");
    assert!(
        of(
            "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name%2C%21service.kubernetes.io%2Fheadless"
        ) >= 6
    );

    fixture.server.put(with_endpoint(7, "11.9.9.9"));
    fixture.until("a changed slice", |model| endpoints_of(model, 7) == ["11.9.9.9:8080"]).await;
    fixture.server.put(node("b"));
    fixture.until("a changed zone", |model| &*model.node().zone == "b").await;
    assert!(fixture.server.delete(Resource::EndpointSlices, "default", "svc-7-a1b2c"));
    fixture.until("a removed slice", |model| endpoints_of(model, 7).is_empty()).await;
    assert!(fixture.server.delete(Resource::Services, "default", "svc-8"));
    fixture
        .until("a removed service", |model| {
            model.service(&ServiceName::new("default", "svc-8")).is_none()
        })
        .await;
    assert_eq!(fixture.lists, 2);
}

fn endpoints_of(model: &Model, number: u32) -> Vec<String> {
    let service = ServiceName::new("default", &format!("svc-{number}"));
    let id = PortId { service, port: "http".into(), protocol: Protocol::Tcp };
    let port = model.ports(Family::V4).get(&id);
    let addresses = port.iter().flat_map(|port| &port.endpoints.cluster);
    addresses.map(|endpoint| endpoint.address.to_string()).collect()
}

#[tokio::test]
async fn what_is_for_others_is_not_taken_and_leaves_when_it_becomes_so() {
    let labelled = |number: u32, label: &str| {
        let mut object = service(&plan(9), number);
        object["metadata"]["labels"] = json!({label: "x"});
        object
    };
    let mut fixture = Fixture::start(|server| {
        server.put(labelled(0, "service.kubernetes.io/service-proxy-name"));
        server.put(service(&plan(9), 1));
    })
    .await;
    fixture.synced().await;
    assert_eq!(fixture.model.service_names().count(), 1);
    fixture.server.put(labelled(1, "service.kubernetes.io/service-proxy-name"));
    fixture.until("a service given to another", |model| model.service_names().count() == 0).await;
    fixture.server.put(service(&plan(9), 0));
    fixture.until("a service given to us", |model| model.service_names().count() == 1).await;
}

#[tokio::test]
async fn a_missing_node_is_known_by_its_name_and_a_removed_one_stays_as_it_was() {
    let mut fixture = Fixture::start(|_| {}).await;
    fixture.synced().await;
    assert_eq!(fixture.model.node(), &Node::named("node"));
    fixture.server.put(node("a"));
    fixture.until("the node", |model| &*model.node().zone == "a").await;
    fixture.server.delete(Resource::Nodes, "", "node");
    fixture.settle().await;
    let known = fixture.model.node().clone();
    assert_eq!((&*known.zone, known.address(Family::V4)), ("a", "192.0.2.1".parse().ok()));
    assert!(!known.leaving, "it goes on to serve");
    // nor does a list without it say anything
    fixture.server.set_away(true);
    fixture.server.compact();
    fixture.server.set_away(false);
    fixture.settle().await;
    assert_eq!(fixture.model.node(), &known);
    fixture.server.put(node("b"));
    fixture.until("another node of that name", |model| &*model.node().zone == "b").await;
}

/// What is logged while `work` runs.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = log.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

#[test]
fn that_the_node_is_gone_is_told_once() {
    let object = |name: &str, version: &str| {
        let text = json!({"metadata": {"name": name, "resourceVersion": version}});
        serde_json::from_value::<NodeObject>(text).unwrap()
    };
    let mut intake = Intake::new(Nodes::new("node"));
    let list = |intake: &mut Intake<Nodes>, found: Option<NodeObject>| {
        intake.take(Told::Init);
        if let Some(found) = found {
            intake.take(Told::InitApply(found));
        }
        intake.take(Told::InitDone)
    };
    let missing = logged(|| {
        let named = Some(Event::Node(Node::named("node")));
        assert_eq!(list(&mut intake, None), named);
        assert_eq!(list(&mut intake, None), named);
    });
    assert_eq!(missing.matches("there is no Node of this name").count(), 1, "{missing}");
    let removed = logged(|| {
        assert!(list(&mut intake, Some(object("node", "5"))).is_some());
        assert_eq!(intake.take(Told::Delete(object("other", "6"))), None);
        assert_eq!(intake.take(Told::Delete(object("node", "7"))), None);
        assert!(list(&mut intake, None).is_some());
    });
    assert_eq!(removed.matches("this Node was removed from the API").count(), 1, "{removed}");
    assert_eq!(removed.lines().count(), 1, "{removed}");
    let again = logged(|| {
        assert!(intake.take(Told::Apply(object("node", "8"))).is_some());
        intake.take(Told::Delete(object("node", "9")));
    });
    assert_eq!(again.matches("this Node was removed from the API").count(), 1, "{again}");
}

#[tokio::test]
async fn a_node_that_may_not_be_read_is_known_by_its_name() {
    let mut fixture = Fixture::start(|server| server.set_status(Some(403))).await;
    fixture.until("the name", |model| &*model.node().name == "node").await;
    fixture.server.set_status(None);
    fixture.server.put(node("a"));
    fixture.synced().await;
    fixture.until("the node", |model| &*model.node().zone == "a").await;
}

/// Both ways in which servers say that a version is too old.
#[tokio::test]
async fn a_version_that_is_too_old_is_followed_by_a_new_list() {
    for as_status in [false, true] {
        let mut fixture = Fixture::start(|server| {
            server.put(node("a"));
            server.put_all(objects(&plan(3)));
            server.set_gone_as_status(as_status);
        })
        .await;
        fixture.synced().await;
        fixture.settle().await;
        fixture.server.set_away(true);
        fixture.server.put(with_endpoint(1, "11.9.9.9"));
        fixture.server.delete(Resource::Services, "default", "svc-2");
        fixture.server.delete(Resource::EndpointSlices, "default", "svc-2-a1b2c");
        fixture.server.compact();
        fixture.server.set_away(false);
        fixture
            .until("what changed meanwhile", |model| {
                endpoints_of(model, 1) == ["11.9.9.9:8080"] && model.service_names().count() == 2
            })
            .await;
        assert_eq!(fixture.lists, 4, "as status: {as_status}");
        // nothing is left of what went away
        fixture.server.put(service(&plan(9), 2));
        fixture.until("the service again", |model| model.service_names().count() == 3).await;
        assert_eq!(endpoints_of(&fixture.model, 2), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_api_goes_away_and_comes_back_with_a_thousand_changes() {
    for compacted in [false, true] {
        let mut fixture = Fixture::start(|server| server.put_all(objects(&plan(1000)))).await;
        fixture.synced().await;
        fixture.server.set_away(true);
        fixture.server.put_all((0..1000).map(|number| slice(&plan(1000), number, 1)));
        fixture.settle().await;
        let before = endpoints_of(&fixture.model, 999);
        let known = ["11.0.15.157:8080", "11.0.15.159:8080"];
        assert_eq!(before, known, "nothing is forgotten while the API is away");
        if compacted {
            fixture.server.compact();
        }
        fixture.server.set_away(false);
        fixture.until("the last change", |model| endpoints_of(model, 999) != before).await;
        fixture.settle().await;
        let expected =
            model_of(objects(&plan(0)).chain(
                (0..1000).flat_map(|number| {
                    [service(&plan(1000), number), slice(&plan(1000), number, 1)]
                }),
            ));
        assert_eq!(fixture.endpoints(), endpoints(&expected));
        assert_eq!(fixture.lists, if compacted { 4 } else { 2 });
    }
}

/// The model of objects without any server.
fn model_of(objects: impl Iterator<Item = Value>) -> Model {
    let mut model = Model::new(Node::named("node"));
    for object in objects {
        if object["kind"] == "Service" {
            let object = serde_json::from_value(object).unwrap();
            model.set_service(crate::proxy::model::Service::of(&object).unwrap().unwrap());
        } else {
            let object = serde_json::from_value(object).unwrap();
            model.set_slice(crate::proxy::model::Slice::of(&object).unwrap());
        }
    }
    model
}

#[tokio::test]
async fn an_api_that_is_away_at_first_is_waited_for() {
    let mut fixture = Fixture::start(|server| {
        server.set_away(true);
        server.put_all(objects(&plan(3)));
    })
    .await;
    fixture.settle().await;
    assert_eq!((fixture.lists, &*fixture.model.node().name), (0, ""));
    fixture.server.set_away(false);
    fixture.server.set_status(Some(500));
    fixture.settle().await;
    assert_eq!(fixture.lists, 0);
    fixture.server.set_status(None);
    fixture.server.set_delay(Duration::from_millis(200));
    fixture.synced().await;
    assert_eq!(fixture.endpoints().len(), 3);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_gone_on_with_without_a_list() {
    let mut fixture = Fixture::start(|server| server.put_all(objects(&plan(3)))).await;
    fixture.synced().await;
    for turn in 0..5 {
        fixture.server.cut();
        let address = format!("11.9.9.{turn}");
        fixture.server.put(with_endpoint(1, &address));
        let expected = [format!("{address}:8080")];
        fixture.until("a change after a cut", |model| endpoints_of(model, 1) == expected).await;
    }
    assert_eq!(fixture.lists, 2);
}

#[tokio::test]
async fn events_told_again_or_late_change_nothing() {
    let mut fixture = Fixture::start(|server| server.put_all(objects(&plan(3)))).await;
    fixture.synced().await;
    fixture.server.put(with_endpoint(1, "11.9.9.1"));
    let version = fixture.server.put(with_endpoint(1, "11.9.9.2"));
    let expected = ["11.9.9.2:8080"];
    fixture.until("the later change", |model| endpoints_of(model, 1) == expected).await;
    fixture.settle().await;
    fixture.model.take_changes();
    let event = |kind: &str, version: u64, address: &str| {
        let mut object = with_endpoint(1, address);
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        json!({"type": kind, "object": object}).to_string()
    };
    // again, late, removed late
    for (kind, version, address) in [
        ("MODIFIED", version, "11.9.9.2"),
        ("MODIFIED", version - 1, "11.9.9.1"),
        ("DELETED", version - 1, "11.9.9.1"),
    ] {
        fixture.server.tell(Resource::EndpointSlices, &event(kind, version, address));
    }
    fixture.settle().await;
    assert_eq!(endpoints_of(&fixture.model, 1), expected);
    assert!(!fixture.model.has_changes());
    // late after its removal
    fixture.server.delete(Resource::EndpointSlices, "default", "svc-1-a1b2c");
    fixture.until("the removal", |model| endpoints_of(model, 1).is_empty()).await;
    fixture.server.tell(Resource::EndpointSlices, &event("MODIFIED", version, "11.9.9.2"));
    fixture.settle().await;
    assert_eq!(endpoints_of(&fixture.model, 1), Vec::<String>::new());
    // what is no event at all does not end the watch
    fixture.server.tell(Resource::EndpointSlices, "{\"type\":\"NONSENSE\"}");
    fixture.server.put(with_endpoint(1, "11.9.9.3"));
    fixture.until("another change", |model| endpoints_of(model, 1) == ["11.9.9.3:8080"]).await;
}

#[tokio::test]
async fn a_refused_object_is_as_if_it_were_not_there() {
    let refused = |port: i32| {
        let mut object = service(&plan(9), 1);
        object["spec"]["ports"][0]["port"] = json!(port);
        object
    };
    let mut fixture = Fixture::start(|server| {
        server.put_all(objects(&plan(3)));
        server.put(refused(70_000));
    })
    .await;
    fixture.synced().await;
    assert_eq!(fixture.model.service_names().count(), 2);
    fixture.server.put(service(&plan(9), 1));
    fixture.until("it is right", |model| model.service_names().count() == 3).await;
    fixture.server.put(refused(0));
    fixture.until("it is wrong again", |model| model.service_names().count() == 2).await;
}

fn object(name: &str, version: &str, port: i32) -> Object {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "resourceVersion": version},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": port}]},
    }))
    .unwrap()
}

#[test]
fn a_refused_object_is_told_once_per_version() {
    fn told(intake: &Intake<Services>) -> Vec<&str> {
        intake.refused_versions()
    }
    let mut intake = Intake::new(Services::default());
    let gone = Some(Event::NoService(ServiceName::new("default", "a")));
    for (version, refused) in [("1", vec!["1"]), ("1", vec!["1"]), ("2", vec!["2"])] {
        intake.take(Told::Apply(object("a", version, 0)));
        assert_eq!(told(&intake), refused);
    }
    assert_eq!(intake.take(Told::Apply(object("a", "3", 0))), gone);
    intake.take(Told::Apply(object("a", "4", 80)));
    assert_eq!(told(&intake), Vec::<&str>::new());
    // a list forgets what is not in it
    intake.take(Told::Apply(object("a", "5", 0)));
    intake.take(Told::Init);
    assert_eq!(intake.take(Told::InitDone), Some(Event::AllServices(Vec::new())));
    assert_eq!(told(&intake), Vec::<&str>::new());
}

#[test]
fn a_list_that_ends_early_says_nothing_of_what_is_gone() {
    let mut intake = Intake::new(Services::default());
    for told in [
        Told::Init,
        Told::InitApply(object("a", "1", 80)),
        Told::Init,
        Told::InitApply(object("b", "2", 80)),
    ] {
        assert_eq!(intake.take(told), None);
    }
    let Some(Event::AllServices(all)) = intake.take(Told::InitDone) else { panic!("a list") };
    let names: Vec<_> = all.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["default/b"]);
    // a backup was restored: versions begin anew, and the list counts
    intake.take(Told::Init);
    intake.take(Told::InitApply(object("b", "1", 80)));
    intake.take(Told::InitDone);
    assert!(intake.take(Told::Apply(object("b", "2", 81))).is_some());
}

#[tokio::test]
async fn what_is_wrong_with_the_access_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let access = |master: Option<&str>| ApiAccess {
        kubeconfig: Some(path.clone()),
        master: master.map(str::to_owned),
    };
    let missing = connect(&access(None)).await.err().unwrap();
    assert!(missing.to_string().starts_with("cannot use the kubeconfig"), "{missing}");
    std::fs::write(&path, "{").unwrap();
    assert!(connect(&access(None)).await.is_err());
    let nowhere = connect(&ApiAccess::default()).await.err().unwrap();
    assert!(nowhere.to_string().contains("set --kubeconfig"), "{nowhere}");
}
