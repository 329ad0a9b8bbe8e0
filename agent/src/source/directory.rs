//! The folder of manifests: read, kept, and watched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::manifest::{MAX_FILE, Parsed, parse};
use super::{Objects, SourceError, Sourced};

/// How long the folder must be quiet before it is read: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// How often it is read without being told, in case a notification was lost or the folder lies on a network file system.
const RESCAN: Duration = Duration::from_secs(20);

/// A folder of manifests, and what its files held when they were last right.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    good: BTreeMap<PathBuf, Parsed>,
}

impl Directory {
    /// The folder at `path`, not read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), good: BTreeMap::new() }
    }

    /// Reads all files. A file that has become wrong keeps running what it held before, and is reported: half a save must
    /// not stop a pod. `None`: the folder itself cannot be read, so nothing is known of what should run.
    pub fn read(&mut self) -> Result<Objects, SourceError> {
        let files = self.files()?;
        self.good.retain(|path, _| files.contains(path));
        let mut objects = Objects::default();
        for path in files {
            let mut parsed = match read_file(&path) {
                Ok(Some(text)) => parse(&text, &path),
                // it went away since the listing
                Ok(None) => continue,
                Err(reason) => Parsed {
                    errors: vec![SourceError {
                        path: path.clone(),
                        object: "file".to_owned(),
                        reason,
                    }],
                    ..Parsed::default()
                },
            };
            if !parsed.errors.is_empty()
                && let Some(before) = self.good.get(&path)
            {
                keep_last_good(&mut parsed, before);
            }
            self.good.insert(path, Parsed { errors: Vec::new(), ..parsed.clone() });
            objects.errors.append(&mut parsed.errors);
            add(&mut objects.pods, parsed.pods, &mut objects.errors, "Pod", |pod| &pod.metadata);
            add(
                &mut objects.services,
                parsed.services,
                &mut objects.errors,
                "Service",
                |service| &service.metadata,
            );
        }
        Ok(objects)
    }

    /// Manifests in lexical order; hidden files and what editors leave behind do not count.
    fn files(&self) -> Result<BTreeSet<PathBuf>, SourceError> {
        let fail = |error: std::io::Error| SourceError {
            path: self.path.clone(),
            object: "folder".to_owned(),
            reason: format!("cannot be read: {error}"),
        };
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let hidden =
                path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            let extension = path.extension().and_then(|extension| extension.to_str());
            if !hidden && matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
                files.insert(path);
            }
        }
        Ok(files)
    }
}

type Metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn key(meta: &Metadata) -> (Option<&String>, Option<&String>) {
    (meta.namespace.as_ref(), meta.name.as_ref())
}

/// Of two objects of one name the first in lexical order of files counts.
fn add<T>(
    known: &mut Vec<Sourced<T>>,
    found: Vec<Sourced<T>>,
    errors: &mut Vec<SourceError>,
    kind: &str,
    meta: impl Fn(&T) -> &Metadata,
) {
    for item in found {
        match known.iter().find(|other| key(meta(&other.object)) == key(meta(&item.object))) {
            None => known.push(item),
            Some(first) => {
                let (namespace, name) = key(meta(&item.object));
                let object = format!(
                    "{kind} {}/{}",
                    namespace.map_or("default", |n| n),
                    name.map_or("", |n| n)
                );
                let reason =
                    format!("is also in {}, which comes first and counts", first.path.display());
                errors.push(SourceError { path: item.path.clone(), object, reason });
            }
        }
    }
}

fn keep_last_good(parsed: &mut Parsed, before: &Parsed) {
    let new = |known: bool| !known;
    for pod in &before.pods {
        let known = parsed
            .pods
            .iter()
            .any(|other| key(&other.object.metadata) == key(&pod.object.metadata));
        parsed.pods.extend(new(known).then(|| pod.clone()));
    }
    for service in &before.services {
        let same = |other: &Sourced<_>| {
            let other: &Sourced<k8s_openapi::api::core::v1::Service> = other;
            key(&other.object.metadata) == key(&service.object.metadata)
        };
        let known = parsed.services.iter().any(same);
        parsed.services.extend(new(known).then(|| service.clone()));
    }
}

fn read_file(path: &Path) -> Result<Option<String>, String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| format!("is not UTF-8: {error}"))
}

/// Tells when the folder should be read: at first, after a change once it is quiet, and now and then.
pub fn watch(path: PathBuf) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    let (told, mut changes) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut watcher = None;
        while !sender.is_closed() {
            if watcher.is_none() || !path.exists() {
                watcher = start(&path, told.clone());
            }
            sender.send(()).await.ok();
            tokio::select! {
                _ = changes.recv() => {
                    while tokio::time::timeout(QUIET, changes.recv()).await.is_ok() {}
                }
                () = tokio::time::sleep(RESCAN) => {}
                () = sender.closed() => {}
            }
        }
        drop(watcher);
    });
    receiver
}

fn start(path: &Path, changes: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    fs::create_dir_all(path).ok();
    let handler = move |event: notify::Result<notify::Event>| {
        // reading the folder is an event as well, and would be answered by reading the folder
        if !event.is_ok_and(|event| event.kind.is_access()) {
            changes.try_send(()).ok();
        }
    };
    let mut watcher = notify::recommended_watcher(handler).ok()?;
    watcher.watch(path, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
        )
    }

    fn names(objects: &Objects) -> Vec<String> {
        objects.pods.iter().filter_map(|pod| pod.object.metadata.name.clone()).collect()
    }

    #[test]
    fn a_file_that_breaks_keeps_what_it_held() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(folder.path());
        fs::write(folder.path().join("a.yaml"), format!("{}---\n{}", pod("one"), pod("two")))
            .unwrap();
        fs::write(folder.path().join(".hidden.yaml"), pod("hidden")).unwrap();
        fs::write(folder.path().join("b.yaml~"), pod("backup")).unwrap();
        assert_eq!(names(&directory.read().unwrap()), ["one", "two"]);
        fs::write(folder.path().join("a.yaml"), format!("{}---\n{{{{", pod("three"))).unwrap();
        let objects = directory.read().unwrap();
        assert_eq!(
            (names(&objects), objects.errors.len()),
            (vec!["three".into(), "one".into(), "two".into()], 1)
        );
        fs::remove_file(folder.path().join("a.yaml")).unwrap();
        assert_eq!(directory.read().unwrap(), Objects::default());
    }

    #[test]
    fn the_first_of_two_counts() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.yaml"), pod("web")).unwrap();
        fs::write(folder.path().join("a.yaml"), pod("web")).unwrap();
        let objects = Directory::new(folder.path()).read().unwrap();
        assert_eq!(objects.pods.len(), 1);
        assert!(objects.pods[0].path.ends_with("a.yaml"));
        assert!(
            objects.errors[0].path.ends_with("b.yaml")
                && objects.errors[0].reason.contains("a.yaml")
        );
    }

    #[test]
    fn a_missing_folder_is_an_error_and_not_an_empty_one() {
        let error = Directory::new("/nowhere/at/all").read().unwrap_err();
        assert!(error.reason.contains("cannot be read"), "{error:?}");
    }

    #[tokio::test]
    async fn changes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut told = watch(folder.path().join("made"));
        told.recv().await.unwrap();
        fs::write(folder.path().join("made/a.yaml"), pod("web")).unwrap();
        tokio::time::timeout(Duration::from_secs(10), told.recv())
            .await
            .expect("a change is told")
            .unwrap();
    }
}
