//! A folder of manifests of which some kinds matter to one reader: the proxy alone, or the overlay.
//!
//! A file that cannot be read keeps what it held before: half a save must not take services or nodes away.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use netns_tools::cause::one_line;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

/// What a reader takes of one file.
pub trait Held: Default {
    /// Takes an object in, or says why not. A kind that does not matter may be taken and dropped.
    fn take(&mut self, kind: &str, object: Value) -> Result<(), String>;
}

/// A folder of manifests.
#[derive(Debug)]
pub struct Folder<H> {
    path: PathBuf,
    /// How the operator names the folder.
    setting: &'static str,
    held: BTreeMap<PathBuf, H>,
    /// Problems that were told.
    told: Vec<String>,
}

/// The folder cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the folder {}; make it, or set {setting}", path.display())]
pub struct FolderError {
    path: PathBuf,
    setting: &'static str,
    source: std::io::Error,
}

impl<H: Held> Folder<H> {
    /// The folder at `path`, not read yet, which the operator names by `setting`.
    pub fn new(path: PathBuf, setting: &'static str) -> Self {
        Self { path, setting, held: BTreeMap::new(), told: Vec::new() }
    }

    /// Reads all files; what is wrong with some, each with its place.
    pub fn read(&mut self) -> Result<Vec<String>, FolderError> {
        let (path, setting) = (&self.path, self.setting);
        let error = |source| FolderError { path: path.clone(), setting, source };
        let listed = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let paths = listed.map_err(error)?.into_iter().map(|entry| entry.path());
        let mut held = BTreeMap::new();
        let mut problems = Vec::new();
        for path in paths.filter(|path| is_manifest(path)) {
            let now = read_file(&path, &mut problems);
            let now = now.or_else(|| self.held.remove(&path)).unwrap_or_default();
            held.insert(path, now);
        }
        self.held = held;
        Ok(problems)
    }

    /// What the files hold, in order of their names.
    pub fn held(&self) -> impl Iterator<Item = &H> {
        self.held.values()
    }

    /// Tells when the folder should be read: at first, and after changes. Needs a tokio runtime.
    pub fn changes(&self) -> mpsc::Receiver<()> {
        super::watch(self.path.clone())
    }

    /// Reads all files and logs what is new of what is wrong; whether that was possible. `what` stays as it is if not.
    pub fn read_again(&mut self, what: &str) -> bool {
        match self.read() {
            Ok(problems) => {
                for problem in problems.iter().filter(|problem| !self.told.contains(*problem)) {
                    tracing::warn!("{problem}");
                }
                self.told = problems;
                true
            }
            Err(error) => {
                tracing::warn!(error = one_line(&error), "{what} stay as they are");
                false
            }
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file()
}

/// `None`: nothing in it can be told.
fn read_file<H: Held>(path: &Path, problems: &mut Vec<String>) -> Option<H> {
    let mut problem = |reason: String| problems.push(format!("{}: {reason}", path.display()));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problem(format!("cannot be read: {error}"));
            return None;
        }
    };
    let documents: Vec<Value> = match serde_saphyr::from_multiple(&text) {
        Ok(documents) => documents,
        Err(error) => {
            problem(format!(
                "is not valid YAML: {}",
                error.to_string().lines().next().unwrap_or_default()
            ));
            return None;
        }
    };
    let mut held = H::default();
    for document in documents {
        let items = match document["items"].as_array() {
            Some(items) => items.clone(),
            None => vec![document],
        };
        for item in items.into_iter().filter(|item| !item.is_null()) {
            let name = item["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
            let kind = item["kind"].as_str().unwrap_or("object without a kind").to_owned();
            if let Err(reason) = held.take(&kind, item) {
                problem(format!("{kind} {name}: {reason}"));
            }
        }
    }
    Some(held)
}

/// An object of a known type, or which of its fields is wrong.
pub fn typed<T: DeserializeOwned>(object: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(object).map_err(|error| error.to_string())
}
