//! Who writes the log: a thread of its own, so that a slow disk holds up nobody but those who want to be sure.
//!
//! What waits to be written is bounded. `--audit-log-mode` says, with kube-apiserver's words, what becomes of a request whose line finds
//! no room or cannot be written.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{Level, Log, LogError};

/// The most kilobytes that wait to be written; a line takes one at least.
const MOST_WAITING: u32 = 64 * 1024;
/// How long a request waits for its line, where it waits at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lost lines are told once in this time.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long the last lines may take when the server ends.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What a request has to do with its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It does not wait; lines that find no room are lost and counted.
    Batch,
    /// It waits until its lines are written; when they cannot be, it goes on all the same.
    #[default]
    Blocking,
    /// As blocking, but a request whose first line cannot be written is refused.
    BlockingStrict,
}

/// A line is not in the log. It was counted and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPlugin {
    plugin: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    level: &'static str,
}

/// What is counted, under kube-apiserver's names. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    events: Counter,
    errors: Family<OfPlugin, Counter>,
    levels: Family<OfLevel, Counter>,
    rejected: Counter,
}

impl Counts {
    /// Shows them among the metrics.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        // there from the beginning, so that a first error is seen as a change
        drop(self.errors.get_or_create(&OfPlugin { plugin: "log" }));
        registry.register(
            "apiserver_audit_event",
            "Audit events that were made",
            self.events.clone(),
        );
        registry.register(
            "apiserver_audit_error",
            "Audit events that are not in the log",
            self.errors.clone(),
        );
        registry.register(
            "apiserver_audit_level",
            "Requests by the level of the audit policy",
            self.levels.clone(),
        );
        registry.register(
            "apiserver_audit_requests_rejected",
            "Requests that were refused because the audit log could not be written",
            self.rejected.clone(),
        );
    }

    /// A request of a level.
    pub fn level(&self, level: Level) {
        let level = match level {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        };
        self.levels.get_or_create(&OfLevel { level }).inc();
    }

    /// A request that was refused.
    pub fn rejected(&self) {
        self.rejected.inc();
    }
}

enum Order {
    Line { text: String, done: Option<oneshot::Sender<()>>, _room: OwnedSemaphorePermit },
    Reopen(oneshot::Sender<Result<(), LogError>>),
    Flush(oneshot::Sender<()>),
}

/// The log, and the thread that writes it.
pub struct Writer {
    orders: mpsc::UnboundedSender<Order>,
    room: Arc<Semaphore>,
    mode: Mode,
    told: Arc<Told>,
}

impl Writer {
    /// Begins to write a log.
    pub fn start(mut log: Log, mode: Mode, counts: Counts) -> std::io::Result<Self> {
        let (orders, mut received) = mpsc::unbounded_channel();
        let told = Arc::new(Told { counts, last: Mutex::default() });
        let telling = told.clone();
        thread::Builder::new().name("audit-write".to_owned()).spawn(move || {
            while let Some(order) = received.blocking_recv() {
                carry_out(&mut log, order, &telling);
            }
        })?;
        let room = Arc::new(Semaphore::new(MOST_WAITING as usize));
        Ok(Self { orders, room, mode, told })
    }

    /// What is counted.
    pub fn counts(&self) -> &Counts {
        &self.told.counts
    }

    /// Whether a request is refused whose first line is lost.
    pub fn is_strict(&self) -> bool {
        self.mode == Mode::BlockingStrict
    }

    /// Writes a line; waits for it where the mode says so.
    pub async fn write(&self, text: String) -> Result<(), Lost> {
        if self.mode == Mode::Batch {
            return self.offer(text);
        }
        self.told.counts.events.inc();
        let written = tokio::time::timeout(PATIENCE, async {
            let room = self.room.clone().acquire_many_owned(weight(&text)).await.ok()?;
            let (done, is_done) = oneshot::channel();
            self.orders.send(Order::Line { text, done: Some(done), _room: room }).ok()?;
            // what could not be written was told where it failed
            Some(is_done.await.map_err(|_| Lost))
        });
        match written.await {
            Ok(Some(written)) => written,
            Ok(None) => Err(self.told.lost("its writer has ended")),
            Err(_) => Err(self.told.lost("the disk is too slow")),
        }
    }

    /// Writes a line for which nobody can wait.
    pub fn offer(&self, text: String) -> Result<(), Lost> {
        self.told.counts.events.inc();
        let Ok(room) = self.room.clone().try_acquire_many_owned(weight(&text)) else {
            return Err(self
                .told
                .lost("more lines wait than there is room for: the disk is too slow"));
        };
        let sent = self.orders.send(Order::Line { text, done: None, _room: room });
        sent.map_err(|_| self.told.lost("its writer has ended"))
    }

