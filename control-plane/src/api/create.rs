//! Making objects.

use serde_json::{Value, json};
use uuid::Uuid;

use super::options::WriteOptions;
use super::status::Status;
use super::update::Part;
use super::{
    Admitted, Api, Place, TRIES, adopt, carried_revision, encode, owners, set_resource_version,
};
use crate::meta::name;
use crate::meta::object::{self, Meta, MetaMut, Scope};
use crate::meta::time::Time;
use crate::registry::{Kind, Subresource};
use crate::store::{Condition, Operation, Outcome, Write};

/// What the server sets, whatever the caller sends.
const SERVER_OWNED: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
];

impl Api {
    /// Makes an object; answers with what was made.
    pub async fn create(
        &self,
        place: &Place,
        mut body: Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        // apply comes here as well
        if !place.kind.allows("create") {
            return Err(Status::method_not_allowed(&place.kind, "create"));
        }
        adopt(place, &mut body)?;
        for _ in 0..TRIES {
            let mut object = body.clone();
            begin(&place.kind, &mut object);
            owners::note(&place.kind, Part::Main, None, &mut object, options);
            let place = Place { name: Meta::of(&object).name().to_owned(), ..place.clone() };
            // the namespace is looked at first: its absence is the mistake that a caller wants to hear of
            let namespace = self.namespace_holds(&place).await?;
            let mut write = Admitted {
                place: &place,
                old: None,
                object: &mut object,
                part: Part::Main,
                user: options.user.as_deref(),
                dry_run: options.dry_run,
                operations: Vec::new(),
            };
            self.admit(&mut write).await?;
            let mut operations = write.operations;
            validate(&place.kind, &object)?;
            options.warnings.add(place.kind.strategy.warnings(&object, None));
            place.kind.strategy.complete(&mut object);
            let key = place.key();
            if options.dry_run {
                return match self.store.get(&key).await? {
                    Some(_) => Err(Status::already_exists(&place.kind, &place.name)),
                    None => Ok(object),
                };
            }
            // the store of Kubernetes says so, whose mistakes have no code of their own
            if let Ok(Some(_)) = carried_revision(&body) {
                let why = "resourceVersion should not be set on objects to be created";
                return Err(Status::new(500, "", why));
            }
            operations.insert(
                0,
                Operation {
                    key,
                    condition: Condition::Absent,
                    write: Write::Put(encode(&place.kind, &object)),
                },
            );
            operations.extend(namespace);
            match self.commit(operations).await? {
                Outcome::Committed(revision) => {
                    set_resource_version(&mut object, revision.0);
                    return Ok(object);
                }
                Outcome::Refused(0, _) if Meta::of(&body).generate_name().is_empty() => {
                    return Err(Status::already_exists(&place.kind, &place.name));
                }
                Outcome::Refused(..) => {}
            }
        }
        Err(Status::timeout(format!(
            "no {} could be made: others were always faster; try again",
            place.kind.kind
        )))
    }
}

/// Gives a new object what every one has, and its kind's defaults.
fn begin(kind: &Kind, object: &mut Value) {
    let generate = Meta::of(object).generate_name().to_owned();
    let mut meta = MetaMut::of(object);
    for field in SERVER_OWNED {
        meta.remove(field);
    }
    meta.remove("resourceVersion");
    meta.set("uid", Uuid::new_v4().to_string());
    meta.set("creationTimestamp", Time::now().to_string());
    if kind.generation {
        meta.set("generation", 1);
    }
    if Meta::of(object).name().is_empty() && !generate.is_empty() {
        MetaMut::of(object).set("name", name::generated(&generate));
    }
    kind.strategy.drop_disabled(object, None);
    kind.strategy.prepare_create(object);
    kind.strategy.default(object);
    if kind.subresources.contains(&Subresource::Status) {
        match kind.strategy.first_status(object) {
            Some(status) => object["status"] = status,
            None if kind.custom.is_some() => {
                drop(object.as_object_mut().map(|map| map.remove("status")));
            }
            None => object["status"] = json!({}),
        }
    }
}

fn validate(kind: &Kind, object: &Value) -> Result<(), Status> {
    let scope = if kind.namespaced { Scope::Namespaced } else { Scope::Cluster };
    let mut errors = object::validate(object, scope, kind.names);
    if !kind.names_finalizers_freely() {
        errors.extend(object::validate_finalizer_names(object));
    }
    errors.extend(kind.strategy.validate_create(object));
    errors.extend(kind.strategy.validate(object));
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(kind, Meta::of(object).name(), &errors))
    }
}
