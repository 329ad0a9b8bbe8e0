//! The server as one process: store, kinds, who may do what, controllers, listener, and what must exist before the first request.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::admission::Plugin;
use crate::admission::addresses::Addresses;
use crate::admission::guard::Guard;
use crate::admission::pods::Pods;
use crate::api::Api;
use crate::api::status::Status;
use crate::auth::authenticate::Authenticator;
use crate::auth::authorizer::Authorizer;
use crate::auth::token::TokenKeys;
use crate::auth::token::service_account::TokenAuthority;
use crate::auth::token::static_file::StaticTokens;
use crate::controllers::account::DefaultAccount;
use crate::controllers::customresources::{CustomResources, serve_established};
use crate::controllers::event::Expiry;
use crate::controllers::garbage::Garbage;
use crate::controllers::kubernetes::{Kubernetes, be_gone, be_present, make_namespaces};
use crate::controllers::namespace::Emptying;
use crate::controllers::root_ca::RootCa;
use crate::controllers::rules::{Aggregation, make_defaults};
use crate::controllers::{Controller, Controllers, leader};
use crate::http::audit::Audit;
use crate::http::limits::{Limits, LimitsConfig, Room};
use crate::http::metrics::Metrics;
use crate::http::review::Answers;
use crate::http::{Everybody, Gate, Server, discovery, listen, openapi};
use crate::pki::tls::server_config;
use crate::pki::{Pki, PkiError, PkiOptions, Serving};
use crate::registry::Registry;
use crate::store::Store;
use crate::store::etcd::EtcdStore;
use crate::store::redb::{RedbConfig, RedbStore};

mod access;
mod config;

pub use config::{Config, Storage};

use access::{Access, Lookups, keep_view, kinds_in_view};