    /// Begins the file anew after another program moved it away, when what came before is in the old one.
    pub async fn reopen(&self) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "its writer has ended".to_owned();
        self.orders.send(Order::Reopen(answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(|error| error.to_string())
    }

    /// Waits until everything that was given is written, for the end of the server.
    pub async fn flush(&self) {
        let (answer, answered) = oneshot::channel();
        let sent = self.orders.send(Order::Flush(answer)).is_ok();
        if !sent || tokio::time::timeout(LAST_WORDS, answered).await.is_err() {
            let kilobytes = MOST_WAITING as usize - self.room.available_permits();
            tracing::error!(kilobytes, "the end of the audit log could not be written in time");
        }
    }
}

fn carry_out(log: &mut Log, order: Order, told: &Told) {
    match order {
        Order::Line { text, done, .. } => match log.write(&text) {
            // nobody may wait any more
            Ok(()) => drop(done.map(|done| done.send(()))),
            Err(error) => drop(told.lost(&error.to_string())),
        },
        Order::Reopen(answer) => drop(answer.send(log.reopen())),
        Order::Flush(answer) => drop(answer.send(())),
    }
}

/// How much room a line takes, in kilobytes.
fn weight(text: &str) -> u32 {
    u32::try_from(text.len() / 1024 + 1).unwrap_or(u32::MAX).min(MOST_WAITING)
}

/// What was lost is counted each time, and told from time to time.
struct Told {
    counts: Counts,
    last: Mutex<Option<Instant>>,
}

impl Told {
    fn lost(&self, why: &str) -> Lost {
        self.counts.errors.get_or_create(&OfPlugin { plugin: "log" }).inc();
        let mut before = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_none_or(|before| before.elapsed() >= TELL_EVERY) {
            *before = Some(Instant::now());
            let lost = self.counts.errors.get_or_create(&OfPlugin { plugin: "log" }).get();
            tracing::error!(lost, "requests are not in the audit log: {why}");
        }
        Lost
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;
    use std::process::Command;

    use super::super::Rotation;
    use super::*;

    fn writer(path: &Path, mode: Mode) -> Writer {
        let log = Log::open(path, Rotation { bytes: 0, files: 0 }).unwrap();
        Writer::start(log, mode, Counts::default()).unwrap()
    }

    fn lost(writer: &Writer) -> u64 {
        writer.told.counts.errors.get_or_create(&OfPlugin { plugin: "log" }).get()
    }

    /// A file that takes 64 kB and then nothing until somebody reads it.
    fn stuck(place: &Path) -> std::path::PathBuf {
        let path = place.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lines_of_many_are_whole_and_all_there_at_the_end() {
        for mode in [Mode::Batch, Mode::Blocking] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("audit.log");
            let writer = Arc::new(writer(&path, mode));
            let tasks: Vec<_> = (0..4)
                .map(|task| {
                    let writer = writer.clone();
                    tokio::spawn(async move {
                        for number in 0..500 {
                            writer.write(format!("{{\"{task}\":{number}}}")).await.unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            writer.flush().await;
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), 2000);
            assert!(
                text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            );
            assert_eq!((writer.told.counts.events.get(), lost(&writer)), (2000, 0));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_disk_that_is_stuck_loses_lines_but_holds_up_nobody_in_batch_mode() {
        let place = tempfile::tempdir().unwrap();
        let path = stuck(place.path());
        let writer = writer(&path, Mode::Batch);
        let line = "x".repeat(1 << 20);
        let mut refused = 0;
        for _ in 0..80 {
            refused += u64::from(writer.write(line.clone()).await.is_err());
        }
        assert!((16..=18).contains(&refused), "{refused} of 80, where 64 MB have room");
        assert_eq!((writer.told.counts.events.get(), lost(&writer)), (80, refused));
        // and it goes on when the disk does
        let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut bytes = vec![0; (80 - usize::try_from(refused).unwrap()) * ((1 << 20) + 1)];
        pipe.read_exact(&mut bytes).unwrap();
        writer.write("more".to_owned()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_to_be_sure_waits_but_not_for_ever() {
        let place = tempfile::tempdir().unwrap();
        let path = stuck(place.path());
        let writer = writer(&path, Mode::Blocking);
        let begun = tokio::time::Instant::now();
        assert_eq!(writer.write("x".repeat(1 << 20)).await, Err(Lost));
        assert_eq!(begun.elapsed(), PATIENCE);
        assert_eq!(lost(&writer), 1);
        let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        pipe.read_exact(&mut vec![0; (1 << 20) + 1]).unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_counted() {
        let writer = writer(Path::new("/dev/full"), Mode::BlockingStrict);
        assert_eq!(writer.write("{}".to_owned()).await, Err(Lost));
        assert!(writer.is_strict());
        assert_eq!((writer.told.counts.events.get(), lost(&writer)), (1, 1));
    }
}
