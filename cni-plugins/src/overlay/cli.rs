//! `heddle-cni overlay`: what people and the agent ask for, beside what runtimes do.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use conf::lease::{LEASE_FILE, Lease};
use netns_tools::cause::one_line;

use super::conf::DATA_DIR;
use super::mtu::{self, Outcome};
use super::record::Records;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give the lease's MTU to the links of pods that are attached already, as the next ADD would
    SetMtu(SetMtu),
}

/// The flags of `set-mtu`.
#[derive(Debug, Args)]
pub struct SetMtu {
    /// The node's lease
    #[arg(long, value_name = "FILE", default_value = LEASE_FILE)]
    lease: PathBuf,
    /// The plugin's `dataDir`, which tells what is attached
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    data_dir: PathBuf,
    /// Only this network (default: every one in the folder)
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
}

/// Runs a command: what it did is printed. An error is one sentence.
pub fn run(command: &Command) -> Result<(), String> {
    let Command::SetMtu(flags) = command;
    let outcomes = flags.run()?;
    for outcome in &outcomes {
        println!("{outcome}");
    }
    let kept = outcomes.iter().filter(|one| matches!(one, Outcome::Kept { .. })).count();
    match kept {
        0 => Ok(()),
        1 => Err("one link keeps its MTU, see above".to_owned()),
        more => Err(format!("{more} links keep their MTU, see above")),
    }
}

impl SetMtu {
    fn run(&self) -> Result<Vec<Outcome>, String> {
        let lease = Lease::read(&self.lease).map_err(|error| one_line(&error))?;
        let records = Records::new(&self.data_dir);
        let all = records.all().map_err(|error| error.to_string())?;
        let networks: BTreeSet<_> = all
            .into_iter()
            .map(|record| record.network)
            .filter(|network| self.network.as_ref().is_none_or(|only| only == network))
            .collect();
        let outcomes: Vec<_> = networks
            .iter()
            .flat_map(|network| mtu::follow(&records, network, lease.mtu()))
            .collect();
        if outcomes.is_empty() {
            println!("nothing to change: every link has MTU {}", lease.mtu());
        }
        Ok(outcomes)
    }
}
