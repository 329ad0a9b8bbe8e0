//! Images in containerd's stores: look them up, and unpack one that was imported without.

use std::collections::HashMap;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::services::v1::{
    ApplyRequest, CreateRequest, DeleteRequest, GetImageRequest, Info, ReadContentRequest,
    UpdateRequest,
};
use containerd_client::types::Descriptor;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use super::{Containerd, UNPACK_LIMIT, absent_is_fine};
use crate::image::{
    Document, ImageInfo, Layer, candidates, chain_ids, normalise, read_config, read_document,
    verify,
};
use crate::runtime::RuntimeError;

/// Manifests and configurations are small; anything larger is not one (4 MiB, the limit registries use).
const MAX_DOCUMENT: usize = 4 << 20;

impl Containerd {
    /// Looks an image up by its full or its written form.
    pub(super) async fn find_image(
        &self,
        reference: &str,
    ) -> Result<Option<ImageInfo>, RuntimeError> {
        for name in candidates(reference) {
            let request = self.request(GetImageRequest { name: name.clone() });
            match ImagesClient::new(self.channel.clone()).get(request).await {
                Ok(answer) => {
                    let digest = answer
                        .into_inner()
                        .image
                        .and_then(|image| image.target)
                        .map(|target| target.digest);
                    return self.read_image(&name, digest.unwrap_or_default()).await.map(Some);
                }
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => {
                    return Err(self.failed("look up image", &normalise(reference), &status));
                }
            }
        }
        Ok(None)
    }

    async fn read_image(&self, name: &str, mut digest: String) -> Result<ImageInfo, RuntimeError> {
        let broken = |reason: String| RuntimeError::Image { reference: name.to_owned(), reason };
        // an index may lead to another index, but not for ever
        for _ in 0..4 {
            match read_document(&self.read_blob(name, &digest).await?).map_err(broken)? {
                Document::Index(next) => digest = next,
                Document::Manifest(manifest) => {
                    let config = self.read_blob(name, manifest.config().digest().as_ref()).await?;
                    return read_config(name, &manifest, &config).map_err(broken);
                }
            }
        }
        Err(broken("its indexes lead nowhere".to_owned()))
    }

