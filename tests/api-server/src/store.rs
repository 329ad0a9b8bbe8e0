//! Objects, their versions and the history that watches read.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::resource::Resource;

/// How many changes of a kind are remembered unless [`Store::compact`] says less.
const HISTORY: usize = 200_000;

/// An object as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Empty for kinds without namespaces.
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub version: u64,
    /// JSON without `kind` and `apiVersion`, which lists leave out.
    pub text: String,
}

/// Something that watches tell.
#[derive(Clone, Debug)]
pub enum Told {
    /// An object changed from one to the other; at least one of them is there.
    Changed { version: u64, before: Option<Arc<Stored>>, after: Option<Arc<Stored>> },
    /// A line as it is, whatever it is: a fault.
    Raw(String),
}

type Objects = BTreeMap<String, Arc<Stored>>;

/// The objects of one kind.
#[derive(Debug, Default)]
struct Table {
    objects: Objects,
    history: VecDeque<Told>,
    /// The place of the first of the history in all that ever was told.
    first: u64,
    /// Watches can begin at this version or later.
    oldest: u64,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub version: u64,
    pub objects: Vec<Arc<Stored>>,
    pub next: Option<String>,
}

/// The version that was asked for is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// All objects.
#[derive(Debug)]
pub struct Store {
    version: u64,
    tables: HashMap<Resource, Table>,
    /// What lists that are under way go through, by their number.
    snapshots: HashMap<u64, (u64, Objects)>,
    lists: u64,
}

impl Default for Store {
    fn default() -> Self {
        // a watch from version 0 would mean "from anywhere"
        Self { version: 1, tables: HashMap::new(), snapshots: HashMap::new(), lists: 0 }
    }
}

impl Store {
    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Adds or replaces an object; its version.
    pub fn put(&mut self, resource: Resource, mut object: Value) -> u64 {
        self.version += 1;
        let version = self.version;
        let stored = Arc::new(stored(resource, &mut object, version));
        let table = self.tables.entry(resource).or_default();
        let before = table.objects.insert(key(&stored.namespace, &stored.name), stored.clone());
        table.tell(Told::Changed { version, before, after: Some(stored) });
        version
    }

    /// Merges a patch (RFC 7386, but that conditions are merged by their type) into an object, which is not a new version if that changes nothing. `None`: there is no such object.
    pub fn patch(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Option<Arc<Stored>> {
        let before = self.get(resource, namespace, name)?;
        let object: Value = serde_json::from_str(&before.text).ok()?;
        let mut patched = object.clone();
        let mut patch = patch.clone();
        if let Some(fields) = patch.as_object_mut() {
            fields.retain(|key, _| !matches!(key.as_str(), "kind" | "apiVersion"));
        }
        merge(&mut patched, &patch);
        if patched == object {
            return Some(before);
        }
        self.put(resource, patched);
        self.get(resource, namespace, name)
    }

    /// Removes an object; its last version, or `None` if it is not there.
    pub fn delete(&mut self, resource: Resource, namespace: &str, name: &str) -> Option<u64> {
        let table = self.tables.entry(resource).or_default();
        let before = table.objects.remove(&key(namespace, name))?;
        self.version += 1;
        table.tell(Told::Changed { version: self.version, before: Some(before), after: None });
        Some(self.version)
    }

    /// Has every watch of a kind tell a line as it is.
    pub fn raw(&mut self, resource: Resource, line: String) {
        self.tables.entry(resource).or_default().tell(Told::Raw(line));
    }

    /// Forgets history and lists that are under way.
    pub fn compact(&mut self) {
        let version = self.version;
        for table in self.tables.values_mut() {
            table.first += table.history.len() as u64;
            table.history.clear();
            table.oldest = version;
        }
        self.snapshots.clear();
    }

    /// An object.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.tables.get(&resource)?.objects.get(&key(namespace, name)).cloned()
    }

