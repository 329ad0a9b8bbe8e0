//! A connection to the API server.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{
    ExecInteractiveMode, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError,
};
use kube::{Client, Config};
use tower::util::MapRequestLayer;

use super::outage::Outages;
use super::token::{TokenError, TokenFile};
use super::watches::Watches;

/// How to reach the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiAccess {
    /// The kubeconfig. Without one: the service account of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The server's URL, whatever the kubeconfig says.
    pub master: Option<String>,
}

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
        "nothing says how to reach the API server, as this is no pod with a service account: name a kubeconfig (of the proxy: set --kubeconfig or \
         clientConnection.kubeconfig, or --static-dir for none at all; of the overlay: set overlay.kubeconfig)"
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
    /// The file of the token has none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Certificates or keys cannot be used.
    #[error("cannot set up the connection to the API server")]
    Client(#[source] Box<kube::Error>),
}

/// A client, and what is known of its server. Clones are the same connection.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    pub(super) watches: Watches,
    /// What is told of the server while it does not answer.
    pub outages: Arc<Outages>,
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("outages", &self.outages).finish_non_exhaustive()
    }
}

/// Makes a client as kube-proxy does: from the kubeconfig, else from the URL alone, else from the pod's service account. Files are
/// read; nothing is sent yet. Credentials of programs (`exec`) and of token files are renewed as they expire.
pub async fn connect(access: &ApiAccess) -> Result<Connection, ConnectError> {
    connect_again(access, Arc::default()).await
}

/// As [`connect`], to a server of which something is known already.
pub async fn connect_again(
    access: &ApiAccess,
    outages: Arc<Outages>,
) -> Result<Connection, ConnectError> {
    let mut config = match (&access.kubeconfig, &access.master) {
        (Some(path), _) => from_file(path.clone()).await?,
        (None, Some(url)) => Config::new(uri(url)?),
        (None, None) => Config::incluster().map_err(ConnectError::Nowhere)?,
    };
    if let Some(url) = &access.master {
        config.cluster_url = uri(url)?;
    }
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // who asks tries again itself, and tells of it: the client would keep an overload (503) to itself for a minute
    config.default_retry = false;
    let token = take_token_file(&mut config).map(TokenFile::open).transpose()?;
    let client = ClientBuilder::try_from(config);
    let client = client.map_err(|error| ConnectError::Client(Box::new(error)))?;
    let watches = Watches::default();
    let client = match token {
        None => client.with_layer(&watches).build(),
        Some(token) => {
            let token = Arc::new(token);
            let sign = MapRequestLayer::new(move |request| token.sign(request));
            client.with_layer(&sign).with_layer(&watches).build()
        }
    };
    Ok(Connection { client, watches, outages })
}

/// The file of the token, if nothing that comes before it says who we are.
fn take_token_file(config: &mut Config) -> Option<PathBuf> {
    let user = &mut config.auth_info;
    let said = user.token.is_some() || user.username.is_some() || user.auth_provider.is_some();
    let file = user.token_file.take();
    file.filter(|_| !said).map(PathBuf::from)
}

async fn from_file(path: PathBuf) -> Result<Config, ConnectError> {
    let read = match Kubeconfig::read_from(&path) {
        Ok(mut kubeconfig) => {
            say_that_nobody_is_there(&mut kubeconfig);
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
        }
        Err(error) => Err(error),
    };
    read.map_err(|source| ConnectError::Kubeconfig { path, source })
}

/// A credential program may ask a person only where there is one: `IfAvailable`, the default, means none here. What it says when it
/// fails is then part of the error, and not lost with this program's own output.
fn say_that_nobody_is_there(kubeconfig: &mut Kubeconfig) {
    let users = kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut());
    for exec in users.filter_map(|user| user.exec.as_mut()) {
        if exec.interactive_mode != Some(ExecInteractiveMode::Always) {
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
    }
}

fn uri(url: &str) -> Result<hyper::http::Uri, ConnectError> {
    url.parse().map_err(|source| ConnectError::Url { url: url.to_owned(), source })
}
