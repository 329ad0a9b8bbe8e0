//! Custom kinds: what `CustomResourceDefinition`s say is served.
//!
//! Every server runs this one, because every server answers for the kinds. What it writes follows from what is stored, so that
//! servers who write at the same time write the same.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Controller, Key, if_found, place};
use crate::api::options::{DeleteOptions, ListOptions, Propagation, WriteOptions};
use crate::api::status::Status;
use crate::api::update::Part;
use crate::api::{Api, Place};
use crate::meta::object::{Meta, MetaMut};
use crate::meta::time::Time;
use crate::registry::Kind;
use crate::registry::column::{items, name, text};
use crate::registry::custom::{Definition, stored};
use crate::registry::customresourcedefinition::{FINALIZER, is};

/// The kind of definitions.
const DEFINITIONS: (&str, &str, &str) = ("apiextensions.k8s.io", "v1", "customresourcedefinitions");
/// How soon to look again at objects that a finalizer holds.
const AGAIN: Duration = Duration::from_millis(500);
/// How soon to look again whether names that others had are free.
const NAMES_AGAIN: Duration = Duration::from_secs(2);

/// Serves custom kinds.
#[derive(Debug)]
pub struct CustomResources;

#[async_trait]
impl Controller for CustomResources {
    fn name(&self) -> &'static str {
        "customresources"
    }

    fn follows(&self, kind: &Kind) -> bool {
        (&*kind.group, &*kind.plural) == (DEFINITIONS.0, DEFINITIONS.2)
    }

    fn concerned(&self, kind: &Kind, before: Option<&Value>, after: Option<&Value>) -> Vec<Key> {
        after.or(before).map(|definition| Key::of(kind, definition)).into_iter().collect()
    }

    async fn reconcile(&self, api: &Api, key: &Key) -> Result<Option<Duration>, Status> {
        let place = place(api, DEFINITIONS, "", &key.name)?;
        let Some(definition) = if_found(api.get(&place).await)? else {
            serve(api, &key.name, Vec::new()).await;
            return Ok(None);
        };
        if Meta::of(&definition).deletion_timestamp().is_some() {
            return finish(api, &place, &definition).await;
        }
        let all = api.list(&every(&place), &ListOptions::default()).await?.objects;
        let status = accepted(&definition, &Taken::by_others(api, &definition, &all), &now());
        let told = json!({"status": status});
        if is(&told, "Established") {
            // who is told that the kind is established finds it
            publish(api, &definition, &status["acceptedNames"], false).await;
        }
        tell(api, &place, &definition, status).await?;
        Ok((!is(&told, "NamesAccepted")).then_some(NAMES_AGAIN))
    }
}

/// Serves the kinds of all definitions that are established, before the first request.
pub async fn serve_established(api: &Api) -> Result<(), Status> {
    let place = place(api, DEFINITIONS, "", "")?;
    for definition in api.list(&place, &ListOptions::default()).await?.objects {
        if is(&definition, "Established") {
            let ending = Meta::of(&definition).deletion_timestamp().is_some();
            publish(api, &definition, &definition["status"]["acceptedNames"], ending).await;
        }
    }
    Ok(())
}

fn now() -> String {
    Time::now().to_string()
}

fn every(place: &Place) -> Place {
    Place { name: String::new(), ..place.clone() }
}

/// Serves the kinds of a definition, unless they are already.
async fn publish(api: &Api, object: &Value, names: &Value, ending: bool) {
    let definition = Definition { object, names, ending };
    let stamp = definition.stamp();
    let known = served(api, name(object));
    let current = |kind: &Kind| kind.custom.as_ref().is_some_and(|custom| custom.stamp == stamp);
    if !known.is_empty() && known.iter().all(|kind| current(kind)) {
        return;
    }
    let (kinds, wrong) = definition.kinds();
    for error in wrong {
        tracing::error!(definition = name(object), %error, "a version is not served: its schema cannot be read");
    }
    serve(api, name(object), kinds).await;
}

/// The kinds of a definition that are served.
fn served(api: &Api, definition: &str) -> Vec<std::sync::Arc<Kind>> {
    let of =
        |kind: &Kind| kind.custom.as_ref().is_some_and(|custom| custom.definition == definition);
    api.registry.all().into_iter().filter(|kind| of(kind)).collect()
}