    /// A page of a list: all pages of one list are of one version.
    pub fn list(
        &mut self,
        resource: Resource,
        matches: impl Fn(&Stored) -> bool,
        limit: usize,
        next: Option<&str>,
    ) -> Result<Page, Gone> {
        let (number, after) = if let Some(token) = next {
            let (number, after) = token.split_once(':').ok_or(Gone)?;
            (number.parse().map_err(|_| Gone)?, Some(after))
        } else {
            self.lists += 1;
            let objects = self.tables.entry(resource).or_default().objects.clone();
            self.snapshots.insert(self.lists, (self.version, objects));
            (self.lists, None)
        };
        let (version, objects) = self.snapshots.get(&number).ok_or(Gone)?;
        let rest = objects.iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let mut rest = rest.filter(|(_, object)| matches(object));
        let limit = if limit == 0 { usize::MAX } else { limit };
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let last = page.last().map(|(key, _)| format!("{number}:{key}"));
        let next = if rest.next().is_some() { last } else { None };
        let objects = page.into_iter().map(|(_, object)| object.clone()).collect();
        let page = Page { version: *version, objects, next };
        if page.next.is_none() {
            self.snapshots.remove(&number);
        }
        Ok(page)
    }

    /// The place in a kind's history from which a watch after `version` reads on.
    pub fn place(&mut self, resource: Resource, version: u64) -> Result<u64, Gone> {
        let table = self.tables.entry(resource).or_default();
        if version < table.oldest {
            return Err(Gone);
        }
        let is_later =
            |told: &Told| matches!(told, Told::Changed { version: later, .. } if *later > version);
        let index = table.history.iter().position(is_later).unwrap_or(table.history.len());
        Ok(table.first + index as u64)
    }

    /// What a watch at a place has not told yet, and the next place.
    pub fn since(&self, resource: Resource, place: u64) -> Result<(Vec<Told>, u64), Gone> {
        let Some(table) = self.tables.get(&resource) else { return Ok((Vec::new(), place)) };
        let index =
            usize::try_from(place.checked_sub(table.first).ok_or(Gone)?).map_err(|_| Gone)?;
        let told = table.history.iter().skip(index).cloned().collect();
        Ok((told, table.first + table.history.len() as u64))
    }
}

