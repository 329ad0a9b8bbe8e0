//! What can go wrong on the runtime's side.

use std::io;
use std::path::PathBuf;

use crate::answer::AnswerError;
use crate::error::{Error, ErrorCode};
use crate::exec::ExecError;
use crate::lookup::LookupError;

/// A network list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The directory or file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No file of the directory is a network list.
    #[error("no network list in {}: put a .conflist file there{}", directory.display(), passed_over(skipped))]
    None {
        /// The directory.
        directory: PathBuf,
        /// Files that were passed over, each with the reason.
        skipped: Vec<String>,
    },
    /// The file's content is wrong.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
}

fn passed_over(skipped: &[String]) -> String {
    if skipped.is_empty() {
        String::new()
    } else {
        format!("; passed over: {}", skipped.join("; "))
    }
}

/// A chain call that failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A container id, interface or network name that no plugin would take, or that would lead out of the cache directory.
    #[error("invalid attachment: {0}")]
    InvalidAttachment(Error),
    /// A plugin is not installed.
    #[error("network {network}: {source}")]
    Lookup {
        /// The network.
        network: String,
        /// Which plugin, and where it was looked for. Part of the message.
        source: LookupError,
    },
    /// A plugin could not be run to its end.
    #[error("network {network}: {command} of plugin {}", plugin.display())]
    Exec {
        /// The network.
        network: String,
        /// The command.
        command: &'static str,
        /// The plugin's file.
        plugin: PathBuf,
        /// Why.
        source: ExecError,
    },
    /// A plugin answered with an error.
    #[error("network {network}: {command} of plugin {}: {error}", plugin.display())]
    Plugin {
        /// The network.
        network: String,
        /// The command.
        command: &'static str,
        /// The plugin's file.
        plugin: PathBuf,
        /// Its answer.
        error: AnswerError,
    },
    /// A result that no version can express, or cannot be read.
    #[error("network {network}: {error}")]
    Result {
        /// The network.
        network: String,
        /// What is wrong.
        error: Error,
    },
    /// A file of the cache cannot be used.
    #[error("cannot {operation} the cached result {}", path.display())]
    Cache {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// CHECK of an attachment that was never made here.
    #[error(
        "network {network}: nothing is known of container {container_id}, interface {ifname}: it was not attached, or detached"
    )]
    NotAttached {
        /// The network.
        network: String,
        /// The container.
        container_id: String,
        /// The interface.
        ifname: String,
    },
    /// Several of the calls failed, and the others were made all the same.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<RuntimeError>),
}

impl RuntimeError {
    /// The code that a plugin gave.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Plugin { error: AnswerError::Refused(error), .. } => Some(error.code),
            _ => None,
        }
    }

    /// All went well, one failure, or several.
    pub(crate) fn collect(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}