/// The store, below the data directory.
pub const STORE_FILE: &str = "store.redb";
/// Who issues the tokens of service accounts, and whom they are for.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// A token lives no longer, whatever is asked for: a year.
const LONGEST_TOKEN: i64 = 365 * 24 * 3600;
/// How often certificates are looked at: are they to be renewed, did somebody put others there?
const CERTIFICATES_EVERY: Duration = Duration::from_hours(1);
/// How long events live.
const EVENT_LIFE: Duration = Duration::from_hours(1);
/// How long it may take to read who may do what.
const VIEW_WITHIN: Duration = Duration::from_secs(30);

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A setting that cannot be.
    #[error("{0}")]
    Config(String),
    /// The address is not to be had.
    #[error("cannot listen on {address}: is another server running?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// What must exist could not be made.
    #[error("cannot prepare {what}: {status}")]
    Prepare {
        /// What.
        what: String,
        /// Why.
        status: Status,
    },
    /// The data directory.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The certificates.
    #[error("cannot prepare the certificates")]
    Pki(#[from] PkiError),
    /// The store.
    #[error("cannot open the store")]
    Store(#[source] crate::store::StoreError),
    /// The key of tokens.
    #[error("cannot read the keys of service-account tokens")]
    Tokens(#[from] crate::auth::token::KeyError),
    /// A file that was named.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What stands in the file of tokens.
    #[error("{}", path.display())]
    TokenFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: crate::auth::token::static_file::TokenFileError,
    },
    /// The end could not be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

/// Serves until the process is told to end.
pub async fn run(config: Config) -> Result<(), ServerError> {
    config.check()?;
    let store = open_store(&config).await?;
    let address = SocketAddr::new(config.bind_address, config.secure_port);
    let running = start(Parts { store, config, limits: LimitsConfig::default() }, address).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Signals)?;
    let lean = tokio::spawn(crate::memory::stay_lean());
    // nobody may be there to be told
    sd_notify::notify(&[NotifyState::Ready]).ok();
    tokio::select! {
        _ = terminate.recv() => {}
        ended = tokio::signal::ctrl_c() => ended.map_err(ServerError::Signals)?,
    }
    tracing::info!("ending");
    lean.abort();
    sd_notify::notify(&[NotifyState::Stopping]).ok();
    running.end().await;
    Ok(())
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>, ServerError> {
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|source| ServerError::Directory { path: config.data_dir.clone(), source })?;
    if let Some(etcd) = config.storage.etcd()? {
        return Ok(Arc::new(EtcdStore::connect(etcd).await.map_err(ServerError::Store)?));
    }
    let file = config.data_dir.join(STORE_FILE);
    Ok(Arc::new(RedbStore::open(&file, RedbConfig::default()).map_err(ServerError::Store)?))
}

/// What a server is put together from.
pub struct Parts {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// What it is told.
    pub config: Config,
    /// How much at a time.
    pub limits: LimitsConfig,
}

/// A server that listens.
pub struct Running {
    /// Where.
    pub address: SocketAddr,
    /// What answers.
    pub server: Arc<Server>,
    ending: watch::Sender<bool>,
    listener: JoinHandle<()>,
    identity: String,
    /// What goes on beside requests; ends when this is dropped.
    background: JoinSet<()>,
    /// What keeps the set of custom kinds; so does this.
    _kinds: Controllers,
}

impl Running {
    /// Ends the server: watches end, requests that are under way finish, and other servers are told.
    pub async fn end(mut self) {
        self.ending.send_replace(true);
        if let Err(error) = self.listener.await {
            tracing::error!(%error, "the listener did not end well");
        }
        self.background.shutdown().await;
        if let Some(audit) = &self.server.audit {
            audit.log.flush().await;
        }
        let api = &self.server.api;
        for done in [leader::release(api, &self.identity).await, be_gone(api, &self.identity).await]
        {
            if let Err(status) = done {
                tracing::warn!(%status, "the other servers were not told of the end");
            }
        }
    }
}

/// Makes what must exist, and begins to listen.
pub async fn start(parts: Parts, address: SocketAddr) -> Result<Running, ServerError> {
    let Parts { store, config, limits } = parts;
    let metrics = Metrics::default();
    let audit = config.audit(metrics.audit.clone())?.map(Arc::new);
    let (options, pki) = certificates(&config)?;
    let authorizer = Arc::new(Authorizer::default());
    let addresses = Arc::new(Addresses::new(config.ranges()?));
    let api = Arc::new(api(&config, store.clone(), authorizer.clone(), addresses.clone()));
    let mut background = JoinSet::new();
    let given = addresses.read(&*store).await.map_err(ServerError::Store)?;
    prepare(&api, &addresses).await?;
    view(&api, &authorizer, &mut background).await?;
    let authenticator = Arc::new(authenticator(&config, &pki)?);
    let lookups = Arc::new(Lookups(api.clone()));
    let gate: Arc<dyn Gate> = if config.insecure_loopback {
        Arc::new(Everybody)
    } else {
        let (authenticator, authorizer) = (authenticator.clone(), authorizer.clone());
        Arc::new(Access { authenticator, authorizer, lookups: lookups.clone() })
    };
    let tls = acceptor(&config, options, &pki, &mut background)?;
    let listen_error = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let (ending, ended) = watch::channel(false);
    let server = Arc::new(Server {
        api: api.clone(),
        gate,
        answers: Answers { authorizer, authenticator, objects: lookups },
        limits: Limits::new(limits),
        room: Room::new(limits),
        snapshots: Arc::new(Semaphore::new(1)),
        metrics,
        discovery: discovery::Cache::default(),
        openapi: openapi::Cache::default(),
        audit: audit.clone(),
        address: format!("https://{}", SocketAddr::new(config.advertised(), address.port())),
        ending: ended.clone(),
    });
    let mut told = signal(SignalKind::hangup()).map_err(ServerError::Signals)?;
    background.spawn(async move { reopen_when_told(audit.as_deref(), &mut told).await });
    background.spawn(async move { addresses.follow(&*store, given).await });
    let kinds = crate::controllers::spawn(&api, vec![Arc::new(CustomResources)]);
    let identity = format!("heddle-server-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    if !config.no_controllers {
        control(&api, &config, &pki, &identity, address.port(), &mut background)?;
    }
    let listener = tokio::spawn(listen::listen(server.clone(), listener, tls, ended));
    tracing::info!(%address, "serving");
    Ok(Running { address, server, ending, listener, identity, background, _kinds: kinds })
}

/// Begins the audit log anew at every SIGHUP, which does nothing where there is none.
async fn reopen_when_told(audit: Option<&Audit>, told: &mut Signal) {
    while told.recv().await.is_some() {
        let Some(audit) = audit else {
            tracing::info!("there is no audit log to begin anew");
            continue;
        };
        match audit.log.reopen().await {
            Ok(()) => tracing::info!("the audit log is begun anew"),
            Err(error) => {
                tracing::error!(%error, "the audit log goes on in the file that was moved away");
            }
        }
    }
}

fn api(
    config: &Config,
    store: Arc<dyn Store>,
    authorizer: Arc<Authorizer>,
    addresses: Arc<Addresses>,
) -> Api {
    let disabled = config.disable_admission_plugins.clone();
    let restrict_nodes = !disabled.contains(&Plugin::NodeRestriction);
    Api::new(store, Arc::new(Registry::built_in()))
        .with(Arc::new(Pods { disabled }))
        .with(Arc::new(Guard { authorizer, restrict_nodes }))
        .with(addresses)
}

/// Makes what must exist before the first request, unless it does.
async fn prepare(api: &Api, addresses: &Addresses) -> Result<(), ServerError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |status| ServerError::Prepare { what, status }
    };
    make_namespaces(api).await.map_err(failed("the namespaces"))?;
    make_defaults(api).await.map_err(failed("the default roles"))?;
    serve_established(api).await.map_err(failed("the custom kinds"))?;
    addresses.repair(api).await.map_err(failed("the addresses of services"))
}

