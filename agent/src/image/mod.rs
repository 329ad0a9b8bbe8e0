//! Images: what a reference means, and what an image's documents say.

pub mod accounts;

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What running an image needs to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// Normalised reference.
    pub reference: String,
    /// Digest of its configuration, which carries the label that keeps its snapshots alive.
    pub config_digest: String,
    /// The layers' descriptors, lowest first.
    pub layers: Vec<Layer>,
    /// The name under which its unpacked file system is found.
    pub chain_id: String,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `User`: a name or number, perhaps with a group behind a colon.
    pub user: String,
}

/// One layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Media type.
    pub media_type: String,
    /// Digest of the blob as stored.
    pub digest: String,
    /// Size of the blob, in bytes.
    pub size: u64,
    /// Digest of the content when uncompressed.
    pub diff_id: String,
}

/// The full form of an image reference: `busybox` is `docker.io/library/busybox:latest`. A name whose first part looks like
/// a host keeps it (the rules of the distribution project's reference grammar: a dot, a port, capitals, or `localhost`).
pub fn normalise(reference: &str) -> String {
    let is_host = |part: &str| {
        part == "localhost"
            || part.contains(|c: char| c == '.' || c == ':' || c.is_ascii_uppercase())
    };
    let (host, path) = match reference.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => ("docker.io", reference),
    };
    // the old name of Docker Hub
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let library = if host == "docker.io" && !path.contains('/') { "library/" } else { "" };
    let name = path.rsplit('/').next().unwrap_or_default();
    let tag = if name.contains([':', '@']) { "" } else { ":latest" };
    format!("{host}/{library}{path}{tag}")
}

/// The names an image may be stored under: importers keep what the archive says, which need not be the full form.
pub fn candidates(reference: &str) -> Vec<String> {
    let full = normalise(reference);
    if full == reference { vec![full] } else { vec![full, reference.to_owned()] }
}

/// A chain id of layers: the digest over the digests so far (OCI image specification, "Layer `ChainID`").
pub fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(parent) => {
                let digest = Sha256::digest(format!("{parent} {diff_id}"));
                format!("sha256:{}", data_encoding::HEXLOWER.encode(&digest))
            }
        };
        chain.push(next);
    }
    chain
}

/// The architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// Whether a blob is what its digest says, so that a damaged one is not taken for a wrong one. Digests of other algorithms than
/// SHA-256, which registries hardly use, are left to containerd.
pub fn verify(digest: &str, blob: &[u8]) -> Result<(), String> {
    let Some(expected) = digest.strip_prefix("sha256:") else { return Ok(()) };
    let found = data_encoding::HEXLOWER.encode(&Sha256::digest(blob));
    if found == expected {
        return Ok(());
    }
    Err(format!("its blob {digest} is damaged (its content has sha256:{found}); import it again"))
}

/// A document that a reference leads to.
#[derive(Debug)]
pub enum Document {
    /// The manifest of one platform.
    Manifest(Box<ImageManifest>),
    /// An index: the digest of the manifest for this machine.
    Index(String),
}

/// Reads a manifest or index.
pub fn read_document(blob: &[u8]) -> Result<Document, String> {
    let value: Value = serde_json::from_slice(blob)
        .map_err(|error| format!("its manifest is not JSON: {error}"))?;
    if value.get("manifests").is_none() {
        let manifest = serde_json::from_value(value)
            .map_err(|error| format!("its manifest is not valid: {error}"))?;
        return Ok(Document::Manifest(Box::new(manifest)));
    }
    let index: ImageIndex = serde_json::from_value(value)
        .map_err(|error| format!("its index is not valid: {error}"))?;
    let fits = |platform: &oci_spec::image::Platform| {
        platform.os().to_string() == "linux"
            && platform.architecture().to_string() == architecture()
    };
    let found = index.manifests().iter().find(|entry| entry.platform().as_ref().is_none_or(fits));
    let found = found.ok_or_else(|| format!("it has no variant for linux/{}", architecture()))?;
    Ok(Document::Index(found.digest().to_string()))
}

