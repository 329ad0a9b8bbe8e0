//! Volumes and where they are mounted, and what is wrong with them.

use serde_json::{Value, json};

use super::tests::{all_told, container, mistakes, pod};

/// A pod with this volume, which one container mounts.
fn volume(source: Value) -> Value {
    let mut volume = json!({"name": "v"});
    volume.as_object_mut().expect("a map").extend(source.as_object().expect("a map").clone());
    pod(json!({"volumes": [volume]}))
}

#[test]
fn sources_of_volumes_say_what_they_need() {
    let iscsi = |more: Value| {
        let mut source = json!({"targetPortal": "10.0.0.1:3260", "iqn": "iqn.2001-04.com.example:disk1", "lun": 0});
        source.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        volume(json!({"iscsi": source}))
    };
    all_told(&[
        (iscsi(json!({})), &[]),
        (
            iscsi(json!({"iqn": "disk"})),
            &[
                r#"spec.volumes[0].iscsi.iqn: Invalid value: "disk": must be valid format starting with iqn, eui, or naa"#,
            ],
        ),
        (
            iscsi(json!({"iqn": "iqn.2001.x:y", "lun": 256, "chapAuthSession": true})),
            &[
                r#"spec.volumes[0].iscsi.iqn: Invalid value: "iqn.2001.x:y": must be valid format"#,
                "spec.volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                "spec.volumes[0].iscsi.secretRef: Required value",
            ],
        ),
        (
            volume(json!({"fc": {"targetWWNs": ["a"]}})),
            &["spec.volumes[0].fc.lun: Required value: lun is required if targetWWNs is specified"],
        ),
        (
            volume(json!({"fc": {}})),
            &[
                "spec.volumes[0].fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both",
            ],
        ),
        (
            volume(json!({"csi": {"driver": "a.b", "nodePublishSecretRef": {}}})),
            &["spec.volumes[0].csi.nodePublishSecretRef.name: Required value"],
        ),
        (
            volume(json!({"nfs": {"server": "s", "path": "a"}})),
            &[r#"spec.volumes[0].nfs.path: Invalid value: "a": must be an absolute path"#],
        ),
        (
            volume(json!({"flexVolume": {"driver": "d", "options": {"k8s.io/a": "b"}}})),
            &[
                r#"spec.volumes[0].flexVolume.options[k8s.io/a]: Invalid value: "k8s.io/a": kubernetes.io and k8s.io namespaces are reserved"#,
            ],
        ),
    ]);
}

#[test]
fn claims_and_files_of_volumes_are_looked_at() {
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let two = json!([{"secret": {"name": "s"}, "configMap": {"name": "c"}}]);
    let same = json!([{"secret": {"name": "s", "items": [{"key": "k", "path": "a"}]}},
        {"configMap": {"name": "c", "items": [{"key": "k", "path": "a"}]}}]);
    let token = json!([{"serviceAccountToken": {"path": "../t", "expirationSeconds": 60}}]);
    all_told(&[
        (volume(json!({"ephemeral": {"volumeClaimTemplate": claim}})), &[]),
        (
            volume(
                json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "x"}, "spec": {"accessModes": ["Often"], "resources": {"requests": {"storage": "0"}}}}}}),
            ),
            &[
                "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                r#"spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Unsupported value: "Often": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod""#,
                r#"spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Invalid value: "0": must be greater than zero"#,
            ],
        ),
        (
            volume(json!({"projected": {"sources": two}})),
            &[
                "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            volume(json!({"projected": {"sources": same}})),
            &[r#"spec.volumes[0].projected: Invalid value: "c": conflicting duplicate paths"#],
        ),
        (
            volume(json!({"projected": {"sources": token}})),
            &[
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
                r#"spec.volumes[0].projected.path: Invalid value: "../t": must not contain '..'"#,
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
            ],
        ),
    ]);
    let own = json!([{"name": "v", "ephemeral": {"volumeClaimTemplate": claim}}, {"name": "w", "persistentVolumeClaim": {"claimName": "p-v"}}]);
    assert_eq!(
        mistakes(pod(json!({"volumes": own}))),
        [
            r#"spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "p-v": must not reference a PVC that gets created for an ephemeral volume"#
        ]
    );
}

#[test]
fn places_in_a_container_are_taken_once() {
    let with = |more: Value| {
        let mut spec = container(more);
        spec["volumes"] = json!([{"name": "d", "emptyDir": {}}, {"name": "c", "persistentVolumeClaim": {"claimName": "c"}}]);
        spec
    };
    all_told(&[
        (
            with(
                json!({"volumeMounts": [{"name": "d", "mountPath": "/a"}, {"name": "c", "mountPath": "/a", "subPath": "../b"}]}),
            ),
            &[
                r#"spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique"#,
                r#"spec.containers[0].volumeMounts.subPath: Invalid value: "../b": must not contain '..'"#,
            ],
        ),
        (
            with(
                json!({"volumeMounts": [{"name": "d", "mountPath": "/a", "recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"}]}),
            ),
            &[
                "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
            ],
        ),
        (
            with(
                json!({"volumeDevices": [{"name": "d", "devicePath": "/dev/a"}, {"name": "c", "devicePath": "/dev/../b"}]}),
            ),
            &[
                r#"spec.containers[0].volumeDevices[0].name: Invalid value: "d": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#,
                r#"spec.containers[0].volumeDevices[1].devicePath: Invalid value: "/dev/../b": can not contain backsteps ('..')"#,
            ],
        ),
        (
            with(
                json!({"volumeMounts": [{"name": "c", "mountPath": "/a"}], "volumeDevices": [{"name": "c", "devicePath": "/a"}]}),
            ),
            &[
                r#"spec.containers[0].volumeMounts[0].name: Invalid value: "c": must not already exist in volumeDevices"#,
                r#"spec.containers[0].volumeMounts[0].mountPath: Invalid value: "/a": must not already exist as a path in volumeDevices"#,
                r#"spec.containers[0].volumeDevices[0].name: Invalid value: "c": must not already exist in volumeMounts"#,
                r#"spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/a": must not already exist as a path in volumeMounts"#,
            ],
        ),
    ]);
}
