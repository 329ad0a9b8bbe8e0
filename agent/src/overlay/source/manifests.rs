//! Nodes of a folder of manifests: a cluster that somebody writes down. Objects of other kinds are other readers' affair.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use tokio::sync::mpsc;

use super::Event;
use crate::overlay::cluster;
use crate::overlay::node::NodeRecord;
use crate::source::folder::{Folder, Held, typed};

/// What one file holds.
#[derive(Debug, Default)]
struct Nodes(Vec<NodeRecord>);

impl Held for Nodes {
    fn take(&mut self, kind: &str, object: Value) -> Result<(), String> {
        if kind == "Node" {
            let record = NodeRecord::read(&typed(object)?, false);
            self.0.push(record.map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}

/// Follows the folder for as long as somebody listens. It is read at once, after changes, and when `reload` says so.
pub async fn follow(path: PathBuf, events: mpsc::Sender<Event>, mut reload: mpsc::Receiver<()>) {
    let mut folder = Folder::<Nodes>::new(path.clone(), "paths.manifests");
    let mut changes = folder.changes();
    let (mut listening, mut away) = (true, false);
    loop {
        tokio::select! {
            told = changes.recv() => if told.is_none() { return },
            asked = reload.recv(), if listening => listening = asked.is_some(),
        }
        let whole = folder.read_again("nodes");
        let mut told = Vec::new();
        if whole == away {
            let reason = || format!("the folder {} cannot be read", path.display());
            told.push(Event::Away((!whole).then(reason)));
            away = !whole;
        }
        if whole {
            told.push(Event::Nodes(cluster::Event::All(all(&folder))));
        }
        for event in told {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// Every node once: of several of one name the first in order of the files counts.
fn all(folder: &Folder<Nodes>) -> Vec<NodeRecord> {
    let mut names = BTreeSet::new();
    let mut records = Vec::new();
    for record in folder.held().flat_map(|held| &held.0) {
        if names.insert(record.name.clone()) {
            records.push(record.clone());
        } else {
            tracing::warn!(
                node = &*record.name,
                "there are several manifests of this Node; the first one counts, remove the others"
            );
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn node(name: &str, cidr: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [{cidr}]}}\n---\n"
        )
    }

    async fn names(events: &mut mpsc::Receiver<Event>) -> Vec<String> {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(20), events.recv());
            match event.await.expect("an event in time").expect("it goes on") {
                Event::Nodes(cluster::Event::All(records)) => {
                    return records
                        .iter()
                        .map(|record| format!("{} {}", record.name, record.pod_cidrs[0]))
                        .collect();
                }
                Event::Nodes(other) => panic!("{other:?}"),
                Event::Away(_) => {}
            }
        }
    }

    #[tokio::test]
    async fn nodes_are_read_and_followed_and_others_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let text = node("a", "10.0.1.0/24") + &node("a", "10.0.9.0/24") + "kind: Pod\n";
        fs::write(path("1.yaml"), text).unwrap();
        fs::write(path("2.yaml"), node("b", "10.0.2.0/24")).unwrap();
        let ((sender, mut events), (reload, asked)) = (mpsc::channel(8), mpsc::channel(1));
        tokio::spawn(follow(folder.path().to_owned(), sender, asked));
        assert_eq!(names(&mut events).await, ["a 10.0.1.0/24", "b 10.0.2.0/24"]);
        // half a save keeps what was there
        fs::write(path("2.yaml"), "kind: [").unwrap();
        fs::write(path("3.yaml"), node("c", "10.0.3.0/24")).unwrap();
        reload.send(()).await.unwrap();
        let all = names(&mut events).await;
        assert_eq!(all, ["a 10.0.1.0/24", "b 10.0.2.0/24", "c 10.0.3.0/24"]);
        fs::remove_file(path("1.yaml")).unwrap();
        while names(&mut events).await != ["b 10.0.2.0/24", "c 10.0.3.0/24"] {}
    }
}
