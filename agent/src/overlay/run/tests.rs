//! The loop with a host that has no kernel. Time is paused, so that pauses take none: but for the blocking work itself.

use std::time::Duration;

use conf::{AgentConfig, Layer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::fake::FakeHost;
use super::probing::connect;
use super::*;
use crate::overlay::cluster;
use crate::overlay::desired::Way;
use crate::overlay::node::{Announcement, Vtep};
use crate::overlay::probe::{Channels, Command, Switch};
use crate::overlay::rules::NodeRules;
use crate::overlay::state::Store;
use netns_tools::MacAddr;

/// A loop under test.
struct World {
    folder: tempfile::TempDir,
    host: FakeHost,
    board: Board,
    events: mpsc::Sender<Event>,
    alarm: mpsc::Sender<Compare>,
    reload: mpsc::Sender<()>,
    relist: mpsc::Receiver<()>,
    announcement: watch::Receiver<Option<Announcement>>,
    connected: watch::Receiver<bool>,
    probes: Channels,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

fn record(name: &str, number: u8) -> NodeRecord {
    let address = format!("192.0.2.{number}").parse().unwrap();
    let mac = MacAddr([2, 0, 0, 0, 0, number]);
    NodeRecord {
        name: name.into(),
        created: Some(i64::from(number)),
        pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
        internal_ips: vec![address],
        announced: Some(Announcement {
            backend: crate::overlay::node::Backend::Vxlan,
            port: Some(8472),
            vteps: vec![Vtep { address, mac }],
            addresses: vec![address],
            ..Announcement::default()
        }),
        ..NodeRecord::default()
    }
}

/// This node announces nothing yet.
fn own() -> NodeRecord {
    NodeRecord { announced: None, ..record("a", 1) }
}

impl World {
    fn start() -> Self {
        Self::with(tempfile::tempdir().unwrap(), FakeHost::at("192.0.2.1/24"))
    }

    fn with(folder: tempfile::TempDir, host: FakeHost) -> Self {
        let text = "[overlay]\nbackend = \"vxlan\"\nkubeconfig = \"/k\"";
        let layers = [Layer::defaults("a"), Layer::text(text, "f")];
        let config = AgentConfig::from_layers(layers).unwrap();
        let options = Options { lease: folder.path().join("subnet.env"), ..Options::of(&config) };
        let board = Board::new("vxlan");
        let store = Store::new(folder.path(), "a");
        let rules: Box<dyn NodeRules> = Box::new(host.clone());
        let worker = Worker::new(Box::new(host.clone()), rules, store, options, board.clone());
        let (events, received) = mpsc::channel(64);
        let ((alarm, rings), (reload, asked)) = (Alarm::by_hand(), mpsc::channel(1));
        let ((announcement, announced), (connected, is_connected)) =
            (watch::channel(None), watch::channel(false));
        let (relist, relisted) = mpsc::channel(1);
        let (probes, probing) = connect(&config, &board);
        let runner = Runner::new(Parts {
            worker,
            events: received,
            probing,
            reload: asked,
            relist,
            alarm: Some(alarm),
            announcement,
            connected,
            board: board.clone(),
            observer: Box::new(()),
        });
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(runner.run(async { drop(stopped.await) }));
        Self {
            folder,
            host,
            board,
            events,
            alarm: rings,
            reload,
            relist: relisted,
            announcement: announced,
            connected: is_connected,
            probes,
            stop: Some(stop),
            running,
        }
    }

    async fn tell(&self, event: cluster::Event) {
        self.events.send(Event::Nodes(event)).await.unwrap();
    }

    /// Waits for a condition, in whatever time the paused clock says, for a while of the real one.
    async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !reached(self) {
            assert!(std::time::Instant::now() < end, "{what}: {:#?}", self.host.state());
            tokio::task::yield_now().await;
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    async fn routes(&self, want: &[&str]) {
        self.until(&format!("{want:?}"), |world| world.host.routes() == want).await;
    }

    async fn three(&self) {
        self.tell(cluster::Event::All(vec![own(), record("b", 2), record("c", 3)])).await;
        self.routes(&["10.244.2.0/24", "10.244.3.0/24"]).await;
        self.until("it is quiet", |world| *world.connected.borrow()).await;
    }

    /// Ends it as SIGTERM does; what is left.
    async fn stop(mut self) -> (tempfile::TempDir, FakeHost) {
        drop(self.stop.take());
        (&mut self.running).await.unwrap();
        (self.folder, self.host)
    }

    fn lease(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("subnet.env")).ok()
    }
}

#[tokio::test]
async fn a_burst_is_one_piece_of_work_and_a_change_costs_what_it_is() {
    let world = World::start();
    world.three().await;
    assert!(world.lease().unwrap().contains("HEDDLE_SUBNET=10.244.1.1/24"));
    let announced = world.announcement.borrow().clone().unwrap();
    assert_eq!(announced.addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    world.until("saved", |world| world.folder.path().join("overlay/nodes.json").exists()).await;
    world.host.take_calls();
    // the loop runs when this task waits: all of these are there by then
    for number in 10..20 {
        let event = Event::Nodes(cluster::Event::Put(record(&format!("n{number}"), number)));
        world.events.try_send(event).unwrap();
    }
    world.until("all", |world| world.host.routes().len() == 12).await;
    assert_eq!(world.host.take_calls(), [("update", 10)]);
    world.tell(cluster::Event::Gone("n10".into())).await;
    world.until("one less", |world| world.host.routes().len() == 11).await;
    assert_eq!(world.host.take_calls(), [("update", 1)]);
    let senders = world.host.state().rules.senders();
    assert!(
        senders.contains(&"192.0.2.11".parse().unwrap())
            && !senders.contains(&"192.0.2.10".parse().unwrap())
    );
    // nothing new is nothing to do
    world.tell(cluster::Event::Put(record("b", 2))).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(world.host.take_calls(), []);
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_ever_later_with_everything() {
    let world = World::start();
    world.three().await;
    world.host.take_calls();
    world.host.state().failures = 3;
    let start = Instant::now();
    world.tell(cluster::Event::Gone("c".into())).await;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while world.host.routes() != ["10.244.2.0/24"] {
        assert!(std::time::Instant::now() < end, "{:?}", world.host.state().calls);
        sleep(Duration::from_millis(5)).await;
        std::thread::sleep(Duration::from_micros(100));
    }
    let took = start.elapsed();
    // an update that fails becomes a comparison at once; two more fail, after 250 and 500 ms
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(30), "{took:?}");
    let calls = world.host.take_calls();
    assert_eq!((calls[0], calls.last()), (("update", 1), Some(&("sync", 1))), "{calls:?}");
    world.until("problems are gone", |world| world.board.status().problems.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_like_any_other() {
    let world = World::start();
    world.three().await;
    world.host.state().panics = true;
    world.tell(cluster::Event::Put(record("d", 4))).await;
    let told = |world: &World| {
        world.board.status().problems.join(" ").contains("the fake is told to panic")
    };
    world.until("it is told", told).await;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while world.host.routes().len() != 3 || !world.board.status().problems.is_empty() {
        assert!(std::time::Instant::now() < end, "{:?}", world.host.state());
        sleep(Duration::from_millis(5)).await;
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_a_panic_hits_are_asked_for_again() {
    let mut world = World::start();
    world.three().await;
    // a failure, and a pause in which both of what follows come
    world.host.state().failures = 1;
    world.host.state().refuses_all = true;
    world.tell(cluster::Event::Gone("c".into())).await;
    world.until("it failed", |world| !world.board.status().problems.is_empty()).await;
    world.host.state().refuses_all = false;
    world.host.state().panics = true;
    let (device, reason) = ("heddle.1".to_owned(), "it is broken".to_owned());
    let command = Command { device, on: false, reason };
    let (done, answer) = oneshot::channel();
    world.probes.switches.try_send(Switch { command, done }).unwrap();
    world.events.try_send(Event::Nodes(cluster::Event::Put(record("d", 4)))).unwrap();
    tokio::time::timeout(Duration::from_secs(5), world.relist.recv()).await.unwrap().unwrap();
    assert!(answer.await.is_err());
    assert!(!world.host.routes().contains(&"10.244.4.0/24".to_owned()), "it is lost");
    world.tell(cluster::Event::All(vec![own(), record("b", 2), record("d", 4)])).await;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while world.host.routes() != ["10.244.2.0/24", "10.244.4.0/24"]
        || !world.board.status().problems.is_empty()
    {
        assert!(std::time::Instant::now() < end, "{:?}", world.host.state());
        // the clock goes on only where all wait
        sleep(Duration::from_millis(5)).await;
        std::thread::sleep(Duration::from_micros(100));
    }
    assert!(world.relist.try_recv().is_err());
}

#[tokio::test]
async fn what_cannot_be_written_is_told_and_the_rest_is() {
    let world = World::start();
    world.host.state().refused = Some("10.244.2.0/24".parse().unwrap());
    world.tell(cluster::Event::All(vec![own(), record("b", 2), record("c", 3)])).await;
    world.routes(&["10.244.3.0/24"]).await;
    let told = "route 10.244.2.0/24: the fake refuses it";
    world.until("it is told", |world| world.board.status().problems == [told]).await;
    assert!(world.lease().is_some() && world.host.state().rules.input.is_some());
    assert!(!*world.connected.borrow());
    world.host.state().refused = None;
    world.routes(&["10.244.2.0/24", "10.244.3.0/24"]).await;
}

#[tokio::test]
async fn what_cannot_be_written_keeps_no_other_change_waiting() {
    let world = World::start();
    world.three().await;
    let b = "10.244.2.0/24";
    world.host.state().refused = Some(b.parse().unwrap());
    world.host.state().desired.as_mut().unwrap().routes.clear();
    world.alarm.send(Compare::Look).await.unwrap();
    let told = ["route 10.244.2.0/24: the fake refuses it"];
    world.until("it is told", |world| world.board.status().problems == told).await;
    // pauses have become long by then
    sleep(Duration::from_secs(4)).await;
    for number in 4..8 {
        world.host.take_calls();
        let start = std::time::Instant::now();
        world.tell(cluster::Event::Put(record("d", number))).await;
        let want = format!("10.244.{number}.0/24");
        world.until("d", |world| world.host.routes().contains(&want)).await;
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(world.board.status().problems, told, "it is still so");
        assert!(!world.host.take_calls().is_empty());
    }
    world.host.state().refused = None;
    world.until("mended", |world| world.host.routes().contains(&b.to_owned())).await;
    world.until("well", |world| world.board.status().problems.is_empty()).await;
}

#[tokio::test]
async fn notifications_and_requests_cause_comparisons() {
    let world = World::start();
    world.three().await;
    // somebody deletes a route
    world.host.state().desired.as_mut().unwrap().routes.pop();
    world.alarm.send(Compare::Look).await.unwrap();
    world.routes(&["10.244.2.0/24", "10.244.3.0/24"]).await;
    // rules alone are looked at without links
    world.host.take_calls();
    world.host.state().rules.broken = true;
    let commits = world.host.state().rules.commits;
    world.alarm.send(Compare::Rules).await.unwrap();
    world.until("rules", |world| world.host.state().rules.commits == commits + 1).await;
    assert_eq!(world.host.take_calls(), []);
    world.host.state().desired.as_mut().unwrap().routes.clear();
    world.reload.send(()).await.unwrap();
    world.routes(&["10.244.2.0/24", "10.244.3.0/24"]).await;
    // the underlay's address changes
    world.host.state().address = Some("192.0.2.9/24".parse().unwrap());
    world.alarm.send(Compare::Look).await.unwrap();
    let moved = |world: &World| {
        let announced = world.announcement.borrow();
        announced.as_ref().is_some_and(|it| it.addresses[0].to_string() == "192.0.2.9")
    };
    world.until("the new address", moved).await;
    assert_eq!(
        world.host.state().desired.as_ref().unwrap().devices[0].local.to_string(),
        "192.0.2.9"
    );
}

#[tokio::test]
async fn what_cannot_be_sent_to_is_not_announced() {
    let host = FakeHost::at("192.0.2.1/24");
    host.state().no_devices = Some("heddle");
    let world = World::with(tempfile::tempdir().unwrap(), host);
    world.tell(cluster::Event::All(vec![own(), record("b", 2)])).await;
    let told =
        |world: &World| world.board.status().problems.iter().any(|it| it.contains("flannel.1"));
    world.until("it is told", told).await;
    // an event that compares nothing does not change that
    world.tell(cluster::Event::Put(record("c", 3))).await;
    world.routes(&["10.244.2.0/24", "10.244.3.0/24"]).await;
    assert_eq!(*world.announcement.borrow(), None);
    world.host.state().no_devices = None;
    world.alarm.send(Compare::Look).await.unwrap();
    world.until("announced", |world| world.announcement.borrow().is_some()).await;
}

#[tokio::test]
async fn a_restart_begins_with_what_was_kept() {
    let world = World::start();
    world.three().await;
    let mac = world.announcement.borrow().as_ref().unwrap().vteps[0].mac;
    let (folder, _) = world.stop().await;
    std::fs::remove_file(folder.path().join("subnet.env")).unwrap();
    let world = World::with(folder, FakeHost::at("192.0.2.1/24"));
    world.routes(&["10.244.2.0/24", "10.244.3.0/24"]).await;
    world.until("connected", |world| *world.connected.borrow()).await;
    assert!(world.lease().is_some());
    assert!(world.board.status().from_kept_state);
    assert_eq!(world.announcement.borrow().as_ref().unwrap().vteps[0].mac, mac);
    // the API says something else
    world.events.send(Event::Away(Some("refused".into()))).await.unwrap();
    world.until("away", |world| world.board.status().problems.len() == 1).await;
    world.events.send(Event::Away(None)).await.unwrap();
    world.tell(cluster::Event::All(vec![own(), record("d", 4)])).await;
    world.routes(&["10.244.4.0/24"]).await;
    world.until("told", |world| !world.board.status().from_kept_state).await;
    assert!(world.board.status().problems.is_empty());
}

#[tokio::test]
async fn what_is_there_of_nodes_that_were_not_kept_stays_until_all_are_told() {
    let world = World::start();
    world.three().await;
    let file = world.folder.path().join("overlay/nodes.json");
    world.until("saved", |_| file.exists()).await;
    let kept = std::fs::read(&file).unwrap();
    world.tell(cluster::Event::Put(record("d", 4))).await;
    let all = ["10.244.2.0/24", "10.244.3.0/24", "10.244.4.0/24"];
    world.routes(&all).await;
    // it dies before it has kept that, and the kernel has what it has
    let (folder, host) = world.stop().await;
    std::fs::write(&file, kept).unwrap();
    host.take_calls();
    let d = "192.0.2.4".parse().unwrap();
    let world = World::with(folder, host);
    world.until("connected", |world| *world.connected.borrow()).await;
    let stays = |world: &World| {
        assert_eq!(world.host.routes(), all);
        assert!(world.host.state().rules.senders().contains(&d));
        assert!(world.board.status().from_kept_state);
    };
    stays(&world);
    // whatever is compared, and whoever lists nothing
    for _ in 0..2 {
        world.host.take_calls();
        world.reload.send(()).await.unwrap();
        world.until("compared", |world| !world.host.state().calls.is_empty()).await;
        stays(&world);
        world.tell(cluster::Event::All(vec![record("b", 2)])).await;
        world.until("doubted", |world| world.board.status().problems.len() == 1).await;
    }
    stays(&world);
    // what is known is followed
    world.tell(cluster::Event::Gone("c".into())).await;
    world.routes(&["10.244.2.0/24", "10.244.4.0/24"]).await;
    world.tell(cluster::Event::All(vec![own(), record("b", 2)])).await;
    world.routes(&["10.244.2.0/24"]).await;
    world.until("told", |world| !world.board.status().from_kept_state).await;
    world.until("guarded", |world| !world.host.state().rules.senders().contains(&d)).await;
}

#[tokio::test]
async fn all_that_is_told_while_nothing_can_be_planned_is_followed_afterwards() {
    let world = World::start();
    world.three().await;
    world.host.state().address = None;
    world.alarm.send(Compare::Look).await.unwrap();
    let told = |world: &World| world.board.status().problems.join(" ").contains("no link leads");
    world.until("it is told", told).await;
    world.host.take_calls();
    world.tell(cluster::Event::Put(record("d", 4))).await;
    world.probes.results.send_replace(std::sync::Arc::new(arrives("b", "10.244.2.0", 1300)));
    // several tries
    sleep(Duration::from_secs(1)).await;
    assert_eq!((world.host.take_calls(), world.host.routes().len()), (vec![], 2));
    world.host.state().address = Some("192.0.2.1/24".parse().unwrap());
    world.alarm.send(Compare::Look).await.unwrap();
    world.routes(&["10.244.2.0/24", "10.244.3.0/24", "10.244.4.0/24"]).await;
    let mtu = world.host.state().desired.as_ref().unwrap().routes[0].mtu;
    assert_eq!(mtu, Some(1300));
    world.until("told", |world| world.board.status().peers.len() == 3).await;
}

/// What probes found of one way.
fn arrives(node: &str, to: &str, most: u32) -> crate::overlay::probe::Results {
    use crate::overlay::probe::{Key, Known, Outcome, Results};
    let outcome = Some(Outcome::ArrivesUpTo(most));
    let mut results = Results::default();
    let key = Key { node: node.into(), to: to.parse().unwrap() };
    results.ways.insert(key, Known { outcome, mtu: Some(most), full: 1450 });
    results
}

/// With ends of tunnels in both families of the underlay.
fn of_both(name: &str, number: u8) -> NodeRecord {
    let mut record = record(name, number);
    let announced = record.announced.as_mut().unwrap();
    let (address, mac) = (format!("2001:db8::{number}").parse().unwrap(), announced.vteps[0].mac);
    announced.vteps.push(Vtep { address, mac });
    announced.addresses.push(address);
    record
}

fn by_device(world: &World) -> Vec<String> {
    let state = world.host.state();
    let routes = state.desired.iter().flat_map(|desired| &desired.routes);
    let device = |way: &Way| match way {
        Way::Tunnel { device, .. } => device.to_string(),
        Way::Direct { .. } => "none".to_owned(),
    };
    routes.map(|route| device(&route.way)).collect()
}

/// The families of what is announced, as IPv4 or not.
fn announced(world: &World) -> Option<Vec<bool>> {
    let announced = world.announcement.borrow();
    let ends = &announced.as_ref()?.vteps;
    Some(ends.iter().map(|vtep| vtep.address.is_ipv4()).collect())
}

fn with_both(missing: &'static str) -> FakeHost {
    let host = FakeHost::at("192.0.2.1/24");
    host.state().address_v6 = Some("2001:db8::1/64".parse().unwrap());
    host.state().no_devices = Some(missing);
    host
}

#[tokio::test]
async fn where_one_of_two_devices_cannot_be_made_the_other_is_used_and_announced() {
    let world = World::with(tempfile::tempdir().unwrap(), with_both("heddle."));
    world.tell(cluster::Event::All(vec![own(), of_both("b", 2)])).await;
    world.until("over IPv6", |world| by_device(world) == ["heddle-v6.1"]).await;
    world.until("announced", |world| announced(world) == Some(vec![false])).await;
    let told = |world: &World| world.board.status().problems.join("; ");
    assert_eq!(told(&world), "device heddle.1: flannel.1 is in the way");
    // what comes later goes the same way
    world.tell(cluster::Event::Put(of_both("c", 3))).await;
    world.until("c", |world| by_device(world) == ["heddle-v6.1", "heddle-v6.1"]).await;
    let wanted = world.host.state().desired.as_ref().unwrap().devices.len();
    assert_eq!(wanted, 2, "the other is wanted still");
    world.host.state().no_devices = None;
    world.alarm.send(Compare::Look).await.unwrap();
    world.until("over IPv4", |world| by_device(world) == ["heddle.1", "heddle.1"]).await;
    world.until("both", |world| announced(world) == Some(vec![true, false])).await;
    world.until("well", |world| told(world).is_empty()).await;
    // and it goes again
    world.host.state().no_devices = Some("heddle-v6.");
    world.alarm.send(Compare::Look).await.unwrap();
    world.until("IPv4 alone", |world| announced(world) == Some(vec![true])).await;
    world.host.state().no_devices = Some("heddle");
    world.alarm.send(Compare::Look).await.unwrap();
    world.until("none", |world| told(world).contains("device heddle.1")).await;
    assert_eq!(announced(&world), Some(vec![true]), "there is nothing to say instead");
}

#[tokio::test]
async fn what_flannel_announced_holds_until_there_is_something_to_send_to_instead() {
    let mut by_flannel = of_both("a", 1);
    by_flannel.announced.as_mut().unwrap().port = None;
    let world = World::with(tempfile::tempdir().unwrap(), with_both("heddle."));
    world.tell(cluster::Event::All(vec![by_flannel.clone(), of_both("b", 2)])).await;
    world.until("over IPv6", |world| by_device(world) == ["heddle-v6.1"]).await;
    world.until("it is told", |world| world.board.status().problems.len() == 1).await;
    assert_eq!(announced(&world), None, "its flannel.1 is sent to");
    world.host.state().no_devices = None;
    world.alarm.send(Compare::Look).await.unwrap();
    world.until("both", |world| announced(world) == Some(vec![true, false])).await;
    // of the family that flannel did not have nothing is lost
    let world = World::with(tempfile::tempdir().unwrap(), with_both("heddle-v6."));
    by_flannel.announced.as_mut().unwrap().vteps.pop();
    world.tell(cluster::Event::All(vec![by_flannel, of_both("b", 2)])).await;
    world.until("IPv4", |world| announced(world) == Some(vec![true])).await;
}

#[tokio::test]
async fn without_an_address_pods_still_get_the_kept_lease() {
    let world = World::start();
    world.three().await;
    let (folder, _) = world.stop().await;
    std::fs::remove_file(folder.path().join("subnet.env")).unwrap();
    let world = World::with(folder, FakeHost::default());
    let told = |world: &World| world.board.status().problems.join(" ").contains("no link leads");
    world.until("it is told", told).await;
    world.until("the lease", |world| world.lease().is_some()).await;
    world.host.state().address = Some("192.0.2.1/24".parse().unwrap());
    world.alarm.send(Compare::Look).await.unwrap();
    world.routes(&["10.244.2.0/24", "10.244.3.0/24"]).await;
}

/// What a pod sends before there are routes is lost, and a lost first packet of a connection costs it a second.
#[tokio::test]
async fn after_a_reboot_pods_get_addresses_when_there_are_routes() {
    let world = World::start();
    world.three().await;
    let (folder, _) = world.stop().await;
    let file = folder.path().join("subnet.env");
    std::fs::remove_file(&file).unwrap();
    let host = FakeHost::at("192.0.2.1/24");
    host.state().watched = Some(file);
    let world = World::with(folder, host);
    world.routes(&["10.244.2.0/24", "10.244.3.0/24"]).await;
    world.until("the lease", |world| world.lease().is_some()).await;
    assert_eq!(world.host.state().was_there.first(), Some(&false));
}

#[tokio::test]
async fn what_is_missing_is_waited_for_and_told() {
    let world = World::start();
    let told = |words: &'static str| {
        move |world: &World| world.board.status().problems.join(" ").contains(words)
    };
    world.tell(cluster::Event::All(vec![record("b", 2)])).await;
    world.until("no node", told("there is no Node a yet")).await;
    world.tell(cluster::Event::Put(NodeRecord { pod_cidrs: Vec::new(), ..own() })).await;
    world.until("no range", told("Node a has no pod CIDR yet")).await;
    assert_eq!((world.host.take_calls(), world.lease()), (Vec::new(), None));
    let strange = NodeRecord { pod_cidrs: vec!["10.9.1.0/24".parse().unwrap()], ..own() };
    world.tell(cluster::Event::Put(strange)).await;
    world.until("a strange range", told("set network.pod_cidr to the range of all pods")).await;
    assert_eq!(
        (world.host.routes().len(), world.lease()),
        (1, None),
        "others are reached all the same"
    );
    world.tell(cluster::Event::Put(own())).await;
    world.until("connected", |world| *world.connected.borrow()).await;
    assert!(world.lease().is_some() && world.board.status().problems.is_empty());
}

#[tokio::test]
async fn pods_get_no_addresses_of_a_range_that_an_older_node_has() {
    let world = World::start();
    world.three().await;
    assert!(world.lease().is_some() && world.board.failure().is_none());
    let older = NodeRecord { created: Some(0), ..record("z", 1) };
    let older =
        NodeRecord { announced: None, pod_cidrs: vec!["10.244.0.0/23".parse().unwrap()], ..older };
    world.tell(cluster::Event::Put(older)).await;
    world.until("it is told", |world| world.board.failure().is_some()).await;
    let told = world.board.failure().unwrap();
    assert!(
        told.starts_with("new pods of this node get no addresses: pod CIDR 10.244.1.0/24 of node a is refused, because node z, which is older"),
        "{told}"
    );
    assert_eq!((world.lease(), world.board.status().lease), (None, None));
    assert_eq!(world.host.routes().len(), 2, "the ways to others stay");
    // nor after a restart
    let (folder, host) = world.stop().await;
    let world = World::with(folder, host);
    assert_eq!(world.lease(), None);
    world.until("it is told again", |world| world.board.failure().is_some()).await;
    world.tell(cluster::Event::All(vec![own(), record("b", 2), record("c", 3)])).await;
    world.until("there is a lease", |world| world.lease().is_some()).await;
    world.until("all is well", |world| world.board.failure().is_none()).await;
}

#[tokio::test]
async fn what_probes_find_becomes_the_routes_mtu() {
    use crate::overlay::probe::Key;
    let mut world = World::start();
    let with_port = |mut record: NodeRecord| {
        record.announced.as_mut().unwrap().probe_port = Some(9);
        record
    };
    world.tell(cluster::Event::All(vec![own(), with_port(record("b", 2)), record("c", 3)])).await;
    world.routes(&["10.244.2.0/24", "10.244.3.0/24"]).await;
    world.probes.input.changed().await.unwrap();
    let asked = world.probes.input.borrow_and_update().clone();
    let keys: Vec<_> = asked.targets.keys().cloned().collect();
    let key = Key { node: "b".into(), to: "10.244.2.0".parse().unwrap() };
    assert_eq!(keys, std::slice::from_ref(&key), "c answers no probes");
    assert_eq!((asked.targets[&key].port, asked.targets[&key].end.full), (9, 1450));
    let results = arrives("b", "10.244.2.0", 1300);
    world.probes.results.send_replace(std::sync::Arc::new(results));
    let mtu = |world: &World| world.host.state().desired.as_ref().unwrap().routes[0].mtu;
    world.until("a smaller one", |world| mtu(world) == Some(1300)).await;
    assert!(world.board.status().peers[0].probe.contains("up to 1300 bytes"));
    world.probes.results.send_replace(std::sync::Arc::default());
    world.until("as before", |world| mtu(world).is_none()).await;
}

#[tokio::test]
async fn nodes_that_come_and_go_are_probed_and_no_more() {
    let world = World::start();
    world.three().await;
    let with_port = |mut record: NodeRecord| {
        record.announced.as_mut().unwrap().probe_port = Some(9);
        record
    };
    let mut asked = world.probes.input.clone();
    for (event, want) in [
        (cluster::Event::Put(with_port(record("d", 4))), &["d"][..]),
        (cluster::Event::Put(with_port(record("b", 2))), &["b", "d"]),
        (cluster::Event::Put(record("d", 4)), &["b"]),
        (cluster::Event::Gone("b".into()), &[]),
    ] {
        world.tell(event).await;
        let reached = asked
            .wait_for(|input| input.targets.keys().map(|key| &*key.node).eq(want.iter().copied()));
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        assert!(reached.is_ok(), "{want:?}: {:?}", world.probes.input.borrow());
    }
}

#[tokio::test]
async fn one_iptables_that_fails_takes_no_other_problem_away() {
    let world = World::start();
    world.three().await;
    {
        let mut state = world.host.state();
        state.rules.problems = vec!["a firewall drops".to_owned()];
        state.rules.refused_variant = Some("iptables-legacy (IPv6)");
        state.rules.broken = true;
    }
    let commits = world.host.state().rules.commits;
    world.alarm.send(Compare::Rules).await.unwrap();
    world.until("refused", |world| world.host.state().rules.commits == commits + 1).await;
    // whatever else there is to look at: it has a time of its own
    world.alarm.send(Compare::Rules).await.unwrap();
    // the failure, and the success that follows it
    world.until("both", |world| world.host.state().rules.commits == commits + 2).await;
    world.until("told", |world| world.board.status().problems == ["a firewall drops"]).await;
    assert_eq!(world.host.routes(), ["10.244.2.0/24", "10.244.3.0/24"]);
}

#[tokio::test]
async fn rules_that_somebody_keeps_changing_are_put_right_ever_more_seldom() {
    let world = World::start();
    world.three().await;
    let commits = world.host.state().rules.commits;
    let told = |world: &World| world.board.status().problems.join(" ").contains("somebody keeps");
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !told(&world) {
        assert!(std::time::Instant::now() < end, "{:?}", world.host.state());
        world.host.state().rules.broken = true;
        world.alarm.send(Compare::Rules).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    world.host.state().rules.broken = true;
    world.alarm.send(Compare::Rules).await.unwrap();
    let start = std::time::Instant::now();
    // nobody tells of it when it is time
    world.until("it is put right once more", |world| !world.host.state().rules.broken).await;
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    let more = world.host.state().rules.commits - commits;
    assert!((5..=6).contains(&more), "{more}");
    assert_eq!(world.host.routes(), ["10.244.2.0/24", "10.244.3.0/24"]);
}

#[tokio::test]
async fn a_carrier_that_came_back_hurries_probes() {
    let mut world = World::start();
    world.three().await;
    // the first plan hurries too
    while world.probes.hurry.try_recv().is_ok() {}
    world.alarm.send(Compare::Look).await.unwrap();
    sleep(Duration::from_millis(400)).await;
    assert!(world.probes.hurry.try_recv().is_err(), "nothing changed");
    world.host.state().carrier_changes += 2;
    world.alarm.send(Compare::Look).await.unwrap();
    let hurried = tokio::time::timeout(Duration::from_secs(20), world.probes.hurry.recv()).await;
    assert_eq!(hurried, Ok(Some(Vec::new())), "all of them");
}

#[tokio::test]
async fn of_many_routes_that_are_refused_the_first_are_told() {
    let world = World::start();
    world.host.state().refuses_all = true;
    let all = (1..=20).map(|number| record(&format!("n{number}"), number + 1)).chain([own()]);
    world.tell(cluster::Event::All(all.collect())).await;
    world.until("told", |world| !world.board.status().problems.is_empty()).await;
    let problems = world.board.status().problems;
    assert_eq!(problems.len(), 6, "{problems:?}");
    assert_eq!(problems[5], "and 15 more could not be written");
}
