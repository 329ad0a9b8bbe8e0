//! Parts of objects that have paths and shapes of their own.

use serde_json::{Value, json};

use super::options::WriteOptions;
use super::patch::Patch;
use super::status::Status;
use super::type_meta::{check_name, of_kind};
use super::update::Part;
use super::{Api, Place, carried_revision};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::object::{Meta, MetaMut};
use crate::meta::time::Time;
use crate::registry::Kind;
use crate::registry::column::{items, number, selector, text};
use crate::registry::defaults::child;

impl Api {
    /// `autoscaling/v1 Scale` of an object.
    pub async fn scale(&self, place: &Place) -> Result<Value, Status> {
        scale_of(&place.kind, &self.get(place).await?)
    }

    /// Sets how many replicas an object is to have.
    pub async fn set_scale(
        &self,
        place: &Place,
        mut body: Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        of_kind(&mut body, "autoscaling/v1", "Scale")?;
        check_name(place, &body)?;
        let expected = carried_revision(&body)?;
        let object = self
            .modify(place, Part::Scale, expected, options, |old| scaled(&place.kind, old, &body))
            .await?;
        scale_of(&place.kind, &object)
    }

    /// Patches the scale of an object.
    pub async fn patch_scale(
        &self,
        place: &Place,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let kind = Kind::new("autoscaling", "v1", "Scale", "scales");
        let change = |old: &Value| {
            let patched = patch.apply(&kind, scale_of(&place.kind, old)?)?;
            scaled(&place.kind, old, &patched)
        };
        scale_of(&place.kind, &self.modify(place, Part::Scale, None, options, change).await?)
    }

    /// Puts a pod on a node.
    pub async fn bind(
        &self,
        place: &Place,
        mut body: Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        of_kind(&mut body, "v1", "Binding")?;
        let node = text(&body, "/target/name").to_owned();
        if node.is_empty() {
            return Err(Status::invalid(
                &place.kind,
                &place.name,
                &[FieldError::new(FieldPath::of_pointer("/target/name"), Mistake::Required, "")],
            ));
        }
        if !matches!(text(&body, "/target/kind"), "" | "Node") {
            let at = FieldPath::of_pointer("/target/kind");
            let error = FieldError::invalid(at, &body["target"]["kind"], "must be Node");
            return Err(Status::invalid(&place.kind, &place.name, &[error]));
        }
        self.modify(place, Part::Binding, None, options, |pod| bound(place, pod, &body, &node))
            .await?;
        Ok(
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        )
    }
}

fn scale_of(kind: &Kind, object: &Value) -> Result<Value, Status> {
    let custom = kind.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    let (replicas, status) = custom
        .map_or(("/spec/replicas", "/status/replicas"), |scale| (&scale.replicas, &scale.status));
    if let Some(scale) = custom.filter(|_| object.pointer(replicas).is_none()) {
        let why = format!("the spec replicas field {:?} does not exist", scale.replicas_path);
        return Err(Status::internal(why));
    }
    let meta = Meta::of(object);
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {},
        "spec": {"replicas": number(object, replicas)},
        "status": {"replicas": number(object, status)},
    });
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        MetaMut::of(&mut scale).set(field, meta.get(field).clone());
    }
    let selector = match custom {
        Some(scale) => {
            scale.selector.as_ref().map_or("", |pointer| text(object, pointer)).to_owned()
        }
        None => selector(object.pointer("/spec/selector")),
    };
    if !matches!(selector.as_str(), "<none>" | "") {
        scale["status"]["selector"] = json!(selector);
    }
    Ok(scale)
}

/// An object with the replicas of a scale.
fn scaled(of: &Kind, old: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => 0,
        Some(value) => {
            let count = value.as_i64().filter(|count| (0..=i64::from(i32::MAX)).contains(count));
            count.ok_or_else(|| {
                let kind = Kind::new("autoscaling", "v1", "Scale", "scales");
                let why = "must be greater than or equal to 0";
                let error =
                    FieldError::invalid(FieldPath::of_pointer("/spec/replicas"), value, why);
                Status::invalid(&kind, Meta::of(old).name(), &[error])
            })?
        }
    };
    let mut new = old.clone();
    // the version that is expected is the one that the scale carries, if it was changed at all
    let said = scale.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
    MetaMut::of(&mut new).set("resourceVersion", said);
    let custom = of.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    let pointer = custom.map_or("/spec/replicas", |scale| &scale.replicas);
    let (parents, field) = pointer.rsplit_once('/').unwrap_or_default();
    let mut parents = parents.split('/').filter(|part| !part.is_empty());
    if let Some(parent) = parents.try_fold(&mut new, |at, part| child(at, part)) {
        parent[field] = json!(replicas);
    }
    Ok(new)
}

fn bound(place: &Place, pod: &Value, binding: &Value, node: &str) -> Result<Value, Status> {
    let conflict = |why: String| Err(Status::conflict(&place.kind, &place.name, &why));
    let (meta, now) = (Meta::of(pod), text(pod, "/spec/nodeName"));
    if meta.deletion_timestamp().is_some() {
        return conflict(format!(
            "pod {} is being deleted, cannot be assigned to a host",
            place.name
        ));
    }
    if !now.is_empty() {
        return conflict(format!("pod {} is already assigned to node {now:?}", place.name));
    }
    let uid = Meta::of(binding).uid();
    if !uid.is_empty() && uid != meta.uid() {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta.uid()
        ));
    }
    let mut new = pod.clone();
    MetaMut::of(&mut new).remove("resourceVersion");
    let annotations = Meta::of(binding).get("annotations").as_object();
    for (key, value) in annotations.into_iter().flatten() {
        MetaMut::of(&mut new).set_annotation(key, value.as_str());
    }
    if let Some(spec) = child(&mut new, "spec") {
        spec["nodeName"] = json!(node);
    }
    let mut conditions: Vec<Value> = items(pod, "/status/conditions").to_vec();
    conditions.retain(|one| text(one, "/type") != "PodScheduled");
    conditions.push(json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": Time::now().to_string()}));
    if let Some(status) = child(&mut new, "status") {
        status["conditions"] = json!(conditions);
    }
    Ok(new)
}
