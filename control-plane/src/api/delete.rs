//! Deleting objects: at once, or as soon as nothing holds them any more.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::options::{DeleteOptions, ListOptions, Propagation};
use super::status::{self, Status};
use super::update::is_released;
use super::{Api, Leaving, Place, TRIES, decode, set_resource_version};
use crate::meta::object::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Meta, MetaMut};
use crate::meta::time::Time;
use crate::registry::Kind;
use crate::store::{Condition, Operation, Outcome, Write};

/// The longest that an object may take to end, in seconds: beyond it a time would leave the calendar.
const LONGEST_GRACE: u64 = 10 * 365 * 24 * 3600;

/// What became of a deletion.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone; this is the `Status` that says so.
    Gone(Value),
    /// It is still there, and goes when nothing holds it any more.
    Pending(Value),
}

impl Deleted {
    /// The answer to the caller.
    pub fn into_value(self) -> Value {
        match self {
            Self::Gone(value) | Self::Pending(value) => value,
        }
    }
}

impl Api {
    /// Deletes an object.
    pub async fn delete(&self, place: &Place, options: &DeleteOptions) -> Result<Deleted, Status> {
        for _ in 0..TRIES {
            let record = self.record(place).await?;
            let old = decode(&place.kind, &record)?;
            meets(place, &old, options)?;
            let object = marked(&place.kind, &old, options, Timestamp::now());
            let gone = is_released(&place.kind, &object);
            let answer = |object: Value| {
                if gone {
                    let uid = Meta::of(&object).uid();
                    Deleted::Gone(status::success(&place.kind, &place.name, uid))
                } else {
                    Deleted::Pending(object)
                }
            };
            let user = options.user.as_deref();
            let leaving = Leaving { place, object: &old, user, evicted: options.evicts };
            let mut operations = self.part(&leaving).await?;
            if options.dry_run || object == old {
                return Ok(answer(object));
            }
            if gone {
                // the last thing that is told of the object is what it was, not what it would have become
                let condition = Condition::At(record.modified);
                let operation =
                    Operation { key: record.key.clone(), condition, write: Write::Delete };
                operations.insert(0, operation);
                if let Outcome::Committed(revision) = self.commit(operations).await? {
                    let mut object = object;
                    set_resource_version(&mut object, revision.0);
                    return Ok(answer(object));
                }
            } else if let Some(object) = self.put(place, user, &record, object, Vec::new()).await? {
                return Ok(answer(object));
            }
            if options.revision.is_some() {
                return Err(Status::modified(&place.kind, &place.name));
            }
        }
        Err(Status::modified(&place.kind, &place.name))
    }

    /// Deletes all objects that are selected; answers with them. Those that others delete meanwhile are passed over.
    pub async fn delete_all(
        &self,
        place: &Place,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Vec<Value>, Status> {
        let found = self.list(place, list).await?;
        for object in &found.objects {
            let meta = Meta::of(object);
            let one = Place {
                namespace: meta.namespace().to_owned(),
                name: meta.name().to_owned(),
                ..place.clone()
            };
            let options = DeleteOptions { uid: Some(meta.uid().to_owned()), ..options.clone() };
            match self.delete(&one, &options).await {
                Err(status) if !matches!(status.reason(), "NotFound" | "Conflict") => {
                    return Err(status);
                }
                _ => {}
            }
        }
        Ok(found.objects)
    }
}

fn meets(place: &Place, object: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let meta = Meta::of(object);
    let conflict = |what: &str, asked: &str, is: &str| {
        let why = format!(
            "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {is}"
        );
        Err(Status::conflict(&place.kind, &place.name, &why))
    };
    match (&options.uid, &options.revision) {
        (Some(uid), _) if uid != meta.uid() => conflict("UID", uid, meta.uid()),
        (_, Some(revision)) if revision != meta.resource_version() => {
            conflict("ResourceVersion", revision, meta.resource_version())
        }
        _ => Ok(()),
    }
}

/// The object as a deletion leaves it when something still holds it.
fn marked(kind: &Kind, old: &Value, options: &DeleteOptions, now: Timestamp) -> Value {
    let mut object = old.clone();
    let grace = kind.strategy.grace(old, options.grace).unwrap_or_default().min(LONGEST_GRACE);
    let mut meta = MetaMut::of(&mut object);
    propagate(&mut meta, options.propagation);
    let (was, had) =
        (Meta::of(old).deletion_timestamp().is_some(), Meta::of(old).deletion_grace_period());
    let seconds = i64::try_from(grace).unwrap_or_default();
    // a second deletion can only shorten the time that is left
    if !was || had.is_some_and(|had| seconds < had) {
        let end = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
        meta.set("deletionTimestamp", Time(end).to_string());
        meta.set("deletionGracePeriodSeconds", seconds);
    }
    if !was && Meta::of(old).generation() > 0 {
        meta.set("generation", Meta::of(old).generation() + 1);
    }
    if &*kind.plural == "namespaces" && kind.group.is_empty() {
        // it goes when it is empty, not after a time
        MetaMut::of(&mut object).remove("deletionGracePeriodSeconds");
        object["status"] = json!({"phase": "Terminating"});
        if let Some(conditions) = old.pointer("/status/conditions") {
            object["status"]["conditions"] = conditions.clone();
        }
    }
    object
}

fn propagate(meta: &mut MetaMut<'_>, policy: Option<Propagation>) {
    let (add, remove): (Option<&str>, &[&str]) = match policy {
        None => (None, &[]),
        Some(Propagation::Orphan) => (Some(FINALIZER_ORPHAN), &[FINALIZER_FOREGROUND]),
        Some(Propagation::Foreground) => (Some(FINALIZER_FOREGROUND), &[FINALIZER_ORPHAN]),
        Some(Propagation::Background) => (None, &[FINALIZER_FOREGROUND, FINALIZER_ORPHAN]),
    };
    for one in remove {
        meta.remove_finalizer(one);
    }
    if let Some(one) = add {
        meta.add_finalizer(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_deletion_shortens_only() {
        let kind = crate::registry::pod::kind();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let first = marked(&kind, &pod, &DeleteOptions::default(), now);
        assert_eq!(first["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        let longer = DeleteOptions { grace: Some(60), ..DeleteOptions::default() };
        assert_eq!(marked(&kind, &first, &longer, now), first);
        let shorter = DeleteOptions { grace: Some(0), ..DeleteOptions::default() };
        assert!(is_released(&kind, &marked(&kind, &first, &shorter, now)));
    }

    #[test]
    fn policies_are_finalizers() {
        let kind = crate::registry::configmap::kind();
        let map = json!({"metadata": {"name": "c", "finalizers": ["orphan"]}});
        let policy = |propagation| DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        let now = Timestamp::UNIX_EPOCH;
        let foreground = marked(&kind, &map, &policy(Propagation::Foreground), now);
        assert_eq!(foreground["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        assert!(is_released(&kind, &marked(&kind, &map, &policy(Propagation::Background), now)));
        assert!(!is_released(&kind, &marked(&kind, &map, &DeleteOptions::default(), now)));
    }
}
