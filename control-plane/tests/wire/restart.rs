//! A stock client's informer while the server itself is killed and comes back.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use serde_json::json;

const OBJECTS: usize = 10_000;
const WRITERS: usize = 8;
/// How many writes are acknowledged before the server dies, and again after it came back.
const WRITES: usize = 300;
const SOON: Duration = Duration::from_mins(2);

/// The real program on a file; killed at the end.
struct Server {
    child: Child,
    data: PathBuf,
    port: u16,
}

impl Server {
    fn run(data: &Path, port: u16) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_heddle-server"))
            .args(["run", "--insecure-loopback", "--bind-address", "127.0.0.1", "--no-controllers"])
            .arg(format!("--secure-port={port}"))
            .arg("--data-dir")
            .arg(data)
            .env("HEDDLE_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("the server runs");
        Self { child, data: data.to_owned(), port }
    }

    /// Kills it (SIGKILL), and runs it again on the same file.
    fn die_and_return(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
        *self = Self::run(&self.data.clone(), self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ConfigMap {
        metadata,
        data: Some(BTreeMap::from([("step".to_owned(), "0".to_owned())])),
        ..ConfigMap::default()
    }
}

fn name(object: &ConfigMap) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

fn revision(object: &ConfigMap) -> u64 {
    object.metadata.resource_version.as_deref().unwrap_or_default().parse().expect("a number")
}

fn step(object: &ConfigMap) -> usize {
    object
        .data
        .as_ref()
        .and_then(|data| data.get("step"))
        .expect("a step")
        .parse()
        .expect("a number")
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// Does something until the server acknowledges it. `done`: the code of the answer that says that an earlier try went through.
async fn until<T, F>(done: u16, mut act: impl FnMut() -> F)
where
    F: Future<Output = Result<T, kube::Error>>,
{
    loop {
        match act().await {
            Ok(_) => return,
            Err(error) if done != 0 && code(&error) == done => return,
            Err(error) => {
                assert!(!(400..500).contains(&code(&error)), "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Writes its own objects one after the other, each with the next step, and makes and deletes others; answers with the last steps.
async fn write(
    maps: Api<ConfigMap>,
    writer: usize,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> BTreeMap<String, usize> {
    let own: Vec<String> = (0..10).map(|index| format!("old-{}", writer * 1000 + index)).collect();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for name in &own {
            let patch = Patch::Merge(json!({"data": {"step": round.to_string()}}));
            // the same step again changes nothing, so a try that went through unheard is told once
            until(0, || async { maps.patch(name, &PatchParams::default(), &patch).await }).await;
            done.fetch_add(1, Ordering::Relaxed);
        }
        let short = format!("new-{writer}-{round}");
        until(409, || async { maps.create(&PostParams::default(), &map(&short)).await }).await;
        until(404, || async { maps.delete(&short, &DeleteParams::default()).await }).await;
        done.fetch_add(2, Ordering::Relaxed);
    }
    let mut last: BTreeMap<_, _> = own.into_iter().map(|name| (name, round)).collect();
    last.insert(format!("new-{writer}"), round);
    last
}

/// What the informer was told.
#[derive(Default)]
struct Informed {
    lists: usize,
    listed: bool,
    revision: u64,
    steps: BTreeMap<String, usize>,
    gone: BTreeMap<String, usize>,
}

impl Informed {
    fn hear(&mut self, event: Event<ConfigMap>) {
        match event {
            Event::Init => self.lists += 1,
            Event::InitDone => self.listed = true,
            Event::InitApply(object) => {
                self.revision = self.revision.max(revision(&object));
                assert!(self.steps.insert(name(&object), step(&object)).is_none(), "listed twice");
            }
            Event::Apply(object) => {
                self.in_order(&object);
                let (name, step) = (name(&object), step(&object));
                let before = self.steps.insert(name.clone(), step);
                assert_eq!(step, before.map_or(0, |before| before + 1), "{name} was {before:?}");
            }
            Event::Delete(object) => {
                self.in_order(&object);
                assert_eq!(
                    self.steps.remove(&name(&object)),
                    Some(0),
                    "deleted, but never told of"
                );
                let (writer, _) = name(&object)
                    .rsplit_once('-')
                    .map(|(a, b)| (a.to_owned(), b.to_owned()))
                    .expect("a name");
                *self.gone.entry(writer).or_default() += 1;
            }
        }
    }

    fn in_order(&mut self, object: &ConfigMap) {
        let told = revision(object);
        assert!(told > self.revision, "{told} after {}", self.revision);
        self.revision = told;
    }

    fn knows(&self, last: &BTreeMap<String, usize>) -> bool {
        last.iter().all(|(name, step)| {
            self.steps.get(name) == Some(step) || self.gone.get(name) == Some(step)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_informer_misses_nothing_when_the_server_is_killed() {
    let data = tempfile::tempdir().expect("a directory");
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut server = Server::run(data.path(), port);
    let address = format!("http://127.0.0.1:{port}").parse().expect("an address");
    let client = kube::Client::try_from(kube::Config::new(address)).expect("a client");
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let made = stream::iter(0..OBJECTS).for_each_concurrent(64, |index| {
        let maps = maps.clone();
        async move {
            let object = map(&format!("old-{index}"));
            until(409, || async { maps.create(&PostParams::default(), &object).await }).await;
        }
    });
    tokio::time::timeout(SOON, made).await.expect("made in time");

    let mut events = watcher(maps.clone(), Config::default()).default_backoff().boxed();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut informed = Informed::default();
    while !informed.listed {
        let event = tokio::time::timeout(SOON, events.next()).await.expect("an event in time");
        informed.hear(event.expect("no end").expect("the server is there"));
    }
    assert_eq!(informed.steps.len(), OBJECTS);

    let writers: Vec<_> = (0..WRITERS)
        .map(|one| tokio::spawn(write(maps.clone(), one, stop.clone(), done.clone())))
        .collect();
    let killer = tokio::spawn(async move {
        let reached = async |count: usize| {
            while done.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        reached(WRITES).await;
        server.die_and_return();
        reached(2 * WRITES).await;
        stop.store(true, Ordering::Relaxed);
        server
    });
    let mut ended = Box::pin(async {
        let mut last = BTreeMap::new();
        for writer in writers {
            last.extend(writer.await.expect("a writer"));
        }
        last
    });
    let mut last = None;
    while !last.as_ref().is_some_and(|last| informed.knows(last)) {
        tokio::select! {
            event = tokio::time::timeout(SOON, events.next()) => {
                // an error tells that the server is away; the informer tries again
                if let Ok(event) = event.expect("an event in time").expect("no end") {
                    informed.hear(event);
                }
            }
            found = &mut ended, if last.is_none() => last = Some(found),
        }
    }
    assert_eq!(informed.lists, 1, "the watch goes on where it was");
    let _server = killer.await.expect("the server was killed and is back");
    let now = maps.list(&ListParams::default()).await.expect("a list");
    let now: BTreeMap<_, _> = now.items.iter().map(|object| (name(object), step(object))).collect();
    assert!(now == informed.steps, "what the informer knows is what there is");
}
