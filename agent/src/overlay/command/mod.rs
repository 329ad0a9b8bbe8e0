//! The subcommand `heddle-agent overlay`: the overlay alone, in flanneld's place.
//!
//! | file | what |
//! | --- | --- |
//! | `serve` | the overlay as a daemon |
//! | `look` | `--dry-run` and `--show`: what should be there, and what is |
//! | `cleanup` | `--cleanup`: removes it |

mod cleanup;
mod look;
mod serve;

use std::io;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use conf::AgentConfig;

use super::kernel::SyncError;
use super::rules::RuleError;
use super::run::StartError;
use super::state::StateError;
use crate::daemon;

const AFTER: &str = "It needs nothing but root and a source of Nodes: overlay.kubeconfig, or Node manifests in paths.manifests. SIGTERM ends it and \
                     leaves everything in place; SIGHUP has nodes listed again and everything compared. The configuration file may be the \
                     agent's: keys that are not listed here are left alone in it.\n\
                     Exit codes: 0 done; 1 failed; 2 the command line or the configuration is not right.";

/// Why the overlay cannot do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Links and routes are root's.
    #[error("must run as root: links, routes and packet filters are root's")]
    NotRoot,
    /// It cannot be set up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The kernel's network cannot be read or written.
    #[error(transparent)]
    Kernel(#[from] SyncError),
    /// Nor its packet filters.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// Kept state cannot be removed.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing can be planned.
    #[error("{0}")]
    Plan(String),
    /// Something of the overlay could not be removed.
    #[error("{0}")]
    Left(String),
    /// A system call failed.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: String,
        /// Why.
        source: io::Error,
    },
}

fn io_error(operation: impl Into<String>) -> impl FnOnce(io::Error) -> CommandError {
    |source| CommandError::Io { operation: operation.into(), source }
}

/// The subcommand, without the keys of the configuration.
pub fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("overlay")
        .about("Connect pods of different nodes, in flanneld's place, until SIGTERM; everything stays")
        .after_help(AFTER)
        .arg(switch("cleanup", "remove the overlay's devices, routes, packet filters, lease and state, say which, and end"))
        .arg(switch("dry-run", "print what would be made, and change nothing"))
        .arg(switch("show", "print what should be there and what is: `+` is missing, `-` is too much; change nothing"))
        .group(ArgGroup::new("task").args(["cleanup", "dry-run", "show"]))
}

/// Does what the command line says.
pub fn run(matches: &ArgMatches, config: &AgentConfig) -> Result<(), CommandError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(CommandError::NotRoot);
    }
    daemon::start_log(config);
    if matches.get_flag("cleanup") {
        return cleanup::cleanup(config);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(io_error("start the asynchronous runtime"))?;
    let outcome = if matches.get_flag("dry-run") || matches.get_flag("show") {
        runtime.block_on(look::look(config, matches.get_flag("show")))
    } else {
        runtime.block_on(serve::serve(config))
    };
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_at_a_time() {
        command().debug_assert();
        let parse = |line: &str| command().try_get_matches_from(line.split(' '));
        assert!(parse("overlay --dry-run").unwrap().get_flag("dry-run"));
        assert!(parse("overlay --dry-run --cleanup").is_err());
        assert!(!parse("overlay").unwrap().get_flag("cleanup"));
    }
}
