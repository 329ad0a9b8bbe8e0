//! What a pod's fields hold when their author did not say.

use serde_json::{Map, Value, json};

use crate::registry::defaults::child;

/// Where a map has no such field, it has this.
fn put(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if map.get(field).is_none_or(Value::is_null) {
        map.insert(field.to_owned(), value.into());
    }
}

/// An empty text counts as absent.
fn put_text(map: &mut Map<String, Value>, field: &str, value: &str) {
    if map.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
        map.insert(field.to_owned(), value.into());
    }
}

fn map_in<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(field).and_then(Value::as_object_mut)
}

fn maps_in<'a>(
    map: &'a mut Map<String, Value>,
    field: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> + use<'a> {
    map.get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// Defaults of a pod's own spec.
pub fn set_pod_defaults(spec: &mut Value) {
    let Some(spec) = spec.as_object_mut() else { return };
    put(spec, "enableServiceLinks", true);
    set_shared_defaults(spec);
    let on_host = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or_default();
    for field in ["containers", "initContainers"] {
        for container in maps_in(spec, field) {
            requests_follow_limits(container);
            if on_host {
                host_ports_follow(container);
            }
        }
    }
}

/// Defaults of a workload's template, whose spec is made when it is absent.
pub fn default_template(template: Option<&mut Value>) {
    let spec = template.and_then(|template| child(template, "spec"));
    if let Some(spec) = spec.and_then(Value::as_object_mut) {
        set_shared_defaults(spec);
    }
}

