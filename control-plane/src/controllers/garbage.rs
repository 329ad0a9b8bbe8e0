//! What belongs to something that is gone goes too.
//!
//! An object names its owners in `metadata.ownerReferences`. When all of them are gone it is deleted. Two finalizers make a
//! deletion wait: with `foregroundDeletion` an owner stays until what blocks it is gone, with `orphan` what belonged to it first
//! forgets it. <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{Controller, Key, if_found};
use crate::api::options::{DeleteOptions, ListOptions, Propagation, WriteOptions};
use crate::api::status::Status;
use crate::api::token::Token;
use crate::api::update::Part;
use crate::api::{Api, Place};
use crate::meta::object::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Meta, MetaMut};
use crate::registry::Kind;

/// How soon to look again at an owner that waits for others to go.
const AGAIN: Duration = Duration::from_millis(500);
/// How many objects are read at a time.
const PAGE: usize = 500;

/// Deletes what has no owner any more.
#[derive(Debug, Default)]
pub struct Garbage {
    /// The uids of owners, and what belongs to them.
    dependents: Mutex<BTreeMap<String, BTreeSet<Key>>>,
}

impl Garbage {
    fn dependents(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<Key>>> {
        self.dependents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, uid: &str) -> Vec<Key> {
        self.dependents().get(uid).into_iter().flatten().cloned().collect()
    }

    fn note(&self, key: &Key, before: Option<&Value>, after: Option<&Value>) {
        let owners = |object: Option<&Value>| -> BTreeSet<String> {
            let list = object.map(|object| Meta::of(object).owner_references()).unwrap_or_default();
            list.iter().map(|owner| owner.uid.to_owned()).collect()
        };
        let (had, has) = (owners(before), owners(after));
        if had == has {
            return;
        }
        let mut dependents = self.dependents();
        for uid in had.difference(&has) {
            if let Some(keys) = dependents.get_mut(uid) {
                keys.remove(key);
                if keys.is_empty() {
                    dependents.remove(uid);
                }
            }
        }
        for uid in has.difference(&had) {
            dependents.entry(uid.clone()).or_default().insert(key.clone());
        }
    }
}

#[async_trait]
impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "garbage-collector"
    }

    fn follows(&self, kind: &Kind) -> bool {
        is_followed(kind)
    }

    fn concerned(&self, kind: &Kind, before: Option<&Value>, after: Option<&Value>) -> Vec<Key> {
        let Some(object) = after.or(before) else { return Vec::new() };
        let key = Key::of(kind, object);
        self.note(&key, before, after);
        let mut keys = Vec::new();
        match after {
            None => keys = self.of(Meta::of(object).uid()),
            Some(object) if is_ours(object) || !Meta::of(object).owner_references().is_empty() => {
                keys.push(key);
            }
            Some(_) => {}
        }
        // an owner that waits in the foreground goes on when what it waits for is gone
        if after.is_none() {
            keys.extend(owner_keys(object));
        }
        keys
    }

    async fn reconcile(&self, api: &Api, key: &Key) -> Result<Option<Duration>, Status> {
        let Some(place) = place_of(api, key) else { return Ok(None) };
        let Some(object) = if_found(api.get(&place).await)? else { return Ok(None) };
        let finalizers = Meta::of(&object).finalizers();
        if Meta::of(&object).deletion_timestamp().is_some() {
            if finalizers.contains(&FINALIZER_ORPHAN) {
                return orphan(api, &place, &object).await;
            }
            if finalizers.contains(&FINALIZER_FOREGROUND) {
                return self.wait_for_dependents(api, &place, &object).await;
            }
        }
        collect(api, &place, &object).await
    }
}

/// News of objects belong to nobody, and there are many of them.
fn is_followed(kind: &Kind) -> bool {
    kind.allows("delete") && kind.allows("list") && kind.plural != "events"
}

