//! Where the data of a persistent volume is. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use serde_json::Value;

use super::column::text;
use super::podspec::{check_driver, check_volume_source, need};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

/// Looks at the source of a volume, whose fields these are: there is one.
pub fn check_sources(object: &Value, fields: &[String], findings: &mut Findings) {
    let spec = Spot::root(object).field("spec");
    let Some((kind, others)) = fields.split_first() else {
        findings.required(&spec, "must specify a volume type");
        return;
    };
    let source = spec.field(kind);
    match kind.as_str() {
        "csi" => check_csi(&source, findings),
        "local" => check_local(&source, &spec, findings),
        _ => check_volume_source(kind, &source, findings),
    }
    check_references(kind, &source, findings);
    for more in others {
        findings.forbidden(&spec.field(more), "may not specify more than 1 volume type");
    }
    let path = text(object, "/spec/hostPath/path");
    let root = !path.is_empty() && path.split('/').all(|part| matches!(part, "" | "."));
    let policy = spec.field("persistentVolumeReclaimPolicy");
    if root && policy.text() == "Recycle" {
        findings.forbidden(&policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
}

fn check_csi(source: &Spot<'_>, findings: &mut Findings) {
    check_driver(&source.field("driver"), findings);
    need(source, &["volumeHandle"], findings);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = source.field(field);
        if secret.is_absent() {
            continue;
        }
        for (part, rule) in
            [("name", name::dns_subdomain as name::Rule), ("namespace", name::dns_label)]
        {
            let spot = secret.field(part);
            match spot.text() {
                "" => findings.required(&spot, ""),
                text => findings.sentences(&spot, rule(text)),
            }
        }
    }
}

/// A directory of a node is where that node is.
fn check_local(source: &Spot<'_>, spec: &Spot<'_>, findings: &mut Findings) {
    need(source, &["path"], findings);
    if source.field("path").text().split('/').any(|part| part == "..") {
        findings.invalid(&source.field("path"), "must not contain '..'");
    }
    if spec.field("nodeAffinity").is_absent() {
        findings.required(&spec.field("nodeAffinity"), "Local volume requires node affinity");
    }
}

/// Secrets of a volume are in some namespace.
fn check_references(kind: &str, source: &Spot<'_>, findings: &mut Findings) {
    let secret = source.field("secretRef");
    match kind {
        "cinder" | "storageos" if secret.is_there() => {
            need(&secret, &["name", "namespace"], findings);
        }
        "iscsi" if secret.is_there() => need(&secret, &["name"], findings),
        "azureFile" if source.field("secretNamespace").value == "" => {
            findings.required(&source.field("secretNamespace"), "");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(kind: &str, source: Value, more: Value) -> Vec<String> {
        let mut object = json!({"spec": more});
        object["spec"][kind] = source;
        let mut findings = Findings::default();
        check_sources(&object, &[kind.to_owned()], &mut findings);
        findings.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_source_says_what_it_needs() {
        let secret =
            json!({"driver": "a.b", "volumeHandle": "h", "nodeExpandSecretRef": {"name": "s"}});
        for (kind, source, expected) in [
            ("nfs", json!({"server": "s", "path": "/"}), vec![]),
            (
                "nfs",
                json!({"server": "s", "path": "a"}),
                vec![r#"spec.nfs.path: Invalid value: "a": must be an absolute path"#],
            ),
            (
                "local",
                json!({}),
                vec![
                    "spec.local.path: Required value",
                    "spec.nodeAffinity: Required value: Local volume requires node affinity",
                ],
            ),
            ("csi", secret, vec!["spec.csi.nodeExpandSecretRef.namespace: Required value"]),
            (
                "cinder",
                json!({"volumeID": "v", "secretRef": {"name": "s"}}),
                vec!["spec.cinder.secretRef.namespace: Required value"],
            ),
            (
                "gcePersistentDisk",
                json!({"partition": 256}),
                vec![
                    "spec.persistentDisk.pdName: Required value",
                    "spec.persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
                ],
            ),
        ] {
            assert_eq!(told(kind, source, json!({})), expected, "{kind}");
        }
        assert_eq!(
            told(
                "hostPath",
                json!({"path": "//"}),
                json!({"persistentVolumeReclaimPolicy": "Recycle"})
            ),
            [
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"
            ]
        );
    }
}
