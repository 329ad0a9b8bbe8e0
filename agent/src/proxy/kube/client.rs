//! A connection to the API server.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::proxy::config::ApiAccess;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection to be made. That a server does not answer is none of these.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KubeconfigError,
    },
    /// There is none, and this is no pod with a service account.
    #[error(
        "nothing says how to reach the API server: set --kubeconfig (or clientConnection.kubeconfig), or --static-dir for none at all"
    )]
    Nowhere(#[source] InClusterError),
    /// The URL is none.
    #[error("--master {url:?} is no URL")]
    Url {
        /// What was given.
        url: String,
        /// Why.
        source: hyper::http::uri::InvalidUri,
    },
    /// Certificates or keys cannot be used.
    #[error("cannot set up the connection to the API server")]
    Client(#[source] Box<kube::Error>),
}

/// Makes a client as kube-proxy does: from the kubeconfig, else from the URL alone, else from the pod's service account. Files are
/// read; nothing is sent yet. Credentials of programs (`exec`) and of token files are renewed as they expire.
pub async fn connect(access: &ApiAccess) -> Result<Client, ConnectError> {
    let mut config = match (&access.kubeconfig, &access.master) {
        (Some(path), _) => from_file(path.clone()).await?,
        (None, Some(url)) => Config::new(uri(url)?),
        (None, None) => Config::incluster().map_err(ConnectError::Nowhere)?,
    };
    if let Some(url) = &access.master {
        config.cluster_url = uri(url)?;
    }
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))
}

async fn from_file(path: PathBuf) -> Result<Config, ConnectError> {
    let read = match Kubeconfig::read_from(&path) {
        Ok(kubeconfig) => {
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
        }
        Err(error) => Err(error),
    };
    read.map_err(|source| ConnectError::Kubeconfig { path, source })
}

fn uri(url: &str) -> Result<hyper::http::Uri, ConnectError> {
    url.parse().map_err(|source| ConnectError::Url { url: url.to_owned(), source })
}