/// Serves these kinds of a definition, and no others.
async fn serve(api: &Api, definition: &str, kinds: Vec<Kind>) {
    let known = served(api, definition);
    for kind in &known {
        if !kinds.iter().any(|new| new.version == kind.version) {
            api.registry.remove(&kind.group, &kind.version, &kind.plural);
        }
    }
    for kind in kinds {
        api.registry.add(kind);
    }
    for kind in known {
        api.hub.forget(&kind).await;
    }
}

/// Names in a group that others have.
#[derive(Debug, Default)]
struct Taken {
    /// Of resources: plural, singular and short names.
    resources: BTreeSet<String>,
    /// Of kinds and of their lists.
    kinds: BTreeSet<String>,
}

impl Taken {
    fn by_others(api: &Api, definition: &Value, all: &[Value]) -> Self {
        let mut taken = Self::default();
        let group = text(definition, "/spec/group");
        let others = all
            .iter()
            .filter(|other| name(other) != name(definition) && text(other, "/spec/group") == group);
        others.for_each(|other| taken.add(&other["status"]["acceptedNames"]));
        let built_in = api.registry.all();
        for kind in built_in.iter().filter(|kind| kind.custom.is_none() && kind.group == group) {
            taken.add(&json!({
                "plural": kind.plural, "singular": kind.singular, "shortNames": kind.short_names,
                "kind": kind.kind, "listKind": kind.list_kind(),
            }));
        }
        taken
    }

    fn add(&mut self, names: &Value) {
        let words = |field| items(names, field).iter().filter_map(Value::as_str);
        let own = |field| Some(text(names, field)).filter(|name| !name.is_empty());
        let resources = ["/plural", "/singular"].into_iter().filter_map(own);
        self.resources.extend(resources.chain(words("/shortNames")).map(str::to_owned));
        self.kinds.extend(["/kind", "/listKind"].into_iter().filter_map(own).map(str::to_owned));
    }
}

/// The status of a definition (`k8s.io/apiextensions-apiserver/pkg/controller/status`): names that nobody else has are accepted, and
/// once all are the kind is established for good.
fn accepted(definition: &Value, taken: &Taken, now: &str) -> Value {
    let wanted = &definition["spec"]["names"];
    let mut status = definition["status"].clone();
    let mut names = status["acceptedNames"].clone();
    let mut conflict = None;
    for (field, reason, taken) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
        ("categories", "", &BTreeSet::new()),
    ] {
        let value = &wanted[field];
        let words = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let used = words.iter().filter_map(Value::as_str).find(|word| taken.contains(*word));
        match (used, value) {
            (Some(word), _) => conflict = Some((reason, format!("{word:?} is already in use"))),
            (None, Value::Null) => drop(names.as_object_mut().map(|names| names.remove(field))),
            (None, value) => names[field] = value.clone(),
        }
    }
    status["acceptedNames"] = names;
    let free = conflict.is_none();
    let (reason, message) =
        conflict.unwrap_or_else(|| ("NoConflicts", "no conflicts found".to_owned()));
    condition(&mut status, "NamesAccepted", free, (reason, &message), now);
    if free && !is(definition, "Established") {
        let why = ("InitialNamesAccepted", "the initial names have been accepted");
        condition(&mut status, "Established", true, why, now);
    } else if !is(definition, "Established") {
        condition(
            &mut status,
            "Established",
            false,
            ("NotAccepted", "not all names are accepted"),
            now,
        );
    }
    status
}

/// Sets a condition. Its time moves only when it becomes true or false.
fn condition(status: &mut Value, kind: &str, holds: bool, why: (&str, &str), now: &str) {
    let state = if holds { "True" } else { "False" };
    let mut all = items(status, "/conditions").to_vec();
    let old = all.iter().position(|one| one["type"] == kind);
    let since = old.map(|at| &all[at]).filter(|old| old["status"] == state);
    let since = since.map_or_else(|| json!(now), |old| old["lastTransitionTime"].clone());
    let new = json!({
        "type": kind, "status": state, "reason": why.0, "message": why.1, "lastTransitionTime": since,
    });
    match old {
        Some(at) => all[at] = new,
        None => all.push(new),
    }
    status["conditions"] = all.into();
}

/// Writes the status, if it is another and the definition is still the one that was looked at.
async fn tell(api: &Api, place: &Place, definition: &Value, status: Value) -> Result<(), Status> {
    if status == definition["status"] {
        return Ok(());
    }
    let mut new = definition.clone();
    new["status"] = status;
    let change = |_: &Value| Ok(new.clone());
    if_found(api.modify(place, Part::Status, None, &WriteOptions::default(), change).await)
        .map(|_| ())
}