/// Reads who may do what, and goes on doing so.
async fn view(
    api: &Arc<Api>,
    authorizer: &Arc<Authorizer>,
    background: &mut JoinSet<()>,
) -> Result<(), ServerError> {
    let (ready, mut seen) = watch::channel(0);
    background.spawn(keep_view(api.clone(), authorizer.clone(), ready));
    let all = kinds_in_view(api);
    let read = tokio::time::timeout(VIEW_WITHIN, seen.wait_for(|count| *count >= all)).await;
    match read {
        Ok(Ok(_)) => Ok(()),
        _ => Err(ServerError::Prepare {
            what: "who may do what".to_owned(),
            status: Status::timeout("the roles could not be read in time; is the store well?"),
        }),
    }
}

fn certificates(config: &Config) -> Result<(PkiOptions, Pki), ServerError> {
    let mut addresses = config.ranges()?.first_addresses();
    addresses.push(config.advertised());
    if !config.bind_address.is_unspecified() {
        addresses.push(config.bind_address);
    }
    let address = |name: &String| name.parse::<std::net::IpAddr>().ok();
    addresses.extend(config.names.iter().filter_map(address));
    let names = config.names.iter().filter(|name| address(name).is_none()).cloned().collect();
    let options = PkiOptions {
        directory: config.data_dir.join("pki"),
        names,
        addresses,
        server: config.own_url(),
        serving: None,
    };
    let pki = Pki::open(&options, Timestamp::now())?;
    Ok((options, pki))
}

fn authenticator(config: &Config, pki: &Pki) -> Result<Authenticator, ServerError> {
    let tokens = TokenAuthority {
        keys: TokenKeys::new(&pki.token_key, &pki.token_public_keys)?,
        issuer: ISSUER.to_owned(),
        audiences: vec![ISSUER.to_owned()],
        longest: LONGEST_TOKEN,
    };
    let fixed = match &config.token_auth_file {
        None => StaticTokens::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ServerError::File { path: path.clone(), source })?;
            StaticTokens::parse(&text)
                .map_err(|source| ServerError::TokenFile { path: path.clone(), source })?
        }
    };
    Ok(Authenticator {
        tokens: Arc::new(tokens),
        fixed,
        bootstrap: true,
        anonymous: config.anonymous_auth,
    })
}

/// TLS with the certificates of the data directory, which are renewed in time; `None` for a listener without.
fn acceptor(
    config: &Config,
    options: PkiOptions,
    pki: &Pki,
    background: &mut JoinSet<()>,
) -> Result<Option<TlsAcceptor>, ServerError> {
    if config.insecure_loopback {
        return Ok(None);
    }
    let serving = Arc::new(Serving::new(pki)?);
    let tls = server_config(&pki.authorities, serving.clone())?;
    background.spawn(async move {
        loop {
            tokio::time::sleep(CERTIFICATES_EVERY).await;
            match serving.reload(&options, Timestamp::now()) {
                Ok(true) => tracing::info!("another serving certificate is shown from now on"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the certificates cannot be renewed"),
            }
        }
    });
    Ok(Some(TlsAcceptor::from(tls)))
}

/// Runs the controllers whenever it is this server's turn, and tells the others that it is there.
fn control(
    api: &Arc<Api>,
    config: &Config,
    pki: &Pki,
    identity: &str,
    port: u16,
    background: &mut JoinSet<()>,
) -> Result<(), ServerError> {
    let advertised = config.advertised();
    let first = config.ranges()?.first_addresses();
    let Some(cluster_ip) = first.first().copied() else { return Ok(()) };
    let certificate = pki.authority_text.clone();
    let (present, me) = (api.clone(), identity.to_owned());
    background.spawn(async move { be_present(&present, &me, advertised).await });
    let (of, me) = (api.clone(), identity.to_owned());
    background.spawn(leader::lead(api.clone(), me, move || {
        let all: Vec<Arc<dyn Controller>> = vec![
            Arc::new(Kubernetes { cluster_ip, port }),
            Arc::new(DefaultAccount),
            Arc::new(RootCa { certificate: certificate.clone() }),
            Arc::new(Emptying),
            Arc::new(Garbage::default()),
            Arc::new(Aggregation),
            Arc::new(Expiry { life: EVENT_LIFE }),
        ];
        crate::controllers::spawn(&of, all)
    }));
    Ok(())
}
