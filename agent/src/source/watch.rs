//! Telling when the folder of manifests should be read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long the folder must be quiet before it is read: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// How long a folder that is never quiet may put that off.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is read without being told: a notification may be lost, links may lead elsewhere, and network file systems
/// do not notify at all.
const RESCAN: Duration = Duration::from_secs(20);

/// Tells when the folder should be read: at first, after a change once it is quiet, and now and then. A folder that is not
/// there is made; one that was replaced is followed.
pub fn watch(path: PathBuf) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    let (told, mut changes) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut watched: Option<(RecommendedWatcher, (u64, u64))> = None;
        while !sender.is_closed() {
            if watched.as_ref().map(|(_, identity)| *identity) != identity(&path)
                || watched.is_none()
            {
                watched = start(&path, told.clone());
            }
            sender.send(()).await.ok();
            tokio::select! {
                _ = changes.recv() => settle(&mut changes).await,
                () = tokio::time::sleep(RESCAN) => {}
                () = sender.closed() => {}
            }
        }
    });
    receiver
}

async fn settle(changes: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && tokio::time::timeout(QUIET, changes.recv()).await.is_ok() {}
}

/// What tells a folder from another one at its path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn start(path: &Path, changes: mpsc::Sender<()>) -> Option<(RecommendedWatcher, (u64, u64))> {
    // what is wrong with the folder is said by who reads it
    fs::create_dir_all(path).ok();
    let before = identity(path)?;
    let handler = move |event: notify::Result<notify::Event>| {
        // reading the folder is an event as well, and would be answered by reading the folder
        if !event.is_ok_and(|event| event.kind.is_access()) {
            changes.try_send(()).ok();
        }
    };
    let begun = notify::recommended_watcher(handler).and_then(|mut watcher| {
        watcher.watch(path, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match begun {
        Ok(watcher) => Some((watcher, before)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "changes are only seen every {} s", RESCAN.as_secs());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_told(told: &mut mpsc::Receiver<()>) {
        // sooner than a rescan would tell
        let limit = RESCAN / 2;
        tokio::time::timeout(limit, told.recv()).await.expect("a change is told").unwrap();
    }

    #[tokio::test]
    async fn changes_are_told_also_of_a_folder_that_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made");
        let mut told = watch(path.clone());
        is_told(&mut told).await;
        fs::write(path.join("a.yaml"), "").unwrap();
        is_told(&mut told).await;
        fs::rename(&path, folder.path().join("old")).unwrap();
        fs::create_dir(&path).unwrap();
        is_told(&mut told).await;
        while tokio::time::timeout(QUIET * 5, told.recv()).await.is_ok() {}
        fs::write(path.join("b.yaml"), "").unwrap();
        is_told(&mut told).await;
    }
}
