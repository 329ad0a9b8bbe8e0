//! The command line of `netns`.

mod exec;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use netns_tools::overview::{Overview, survey, text};
use netns_tools::{NetNs, NetnsError};
use serde::Serialize;

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed; the reason is on standard error
  2  wrong usage
`exec` ends with the command's own exit code, or with 126 when the command cannot be executed and 127 when there is no
such command.

Output is plain text without colours. With `-o json`, `list` prints
  {\"namespaces\": [{\"name\", \"path\", \"id\", \"links\", \"processes\": [PID, …]}]}
and `show` prints
  {\"namespaces\": [{\"name\", \"path\", \"id\", \"current\", \"links\": [
      {\"index\", \"name\", \"kind\", \"up\", \"oper_state\", \"mtu\", \"mac\", \"master\", \"addresses\": [\"ADDRESS/PREFIX\", …],
       \"peer\": {\"namespace\", \"name\", \"index\"} | null, \"lower\": {as peer} | null}]}],
   \"errors\": [\"what could not be looked at\", …]}
where \"id\" is the inode number shown by `ls -l /proc/PID/ns/net`. Fields may be added; none is renamed or removed.";

/// Look at and enter network namespaces, and see who is connected to whom.
#[derive(Debug, Parser)]
#[command(name = "netns", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the namespaces in /run/netns with their links and processes
    List {
        /// The form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make a namespace and pin it at /run/netns/NAME, visible to `ip netns`
    Add {
        /// The new name
        name: String,
    },
    /// Remove a namespace's name; no error when there is none
    #[command(alias = "delete")]
    Del {
        /// A name in /run/netns
        name: String,
    },
    /// Run a command in a namespace
    Exec {
        /// A name in /run/netns, or a path such as /proc/PID/ns/net
        name: String,
        /// Also show the namespace's links in /sys, by a private mount namespace with a new sysfs: what `ip netns exec`
        /// does. What was mounted below /sys is not there then
        #[arg(long)]
        sysfs: bool,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Draw who is connected to whom: links, their other ends, bridges, addresses and states, the host included
    Show {
        /// Only this namespace: a name in /run/netns or a path. Other ends are found in all
        name: Option<String>,
        /// The form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Does what was asked for; writes to `out`.
pub fn run(cli: Cli, out: &mut dyn Write) -> Outcome {
    let done = match cli.command {
        Command::List { output } => list(output, out),
        Command::Add { name } => {
            NetNs::create(&name)?;
            Ok(())
        }
        Command::Del { name } => delete(&name, out),
        Command::Exec { name, sysfs, command } => {
            return exec::exec(&open(&name)?, sysfs, &command);
        }
        Command::Show { name, output } => show(name.as_deref(), output, out),
    };
    match done {
        Err(error) if is_broken_pipe(&*error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn list(output: Output, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    #[derive(Serialize)]
    struct List {
        namespaces: Vec<survey::Entry>,
    }
    let namespaces = survey::entries()?;
    match output {
        Output::Text => write!(out, "{}", text::entries(&namespaces))?,
        Output::Json => print_json(&List { namespaces }, out)?,
    }
    Ok(())
}

fn delete(name: &str, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    if !NetNs::delete(name)? {
        writeln!(out, "there was no network namespace {name}")?;
    }
    Ok(())
}

fn show(name: Option<&str>, output: Output, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let only = name.map(open).transpose()?;
    let mut overview = survey::survey(only.as_ref());
    if let Some(only) = &only {
        overview.namespaces.retain(|ns| ns.id == only.id().ino);
    }
    let Overview { namespaces, errors } = &overview;
    match output {
        Output::Text => write!(out, "{}", text::namespaces(namespaces))?,
        Output::Json => print_json(&overview, out)?,
    }
    for error in errors {
        eprintln!("netns: {error}");
    }
    Ok(())
}

/// A name with a slash is a path.
fn open(name: &str) -> Result<NetNs, NetnsError> {
    if name.contains('/') { NetNs::open(name) } else { NetNs::named(name) }
}

fn print_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// A reader that has seen enough (`netns show | head`) is no failure.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
