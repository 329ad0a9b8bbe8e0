//! A disk that forgets what was not synced.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use heddle_server::store::redb::{RedbConfig, RedbStore, Retention};
use heddle_server::store::{Revision, Store, StoreError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

use crate::ledger::{self, Acknowledged, WRITERS};

/// What a disk guarantees to write whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct State {
    /// What is there after the power comes back, whatever happens.
    durable: Vec<u8>,
    /// What a reader sees.
    current: Vec<u8>,
    /// What was written since the last sync: each sector of it may be there or not.
    pending: Vec<(usize, Vec<u8>)>,
    /// How many writes and syncs are left.
    left: u64,
}

/// A disk whose power fails after a number of writes.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn new(durable: Vec<u8>, left: u64) -> Self {
        let current = durable.clone();
        Self(Arc::new(Mutex::new(State { durable, current, pending: Vec::new(), left })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic holds it")
    }

    /// The disk while there is power.
    fn powered(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.left == 0 { Err(io::Error::other("the power has failed")) } else { Ok(state) }
    }

    /// The same, for what changes it.
    fn changed(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.powered()?;
        state.left -= 1;
        Ok(state)
    }

    /// What is there when the power comes back: of each sector that was not synced, the old or the new.
    fn after_failure(&self, random: &mut SmallRng) -> Vec<u8> {
        let state = self.lock();
        let mut image = state.durable.clone();
        // A new length is there or not, as anything else.
        if random.random_bool(0.5) {
            image.resize(state.current.len(), 0);
        }
        // All, none, or some: the extremes are likely too.
        let kept = [0.0, 0.1, 0.5, 0.9, 1.0][random.random_range(0..5)];
        for (offset, bytes) in &state.pending {
            let end = offset + bytes.len();
            if end > image.len() {
                image.resize(end, 0);
            }
            for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
                if random.random_bool(kept) {
                    let start = offset + sector * SECTOR;
                    image[start..start + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        image
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.powered()?.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.powered()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = state.current.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.changed()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        state.current.resize(len, 0);
        state.pending.retain(|(offset, bytes)| offset + bytes.len() <= len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut changed = self.changed()?;
        let state = &mut *changed;
        state.durable.clone_from(&state.current);
        state.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.changed()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let place = state.current.get_mut(start..start + data.len());
        place.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        state.pending.push((start, data.to_vec()));
        Ok(())
    }
}

fn config() -> RedbConfig {
    let retention = Retention { age: Duration::from_mins(5), revisions: 40 };
    RedbConfig { retention, cache: 1 << 20, ..RedbConfig::default() }
}

/// An empty store: a file is made under another name, and gets its own when it is durable.
fn empty() -> Vec<u8> {
    let disk = Disk::new(Vec::new(), u64::MAX);
    drop(RedbStore::open_backend(disk.clone(), config()).expect("a store"));
    disk.lock().durable.clone()
}

/// Writes until the power fails; tells what was acknowledged.
async fn write(disk: &Disk, acknowledged: &mut Acknowledged) -> Revision {
    let store: Arc<dyn Store> = match RedbStore::open_backend(disk.clone(), config()) {
        Ok(store) => Arc::new(store),
        // The power failed while it was opened.
        Err(StoreError::Unavailable { .. } | StoreError::Unusable { .. }) => return Revision(0),
        Err(error) => panic!("{error}"),
    };
    let steps: Arc<[AtomicU64; WRITERS]> = Arc::new(acknowledged.map(AtomicU64::new));
    let seen = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (steps, seen) = (Arc::clone(&steps), Arc::clone(&seen));
            let told = move |step, revision: Revision| {
                steps[writer].store(step, Ordering::SeqCst);
                seen.fetch_max(revision.0, Ordering::SeqCst);
            };
            tokio::spawn(ledger::write(Arc::clone(&store), writer, 30, told))
        })
        .collect();
    for writer in writers {
        if let Err(error) = writer.await.expect("no panic") {
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        }
    }
    *acknowledged = std::array::from_fn(|writer| steps[writer].load(Ordering::SeqCst));
    Revision(seen.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_store_notices_bits_that_flip() {
    let disk = Disk::new(empty(), u64::MAX);
    let mut acknowledged = Acknowledged::default();
    let seen = write(&disk, &mut acknowledged).await;
    let sound = disk.lock().current.clone();
    let mut random = SmallRng::seed_from_u64(1);
    let (mut refused, mut unharmed) = (0, 0);
    for _ in 0..300 {
        let mut image = sound.clone();
        let at = random.random_range(0..image.len());
        image[at] ^= 1 << random.random_range(0..8);
        match RedbStore::open_backend(Disk::new(image, u64::MAX), config()) {
            Ok(store) => {
                let store: Arc<dyn Store> = Arc::new(store);
                ledger::verify(&store, &acknowledged, 0, seen).await;
                unharmed += 1;
            }
            Err(StoreError::Unusable { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(refused > 0 && unharmed > 0, "{refused} refused, {unharmed} unharmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_store_keeps_what_it_acknowledged_when_the_power_fails() {
    const FAILURES: u64 = 60;
    let mut survived = 0;
    for seed in 0..FAILURES {
        let mut random = SmallRng::seed_from_u64(seed);
        println!("seed {seed}");
        let mut image = empty();
        let (mut acknowledged, mut seen) = (Acknowledged::default(), Revision(1));
        // Each failure on what the one before left.
        for _ in 0..random.random_range(1..4) {
            let disk = Disk::new(image, random.random_range(1..900));
            seen = seen.max(write(&disk, &mut acknowledged).await);
            image = disk.after_failure(&mut random);
            let store: Arc<dyn Store> = Arc::new(
                RedbStore::open_backend(Disk::new(image.clone(), u64::MAX), config())
                    .unwrap_or_else(|error| panic!("seed {seed}: {error}")),
            );
            acknowledged = ledger::verify(&store, &acknowledged, 1, seen).await;
            survived += 1;
        }
    }
    assert!(survived >= FAILURES);
}