    async fn read_blob(&self, image: &str, digest: &str) -> Result<Vec<u8>, RuntimeError> {
        let broken = |reason: String| RuntimeError::Image { reference: image.to_owned(), reason };
        let request =
            self.request(ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 });
        let missing = |status: &Status| match status.code() {
            Code::NotFound => broken(format!("its blob {digest} is missing; import it again")),
            _ => self.failed("read blob", digest, status),
        };
        let answer = ContentClient::new(self.channel.clone()).read(request).await;
        let mut stream = answer.map_err(|status| missing(&status))?.into_inner();
        let mut blob = Vec::new();
        while let Some(part) = stream.next().await {
            blob.extend(part.map_err(|status| missing(&status))?.data);
            if blob.len() > MAX_DOCUMENT {
                return Err(broken(format!(
                    "its document {digest} is larger than {MAX_DOCUMENT} bytes"
                )));
            }
        }
        verify(digest, &blob).map_err(broken)?;
        Ok(blob)
    }

    /// Makes sure that an image's file system is there: layer by layer, each under the name of its chain, so that a killed
    /// unpack goes on where it was. Under a lease, or garbage collection could take what is not yet referred to.
    pub(super) async fn unpack(&self, image: &ImageInfo) -> Result<(), RuntimeError> {
        if image.layers.is_empty() || self.is_unpacked(&image.chain_id).await? {
            return Ok(());
        }
        let _alone = self.shared.unpacking.lock().await;
        // another pod may have done it meanwhile, which `unpack_layers` sees
        let lease = self.take_lease().await?;
        let done = self.unpack_layers(image, &lease).await;
        let released = self.release_lease(&lease).await;
        done.and(released)
    }

    async fn unpack_layers(&self, image: &ImageInfo, lease: &str) -> Result<(), RuntimeError> {
        let diff_ids: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let chain = chain_ids(&diff_ids);
        let mut parent = String::new();
        for (layer, name) in image.layers.iter().zip(&chain) {
            if !self.is_unpacked(name).await? {
                self.unpack_layer(image, layer, &parent, name, lease).await?;
            }
            parent.clone_from(name);
        }
        self.keep_alive(image).await
    }

    async fn unpack_layer(
        &self,
        image: &ImageInfo,
        layer: &Layer,
        parent: &str,
        name: &str,
        lease: &str,
    ) -> Result<(), RuntimeError> {
        let snapshotter = || self.options.snapshotter.clone();
        let key = format!("heddle-unpack-{name}");
        // a killed unpack leaves its work behind, half done
        self.remove_snapshot(&key).await?;
        let prepare = PrepareSnapshotRequest {
            snapshotter: snapshotter(),
            key: key.clone(),
            parent: parent.to_owned(),
            labels: HashMap::new(),
        };
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        let prepared = snapshots.prepare(self.leased(prepare, lease)).await;
        let mounts = prepared
            .map_err(|status| self.failed("prepare layer", name, &status))?
            .into_inner()
            .mounts;
        let diff = Descriptor {
            media_type: layer.media_type.clone(),
            digest: layer.digest.clone(),
            size: i64::try_from(layer.size).unwrap_or(i64::MAX),
            annotations: HashMap::new(),
        };
        let apply = ApplyRequest { diff: Some(diff), mounts, ..ApplyRequest::default() };
        let mut request = self.leased(apply, lease);
        request.set_timeout(UNPACK_LIMIT);
        let applied = DiffClient::new(self.channel.clone()).apply(request).await;
        let applied = match applied {
            Ok(applied) => applied.into_inner(),
            Err(status) => {
                self.remove_snapshot(&key).await?;
                return Err(self.unpack_failed(image, layer, &status));
            }
        };
        let found = applied.applied.map(|descriptor| descriptor.digest).unwrap_or_default();
        if found != layer.diff_id {
            self.remove_snapshot(&key).await?;
            let reason = format!(
                "layer {} unpacks to {found}, not {}; import it again",
                layer.digest, layer.diff_id
            );
            return Err(RuntimeError::Image { reference: image.reference.clone(), reason });
        }
        let commit = CommitSnapshotRequest {
            snapshotter: snapshotter(),
            name: name.to_owned(),
            key,
            labels: HashMap::new(),
        };
        match snapshots.commit(self.leased(commit, lease)).await {
            Ok(_) => Ok(()),
            // somebody else unpacked it meanwhile
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(self.failed("commit layer", name, &status)),
        }
    }

    /// A layer that is not there or cannot be read is the image's fault; the rest is containerd's.
    fn unpack_failed(&self, image: &ImageInfo, layer: &Layer, status: &Status) -> RuntimeError {
        let error = self.failed("unpack layer", &layer.digest, status);
        let RuntimeError::Call { reason, .. } = &error else { return error };
        let damaged = ["not found", "gzip", "zstd", "tar:", "unexpected EOF", "unexpected commit"];
        if !damaged.iter().any(|words| reason.contains(words)) {
            return error;
        }
        RuntimeError::Image {
            reference: image.reference.clone(),
            reason: format!(
                "its layer {} is missing or damaged ({reason}); import it again",
                layer.digest
            ),
        }
    }

    /// The configuration's label is what keeps an image's snapshots from being collected.
    async fn keep_alive(&self, image: &ImageInfo) -> Result<(), RuntimeError> {
        let mut content = ContentClient::new(self.channel.clone());
        let key = format!("containerd.io/gc.ref.snapshot.{}", self.options.snapshotter);
        let info = Info {
            digest: image.config_digest.clone(),
            labels: HashMap::from([(key.clone(), image.chain_id.clone())]),
            ..Info::default()
        };
        let mask = prost_types::FieldMask { paths: vec![format!("labels.{key}")] };
        let request = self.request(UpdateRequest { info: Some(info), update_mask: Some(mask) });
        let updated = content.update(request).await;
        updated.map(drop).map_err(|status| self.failed("label blob", &image.config_digest, &status))
    }

    async fn is_unpacked(&self, name: &str) -> Result<bool, RuntimeError> {
        let stat = StatSnapshotRequest {
            snapshotter: self.options.snapshotter.clone(),
            key: name.to_owned(),
        };
        match SnapshotsClient::new(self.channel.clone()).stat(self.request(stat)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(self.failed("look for layer", name, &status)),
        }
    }

    pub(super) async fn release_lease(&self, lease: &str) -> Result<(), RuntimeError> {
        let request = self.request(DeleteRequest { id: lease.to_owned(), sync: false });
        let released = LeasesClient::new(self.channel.clone()).delete(request).await;
        absent_is_fine(released).map_err(|status| self.failed("release lease", lease, &status))
    }

    /// The lease's id.
    pub(super) async fn take_lease(&self) -> Result<String, RuntimeError> {
        // a lease that a killed agent leaves behind ends by itself
        let expiry = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let create = CreateRequest {
            id: format!("heddle-{}-{}", std::process::id(), expiry.as_nanosecond()),
            labels: HashMap::from([("containerd.io/gc.expire".to_owned(), expiry.to_string())]),
        };
        let answer = LeasesClient::new(self.channel.clone()).create(self.request(create)).await;
        let answer = answer.map_err(|status| self.failed("take", "a lease", &status))?.into_inner();
        Ok(answer.lease.map(|lease| lease.id).unwrap_or_default())
    }

    /// A request whose products the lease keeps.
    pub(super) fn leased<T>(&self, message: T, lease: &str) -> Request<T> {
        let mut request = self.request(message);
        if let Ok(value) = lease.parse() {
            request.metadata_mut().insert("containerd-lease", value);
        }
        request
    }
}
