//! Nodes of an API server, and this node's annotations and condition there.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use test_api_server::{Resource, Server};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::*;
use crate::kube::{ApiAccess, Retry, connect};
use crate::overlay::cluster::Cluster;

const PATIENCE: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(300);

/// A server, and the nodes that follow it.
struct Fixture {
    server: Server,
    events: mpsc::Receiver<Event>,
    cluster: Cluster,
    away: Vec<bool>,
    told: usize,
    wanted: watch::Sender<Option<Wanted>>,
    problem: watch::Receiver<Told>,
    connected: watch::Sender<bool>,
    unclear: watch::Receiver<Told>,
    _followers: JoinSet<()>,
    _keepers: [JoinHandle<()>; 2],
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
        let connection = connect(&access).await.unwrap();
        let (sender, events) = mpsc::channel(64);
        let retry = Retry { first: Duration::from_millis(20), most: Duration::from_millis(100) };
        let (followers, own) = follow_with(&connection, "a", false, &sender, retry);
        let ((wanted, wants), (told, problem)) = (watch::channel(None), watch::channel(None));
        let ((connected, is_connected), (cleared, unclear)) =
            (watch::channel(false), watch::channel(None));
        let announcer = Keeper::<Announcement> {
            connection: connection.clone(),
            name: "a".to_owned(),
            wanted: wants,
            own: own.annotations,
            told,
            retry,
        };
        let network = Keeper::<Network> {
            connection,
            name: "a".to_owned(),
            wanted: is_connected,
            own: own.network,
            told: cleared,
            retry,
        };
        Self {
            server,
            events,
            cluster: Cluster::default(),
            away: Vec::new(),
            told: 0,
            wanted,
            problem,
            connected,
            unclear,
            _followers: followers,
            _keepers: [tokio::spawn(announcer.run()), tokio::spawn(network.run())],
            _folder: folder,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Nodes(event) => {
                self.told += 1;
                self.cluster.apply(event);
            }
            Event::Away(reason) => self.away.push(reason.is_some()),
        }
    }

    async fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        while !reached(self) {
            let event = timeout(PATIENCE, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("{what}; known are {:?}", self.cluster));
            self.take(event.unwrap());
        }
    }

    async fn settle(&mut self) {
        while let Ok(Some(event)) = timeout(QUIET, self.events.recv()).await {
            self.take(event);
        }
    }

    fn annotations(&self) -> Value {
        self.server.get(Resource::Nodes, "", "a").unwrap()["metadata"]["annotations"].clone()
    }

    async fn annotated(&self, want: &Value) {
        let end = std::time::Instant::now() + PATIENCE;
        while self.annotations() != *want {
            assert!(std::time::Instant::now() < end, "{}, and not {want}", self.annotations());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Status and reason of the conditions, by type.
    fn conditions(&self) -> Vec<String> {
        let object = self.server.get(Resource::Nodes, "", "a").unwrap();
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let words = |one: &Value| ["type", "status", "reason"].map(|key| text(&one[key])).join(" ");
        all.iter().map(|one| words(one).trim_end().to_owned()).collect()
    }

    async fn has_conditions(&self, want: &[&str]) {
        let end = std::time::Instant::now() + PATIENCE;
        while self.conditions() != want {
            assert!(std::time::Instant::now() < end, "{:?}, and not {want:?}", self.conditions());
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn patches(&self) -> usize {
        self.server.take_requests().iter().filter(|asked| asked.starts_with("PATCH")).count()
    }
}

fn node(name: &str, cidr: &str) -> Value {
    json!({
        "kind": "Node", "metadata": {"name": name, "annotations": {"mine": "stays"}},
        "spec": {"podCIDRs": [cidr]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

#[tokio::test]
async fn all_nodes_are_followed_and_heartbeats_are_no_events() {
    let mut fixture = Fixture::start(|server| {
        server.put_all(
            (0..600).map(|i| node(&format!("n{i}"), &format!("10.{}.{}.0/24", i / 250, i % 250))),
        );
    })
    .await;
    fixture.until("the list", |it| it.cluster.len() == 600).await;
    assert_eq!(fixture.told, 1);
    let mut beating = node("n7", "10.0.7.0/24");
    beating["status"]["conditions"][0]["status"] = json!("False");
    fixture.server.put(beating);
    fixture.settle().await;
    assert_eq!(fixture.told, 1);
    fixture.server.put(node("n7", "10.9.9.0/24"));
    fixture
        .until("a change", |it| {
            it.cluster.get("n7").unwrap().pod_cidrs[0].to_string() == "10.9.9.0/24"
        })
        .await;
    fixture.server.delete(Resource::Nodes, "", "n8");
    fixture.until("a removal", |it| it.cluster.len() == 599).await;
    // it comes back as it was
    fixture.server.put(node("n8", "10.0.8.0/24"));
    fixture.until("its return", |it| it.cluster.len() == 600).await;
    assert_eq!(fixture.told, 4);
}

#[tokio::test]
async fn an_api_that_is_away_is_told_and_what_changed_meanwhile_follows() {
    let mut fixture = Fixture::start(|server| {
        server.put(node("a", "10.0.1.0/24"));
    })
    .await;
    fixture.until("the list", |it| it.cluster.len() == 1).await;
    // the watch follows the list
    fixture.settle().await;
    fixture.server.set_away(true);
    fixture.until("away", |it| it.away == [true]).await;
    fixture.server.put(node("b", "10.0.2.0/24"));
    fixture.server.delete(Resource::Nodes, "", "a");
    fixture.server.compact();
    fixture.server.set_away(false);
    fixture.until("back", |it| it.cluster.get("b").is_some() && it.cluster.len() == 1).await;
    assert_eq!(fixture.away, [true, false]);
}

#[tokio::test]
async fn an_api_that_is_back_is_told_though_nothing_changes_there() {
    let mut fixture = Fixture::start(|server| {
        server.put(node("a", "10.0.1.0/24"));
    })
    .await;
    fixture.until("the list", |it| it.cluster.len() == 1).await;
    fixture.settle().await;
    fixture.server.set_away(true);
    fixture.until("away", |it| it.away == [true]).await;
    fixture.server.set_away(false);
    fixture.until("back", |it| it.away == [true, false]).await;
    assert_eq!(fixture.told, 1, "without another list");
}

#[tokio::test]
async fn watches_that_end_at_once_are_not_begun_again_at_once_for_ever() {
    let mut fixture = Fixture::start(|server| {
        server.put(node("a", "10.0.1.0/24"));
    })
    .await;
    fixture.until("the list", |it| it.cluster.len() == 1).await;
    fixture.settle().await;
    fixture.server.set_short_watches(true);
    fixture.server.take_requests();
    sleep(Duration::from_secs(3)).await;
    let asked = fixture.server.take_requests();
    assert!(asked.len() < 20, "{} requests in three seconds", asked.len());
    // what such watches tell counts all the same
    fixture.server.put(node("b", "10.0.2.0/24"));
    fixture.until("a change", |it| it.cluster.len() == 2).await;
}

#[tokio::test]
async fn the_annotations_are_written_kept_and_nothing_else_is_touched() {
    let mut fixture = Fixture::start(|server| {
        server.put(node("a", "10.0.1.0/24"));
    })
    .await;
    fixture.until("the list", |it| it.cluster.len() == 1).await;
    let want =
        |text: &str| Wanted::from([(crate::overlay::annotation::OURS, Some(text.to_owned()))]);
    fixture.wanted.send_replace(Some(want("{}")));
    let written = json!({"mine": "stays", "overlay.heddle.dev/node": "{}"});
    fixture.annotated(&written).await;
    fixture.settle().await;
    assert_eq!(fixture.patches(), 1, "once is enough");
    // somebody removes it
    fixture.server.put(node("a", "10.0.1.0/24"));
    fixture.annotated(&written).await;
    // it changes
    fixture.wanted.send_replace(Some(want("{\"x\":1}")));
    fixture.annotated(&json!({"mine": "stays", "overlay.heddle.dev/node": "{\"x\":1}"})).await;
    // the node is made anew
    fixture.server.delete(Resource::Nodes, "", "a");
    fixture.server.put(node("a", "10.0.1.0/24"));
    fixture.annotated(&json!({"mine": "stays", "overlay.heddle.dev/node": "{\"x\":1}"})).await;
}

#[tokio::test]
async fn an_api_that_refuses_is_told_with_the_remedy_and_tried_again() {
    let mut fixture = Fixture::start(|server| {
        server.put(node("a", "10.0.1.0/24"));
    })
    .await;
    fixture.until("the list", |it| it.cluster.len() == 1).await;
    fixture.server.set_status(Some(403));
    let ours = crate::overlay::annotation::OURS;
    fixture.wanted.send_replace(Some(Wanted::from([(ours, Some("{}".to_owned()))])));
    let told = fixture.problem.wait_for(Option::is_some);
    let told = timeout(PATIENCE, told).await.unwrap().unwrap().clone().unwrap();
    assert!(
        told.contains("cannot annotate Node a") && told.contains("conf/overlay-rbac.yaml"),
        "{told}"
    );
    fixture.server.set_status(None);
    fixture.annotated(&json!({"mine": "stays", "overlay.heddle.dev/node": "{}"})).await;
    timeout(PATIENCE, fixture.problem.wait_for(Option::is_none)).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_changes_it_again_and_again_is_told_of() {
    let mut fixture = Fixture::start(|server| {
        server.put(node("a", "10.0.1.0/24"));
    })
    .await;
    fixture.until("the list", |it| it.cluster.len() == 1).await;
    let ours = crate::overlay::annotation::OURS;
    fixture.wanted.send_replace(Some(Wanted::from([(ours, Some("{}".to_owned()))])));
    for _ in 0..5 {
        fixture.annotated(&json!({"mine": "stays", "overlay.heddle.dev/node": "{}"})).await;
        fixture.server.put(node("a", "10.0.1.0/24"));
        if fixture.problem.borrow().is_some() {
            break;
        }
    }
    let told = timeout(PATIENCE, fixture.problem.wait_for(Option::is_some)).await;
    let told = told.unwrap().unwrap().clone().unwrap();
    assert!(told.contains("does flanneld run here"), "{told}");
}

/// A node for which no cloud has made a route.
fn unavailable() -> Value {
    let mut node = node("a", "10.0.1.0/24");
    node["status"]["conditions"] = json!([
        {"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"},
        {"type": "Ready", "status": "True"},
    ]);
    node
}

const UNAVAILABLE: [&str; 2] = ["NetworkUnavailable True NoRouteCreated", "Ready True"];
const AVAILABLE: [&str; 2] = ["NetworkUnavailable False HeddleOverlayIsUp", "Ready True"];

#[tokio::test]
async fn the_network_is_available_once_this_node_is_connected() {
    let mut fixture = Fixture::start(|server| {
        server.put(unavailable());
    })
    .await;
    fixture.until("the list", |it| it.cluster.len() == 1).await;
    fixture.settle().await;
    assert_eq!(fixture.conditions(), UNAVAILABLE, "it is not connected yet");
    fixture.connected.send_replace(true);
    fixture.has_conditions(&AVAILABLE).await;
    fixture.settle().await;
    assert_eq!(fixture.patches(), 1, "once is enough");
    // somebody sets it back
    fixture.server.put(unavailable());
    fixture.has_conditions(&AVAILABLE).await;
    // who has no such condition needs none
    fixture.server.put(node("a", "10.0.1.0/24"));
    fixture.settle().await;
    assert_eq!(fixture.conditions(), ["Ready True"]);
    // the node is made anew
    fixture.server.delete(Resource::Nodes, "", "a");
    fixture.server.put(unavailable());
    fixture.has_conditions(&AVAILABLE).await;
}

#[tokio::test]
async fn a_status_that_may_not_be_changed_is_told_and_annotations_go_on() {
    let mut fixture = Fixture::start(|server| {
        server.put(unavailable());
        server.set_status_refused(true);
    })
    .await;
    fixture.connected.send_replace(true);
    let told = timeout(PATIENCE, fixture.unclear.wait_for(Option::is_some)).await;
    let told = told.unwrap().unwrap().clone().unwrap();
    for part in
        ["NetworkUnavailable of Node a", "conf/overlay-rbac.yaml", "(patch of nodes/status)"]
    {
        assert!(told.contains(part), "{told}");
    }
    let ours = crate::overlay::annotation::OURS;
    fixture.wanted.send_replace(Some(Wanted::from([(ours, Some("{}".to_owned()))])));
    fixture.annotated(&json!({"mine": "stays", "overlay.heddle.dev/node": "{}"})).await;
    assert_eq!(
        (fixture.conditions(), &*fixture.problem.borrow()),
        (UNAVAILABLE.map(String::from).to_vec(), &None)
    );
    fixture.server.set_status_refused(false);
    fixture.has_conditions(&AVAILABLE).await;
    timeout(PATIENCE, fixture.unclear.wait_for(Option::is_none)).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_takes_the_network_away_again_and_again_is_told_of() {
    let mut fixture = Fixture::start(|server| {
        server.put(unavailable());
    })
    .await;
    fixture.connected.send_replace(true);
    for _ in 0..5 {
        fixture.has_conditions(&AVAILABLE).await;
        fixture.server.put(unavailable());
        if fixture.unclear.borrow().is_some() {
            break;
        }
    }
    let told = timeout(PATIENCE, fixture.unclear.wait_for(Option::is_some)).await;
    let told = told.unwrap().unwrap().clone().unwrap();
    assert!(told.contains("--configure-cloud-routes=false"), "{told}");
}
