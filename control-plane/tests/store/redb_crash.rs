//! A process that is killed while it writes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use heddle_server::store::redb::{RedbConfig, RedbStore, Retention};
use heddle_server::store::{Revision, Store};
use rand::RngExt;

use crate::ledger::{self, Acknowledged, WRITERS};

/// Set for the process that writes: the file.
const FILE: &str = "HEDDLE_STORE_CRASH_FILE";
/// How often to kill; the default is what fits in a normal test run.
const KILLS: &str = "HEDDLE_STORE_KILLS";
const DEFAULT_KILLS: u32 = 60;

/// Short, so that much is swept while it is killed.
fn sweeping() -> RedbConfig {
    let retention = Retention { age: Duration::from_millis(200), revisions: 300 };
    RedbConfig { retention, ..RedbConfig::default() }
}

fn open(path: &Path, config: RedbConfig) -> Arc<dyn Store> {
    Arc::new(RedbStore::open(path, config).expect("the file can be opened after a crash"))
}

/// This test is two programs: the one that kills, and, started by it, the one that writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_store_keeps_what_it_acknowledged_through_kill_9() {
    if let Some(path) = std::env::var_os(FILE) {
        return write_until_killed(&PathBuf::from(path)).await;
    }
    let kills =
        std::env::var(KILLS).map_or(DEFAULT_KILLS, |kills| kills.parse().expect("a number"));
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("store.redb");
    let (mut acknowledged, mut seen) = (Acknowledged::default(), Revision(1));
    let (mut random, mut ends) = (rand::rng(), 0);
    for kill in 0..kills {
        let moment = if random.random_bool(0.5) {
            Moment::After(Duration::from_micros(random.random_range(0..60_000)))
        } else {
            Moment::Acknowledged(random.random_range(1..120))
        };
        run_and_kill(&path, moment, &mut acknowledged, &mut seen);
        ends += 1;
        // Not each time: a file must also survive being killed while it is repaired.
        if kill % 3 != 0 || kill + 1 == kills {
            let store = open(&path, RedbConfig::default());
            acknowledged = ledger::verify(&store, &acknowledged, ends, seen).await;
            seen = store.revision().await.expect("a revision");
            ends = 0;
        }
    }
    let steps: u64 = acknowledged.iter().sum();
    println!("{kills} kills, {steps} transactions, revision {}", seen.0);
    assert!(steps > u64::from(kills) * 5, "only {steps} steps were made: the kills came too early");
}

/// When to kill.
enum Moment {
    /// After this time, whatever happens: also while it opens the file.
    After(Duration),
    /// After so many acknowledged transactions.
    Acknowledged(usize),
}

/// Ended with the value, also when an assertion fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_and_kill(path: &Path, moment: Moment, acknowledged: &mut Acknowledged, seen: &mut Revision) {
    let mut child = Killed(
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("redb_crash::redb_store_keeps_what_it_acknowledged_through_kill_9")
            .env(FILE, path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a process"),
    );
    let lines = BufReader::new(child.0.stdout.take().expect("a pipe")).lines();
    let mut kill = move || child.0.kill().expect("a child of ours");
    if let Moment::After(time) = moment {
        std::thread::sleep(time);
        kill();
    }
    let mut told = 0;
    // What was said before the end is still in the pipe.
    for line in lines {
        let line = line.expect("text");
        // The test harness writes its own words before the first. A line that was cut off was not said.
        let said = line.split_once("acknowledged ").and_then(|(_, said)| said.strip_suffix(" ."));
        let Some(words) = said else { continue };
        let numbers: Vec<u64> =
            words.split(' ').map(|word| word.parse().expect("a number")).collect();
        let writer = usize::try_from(numbers[0]).expect("small");
        assert!(numbers[1] > acknowledged[writer], "a step was acknowledged twice");
        acknowledged[writer] = numbers[1];
        *seen = (*seen).max(Revision(numbers[2]));
        told += 1;
        if matches!(moment, Moment::Acknowledged(count) if count == told) {
            kill();
        }
    }
}

async fn write_until_killed(path: &Path) {
    let store = open(path, sweeping());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let say = move |step, revision: Revision| {
                let line = format!("acknowledged {writer} {step} {} .\n", revision.0);
                // One write, so that no line is mixed with another.
                std::io::stdout().write_all(line.as_bytes()).expect("the pipe");
            };
            tokio::spawn(ledger::write(Arc::clone(&store), writer, u64::MAX, say))
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer").expect("it is killed before it fails");
    }
}
