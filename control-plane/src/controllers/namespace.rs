//! Namespaces that are deleted are emptied; when nothing is left in them they go.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Controller, Key, NAMESPACES, if_found, place};
use crate::api::options::{DeleteOptions, ListOptions, Propagation, WriteOptions};
use crate::api::status::Status;
use crate::api::update::Part;
use crate::api::{Api, Place};
use crate::meta::object::Meta;
use crate::meta::time::Time;
use crate::registry::Kind;
use crate::registry::column::{items, text};

/// The finalizer that this controller takes away.
const FINALIZER: &str = "kubernetes";
/// How soon to look again at objects that something else holds: a finalizer, or a pod's time to end.
const AGAIN: Duration = Duration::from_millis(500);

/// Empties namespaces.
#[derive(Debug)]
pub struct Emptying;

#[async_trait]
impl Controller for Emptying {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn follows(&self, kind: &Kind) -> bool {
        kind.group.is_empty() && kind.plural == "namespaces"
    }

    fn concerned(&self, kind: &Kind, _: Option<&Value>, after: Option<&Value>) -> Vec<Key> {
        let ending = after.filter(|namespace| Meta::of(namespace).deletion_timestamp().is_some());
        ending.map(|namespace| Key::of(kind, namespace)).into_iter().collect()
    }

    async fn reconcile(&self, api: &Api, key: &Key) -> Result<Option<Duration>, Status> {
        let namespace = place(api, NAMESPACES, "", &key.name)?;
        let Some(object) = if_found(api.get(&namespace).await)? else { return Ok(None) };
        let held = items(&object, "/spec/finalizers").iter().any(|one| one == FINALIZER);
        if Meta::of(&object).deletion_timestamp().is_none() || !held {
            return Ok(None);
        }
        let left = empty(api, &key.name).await;
        tell(api, &namespace, &object, &left).await?;
        if left.is_nothing() {
            let change = |old: &Value| Ok(released(old));
            return if_found(
                api.modify(&namespace, Part::Finalize, None, &WriteOptions::default(), change)
                    .await,
            )
            .map(|_| None);
        }
        Ok(Some(AGAIN))
    }
}

fn released(namespace: &Value) -> Value {
    let mut new = namespace.clone();
    if let Some(list) = new.pointer_mut("/spec/finalizers").and_then(Value::as_array_mut) {
        list.retain(|one| one != FINALIZER);
    }
    new
}

/// What is still in a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    /// Kinds, and how many objects of them.
    objects: Vec<(String, usize)>,
    /// Finalizers, and how many objects they hold.
    finalizers: std::collections::BTreeMap<String, usize>,
    /// What went wrong.
    errors: Vec<String>,
}

impl Left {
    fn is_nothing(&self) -> bool {
        self.objects.is_empty() && self.errors.is_empty()
    }
}

/// Deletes all that is in a namespace. A kind that makes trouble does not keep the others.
async fn empty(api: &Api, namespace: &str) -> Left {
    let mut left = Left::default();
    for kind in api.registry.all() {
        if kind.namespaced && kind.allows("deletecollection") {
            let place = Place { kind, namespace: namespace.to_owned(), name: String::new() };
            if let Err(status) = empty_of_kind(api, &place, &mut left).await {
                left.errors.push(format!("{}: {}", place.kind.resource(), status.message()));
            }
        }
    }
    left
}

async fn empty_of_kind(api: &Api, place: &Place, left: &mut Left) -> Result<(), Status> {
    let all = ListOptions::default();
    if api.list(place, &ListOptions { limit: 1, ..all.clone() }).await?.objects.is_empty() {
        return Ok(());
    }
    let options =
        DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    api.delete_all(place, &all, &options).await?;
    let objects = api.list(place, &all).await?.objects;
    if !objects.is_empty() {
        // with the dot that a resource of the core group has in these messages, too
        let resource = format!("{}.{}", place.kind.plural, place.kind.group);
        left.objects.push((resource, objects.len()));
    }
    for finalizer in objects.iter().flat_map(|object| Meta::of(object).finalizers()) {
        *left.finalizers.entry(finalizer.to_owned()).or_default() += 1;
    }
    Ok(())
}

