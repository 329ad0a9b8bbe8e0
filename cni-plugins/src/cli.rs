//! The command line of `heddle-cni`, for people: `list`, `install`, `uninstall`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use netns_tools::Tap;

use crate::install::{self, InstallError, LinkKind};
use crate::suite::PLUGINS;
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
    /// Put this file into a plugin directory, under every plugin's name
    Install {
        /// The directory that runtimes look for plugins in
        #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
        /// How the plugins' names lead to the one file
        #[arg(long, value_name = "KIND", value_enum, default_value = "symlink")]
        link: LinkKind,
        /// Replace plugins of other suites
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
    /// Remove what `install` put there, and nothing else
    Uninstall {
        /// The directory to clean
        #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
    },
}

/// Parses the arguments (the first is the program's name) and runs the command.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let done = match Cli::parse_from(args).command {
        Command::List => {
            list();
            Ok(())
        }
        Command::Install { bin_dir, link, force } => install::install(&bin_dir, link, force)
            .map(|report| report.iter().for_each(|line| println!("{line}"))),
        Command::MakeTap { name, multi_queue, owner, group } => {
            let tap = Tap { name: &name, multi_queue, owner, group, ..Tap::default() };
            return report(labelled::run_here(&tap));
        }
        Command::Uninstall { bin_dir } => install::uninstall(&bin_dir)
            .map(|report| report.iter().for_each(|line| println!("{line}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heddle-cni: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn report(done: Result<(), String>) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("{error}");
    ExitCode::FAILURE
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
