//! Saving all objects to a file, and making a store of such a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures::stream;
use http_body_util::BodyExt as _;
use hyper::Method;

use super::CommandError;
use super::remote::Remote;
use crate::http;
use crate::server::{STORE_FILE, ServerError, Storage};
use crate::store::etcd::{EtcdConfig, EtcdStore};
use crate::store::redb::{RedbConfig, RedbStore};
use crate::store::snapshot::{self, AHEAD, Summary};
use crate::store::{Store, StoreError};

/// How long a server may send nothing.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is done with a snapshot.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Save all objects as they are at one moment. Where a server runs on the store it is asked for them, with the administrator's
    /// kubeconfig of its data directory or the one that is named.
    Save {
        /// The file to write (mode 0600: there are secrets in it).
        file: PathBuf,
        /// What is saved.
        #[command(flatten)]
        from: Place,
        /// Ask a running server, as the user of this kubeconfig, who must be an administrator of the cluster.
        #[arg(long, conflicts_with = "store")]
        kubeconfig: Option<PathBuf>,
        /// The URL of that server, if not the kubeconfig's.
        #[arg(long, conflicts_with = "store")]
        server: Option<String>,
    },
    /// Put all objects of a snapshot into an empty place.
    Restore {
        /// The file to read.
        file: PathBuf,
        /// Where they go.
        #[command(flatten)]
        to: Place,
    },
}

/// Where objects are kept.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The data directory of a server.
    #[arg(long, default_value = "/var/lib/heddle/server")]
    pub data_dir: PathBuf,
    /// The file in it, or another place.
    #[command(flatten)]
    pub storage: Storage,
}

impl Place {
    fn file(&self) -> PathBuf {
        self.data_dir.join(STORE_FILE)
    }

    /// The administrator's kubeconfig.
    fn admin(&self) -> PathBuf {
        self.data_dir.join("pki/admin.kubeconfig")
    }
}

impl Action {
    /// Does it, and tells what was done.
    pub async fn run(self) -> Result<String, CommandError> {
        match self {
            Self::Save { file, from, kubeconfig, server } => {
                save(&file, &from, kubeconfig, server.as_deref()).await
            }
            Self::Restore { file, to } => restore(&file, &to).await,
        }
    }
}

async fn save(
    file: &Path,
    from: &Place,
    kubeconfig: Option<PathBuf>,
    server: Option<&str>,
) -> Result<String, CommandError> {
    let saved = match kubeconfig {
        Some(kubeconfig) => fetch(&kubeconfig, server, file).await?,
        None if server.is_some() => fetch(&from.admin(), server, file).await?,
        None => save_here(file, from).await?,
    };
    Ok(format!(
        "saved {} objects at revision {} to {}\n",
        saved.records,
        saved.revision.0,
        file.display()
    ))
}

/// Saves a running server's objects.
async fn fetch(
    kubeconfig: &Path,
    server: Option<&str>,
    file: &Path,
) -> Result<Summary, CommandError> {
    let remote = Remote::open(kubeconfig, server)?;
    let answer = remote.ask(Method::POST, http::snapshot::PATH).await?;
    let pieces = stream::unfold(answer.into_body(), |mut body| async {
        loop {
            let frame = match tokio::time::timeout(PATIENCE, body.frame()).await {
                Err(_) => return Some((Err("the server sends nothing any more".to_owned()), body)),
                Ok(frame) => frame?,
            };
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) => return Some((Ok(bytes), body)),
                Ok(Err(_)) => {}
                Err(error) => return Some((Err(in_full(&error)), body)),
            }
        }
    });
    Ok(snapshot::receive(std::pin::pin!(pieces), file).await?)
}

/// An error and what caused it.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Saves what no server has open, or lets the server do it.
async fn save_here(file: &Path, from: &Place) -> Result<Summary, CommandError> {
    let store: Arc<dyn Store> = if let Some(etcd) = from.storage.etcd()? {
        connect(etcd).await?
    } else {
        let path = from.file();
        // to open it would make it
        if !path.exists() {
            return Err(CommandError::NoServer { path });
        }
        match RedbStore::open(&path, RedbConfig::default()) {
            Ok(store) => Arc::new(store),
            Err(StoreError::InUse { .. }) if from.admin().exists() => {
                return fetch(&from.admin(), None, file).await;
            }
            Err(StoreError::InUse { .. }) => {
                return Err(CommandError::InUse { store: path, kubeconfig: from.admin() });
            }
            Err(error) => return Err(CommandError::Store(error)),
        }
    };
    Ok(snapshot::save(&*store, file).await?)
}

async fn restore(file: &Path, to: &Place) -> Result<String, CommandError> {
    let (restored, place) = if let Some(etcd) = to.storage.etcd()? {
        let store = connect(etcd).await?;
        (snapshot::restore_into(&*store, file).await?, "etcd".to_owned())
    } else {
        let path = to.file();
        let (what, directory) = ("make the directory", to.data_dir.clone());
        std::fs::create_dir_all(&to.data_dir).map_err(|source| CommandError::File {
            what,
            path: directory,
            source,
        })?;
        (snapshot::restore(file, &path, AHEAD)?, path.display().to_string())
    };
    Ok(format!(
        "restored {} objects of revision {} to {place}\n",
        restored.records, restored.revision.0
    ))
}

async fn connect(etcd: EtcdConfig) -> Result<Arc<dyn Store>, CommandError> {
    let store = EtcdStore::connect(etcd).await.map_err(ServerError::Store)?;
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Condition, Operation, Write};

    fn place(data_dir: &Path) -> Place {
        Place { data_dir: data_dir.to_owned(), storage: Storage::default() }
    }

    fn open(data_dir: &Path) -> RedbStore {
        RedbStore::open(&data_dir.join(STORE_FILE), RedbConfig::default()).expect("a store")
    }

    #[tokio::test]
    async fn what_was_saved_is_there_again() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = from.path().join("one.snapshot");
        let key = "/registry/configmaps/default/a".to_owned();
        let write = Write::Put(b"{}".as_slice().into());
        let store = open(from.path());
        store
            .commit(vec![Operation { key: key.clone(), condition: Condition::Absent, write }])
            .await
            .unwrap();

        let from_here = place(from.path());
        let save =
            Action::Save { file: file.clone(), from: from_here, kubeconfig: None, server: None };
        let error = save.clone().run().await.unwrap_err();
        assert!(error.to_string().contains("--kubeconfig FILE"), "{error}");
        assert!(!file.exists());
        drop(store);
        let said = save.run().await.unwrap();
        assert!(said.starts_with("saved 1 objects at revision "), "{said}");

        // a directory that is made for it
        let fresh = to.path().join("new");
        let restore = Action::Restore { file, to: place(&fresh) };
        restore.clone().run().await.unwrap();
        assert_eq!(open(&fresh).get(&key).await.unwrap().unwrap().value, b"{}".as_slice());
        let error = restore.run().await.unwrap_err();
        assert!(error.to_string().contains("is not empty"), "{error}");
    }

    #[tokio::test]
    async fn where_no_server_was_nothing_is_saved_and_nothing_made() {
        let empty = tempfile::tempdir().unwrap();
        let save = Action::Save {
            file: empty.path().join("x"),
            from: place(empty.path()),
            kubeconfig: None,
            server: None,
        };
        assert!(matches!(save.run().await, Err(CommandError::NoServer { .. })));
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    }
}
