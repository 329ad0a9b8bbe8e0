//! How quick the store is: creates with durable commit against a floor and etcd, opening a large file, telling watchers.
//!
//! `store_bench [--dir D] [--etcd etcd://host:port] [--seconds S] [--objects N] [--watchers W]` prints one JSON object per figure, a line
//! each. The floor is the least that any store could do in the same place: the same bytes appended to a file, with `fdatasync` per write,
//! or per group where writers wait for each other.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use heddle_server::store::etcd::{self, EtcdConfig, EtcdStore};
use heddle_server::store::redb::{RedbConfig, RedbStore};
use heddle_server::store::{Condition, Notice, Operation, Range, Revision, Store, Write};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Arguments {
    /// Where files are made, in a directory of their own that is removed afterwards.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// An etcd to compare with; it should be empty and on the same disk.
    #[arg(long)]
    etcd: Option<String>,
    /// How long each figure is taken.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// How many objects the large file has.
    #[arg(long, default_value_t = 100_000)]
    objects: usize,
    /// How many watch.
    #[arg(long, default_value_t = 200)]
    watchers: usize,
    /// The size of an object.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
}

/// Removed at the end, however that comes.
struct Place(PathBuf);

impl Place {
    fn make(parent: &Path) -> Result<Self, Failure> {
        let path = parent.join(format!("store-bench-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let place = Place::make(&arguments.dir)?;
    for writers in [1, 8, 64] {
        let floor = floor(&place.0.join("floor"), writers, &arguments).await?;
        report("creates", "floor", writers, &floor);
        let store = redb(&place.0.join(format!("creates-{writers}.redb")))?;
        report("creates", "redb", writers, &creates(store, writers, &arguments).await?);
        if let Some(address) = &arguments.etcd {
            let store = EtcdStore::connect(EtcdConfig::new(etcd::parse(address)?)).await?;
            let taken = creates(Arc::new(store), writers, &arguments).await?;
            report("creates", "etcd", writers, &taken);
        }
    }
    let large = place.0.join("large.redb");
    fill(&large, &arguments).await?;
    open(&large, &arguments).await?;
    fan_out(&place.0.join("watch.redb"), &arguments).await
}

fn redb(path: &Path) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(RedbStore::open(path, RedbConfig::default())?))
}

/// The time of each of some operations, and of all.
struct Taken {
    each: Vec<Duration>,
    all: Duration,
}

fn report(figure: &str, what: &str, writers: usize, taken: &Taken) {
    let all = u32::try_from(taken.each.len()).unwrap_or(u32::MAX);
    let rate = f64::from(all) / taken.all.as_secs_f64();
    let (p50, p99) = quantiles(taken.each.clone());
    let line = json!({
        "figure": figure, "store": what, "writers": writers,
        "per_second": rate.round(), "p50_ms": p50, "p99_ms": p99,
    });
    println!("{line}");
}

fn quantiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: usize| {
        let time = times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        (time.copied().unwrap_or_default().as_secs_f64() * 1e6).round() / 1e3
    };
    (at(50), at(99))
}

fn create(key: String, bytes: usize) -> Operation {
    let value = vec![b'x'; bytes];
    Operation { key, condition: Condition::Absent, write: Write::Put(value.into()) }
}

/// Objects made by so many writers, each of which waits for its last one to be durable.
async fn creates(
    store: Arc<dyn Store>,
    writers: usize,
    arguments: &Arguments,
) -> Result<Taken, Failure> {
    let (start, bytes) = (Instant::now(), arguments.bytes);
    let limit = Duration::from_secs(arguments.seconds.into());
    let run = start.elapsed().as_nanos() + u128::from(std::process::id());
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut each = Vec::new();
                while start.elapsed() < limit {
                    let key = format!("/registry/bench/{writers}-{run}/{writer}/{}", each.len());
                    let began = Instant::now();
                    store.commit(vec![create(key, bytes)]).await?;
                    each.push(began.elapsed());
                }
                Ok::<_, Failure>(each)
            })
        })
        .collect();
    let mut each = Vec::new();
    for task in tasks {
        each.extend(task.await??);
    }
    Ok(Taken { each, all: start.elapsed() })
}

/// The same pattern with nothing but a file: one thread appends what waits and syncs once.
async fn floor(path: &Path, writers: usize, arguments: &Arguments) -> Result<Taken, Failure> {
    let (requests, mut waiting) = mpsc::channel::<oneshot::Sender<()>>(writers);
    let (mut file, bytes) = (File::create(path)?, arguments.bytes);
    let thread = std::thread::spawn(move || -> std::io::Result<()> {
        let object = vec![b'x'; bytes + 100];
        while let Some(first) = waiting.blocking_recv() {
            let mut group = vec![first];
            group.extend(std::iter::from_fn(|| waiting.try_recv().ok()));
            file.write_all(&object.repeat(group.len()))?;
            file.sync_data()?;
            for writer in group {
                let _ = writer.send(());
            }
        }
        Ok(())
    });
    let start = Instant::now();
    let limit = Duration::from_secs(arguments.seconds.into());
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut each = Vec::new();
                while start.elapsed() < limit {
                    let (done, durable) = oneshot::channel();
                    let began = Instant::now();
                    requests.send(done).await?;
                    durable.await?;
                    each.push(began.elapsed());
                }
                Ok::<_, Failure>(each)
            })
        })
        .collect();
    drop(requests);
    let mut each = Vec::new();
    for task in tasks {
        each.extend(task.await??);
    }
    let all = start.elapsed();
    thread.join().map_err(|_| "the floor's thread panicked")??;
    Ok(Taken { each, all })
}

