//! Fields of features that are off by default in Kubernetes 1.32: whoever sets them loses them without a word, as there. What an object has
//! already stays.

use serde_json::{Map, Value};

/// Fields of the spec, with the place in it.
const OF_POD: [&str; 5] = [
    "/hostUsers",
    "/resourceClaims",
    "/resources",
    "/securityContext/seLinuxChangePolicy",
    "/securityContext/supplementalGroupsPolicy",
];
/// And of each container.
const OF_CONTAINER: [&str; 2] = ["/resizePolicy", "/resources/claims"];
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Takes out of a spec what this server does not do, unless the old one has it.
fn drop_disabled(spec: &mut Value, old: Option<&Value>) {
    let none = Value::Null;
    let old = old.unwrap_or(&none);
    for pointer in OF_POD {
        if !is_there(old, pointer) {
            remove(spec, pointer);
        }
    }
    for pointer in OF_CONTAINER {
        if !containers(old).any(|container| is_there(container, pointer)) {
            containers_mut(spec).for_each(|container| remove(container, pointer));
        }
    }
    drop_mount_types(spec, old);
    drop_bundles(spec, old);
    drop_images(spec, old);
}

/// The same with the spec at a place in an object.
pub fn drop_disabled_of(object: &mut Value, old: Option<&Value>, pointer: &str) {
    if let Some(spec) = object.pointer_mut(pointer) {
        drop_disabled(spec, old.and_then(|old| old.pointer(pointer)));
    }
}

fn is_there(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).is_some_and(|found| !found.is_null())
}

fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, field)) = pointer.rsplit_once('/') else { return };
    if let Some(map) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
        map.remove(field);
    }
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    CONTAINERS.into_iter().flat_map(|list| items(spec, list))
}

fn containers_mut(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    let fields = spec.as_object_mut().into_iter().flat_map(Map::iter_mut);
    fields
        .filter(|(name, _)| CONTAINERS.contains(&name.as_str()))
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
}

/// `/proc` is mounted as runtimes do by default.
fn drop_mount_types(spec: &mut Value, old: &Value) {
    const PLACE: &str = "/securityContext/procMount";
    let other = |container: &Value| {
        container.pointer(PLACE).and_then(Value::as_str).is_some_and(|kind| kind != "Default")
    };
    if !containers(old).any(other) {
        let set = containers_mut(spec).filter_map(|container| container.pointer_mut(PLACE));
        set.filter(|kind| !kind.is_null()).for_each(|kind| *kind = "Default".into());
    }
}

fn drop_bundles(spec: &mut Value, old: &Value) {
    const BUNDLE: &str = "/clusterTrustBundle";
    let mut sources = items(old, "volumes")
        .filter_map(|volume| volume.get("projected"))
        .flat_map(|projected| items(projected, "sources"));
    if sources.any(|source| is_there(source, BUNDLE)) {
        return;
    }
    let volumes = spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten();
    let lists = volumes.filter_map(|volume| volume.pointer_mut("/projected/sources"));
    lists.filter_map(Value::as_array_mut).flatten().for_each(|source| remove(source, BUNDLE));
}

/// Volumes of images go as a whole, and with them what mounts them.
fn drop_images(spec: &mut Value, old: &Value) {
    let is_image = |volume: &Value| is_there(volume, "/image");
    if items(old, "volumes").any(is_image) || !items(spec, "volumes").any(is_image) {
        return;
    }
    let gone: Vec<Value> = items(spec, "volumes")
        .filter(|volume| is_image(volume))
        .map(|volume| volume["name"].clone())
        .collect();
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.retain(|volume| !is_image(volume));
    }
    for container in containers_mut(spec) {
        if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
            mounts.retain(|mount| !gone.contains(&mount["name"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_of_features_that_are_off_are_dropped() {
        let spec = json!({
            "hostUsers": false, "resourceClaims": [{"name": "c"}], "resources": {}, "hostNetwork": true,
            "securityContext": {"supplementalGroupsPolicy": "Strict", "seLinuxChangePolicy": "Recursive", "fsGroup": 1},
            "volumes": [{"name": "i", "image": {}}, {"name": "p", "projected": {"sources": [{"clusterTrustBundle": {"path": "a"}}]}}],
            "containers": [{
                "name": "a", "resizePolicy": [{}], "resources": {"claims": [{"name": "c"}], "limits": {}},
                "securityContext": {"procMount": "Unmasked"}, "volumeMounts": [{"name": "i"}, {"name": "p"}],
            }],
        });
        let mut dropped = spec.clone();
        drop_disabled(&mut dropped, None);
        assert_eq!(
            dropped,
            json!({
                "hostNetwork": true, "securityContext": {"fsGroup": 1},
                "volumes": [{"name": "p", "projected": {"sources": [{}]}}],
                "containers": [{"name": "a", "resources": {"limits": {}}, "securityContext": {"procMount": "Default"},
                    "volumeMounts": [{"name": "p"}]}],
            })
        );
        let mut kept = spec.clone();
        drop_disabled(&mut kept, Some(&spec));
        assert_eq!(kept, spec, "what is there stays");
        let mut odd = json!({"containers": "x", "volumes": [1], "securityContext": []});
        drop_disabled(&mut odd, Some(&json!([])));
    }
}