impl Table {
    fn tell(&mut self, told: Told) {
        if self.history.len() == HISTORY {
            if let Some(Told::Changed { version, .. }) = self.history.pop_front() {
                self.oldest = version;
            }
            self.first += 1;
        }
        self.history.push_back(told);
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().and_then(|target| target.remove(key));
        } else if let ("conditions", Some(conditions)) = (key.as_str(), value.as_array()) {
            merge_conditions(&mut target[key], conditions);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn merge_conditions(target: &mut Value, patch: &[Value]) {
    let mut all = target.as_array().cloned().unwrap_or_default();
    for condition in patch {
        match all.iter_mut().find(|known| known["type"] == condition["type"]) {
            Some(known) => merge(known, condition),
            None => all.push(condition.clone()),
        }
    }
    *target = all.into();
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Fills in what an API server fills in.
fn stored(resource: Resource, object: &mut Value, version: u64) -> Stored {
    let namespaced = resource.is_namespaced();
    let fields = object.as_object_mut().expect("an object is a JSON object");
    fields.remove("kind");
    fields.remove("apiVersion");
    let meta = fields.entry("metadata").or_insert_with(|| json!({}));
    meta["resourceVersion"] = json!(version.to_string());
    if namespaced && meta["namespace"].is_null() {
        meta["namespace"] = json!("default");
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
    if meta["uid"].is_null() {
        meta["uid"] = json!(format!("{}-{namespace}-{name}", resource.plural()));
    }
    if meta["creationTimestamp"].is_null() {
        meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let labels = meta["labels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| (key.clone(), text(value))).collect();
    Stored { namespace, name, labels, version, text: object.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(page: &Page) -> Vec<&str> {
        page.objects.iter().map(|object| object.name.as_str()).collect()
    }

    fn service(name: &str) -> Value {
        json!({"kind": "Service", "metadata": {"name": name}})
    }

    #[test]
    fn a_list_in_pages_is_of_one_version_whatever_changes_meanwhile() {
        let mut store = Store::default();
        for name in ["a", "b", "c"] {
            store.put(Resource::Services, service(name));
        }
        let first = store.list(Resource::Services, |_| true, 2, None).unwrap();
        assert_eq!((names(&first), first.version), (vec!["a", "b"], 4));
        store.put(Resource::Services, service("d"));
        store.delete(Resource::Services, "default", "c");
        let second = store.list(Resource::Services, |_| true, 2, first.next.as_deref()).unwrap();
        assert_eq!((names(&second), second.version, &second.next), (vec!["c"], 4, &None));
        let all = store.list(Resource::Services, |_| true, 0, None).unwrap();
        assert_eq!((names(&all), all.version), (vec!["a", "b", "d"], 6));
    }

    #[test]
    fn a_patch_is_merged() {
        let mut store = Store::default();
        let node = json!({"metadata": {"name": "a", "annotations": {"x": "1", "y": "2"}}, "spec": {"podCIDR": "c"}});
        store.put(Resource::Nodes, node);
        let patch = json!({"kind": "Node", "metadata": {"annotations": {"y": null, "z": "3"}, "labels": {"l": "v"}}});
        let patched = store.patch(Resource::Nodes, "", "a", &patch).unwrap();
        let object: Value = serde_json::from_str(&patched.text).unwrap();
        assert_eq!(object["metadata"]["annotations"], json!({"x": "1", "z": "3"}));
        assert_eq!((&object["spec"]["podCIDR"], &object["kind"]), (&json!("c"), &Value::Null));
        assert_eq!((patched.labels["l"].as_str(), patched.version), ("v", 3));
        assert_eq!(store.patch(Resource::Nodes, "", "a", &patch).unwrap().version, 3);
        assert_eq!(store.patch(Resource::Nodes, "", "b", &patch), None);
    }

    #[test]
    fn conditions_are_merged_by_their_type() {
        let mut store = Store::default();
        let of = |all: Value| json!({"metadata": {"name": "a"}, "status": {"conditions": all}});
        store.put(Resource::Nodes, of(json!([{"type": "X", "status": "True", "reason": "R"}])));
        let patch = of(json!([{"type": "X", "status": "False"}, {"type": "Y", "status": "True"}]));
        let patched = store.patch(Resource::Nodes, "", "a", &patch).unwrap();
        let object: Value = serde_json::from_str(&patched.text).unwrap();
        let x = json!({"type": "X", "status": "False", "reason": "R"});
        let y = json!({"type": "Y", "status": "True"});
        assert_eq!(object["status"]["conditions"], json!([x, y]));
    }

    #[test]
    fn what_was_compacted_is_gone() {
        let mut store = Store::default();
        store.put(Resource::Services, service("a"));
        store.put(Resource::Services, service("b"));
        let page = store.list(Resource::Services, |_| true, 1, None).unwrap();
        let place = store.place(Resource::Services, 2).unwrap();
        assert_eq!(store.since(Resource::Services, place).unwrap().0.len(), 1);
        store.compact();
        assert_eq!(store.list(Resource::Services, |_| true, 1, page.next.as_deref()), Err(Gone));
        assert_eq!(store.place(Resource::Services, 2), Err(Gone));
        assert!(store.since(Resource::Services, place).is_err());
        let place = store.place(Resource::Services, 3).unwrap();
        assert!(store.since(Resource::Services, place).unwrap().0.is_empty());
        store.put(Resource::Services, service("c"));
        assert_eq!(store.since(Resource::Services, place).unwrap().0.len(), 1);
    }
}