/// Deletes the objects of a definition that is about to go, and lets it go when there are none.
async fn finish(api: &Api, place: &Place, definition: &Value) -> Result<Option<Duration>, Status> {
    if !Meta::of(definition).finalizers().contains(&FINALIZER) {
        return Ok(None);
    }
    // names that were never accepted have no objects, and may be another kind's
    if is(definition, "Established") {
        let names = &definition["status"]["acceptedNames"];
        publish(api, definition, names, true).await;
        let mut status = definition["status"].clone();
        let why = ("InstanceDeletionInProgress", "CustomResource deletion is in progress");
        condition(&mut status, "Terminating", true, why, &now());
        if status != definition["status"] {
            // the change is told, and leads here again: by then nothing new is made
            tell(api, place, definition, status).await?;
            return Ok(Some(AGAIN));
        }
        let kind = std::sync::Arc::new(stored(definition, names));
        let objects = Place { kind, namespace: String::new(), name: String::new() };
        let everything = ListOptions::default();
        let propagation = Some(Propagation::Background);
        let options = DeleteOptions { propagation, ..DeleteOptions::default() };
        api.delete_all(&objects, &everything, &options).await?;
        if !api.list(&objects, &everything).await?.objects.is_empty() {
            return Ok(Some(AGAIN));
        }
    }
    let change = |old: &Value| {
        let mut new = old.clone();
        MetaMut::of(&mut new).remove_finalizer(FINALIZER);
        Ok(new)
    };
    if_found(api.modify(place, Part::Main, None, &WriteOptions::default(), change).await)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Value {
        json!({
            "metadata": {"name": "foos.a.b"},
            "spec": {"group": "a.b", "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList", "shortNames": ["f"]}},
            "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": ["v1"]},
        })
    }

    fn reason(status: &Value, kind: &str) -> (String, String) {
        let all = items(status, "/conditions");
        let one = all.iter().find(|one| one["type"] == kind).unwrap();
        (text(one, "/status").to_owned(), text(one, "/reason").to_owned())
    }

    #[test]
    fn free_names_are_accepted_and_looking_again_changes_nothing() {
        let mut object = definition();
        let status = accepted(&object, &Taken::default(), "t1");
        assert_eq!(status["acceptedNames"], object["spec"]["names"]);
        assert_eq!(reason(&status, "Established"), ("True".into(), "InitialNamesAccepted".into()));
        object["status"] = status.clone();
        assert_eq!(accepted(&object, &Taken::default(), "t2"), status);
    }

    #[tokio::test]
    async fn who_has_an_old_kind_does_not_end_what_others_watch() {
        use crate::store::Revision;
        let store = std::sync::Arc::new(crate::store::memory::MemoryStore::default());
        let api = Api::new(store, std::sync::Arc::default());
        let mut object = definition();
        object["spec"]["versions"] = json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]);
        let names = object["spec"]["names"].clone();
        let kind =
            || Definition { object: &object, names: &names, ending: false }.kinds().0.remove(0);
        let (old, new) = (kind(), kind());
        let mut watched = api.hub.changes(&new, Revision(0)).await.expect("a feed");
        let refused = api.hub.changes(&old, Revision(0)).await.expect_err("it is outdated");
        assert_eq!(refused.code(), 503);
        let place =
            Place { kind: std::sync::Arc::new(new), namespace: "d".into(), name: String::new() };
        api.create(&place, json!({"metadata": {"name": "a"}}), &WriteOptions::default())
            .await
            .expect("an object");
        assert_eq!(watched.next().await.expect("a change").len(), 1);
    }

    #[test]
    fn names_of_others_are_not_accepted_but_what_was_established_stays() {
        let mut object = definition();
        let mut taken = Taken::default();
        taken.add(
            &json!({"plural": "bars", "shortNames": ["f"], "kind": "Bar", "listKind": "BarList"}),
        );
        let status = accepted(&object, &taken, "t1");
        assert_eq!(reason(&status, "NamesAccepted"), ("False".into(), "ShortNamesConflict".into()));
        assert_eq!(reason(&status, "Established"), ("False".into(), "NotAccepted".into()));
        assert_eq!(status["acceptedNames"]["plural"], "foos");
        assert_eq!(status["acceptedNames"].get("shortNames"), None);

        object["status"] = accepted(&object, &Taken::default(), "t1");
        let later = accepted(&object, &taken, "t2");
        assert!(is(&json!({"status": later}), "Established"));
        assert_eq!(later["acceptedNames"]["shortNames"], json!(["f"]));
    }
}