/// Puts manifest and configuration together.
pub fn read_config(
    reference: &str,
    manifest: &ImageManifest,
    blob: &[u8],
) -> Result<ImageInfo, String> {
    let image: ImageConfiguration = serde_json::from_slice(blob)
        .map_err(|error| format!("its configuration is not valid: {error}"))?;
    let diff_ids = image.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers().len() {
        return Err(format!(
            "it has {} layers but {} layer digests",
            manifest.layers().len(),
            diff_ids.len()
        ));
    }
    let layers = manifest.layers().iter().zip(diff_ids).map(|(layer, diff_id)| Layer {
        media_type: layer.media_type().to_string(),
        digest: layer.digest().to_string(),
        size: layer.size(),
        diff_id: diff_id.clone(),
    });
    let config = image.config().clone().unwrap_or_default();
    Ok(ImageInfo {
        reference: reference.to_owned(),
        config_digest: manifest.config().digest().to_string(),
        layers: layers.collect(),
        chain_id: chain_ids(diff_ids).pop().unwrap_or_default(),
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        working_dir: config.working_dir().clone().unwrap_or_default(),
        user: config.user().clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_a_full_form() {
        let cases = [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1", "docker.io/library/busybox:1"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost/app:2", "localhost/app:2"),
            ("reg.example:5000/app", "reg.example:5000/app:latest"),
            ("app@sha256:00", "docker.io/library/app@sha256:00"),
            ("app:1@sha256:00", "docker.io/library/app:1@sha256:00"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("docker.io/me/app:1", "docker.io/me/app:1"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("localhost:5000/a/b@sha256:00", "localhost:5000/a/b@sha256:00"),
            ("Build/app", "Build/app:latest"),
        ];
        for (short, full) in cases {
            assert_eq!(normalise(short), full);
        }
    }

    #[test]
    fn chain_ids_are_the_specifications() {
        // sha256 over "sha256:a sha256:b", as the specification defines it
        let ids = chain_ids(&["sha256:a".to_owned(), "sha256:b".to_owned()]);
        assert_eq!(ids[0], "sha256:a");
        let digest = Sha256::digest("sha256:a sha256:b");
        assert_eq!(ids[1], format!("sha256:{}", data_encoding::HEXLOWER.encode(&digest)));
    }

    #[test]
    fn damaged_blobs_are_found() {
        let digest = format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest("{}")));
        assert_eq!(verify(&digest, b"{}"), Ok(()));
        assert!(verify(&digest, b"[]").unwrap_err().contains("damaged"));
        assert_eq!(verify("sha512:00", b"[]"), Ok(()));
    }

    #[test]
    fn an_index_leads_to_this_machine() {
        let entry = |architecture: &str, os: &str, digit: char| {
            let digest = format!("sha256:{}", String::from(digit).repeat(64));
            serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 2,
                "platform": {"os": os, "architecture": architecture}})
        };
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [
            entry("s390x", "linux", '1'), entry(architecture(), "windows", '2'), entry("unknown", "unknown", '3'),
            entry(architecture(), "linux", '4')]});
        match read_document(index.to_string().as_bytes()).unwrap() {
            Document::Index(digest) => assert!(digest.ends_with("4444"), "{digest}"),
            Document::Manifest(_) => panic!("an index is no manifest"),
        }
    }

    #[test]
    fn broken_documents_say_what_is_wrong() {
        assert!(read_document(b"{").unwrap_err().contains("not JSON"));
        assert!(read_document(br#"{"schemaVersion": 2}"#).unwrap_err().contains("not valid"));
        let other = br#"{"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000", "size": 2,
            "platform": {"os": "linux", "architecture": "s390x"}}]}"#;
        assert!(read_document(other).unwrap_err().contains("no variant for linux/"));
    }
}
