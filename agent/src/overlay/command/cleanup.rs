//! `--cleanup`: removes what the overlay made on this host, and nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use conf::AgentConfig;
use conf::lease::{LEASE_FILE, Lease};
use netns_tools::cause::one_line;

use super::CommandError;
use crate::lock::{Lock, Role};
use crate::overlay::desired::Desired;
use crate::overlay::kernel::Kernel;
use crate::overlay::rules::{NodeRules, Rules};
use crate::overlay::run::StartError;
use crate::overlay::state::{Store, remove};

/// Goes on past what cannot be removed, and tells all of that at the end. Done again, it finds nothing.
pub fn cleanup(config: &AgentConfig) -> Result<(), CommandError> {
    // one that runs would make everything anew
    let _lock =
        Lock::take_patiently(Role::Overlay, Duration::from_secs(1)).map_err(StartError::Lock)?;
    let mut left = Vec::new();
    let mut gone = Vec::new();
    match Kernel::open().and_then(|mut kernel| kernel.sync(&Desired::default())) {
        Ok(report) => {
            gone.extend(report.devices);
            if report.removed > 0 {
                gone.push(format!("{} routes and their entries", report.removed));
            }
            left.extend(report.failed.iter().map(ToString::to_string));
        }
        Err(error) => left.push(one_line(&error)),
    }
    match Rules::open().and_then(|mut rules| rules.cleanup()) {
        Ok(removed) => gone.extend(removed),
        Err(error) => left.push(one_line(&error)),
    }
    let store = Store::new(&config.paths.state, &config.node_name);
    match remove_files(&store, config) {
        Ok(files) => gone.extend(files.iter().map(|path| path.display().to_string())),
        Err(error) => left.push(one_line(&error)),
    }
    if gone.is_empty() {
        println!("there is nothing of the overlay here");
    }
    for what in gone {
        println!("removed: {what}");
    }
    if left.is_empty() { Ok(()) } else { Err(CommandError::Left(left.join("\n"))) }
}

/// The lease goes only if it is ours: flannel writes a file of the same form, perhaps to the same place.
fn remove_files(store: &Store, config: &AgentConfig) -> Result<Vec<PathBuf>, CommandError> {
    let path = &config.overlay.lease;
    let kept = Lease::read(&store.lease_file()).ok();
    let kept = kept.is_some() && Lease::read(path).ok() == kept;
    let ours = kept || *path == Path::new(LEASE_FILE);
    let mut removed = Vec::new();
    if ours && remove(path)? {
        removed.push(path.clone());
    }
    removed.extend(store.clear()?);
    std::fs::remove_file(&config.overlay.socket).ok();
    Ok(removed)
}
