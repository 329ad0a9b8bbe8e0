//! The folder of manifests, and what its files held when they were last right.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::manifest::{MAX_FILE, Parsed, Problem, parse};
use super::{Objects, SourceError, Sourced};
use crate::pod::plan;
use crate::pod::record::write_durably;

/// A folder of manifests.
///
/// An object that was right and has become wrong goes on as it was, and is reported: half a save must not stop a pod. That
/// holds over a restart of the agent, too, if there is a file to remember by.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    node: String,
    good: BTreeMap<PathBuf, Good>,
    memory: Option<PathBuf>,
    remembered: Vec<u8>,
}

/// What a file held when it was last right.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Good {
    pods: Vec<(usize, Pod)>,
    services: Vec<(usize, Service)>,
    #[serde(default)]
    slices: Vec<(usize, EndpointSlice)>,
}

impl Directory {
    /// The folder at `path`, not read yet, for the node of that name.
    pub fn new(path: impl Into<PathBuf>, node: &str) -> Self {
        let (good, remembered) = (BTreeMap::new(), Vec::new());
        Self { path: path.into(), node: node.to_owned(), good, memory: None, remembered }
    }

    /// Remembers in `file` what was last right, and begins with what an earlier agent remembered there. A file that cannot
    /// be read is as none: manifests that are right need no memory.
    #[must_use]
    pub fn remembering(mut self, file: PathBuf) -> Self {
        if let Ok(text) = fs::read(&file) {
            match serde_json::from_slice(&text) {
                Ok(good) => (self.good, self.remembered) = (good, text),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "what manifests last held is forgotten");
                }
            }
        }
        self.memory = Some(file);
        self
    }

    /// Reads all files. An error is one of the folder itself: then nothing is known of what should run.
    pub fn read(&mut self) -> Result<Objects, SourceError> {
        let files = self.files()?;
        let mut objects = Objects::default();
        let mut good = BTreeMap::new();
        for path in files {
            let mut parsed = match read_file(&path) {
                Ok(Some(text)) => parse(&text, &path),
                // it went away since the listing
                Ok(None) => continue,
                Err(reason) => unreadable(&path, reason),
            };
            if let Some(before) = self.good.get(&path) {
                keep_last_good(&mut parsed, before, &path);
            }
            good.insert(path, Good::of(&parsed));
            objects.errors.extend(parsed.problems.into_iter().map(|problem| problem.error));
            objects.pods.append(&mut parsed.pods);
            objects.services.append(&mut parsed.services);
            objects.slices.append(&mut parsed.slices);
        }
        self.good = good;
        self.remember();
        first_of_each(&mut objects.pods, &mut objects.errors, "Pod", |pod| &pod.metadata);
        first_of_each(&mut objects.services, &mut objects.errors, "Service", |service| {
            &service.metadata
        });
        first_of_each(&mut objects.slices, &mut objects.errors, "EndpointSlice", |slice| {
            &slice.metadata
        });
        for pod in &mut objects.pods {
            pod.object.metadata.uid = Some(plan::digest(&self.node, &pod.object));
        }
        Ok(objects)
    }

    /// Manifests in lexical order; hidden files and what editors leave behind do not count.
    fn files(&self) -> Result<BTreeSet<PathBuf>, SourceError> {
        let fail = |error: std::io::Error| SourceError {
            path: self.path.clone(),
            line: None,
            object: "folder".to_owned(),
            reason: format!("cannot be read: {error}; make it, or set paths.manifests"),
        };
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let hidden =
                path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            let extension = path.extension().and_then(|extension| extension.to_str());
            // a pipe or a device would be waited for
            if !hidden && matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
                files.insert(path);
            }
        }
        Ok(files)
    }

    fn remember(&mut self) {
        let Some(file) = &self.memory else { return };
        let Ok(text) = serde_json::to_vec(&self.good) else { return };
        if text == self.remembered {
            return;
        }
        match write_durably(file, &text) {
            Ok(()) => self.remembered = text,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "cannot remember what manifests hold");
            }
        }
    }
}

impl Good {
    fn of(parsed: &Parsed) -> Self {
        Self {
            pods: parsed.pods.iter().map(|pod| (pod.line, pod.object.clone())).collect(),
            services: parsed.services.iter().map(|one| (one.line, one.object.clone())).collect(),
            slices: parsed.slices.iter().map(|one| (one.line, one.object.clone())).collect(),
        }
    }
}

fn unreadable(path: &Path, reason: String) -> Parsed {
    let (path, object) = (path.to_owned(), "file".to_owned());
    let error = SourceError { path, line: None, object, reason };
    Parsed { problems: vec![Problem { error, whose: None }], ..Parsed::default() }
}

fn key(meta: &ObjectMeta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Adds what a file held before to what it holds now, as far as mistakes may be the reason for its absence.
fn keep_last_good(parsed: &mut Parsed, before: &Good, path: &Path) {
    let problems = std::mem::take(&mut parsed.problems);
    let keep = |kind: &str, meta: &ObjectMeta| {
        let key = key(meta);
        problems.iter().any(|problem| match &problem.whose {
            // it may be this very object that cannot be recognised any more
            None => true,
            Some(id) => {
                id.kind == kind && (id.namespace.as_str(), id.name.as_str()) == (&key.0, &key.1)
            }
        })
    };
    absent(&mut parsed.pods, &before.pods, path, |pod| &pod.metadata, |meta| keep("Pod", meta));
    absent(&mut parsed.services, &before.services, path, |s| &s.metadata, |m| keep("Service", m));
    absent(&mut parsed.slices, &before.slices, path, |s| &s.metadata, |m| keep("EndpointSlice", m));
    parsed.problems = problems;
}

fn absent<T: Clone>(
    now: &mut Vec<Sourced<T>>,
    before: &[(usize, T)],
    path: &Path,
    meta: impl Fn(&T) -> &ObjectMeta,
    keep: impl Fn(&ObjectMeta) -> bool,
) {
    let known: BTreeSet<_> = now.iter().map(|item| key(meta(&item.object))).collect();
    for (line, object) in before {
        if !known.contains(&key(meta(object))) && keep(meta(object)) {
            let (path, object) = (path.to_owned(), object.clone());
            now.push(Sourced { path, line: *line, object });
        }
    }
}

/// Of several objects of one name the first counts, in lexical order of files.
fn first_of_each<T>(
    items: &mut Vec<Sourced<T>>,
    errors: &mut Vec<SourceError>,
    kind: &str,
    meta: impl Fn(&T) -> &ObjectMeta,
) {
    let mut first = BTreeMap::new();
    items.retain(|item| {
        let key = key(meta(&item.object));
        let place = format!("{}:{}", item.path.display(), item.line);
        match first.get(&key) {
            None => {
                first.insert(key, place);
                true
            }
            Some(other) => {
                errors.push(SourceError {
                    path: item.path.clone(),
                    line: Some(item.line),
                    object: format!("{kind} {}/{}", key.0, key.1),
                    reason: format!("is also at {other}, which comes first and counts; remove one"),
                });
                false
            }
        }
    });
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

#[cfg(test)]
#[path = "directory/tests.rs"]
mod tests;
