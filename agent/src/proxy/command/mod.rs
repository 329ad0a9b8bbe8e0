//! The subcommand `heddle-agent proxy`: the service proxy alone, in kube-proxy's place.
//!
//! | file | what |
//! | --- | --- |
//! | `arguments` | the command line |
//! | `objects` | where objects come from |
//! | `serve` | the proxy as a daemon |
//! | `look` | `--dry-run` and `rules`: what would be written, and what is there |

mod arguments;
mod look;
mod objects;
mod serve;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

pub use arguments::command;
use arguments::{Arguments, Task};

use super::backend::BackendError;
use super::config::{ConfigError, Loaded, LogSettings};
use super::host::{AddressError, HostConfig, prepare};
use super::model::FAMILIES;
use super::ops::ListenError;
use super::run::backends;
use crate::kube::ConnectError;
use crate::lock::LockError;
use crate::source::folder::FolderError;

/// Why the proxy cannot do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Rules are root's.
    #[error("must run as root: rules of the kernel are root's")]
    NotRoot,
    /// There is no way to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There are no manifests.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Another proxy runs here.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Rules cannot be written.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A port is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// This host's addresses are not known.
    #[error(transparent)]
    Addresses(#[from] AddressError),
    /// The objects ended before they were complete.
    #[error("the objects could not be read")]
    NoObjects,
    /// A system call failed.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: String,
        /// Why.
        source: io::Error,
    },
}

impl CommandError {
    /// Whether it is the command line or a configuration that is not right.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_))
    }
}

fn io_error(operation: impl Into<String>) -> impl FnOnce(io::Error) -> CommandError {
    |source| CommandError::Io { operation: operation.into(), source }
}

/// Does what the command line says.
pub fn run(matches: &clap::ArgMatches, host_name: &str) -> Result<(), CommandError> {
    let arguments = Arguments::of(matches, host_name);
    let loaded = super::config::load(&arguments.given)?;
    if let Task::WriteConfig(path) = &arguments.task {
        return write_config(path, &loaded);
    }
    start_log(loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(CommandError::NotRoot);
    }
    match &arguments.task {
        Task::Serve => within_runtime(serve::serve(&arguments, &loaded)),
        Task::DryRun => within_runtime(look::dry_run(&arguments, &loaded.config)),
        Task::Rules { service } => {
            within_runtime(look::rules(&arguments, &loaded.config, service.as_deref()))
        }
        Task::Cleanup => Ok(backends::cleanup(arguments.take_over)?),
        Task::Prepare => {
            tell(&prepare(&host_config(&loaded)).problems);
            Ok(())
        }
        Task::WriteConfig(_) => Ok(()),
    }
}

fn within_runtime(
    work: impl Future<Output = Result<(), CommandError>>,
) -> Result<(), CommandError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(io_error("start the asynchronous runtime"))?;
    let outcome = runtime.block_on(work);
    // a transaction that is under way ends by itself: the kernel takes it as a whole or not at all
    runtime.shutdown_background();
    outcome
}

fn host_config(loaded: &Loaded) -> HostConfig {
    HostConfig {
        families: FAMILIES.to_vec(),
        localhost_node_ports: loaded.config.serves_localhost(),
        sets_bridges: false,
        conntrack: loaded.config.conntrack.clone(),
    }
}

/// Says what is not as services need it.
fn tell(problems: &[String]) {
    for problem in problems {
        tracing::warn!(problem, "the node is not as services need it");
    }
}

fn write_config(path: &PathBuf, loaded: &Loaded) -> Result<(), CommandError> {
    let text = serde_saphyr::to_string(&loaded.document)
        .map_err(|error| io_error("write the configuration as YAML")(io::Error::other(error)))?;
    std::fs::write(path, text).map_err(io_error(format!("write {}", path.display())))
}

fn start_log(settings: LogSettings) {
    let level = match settings.verbosity {
        0..=3 => "info",
        4..=7 => "debug",
        _ => "trace",
    };
    let filter = format!(
        "{level},hyper=warn,hyper_util=warn,h2=warn,tower=warn,rustls=warn,{}",
        crate::kube::log_filter(level)
    );
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_target(false);
    if settings.json {
        log.json().flatten_event(true).init();
    } else {
        let colour = std::env::var_os("NO_COLOR").is_none() && io::stderr().is_terminal();
        log.with_ansi(colour).init();
    }
}