fn is_ours(object: &Value) -> bool {
    let finalizers = Meta::of(object).finalizers();
    Meta::of(object).deletion_timestamp().is_some()
        && (finalizers.contains(&FINALIZER_ORPHAN) || finalizers.contains(&FINALIZER_FOREGROUND))
}

/// Whether an object is on its way out and stays until what belongs to it is gone.
fn waits(object: &Value) -> bool {
    let meta = Meta::of(object);
    meta.deletion_timestamp().is_some() && meta.finalizers().contains(&FINALIZER_FOREGROUND)
}

/// The keys of the objects that own this one. The plural is not known from a reference: it is found when the key is looked at, so
/// the kind stands in its place until then.
fn owner_keys(object: &Value) -> Vec<Key> {
    let namespace = Meta::of(object).namespace();
    let owners = Meta::of(object).owner_references();
    owners
        .iter()
        .filter(|owner| owner.block_owner_deletion)
        .map(|owner| by_kind(owner.api_version, owner.kind, namespace, owner.name))
        .collect()
}

fn by_kind(api_version: &str, kind: &str, namespace: &str, name: &str) -> Key {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    Key::new((group, version, kind), namespace, name)
}

/// Where the object of a reference is. A kind's name stands in a key where it comes from a reference.
fn place_of(api: &Api, key: &Key) -> Option<Place> {
    if let Some(place) = key.place(api) {
        return Some(place);
    }
    let (group, _, name) = &key.resource;
    // any version of the group will do: it is the same object
    let kind =
        api.registry.all().into_iter().find(|kind| kind.group == *group && kind.kind == *name)?;
    let namespace = if kind.namespaced { key.namespace.clone() } else { String::new() };
    Some(Place { kind, namespace, name: key.name.clone() })
}

/// Deletes an object whose owners are all gone; takes the references away of those that are, when others are left.
async fn collect(api: &Api, place: &Place, object: &Value) -> Result<Option<Duration>, Status> {
    let meta = Meta::of(object);
    let owners = meta.owner_references();
    if owners.is_empty() || meta.deletion_timestamp().is_some() {
        return Ok(None);
    }
    let (mut gone, mut waiting) = (Vec::new(), false);
    for owner in &owners {
        let key = by_kind(owner.api_version, owner.kind, &place.namespace, owner.name);
        let Some(of_owner) = place_of(api, &key) else {
            // a kind that is not served (yet) may have objects: nobody can tell, so nothing is deleted
            return Ok(None);
        };
        match if_found(api.get(&of_owner).await)? {
            Some(found) if Meta::of(&found).uid() == owner.uid => waiting |= waits(&found),
            _ => gone.push(owner.uid.to_owned()),
        }
    }
    if gone.len() == owners.len() || (waiting && gone.len() + 1 == owners.len()) {
        let options = DeleteOptions {
            propagation: Some(if waiting {
                Propagation::Foreground
            } else {
                Propagation::Background
            }),
            uid: Some(meta.uid().to_owned()),
            ..DeleteOptions::default()
        };
        return if_found(api.delete(place, &options).await).map(|_| None);
    }
    if !gone.is_empty() {
        forget(api, place, meta.uid(), &gone).await?;
    }
    Ok(None)
}

/// Takes references to these owners out of an object.
async fn forget(api: &Api, place: &Place, uid: &str, owners: &[String]) -> Result<(), Status> {
    let change = |old: &Value| {
        let mut new = old.clone();
        let list = new.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
        if let Some(list) = list.filter(|_| Meta::of(old).uid() == uid) {
            list.retain(|owner| !owners.iter().any(|gone| owner["uid"] == gone.as_str()));
        }
        Ok(new)
    };
    if_found(api.modify(place, Part::Main, None, &WriteOptions::default(), change).await)
        .map(|_| ())
}

async fn release(api: &Api, place: &Place, finalizer: &str) -> Result<Option<Duration>, Status> {
    let change = |old: &Value| {
        let mut new = old.clone();
        MetaMut::of(&mut new).remove_finalizer(finalizer);
        Ok(new)
    };
    if_found(api.modify(place, Part::Main, None, &WriteOptions::default(), change).await)
        .map(|_| None)
}

