//! Services, `EndpointSlices` and the Node from a folder of manifests, as events of the model: the proxy without any API server.
//!
//! Nothing is made up: services need their cluster addresses, and endpoints are those of the slices. A file that cannot be read keeps
//! what it held before: half a save must not take services away.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Node as NodeObject, Service as ServiceObject};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use super::model::{Event, Node, Service, Slice};
use crate::source;

/// What one file holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    services: Vec<Service>,
    slices: Vec<Slice>,
    nodes: Vec<Node>,
}

/// A folder of manifests.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    node: String,
    held: BTreeMap<PathBuf, Held>,
}

/// The folder cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the folder {}; make it, or set --static-dir", path.display())]
pub struct FolderError {
    path: PathBuf,
    source: std::io::Error,
}

impl Folder {
    /// The folder at `path`, not read yet, on the node of that name.
    pub fn new(path: PathBuf, node: &str) -> Self {
        Self { path, node: node.to_owned(), held: BTreeMap::new() }
    }

    /// Reads all files: everything that there is, and what is wrong with the rest, each with its place.
    pub fn read(&mut self) -> Result<(Vec<Event>, Vec<String>), FolderError> {
        let error = |source| FolderError { path: self.path.clone(), source };
        let mut held = BTreeMap::new();
        let mut problems = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(error)? {
            let path = entry.map_err(error)?.path();
            if is_manifest(&path) {
                let before = self.held.get(&path).cloned().unwrap_or_default();
                let now = read_file(&path, &mut problems).unwrap_or(before);
                held.insert(path, now);
            }
        }
        self.held = held;
        Ok((self.events(), problems))
    }

    fn events(&self) -> Vec<Event> {
        let all = || self.held.values().cloned();
        let node = all().flat_map(|held| held.nodes).find(|node| *node.name == *self.node);
        vec![
            Event::Node(node.unwrap_or_else(|| Node::named(&self.node))),
            Event::AllServices(all().flat_map(|held| held.services).collect()),
            Event::AllSlices(all().flat_map(|held| held.slices).collect()),
        ]
    }

    /// Follows the folder for as long as somebody listens.
    pub async fn follow(mut self, events: mpsc::Sender<Event>) {
        let mut told = source::watch(self.path.clone());
        let mut known = Vec::new();
        while told.recv().await.is_some() {
            match self.read() {
                Ok((all, problems)) => {
                    for problem in problems.iter().filter(|problem| !known.contains(*problem)) {
                        tracing::warn!("{problem}");
                    }
                    known = problems;
                    for event in all {
                        if events.send(event).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => tracing::warn!(
                    error = netns_tools::cause::one_line(&error),
                    "services stay as they are"
                ),
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
fn read_file(path: &Path, problems: &mut Vec<String>) -> Option<Held> {
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
    let mut held = Held::default();
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

impl Held {
    fn take(&mut self, kind: &str, object: Value) -> Result<(), String> {
        match kind {
            "Service" => {
                let object: ServiceObject = typed(object)?;
                // the model names the object again
                self.services.extend(Service::of(&object).map_err(|refused| refused.reason)?);
            }
            "EndpointSlice" => self.slices.extend(Slice::of(&typed::<EndpointSlice>(object)?)),
            "Node" => self.nodes.push(Node::of(&typed::<NodeObject>(object)?)),
            _ => return Err("is left out: only Service, EndpointSlice and Node matter here".into()),
        }
        Ok(())
    }
}

fn typed<T: DeserializeOwned>(object: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(object).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}\n";
    const SLICE: &str = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, labels: {kubernetes.io/service-name: web}}\n\
                         addressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [10.1.0.1]}]\n";
    const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: node, labels: {topology.kubernetes.io/zone: a}}\n";

    fn counts(events: &[Event]) -> (usize, usize, String) {
        let mut found = (0, 0, String::new());
        for event in events {
            match event {
                Event::AllServices(all) => found.0 = all.len(),
                Event::AllSlices(all) => found.1 = all.len(),
                Event::Node(node) => found.2 = node.zone.to_string(),
                other => panic!("{other:?}"),
            }
        }
        found
    }

    #[test]
    fn a_folder_is_read_and_a_broken_file_keeps_what_it_held() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        let mut source = Folder::new(folder.path().to_owned(), "node");
        fs::write(&file, format!("{SERVICE}---\n{SLICE}---\n{NODE}")).unwrap();
        fs::write(folder.path().join(".hidden.yaml"), "{").unwrap();
        let (events, problems) = source.read().unwrap();
        assert_eq!((counts(&events), problems), ((1, 1, "a".into()), Vec::new()));

        fs::write(&file, "kind: [").unwrap();
        let (events, problems) = source.read().unwrap();
        assert_eq!(counts(&events), (1, 1, "a".into()));
        assert!(
            problems.len() == 1 && problems[0].contains("a.yaml: is not valid YAML"),
            "{problems:?}"
        );

        let wrong = SERVICE.replace("port: 80", "port: 0");
        fs::write(&file, format!("{wrong}---\nkind: Pod\nmetadata: {{name: p}}\n")).unwrap();
        let (events, problems) = source.read().unwrap();
        assert_eq!(counts(&events), (0, 0, String::new()));
        assert!(
            problems[0].contains("Service web: spec.ports[0].port: 0 is not between 1 and 65535"),
            "{problems:?}"
        );
        assert!(problems[1].contains("Pod p: is left out"), "{problems:?}");

        fs::remove_dir_all(folder.path()).unwrap();
        assert!(source.read().unwrap_err().to_string().contains("set --static-dir"));
    }
}