/// Says in the namespace's status what keeps it.
async fn tell(api: &Api, place: &Place, namespace: &Value, left: &Left) -> Result<(), Status> {
    let conditions =
        conditions(items(namespace, "/status/conditions"), left, &Time::now().to_string());
    if conditions == items(namespace, "/status/conditions") {
        return Ok(());
    }
    let change = |old: &Value| {
        let mut new = old.clone();
        new["status"] = json!({"phase": "Terminating", "conditions": conditions});
        Ok(new)
    };
    if_found(api.modify(place, Part::Status, None, &WriteOptions::default(), change).await)
        .map(|_| ())
}

/// The conditions of an ending namespace (`k8s.io/api/core/v1`, `NamespaceConditionType`). A time moves only with its condition.
fn conditions(before: &[Value], left: &Left, now: &str) -> Vec<Value> {
    let objects: Vec<String> = left
        .objects
        .iter()
        .map(|(kind, count)| format!("{kind} has {count} resource instances"))
        .collect();
    let finalizers: Vec<String> = left
        .finalizers
        .iter()
        .map(|(name, count)| format!("{name} in {count} resource instances"))
        .collect();
    let of = |kind: &str, bad: bool, reasons: [&str; 2], messages: [String; 2]| {
        let [reason, message] = if bad {
            [reasons[0].to_owned(), messages[0].clone()]
        } else {
            [reasons[1].to_owned(), messages[1].clone()]
        };
        let status = if bad { "True" } else { "False" };
        let same =
            before.iter().find(|one| text(one, "/type") == kind && text(one, "/status") == status);
        let since = same.map_or(now, |one| text(one, "/lastTransitionTime"));
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
    };
    vec![
        // the kinds are known without asking another server
        of(
            "NamespaceDeletionDiscoveryFailure",
            false,
            ["DiscoveryFailed", "ResourcesDiscovered"],
            [String::new(), "All resources successfully discovered".to_owned()],
        ),
        of(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            ["GroupVersionParsingFailed", "ParsedGroupVersions"],
            [String::new(), "All legacy kube types successfully parsed".to_owned()],
        ),
        of(
            "NamespaceDeletionContentFailure",
            !left.errors.is_empty(),
            ["ContentDeletionFailed", "ContentDeleted"],
            [
                format!(
                    "Failed to delete all resource types, {} remaining: {}",
                    left.errors.len(),
                    left.errors.join("; ")
                ),
                "All content successfully deleted, may be waiting on finalization".to_owned(),
            ],
        ),
        of(
            "NamespaceContentRemaining",
            !left.objects.is_empty(),
            ["SomeResourcesRemain", "ContentRemoved"],
            [
                format!("Some resources are remaining: {}", objects.join(", ")),
                "All content successfully removed".to_owned(),
            ],
        ),
        of(
            "NamespaceFinalizersRemaining",
            !left.finalizers.is_empty(),
            ["SomeFinalizersRemain", "ContentHasNoFinalizers"],
            [
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    finalizers.join(", ")
                ),
                "All content-preserving finalizers finished".to_owned(),
            ],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_name_what_is_left_and_keep_their_times() {
        let mut left = Left { objects: vec![("pods.".to_owned(), 2)], ..Left::default() };
        left.finalizers.insert("example.com/hold".to_owned(), 1);
        let first = conditions(&[], &left, "2026-01-01T00:00:00Z");
        assert_eq!(
            first[3]["message"],
            "Some resources are remaining: pods. has 2 resource instances"
        );
        assert_eq!(
            first[4]["message"],
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
        );
        let second = conditions(&first, &left, "2026-01-01T00:00:05Z");
        assert_eq!(first, second);
        let done = conditions(&first, &Left::default(), "2026-01-01T00:00:09Z");
        assert_eq!(done[..3], first[..3]);
        assert_eq!(
            (&done[3]["status"], &done[3]["lastTransitionTime"]),
            (&json!("False"), &json!("2026-01-01T00:00:09Z"))
        );
    }

    #[test]
    fn other_finalizers_stay() {
        let namespace = json!({"spec": {"finalizers": ["kubernetes", "example.com/mine"]}});
        assert_eq!(released(&namespace)["spec"]["finalizers"], json!(["example.com/mine"]));
    }
}
