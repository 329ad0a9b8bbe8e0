//! What can be typed after `heddle-server`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::pki::PkiError;
use crate::server::{self, Config, ServerError};
use crate::store::StoreError;
use crate::store::snapshot::SnapshotError;

pub mod kubeconfig;
mod remote;
pub mod snapshot;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API until SIGTERM or SIGINT.
    Run(Box<Config>),
    /// Save all objects to a file, also of a running server, or make a store of such a file.
    Snapshot {
        /// Which of both.
        #[command(subcommand)]
        action: snapshot::Action,
    },
    /// Print a kubeconfig with a new certificate for a user or a node.
    Kubeconfig(kubeconfig::Wish),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The server, or what is said of its store.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[source] StoreError),
    /// A server runs on the store, and how to ask it is not known.
    #[error(
        "a server runs on {}, which is open in one process at a time: let the server save it with --kubeconfig FILE (there is no {}), or stop it",
        store.display(),
        kubeconfig.display()
    )]
    InUse {
        /// The file.
        store: PathBuf,
        /// Where the administrator's kubeconfig would be.
        kubeconfig: PathBuf,
    },
    /// A running server.
    #[error(transparent)]
    Remote(#[from] remote::RemoteError),
    /// No server has run there.
    #[error("there is no {}: name the directory of a server that has run with --data-dir", path.display())]
    NoServer {
        /// What was looked for.
        path: PathBuf,
    },
    /// A file or directory.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The server's URL is not to be found.
    #[error("{} does not say where the server is: name it with --server https://HOST:PORT", path.display())]
    NoAddress {
        /// The administrator's kubeconfig.
        path: PathBuf,
    },
    /// The certificates.
    #[error("no certificate was made")]
    Pki(#[from] PkiError),
}

impl Command {
    /// Does it; what it answers, if anything, goes to the standard output.
    pub async fn run(self) -> Result<(), CommandError> {
        let answer = match self {
            Self::Run(config) => return Ok(server::run(*config).await?),
            Self::Snapshot { action } => action.run().await?,
            Self::Kubeconfig(wish) => wish.render(jiff::Timestamp::now())?,
        };
        let mut output = std::io::stdout().lock();
        std::io::Write::write_all(&mut output, answer.as_bytes()).map_err(|source| {
            CommandError::File { what: "write", path: "the standard output".into(), source }
        })
    }
}
