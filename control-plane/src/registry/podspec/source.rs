//! Where a volume's data is: what volumes of pods and persistent ones have in common.

use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

/// These fields must be there.
pub(in crate::registry) fn need(source: &Spot<'_>, fields: &[&str], findings: &mut Findings) {
    for field in fields {
        if source.field(field).is_empty() {
            findings.required(&source.field(field), "");
        }
    }
}

/// What each kind needs.
const NEEDED: &[(&str, &[&str])] = &[
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("hostPath", &["path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("nfs", &["server", "path"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("quobyte", &["registry", "volume"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &["volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];

/// Looks at a source of a kind.
pub(in crate::registry) fn check(kind: &str, source: &Spot<'_>, findings: &mut Findings) {
    // of disks in a cloud Kubernetes tells by another name
    let shown = if kind == "gcePersistentDisk" {
        Spot::at(source.value, parent_of(source).field("persistentDisk"))
    } else {
        source.clone()
    };
    let source = &shown;
    if let Some((_, fields)) = NEEDED.iter().find(|(known, _)| *known == kind) {
        need(source, fields, findings);
    }
    match kind {
        "hostPath" => check_host_path(source, findings),
        "nfs" if !source.field("path").text().starts_with('/') => {
            findings.invalid(&source.field("path"), "must be an absolute path");
        }
        "gitRepo" => super::volume::check_descending(&source.field("directory"), findings),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = source.field("partition");
            if partition.integer().is_some_and(|number| !(0..=255).contains(&number)) {
                findings.invalid(&partition, "must be between 1 and 255, inclusive");
            }
        }
        "iscsi" => check_iscsi(source, findings),
        "fc" => check_fibre_channel(source, findings),
        "csi" => check_csi(source, findings),
        "flexVolume" => check_options(&source.field("options"), findings),
        _ => {}
    }
}

/// The path of what this is a field of.
fn parent_of(source: &Spot<'_>) -> crate::meta::field_error::FieldPath {
    let path = source.path.to_string();
    crate::meta::field_error::FieldPath::root(
        path.rsplit_once('.').map_or("", |(parent, _)| parent),
    )
}

fn check_host_path(source: &Spot<'_>, findings: &mut Findings) {
    if source.field("path").is_empty() {
        return;
    }
    super::volume::check_no_steps_back(&source.field("path"), findings);
    findings.one_of(
        &source.field("type"),
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
    );
}

fn check_iscsi(source: &Spot<'_>, findings: &mut Findings) {
    let (target, initiator) = (source.field("iqn"), source.field("initiatorName"));
    if !target.is_empty() {
        check_initiator(&target, findings);
    }
    let unit = source.field("lun");
    if unit.integer().is_some_and(|unit| !(0..=255).contains(&unit)) {
        findings.invalid(&unit, "must be between 0 and 255, inclusive");
    }
    let asks = ["chapAuthDiscovery", "chapAuthSession"].map(|field| source.field(field).is_true());
    if asks.contains(&true) && source.field("secretRef").is_absent() {
        findings.required(&source.field("secretRef"), "");
    }
    if initiator.is_there() {
        // so is it spelled in these sentences
        check_initiator(&Spot::at(initiator.value, source.path.field("initiatorname")), findings);
    }
}

/// A name by RFC 3720: `iqn.` with a date and a domain, or the number of a device.
fn check_initiator(spot: &Spot<'_>, findings: &mut Findings) {
    let text = spot.text();
    let alphanumeric = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let (kind, rest) = text.split_at_checked(3).unwrap_or((text, ""));
    let good = match kind {
        "iqn" => is_qualified(rest),
        "eui" => rest.get(1..).is_some_and(|id| alphanumeric(id, 16)),
        "naa" => rest.get(1..).is_some_and(|id| alphanumeric(id, 32)),
        _ => {
            findings.invalid(spot, "must be valid format starting with iqn, eui, or naa");
            return;
        }
    };
    if !good {
        findings.invalid(spot, "must be valid format");
    }
}

/// `.2001-04.com.example:disk1`, without its `iqn`.
fn is_qualified(text: &str) -> bool {
    let Some((head, id)) = text.split_once(':') else { return false };
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let dated = head.strip_prefix('.').and_then(|rest| rest.split_once('.')).is_some_and(
        |(date, domain)| {
            let of_domain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
            date.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2))
                && !domain.is_empty()
                && domain.bytes().all(of_domain)
        },
    );
    let of_id =
        |sign: char| !sign.is_whitespace() && !matches!(sign, ',' | ';' | '*' | '&' | '$' | '|');
    dated && !id.is_empty() && id.chars().all(of_id)
}

fn check_fibre_channel(source: &Spot<'_>, findings: &mut Findings) {
    let [ports, ids, unit] = ["targetWWNs", "wwids", "lun"].map(|field| source.field(field));
    match (ports.is_empty(), ids.is_empty()) {
        (true, true) => {
            findings.required(&ports, "must specify either targetWWNs or wwids, but not both");
        }
        (false, false) => {
            findings.invalid(&ports, "targetWWNs and wwids can not be specified simultaneously");
        }
        _ => {}
    }
    if ports.is_empty() {
        return;
    }
    match unit.integer() {
        None => findings.required(&unit, "lun is required if targetWWNs is specified"),
        Some(number) if !(0..=255).contains(&number) => {
            findings.invalid(&unit, "must be between 0 and 255, inclusive");
        }
        Some(_) => {}
    }
}

fn check_csi(source: &Spot<'_>, findings: &mut Findings) {
    check_driver(&source.field("driver"), findings);
    let secret = source.field("nodePublishSecretRef");
    if secret.is_there() {
        let of = secret.field("name");
        match of.text() {
            "" => findings.required(&of, ""),
            // Kubernetes tells of it as if it were the source's
            text => findings.sentences(
                &Spot::at(of.value, source.path.field("name")),
                name::dns_subdomain(text),
            ),
        }
    }
}

/// The name of a driver.
pub(in crate::registry) fn check_driver(driver: &Spot<'_>, findings: &mut Findings) {
    use crate::meta::field_error::{FieldError, Mistake};
    if driver.is_empty() {
        findings.required(driver, "");
    }
    if driver.text().len() > 63 {
        findings.add(FieldError::new(driver.path.clone(), Mistake::TooLong(63), ""));
    }
    findings.sentences(driver, name::dns_subdomain(&driver.text().to_lowercase()));
}

fn check_options(options: &Spot<'_>, findings: &mut Findings) {
    for (key, option) in options.entries() {
        let domain = key.split_once('/').map_or(key, |(domain, _)| domain).to_lowercase();
        let dotted = format!(".{domain}");
        if [".kubernetes.io", ".k8s.io"].iter().any(|end| dotted.ends_with(end)) {
            let value = serde_json::Value::from(key);
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            findings.invalid(&Spot::at(&value, option.path), why);
        }
    }
}