fn set_shared_defaults(spec: &mut Map<String, Value>) {
    put_text(spec, "dnsPolicy", "ClusterFirst");
    put_text(spec, "restartPolicy", "Always");
    put_text(spec, "schedulerName", "default-scheduler");
    put(spec, "securityContext", json!({}));
    put(spec, "terminationGracePeriodSeconds", 30);
    mirror_account(spec);
    for volume in maps_in(spec, "volumes") {
        set_volume_defaults(volume);
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for container in maps_in(spec, field) {
            set_container_defaults(container);
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are shown.
fn mirror_account(spec: &mut Map<String, Value>) {
    let named = |field: &str| {
        spec.get(field).and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
    };
    if let Some(name) = named("serviceAccountName").or_else(|| named("serviceAccount")) {
        spec.insert("serviceAccount".to_owned(), name.clone().into());
        spec.insert("serviceAccountName".to_owned(), name.into());
    }
}

fn set_container_defaults(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let pull = if is_latest(image) { "Always" } else { "IfNotPresent" };
    put_text(container, "imagePullPolicy", pull);
    put(container, "resources", json!({}));
    put_text(container, "terminationMessagePath", "/dev/termination-log");
    put_text(container, "terminationMessagePolicy", "File");
    for port in maps_in(container, "ports") {
        put_text(port, "protocol", "TCP");
    }
    for variable in maps_in(container, "env") {
        if let Some(source) = map_in(variable, "valueFrom") {
            set_source_defaults(source);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = map_in(container, probe) {
            set_probe_defaults(probe);
        }
    }
    if let Some(lifecycle) = map_in(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(request) = map_in(lifecycle, hook).and_then(|hook| map_in(hook, "httpGet"))
            {
                set_request_defaults(request);
            }
        }
    }
}

/// Whether an image's tag is `latest`, said or implied. A digest pins an image whatever its tag says.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    // a colon before the last slash belongs to a port of the registry
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn set_source_defaults(source: &mut Map<String, Value>) {
    if let Some(field) = map_in(source, "fieldRef") {
        put_text(field, "apiVersion", "v1");
    }
    if let Some(field) = map_in(source, "resourceFieldRef") {
        put(field, "divisor", "0");
    }
}

fn set_probe_defaults(probe: &mut Map<String, Value>) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.get(field).and_then(Value::as_i64).unwrap_or_default() == 0 {
            probe.insert(field.to_owned(), value.into());
        }
    }
    if let Some(request) = map_in(probe, "httpGet") {
        set_request_defaults(request);
    }
    if let Some(request) = map_in(probe, "grpc") {
        put(request, "service", "");
    }
}

fn set_request_defaults(request: &mut Map<String, Value>) {
    put_text(request, "path", "/");
    put_text(request, "scheme", "HTTP");
}

/// Files of configuration: readable by all, written by their owner (0644).
const FILE_MODE: i32 = 0o644;

fn set_volume_defaults(volume: &mut Map<String, Value>) {
    let has_source = volume.iter().any(|(field, value)| field != "name" && !value.is_null());
    if !has_source {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["configMap", "downwardAPI", "projected", "secret"] {
        if let Some(source) = map_in(volume, source) {
            put(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = map_in(volume, "downwardAPI") {
        set_downward_defaults(source);
    }
    if let Some(source) = map_in(volume, "projected") {
        for part in maps_in(source, "sources") {
            if let Some(token) = map_in(part, "serviceAccountToken") {
                put(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = map_in(part, "downwardAPI") {
                set_downward_defaults(downward);
            }
        }
    }
    set_kind_defaults(volume);
    if let Some(claim) =
        map_in(volume, "ephemeral").and_then(|source| map_in(source, "volumeClaimTemplate"))
        && let Some(spec) = map_in(claim, "spec")
    {
        put(spec, "volumeMode", "Filesystem");
    }
}

/// Defaults of a volume, of a pod or one that outlives pods, by what it is made of. `spec` has that among its fields.
pub fn default_volume_source(spec: &mut Value) {
    if let Some(spec) = spec.as_object_mut() {
        set_kind_defaults(spec);
    }
}

fn set_kind_defaults(volume: &mut Map<String, Value>) {
    if let Some(path) = map_in(volume, "hostPath") {
        put(path, "type", "");
    }
    if let Some(disk) = map_in(volume, "azureDisk") {
        put(disk, "cachingMode", "ReadWrite");
        put(disk, "kind", "Shared");
        put(disk, "fsType", "ext4");
        put(disk, "readOnly", false);
    }
    for (kind, field, value) in [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
    ] {
        if let Some(source) = map_in(volume, kind) {
            put_text(source, field, value);
        }
    }
}

fn set_downward_defaults(source: &mut Map<String, Value>) {
    for item in maps_in(source, "items") {
        set_source_defaults(item);
    }
}

/// A container that has a limit and no request for something asks for what it is limited to.
fn requests_follow_limits(container: &mut Map<String, Value>) {
    let Some(resources) = map_in(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    put(resources, "requests", json!({}));
    if let Some(requests) = map_in(resources, "requests") {
        for (name, limit) in limits {
            put(requests, &name, limit);
        }
    }
}

/// In the host's network a container's port is the host's.
fn host_ports_follow(container: &mut Map<String, Value>) {
    for port in maps_in(container, "ports") {
        if let Some(number) = port.get("containerPort").cloned()
            && port.get("hostPort").and_then(Value::as_i64).unwrap_or_default() == 0
        {
            port.insert("hostPort".to_owned(), number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_what_kubernetes_gives_it() {
        let mut spec = json!({"containers": [{"name": "a", "image": "nginx", "ports": [{"containerPort": 80}]}]});
        set_pod_defaults(&mut spec);
        let expected = json!({
            "containers": [{
                "name": "a", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
        });
        assert_eq!(spec, expected);
        set_pod_defaults(&mut spec);
        assert_eq!(spec, expected, "defaults of defaults");
    }

    #[test]
    fn a_template_has_no_service_links_and_no_host_ports_of_its_own() {
        let spec = json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}]}]});
        let mut template = json!({"spec": spec});
        default_template(Some(&mut template));
        let mut spec = template["spec"].take();
        assert_eq!(spec["dnsPolicy"], "ClusterFirst");
        assert!(spec.get("enableServiceLinks").is_none());
        assert!(spec["containers"][0]["ports"][0].get("hostPort").is_none());
        set_pod_defaults(&mut spec);
        assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
    }

    #[test]
    fn an_empty_text_is_none_where_go_has_no_pointer() {
        let mut spec = json!({"rbd": {"pool": "", "user": "me"}, "azureDisk": {"fsType": "", "kind": "Managed"}, "hostPath": {}});
        default_volume_source(&mut spec);
        assert_eq!(
            spec,
            json!({"rbd": {"pool": "rbd", "user": "me", "keyring": "/etc/ceph/keyring"}, "hostPath": {"type": ""},
                "azureDisk": {"fsType": "", "kind": "Managed", "cachingMode": "ReadWrite", "readOnly": false}})
        );
        let mut pod = json!({"dnsPolicy": "", "restartPolicy": "", "containers": [{"image": "a:1", "imagePullPolicy": "",
            "terminationMessagePath": "", "ports": [{"protocol": ""}]}]});
        set_pod_defaults(&mut pod);
        let container = &pod["containers"][0];
        assert_eq!([&pod["dnsPolicy"], &pod["restartPolicy"]], ["ClusterFirst", "Always"]);
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
        assert_eq!(container["ports"][0]["protocol"], "TCP");
    }

    #[test]
    fn only_the_latest_image_is_always_pulled() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("registry:5000/nginx", true),
            ("registry:5000/nginx:1.27", false),
            ("nginx:1.27", false),
            ("nginx@sha256:0123", false),
            ("nginx:latest@sha256:0123", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn requests_follow_limits_unless_said_otherwise() {
        let mut spec = json!({"containers": [{"resources": {
            "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"},
        }}]});
        set_pod_defaults(&mut spec);
        assert_eq!(
            spec["containers"][0]["resources"]["requests"],
            json!({"cpu": "100m", "memory": "1Gi"})
        );
    }

    #[test]
    fn volumes_probes_and_variables() {
        let mut spec = json!({
            "serviceAccount": "robot",
            "volumes": [
                {"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}, {"name": "c", "hostPath": {"path": "/"}},
                {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
                    {"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
            ],
            "containers": [{
                "image": "a:1", "readinessProbe": {"httpGet": {"port": 80}, "timeoutSeconds": 5},
                "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
            }],
        });
        set_pod_defaults(&mut spec);
        assert_eq!(spec["serviceAccountName"], "robot");
        assert_eq!(
            spec["volumes"],
            json!([
                {"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "c", "hostPath": {"path": "/", "type": ""}},
                {"name": "d", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                    {"downwardAPI": {"items": [{"path": "x", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]}},
                ]}},
            ])
        );
        assert_eq!(
            spec["containers"][0]["readinessProbe"],
            json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 5, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3})
        );
        assert_eq!(
            spec["containers"][0]["env"][0]["valueFrom"]["resourceFieldRef"]["divisor"],
            "0"
        );
    }
}