/// Makes the large file.
async fn fill(path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let store = redb(path)?;
    let keys: Vec<_> = (0..arguments.objects)
        .map(|number| format!("/registry/pods/namespace-{}/pod-{number:06}", number % 100))
        .collect();
    for keys in keys.chunks(1000) {
        let operations = keys.iter().map(|key| create(key.clone(), arguments.bytes)).collect();
        store.commit(operations).await?;
    }
    Ok(())
}

/// Opens the large file, as after a crash and after an orderly end, and lists all of it.
async fn open(path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let crashed = path.with_extension("crashed");
    {
        // A copy of a file that is open is what a crash leaves.
        let store = redb(path)?;
        store.commit(vec![create("/registry/last".into(), 10)]).await?;
        std::fs::copy(path, &crashed)?;
    }
    for (state, path) in [("closed", path), ("crashed", &crashed)] {
        let before = memory()?;
        let start = Instant::now();
        let store = redb(path)?;
        let opened = start.elapsed();
        let idle = memory()?;
        let start = Instant::now();
        let page = Range { prefix: "/registry/pods/".into(), limit: 500, ..Range::default() };
        let page = store.list(page).await?;
        let paged = start.elapsed();
        let start = Instant::now();
        let all = store.list(Range::default()).await?;
        let listed = start.elapsed();
        let line = json!({
            "figure": "open", "state": state, "objects": all.records.len(), "object_bytes": arguments.bytes,
            "file_mb": std::fs::metadata(path)?.len() >> 20,
            "open_ms": opened.as_millis(), "rss_mb_before": before, "rss_mb_open": idle,
            "page_of_500_ms": paged.as_millis(), "remaining": page.remaining,
            "list_all_ms": listed.as_millis(), "rss_mb_listed": memory()?,
        });
        println!("{line}");
        drop(all);
    }
    let store = redb(path)?;
    let mut gets = Vec::new();
    for number in 0..10_000 {
        let number = number * 7919 % arguments.objects;
        let key = format!("/registry/pods/namespace-{}/pod-{number:06}", number % 100);
        let start = Instant::now();
        store.get(&key).await?;
        gets.push(start.elapsed());
    }
    report("gets", "redb", 1, &Taken { all: gets.iter().sum(), each: gets });
    Ok(())
}

/// MB of this process that are in memory.
fn memory() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(number.parse::<u64>()? / 1024)
}

/// How long after its commit began, and after it was acknowledged, a change is with each watcher.
async fn fan_out(path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let store = redb(path)?;
    let changes = arguments.seconds as usize * 200;
    let sent = Arc::new(Mutex::new(vec![None; changes]));
    let late = Arc::new(AtomicU64::new(0));
    let mut watching = Vec::new();
    for _ in 0..arguments.watchers {
        let mut watch = store.watch("/registry/", Revision(1)).await?;
        let (sent, late) = (Arc::clone(&sent), Arc::clone(&late));
        watching.push(tokio::spawn(async move {
            let mut times = Vec::new();
            while times.len() < changes {
                match watch.recv().await.ok_or("the watch ended")?? {
                    Notice::Changes(_) => {
                        let began: Option<Instant> =
                            sent.lock().map_err(|_| "poisoned")?[times.len()];
                        times.push(began.ok_or("told before it was written")?.elapsed());
                    }
                    Notice::Progress(_) => drop(late.fetch_add(1, Ordering::Relaxed)),
                }
            }
            Ok::<_, Failure>(times)
        }));
    }
    let start = Instant::now();
    for number in 0..changes {
        // 200 changes a second.
        let due = start + Duration::from_millis(5 * number as u64);
        tokio::time::sleep_until(due.into()).await;
        sent.lock().map_err(|_| "poisoned")?[number] = Some(Instant::now());
        let key = format!("/registry/pods/{number}");
        store.commit(vec![create(key, arguments.bytes)]).await?;
    }
    let mut times = Vec::new();
    for watching in watching {
        times.extend(watching.await??);
    }
    let (p50, p99) = quantiles(times);
    let line = json!({
        "figure": "watch", "watchers": arguments.watchers, "changes": changes,
        "p50_ms": p50, "p99_ms": p99, "from": "the call of commit to the watcher's hands",
    });
    println!("{line}");
    Ok(())
}