/// What belongs to an owner, asked of the store itself: followers may be behind, and a finalizer that is taken away too early
/// makes garbage of what should live.
async fn scan(api: &Api, owner: &Place, uid: &str) -> Result<Vec<(Place, Value)>, Status> {
    let mut found = Vec::new();
    for kind in api.registry.all().into_iter().filter(|kind| is_followed(kind)) {
        if !owner.namespace.is_empty() && !kind.namespaced {
            continue;
        }
        let all = Place { kind, namespace: owner.namespace.clone(), name: String::new() };
        let mut options = ListOptions { limit: PAGE, ..ListOptions::default() };
        loop {
            let page = api.list(&all, &options).await?;
            let theirs = page.objects.into_iter().filter(|object| belongs(object, uid));
            found.extend(theirs.map(|object| (place_in(&all, &object), object)));
            match page.token {
                None => break,
                Some(token) => options.token = Some(Token::read(&token)?),
            }
        }
    }
    Ok(found)
}

fn place_in(all: &Place, object: &Value) -> Place {
    let meta = Meta::of(object);
    Place {
        kind: all.kind.clone(),
        namespace: meta.namespace().to_owned(),
        name: meta.name().to_owned(),
    }
}

fn belongs(object: &Value, uid: &str) -> bool {
    Meta::of(object).owner_references().iter().any(|owner| owner.uid == uid)
}

async fn orphan(api: &Api, place: &Place, owner: &Value) -> Result<Option<Duration>, Status> {
    let uid = Meta::of(owner).uid();
    for (dependent, object) in scan(api, place, uid).await? {
        forget(api, &dependent, Meta::of(&object).uid(), &[uid.to_owned()]).await?;
    }
    release(api, place, FINALIZER_ORPHAN).await
}

impl Garbage {
    async fn wait_for_dependents(
        &self,
        api: &Api,
        place: &Place,
        owner: &Value,
    ) -> Result<Option<Duration>, Status> {
        let uid = Meta::of(owner).uid();
        let mut blocked = false;
        for key in self.of(uid) {
            let Some(dependent) = key.place(api) else { continue };
            if let Some(object) = if_found(api.get(&dependent).await)? {
                blocked |= keeps(api, &dependent, &object, uid).await?;
            }
        }
        if !blocked {
            for (dependent, object) in scan(api, place, uid).await? {
                blocked |= keeps(api, &dependent, &object, uid).await?;
            }
        }
        if blocked { Ok(Some(AGAIN)) } else { release(api, place, FINALIZER_FOREGROUND).await }
    }
}

/// Deletes a dependent; answers whether it is still there and its owner must wait for it.
async fn keeps(api: &Api, dependent: &Place, object: &Value, owner: &str) -> Result<bool, Status> {
    let owners = Meta::of(object).owner_references();
    let blocks =
        owners.iter().any(|reference| reference.uid == owner && reference.block_owner_deletion);
    collect(api, dependent, object).await?;
    Ok(blocks && if_found(api.get(dependent).await)?.is_some_and(|object| belongs(&object, owner)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_belongs_to_whom_follows_the_objects() {
        let garbage = Garbage::default();
        let kind = crate::registry::pod::kind();
        let pod = |owner: &str| {
            json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": owner}]}})
        };
        let key = Key::new(("", "v1", "pods"), "d", "p");
        assert_eq!(garbage.concerned(&kind, None, Some(&pod("a"))), std::slice::from_ref(&key));
        assert_eq!(garbage.of("a"), std::slice::from_ref(&key));
        garbage.concerned(&kind, Some(&pod("a")), Some(&pod("b")));
        assert_eq!((garbage.of("a"), garbage.of("b")), (vec![], vec![key]));
        garbage.concerned(&kind, Some(&pod("b")), None);
        assert!(garbage.dependents().is_empty());
    }
}
