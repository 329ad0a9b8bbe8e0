//! Services, `EndpointSlices` and the Node from a folder of manifests, as events of the model: the proxy without any API server.
//!
//! Nothing is made up: services need their cluster addresses, and endpoints are those of the slices. A file that cannot be read keeps
//! what it held before: half a save must not take services away.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Node as NodeObject, Service as ServiceObject};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;
use tokio::sync::mpsc;

use super::model::{Event, Node, Service, Slice};
use crate::source::folder::{self, FolderError, Held, typed};

/// What one file holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Objects {
    services: Vec<Service>,
    slices: Vec<Slice>,
    nodes: Vec<Node>,
}

impl Held for Objects {
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

/// A folder of manifests.
#[derive(Debug)]
pub struct Folder {
    folder: folder::Folder<Objects>,
    node: String,
}

impl Folder {
    /// The folder at `path`, not read yet, on the node of that name.
    pub fn new(path: PathBuf, node: &str) -> Self {
        Self { folder: folder::Folder::new(path, "--static-dir"), node: node.to_owned() }
    }

    /// Reads all files: everything that there is, and what is wrong with the rest, each with its place.
    pub fn read(&mut self) -> Result<(Vec<Event>, Vec<String>), FolderError> {
        let problems = self.folder.read()?;
        Ok((events_of(&self.folder, &self.node), problems))
    }

    /// Follows the folder for as long as somebody listens.
    pub async fn follow(self, events: mpsc::Sender<Event>) {
        let Self { mut folder, node } = self;
        let mut changes = folder.changes();
        while changes.recv().await.is_some() {
            if !folder.read_again("services") {
                continue;
            }
            for event in events_of(&folder, &node) {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn events_of(folder: &folder::Folder<Objects>, name: &str) -> Vec<Event> {
    let all = || folder.held().cloned();
    let node = all().flat_map(|held| held.nodes).find(|node| *node.name == *name);
    vec![
        Event::Node(node.unwrap_or_else(|| Node::named(name))),
        Event::AllServices(all().flat_map(|held| held.services).collect()),
        Event::AllSlices(all().flat_map(|held| held.slices).collect()),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;

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
