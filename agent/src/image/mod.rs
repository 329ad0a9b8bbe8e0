//! Images: what a reference means, and what an image's documents say.

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
/// a host keeps it (the rule of the distribution reference grammar).
pub fn normalise(reference: &str) -> String {
    let is_host = |part: &str| part.contains('.') || part.contains(':') || part == "localhost";
    let full = match reference.split_once('/') {
        Some((first, _)) if is_host(first) => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
        None => format!("docker.io/library/{reference}"),
    };
    let name_part = full.rsplit('/').next().unwrap_or_default();
    if name_part.contains(':') || full.contains('@') { full } else { format!("{full}:latest") }
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
    fn broken_documents_say_what_is_wrong() {
        assert!(read_document(b"{").unwrap_err().contains("not JSON"));
        assert!(read_document(br#"{"schemaVersion": 2}"#).unwrap_err().contains("not valid"));
        let other = br#"{"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000", "size": 2,
            "platform": {"os": "linux", "architecture": "s390x"}}]}"#;
        assert!(read_document(other).unwrap_err().contains("no variant for linux/"));
    }
}
