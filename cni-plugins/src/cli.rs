//! The command line of `heddle-cni`, for people: `list`, `install`, `uninstall`, `overlay`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use netns_tools::Tap;

use crate::dhcp::daemon;
use crate::install::{self, InstallError, LinkKind, Report};
use crate::overlay;
use crate::suite::{PLUGINS, find};
use crate::tap::labelled;

/// Every Heddle CNI plugin in one file. Under a plugin's name it speaks the CNI protocol; under its own
/// name it installs itself.
#[derive(Parser)]
#[command(name = "heddle-cni", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name the plugins that this file holds
    List,
    /// Put this file into a plugin directory, under the plugins' names
    Install {
        /// The directory that runtimes look for plugins in
        #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
        /// How the plugins' names lead to the one file
        #[arg(long, value_name = "KIND", value_enum, default_value = "symlink")]
        link: LinkKind,
        /// Only these plugins, with commas between them; others that are there stay as they are
        #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = plugin_name)]
        only: Vec<String>,
        /// Replace plugins of other suites, and keep each as NAME.before-heddle
        #[arg(long)]
        force: bool,
    },
    /// Make a tap device here: a step of the plugin `tap`, in a process of its own
    #[command(name = labelled::COMMAND, hide = true)]
    MakeTap {
        name: String,
        #[arg(long)]
        multi_queue: bool,
        #[arg(long)]
        owner: Option<u32>,
        #[arg(long)]
        group: Option<u32>,
    },
    /// Remove what `install` put there, and nothing else; what `install --force` replaced comes back
    Uninstall {
        /// The directory to clean
        #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
    },
    /// Look after the pods of the plugin `overlay`
    Overlay {
        #[command(subcommand)]
        command: overlay::cli::Command,
    },
    /// Get leases for the dhcp plugin and look after them
    DhcpDaemon(daemon::Flags),
}

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

/// Parses the arguments (the first is the program's name) and runs the command; returns the exit code.
pub fn run(args: impl Iterator<Item = OsString>) -> u8 {
    let done = match Cli::parse_from(spelled(args)).command {
        Command::DhcpDaemon(flags) => return serve_leases(&flags),
        Command::Overlay { command } => return told(overlay::cli::run(&command)),
        Command::List => {
            list();
            Ok(())
        }
        Command::Install { bin_dir, link, only, force } => {
            install::install(&bin_dir, link, &only, force).map(tell)
        }
        Command::MakeTap { name, multi_queue, owner, group } => {
            let tap = Tap { name: &name, multi_queue, owner, group, ..Tap::default() };
            return report(labelled::run_here(&tap));
        }
        Command::Uninstall { bin_dir } => install::uninstall(&bin_dir).map(tell),
    };
    match done {
        Ok(()) => SUCCESS,
        Err(error) => {
            eprintln!("heddle-cni: {}", chain(&error));
            FAILURE
        }
    }
}

fn plugin_name(name: &str) -> Result<String, String> {
    if find(name).is_some() {
        return Ok(name.to_owned());
    }
    let names: Vec<_> = PLUGINS.iter().map(|plugin| plugin.name()).collect();
    Err(format!("there is no such plugin; there are: {}", names.join(", ")))
}

fn tell(reports: Vec<Report>) {
    for report in reports {
        println!("{report}");
    }
}

/// The daemon's flags may also be written as the reference's are.
fn spelled(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let args: Vec<_> = args.collect();
    let is_daemon = args.get(1).is_some_and(|word| word == "dhcp-daemon");
    if is_daemon { daemon::go_style(args.into_iter()) } else { args }
}

fn serve_leases(flags: &daemon::Flags) -> u8 {
    match daemon::run(flags) {
        Ok(()) => SUCCESS,
        Err(error) => {
            eprintln!("heddle-cni: {error}");
            FAILURE
        }
    }
}

/// A failure of a command for people.
fn told(done: Result<(), String>) -> u8 {
    let Err(error) = done else { return SUCCESS };
    eprintln!("heddle-cni: {error}");
    FAILURE
}

fn report(done: Result<(), String>) -> u8 {
    let Err(error) = done else { return SUCCESS };
    eprintln!("{error}");
    FAILURE
}

fn list() {
    for plugin in PLUGINS {
        println!("{:<12} {}", plugin.name(), plugin.about());
    }
}

fn chain(error: &InstallError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
