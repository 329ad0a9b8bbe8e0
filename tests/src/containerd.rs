//! A containerd for a test: the machine's own, or one that ends with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::{output, project, run, wait_until};

/// A containerd that answers.
#[derive(Debug)]
pub struct Containerd {
    address: PathBuf,
    /// `None`: it ran before, and goes on.
    ours: Option<(Child, TempDir)>,
}

impl Containerd {
    /// Where a containerd listens unless it is told otherwise.
    pub const USUAL: &str = "/run/containerd/containerd.sock";

    /// The one at the usual place; started if there is none.
    pub fn usual() -> Self {
        let address = PathBuf::from(Self::USUAL);
        let there = Self { address: address.clone(), ours: None };
        if there.answers() { there } else { Self::launch(Some(address)) }
    }

    /// One of the test's own.
    pub fn start() -> Self {
        Self::launch(None)
    }

    fn launch(address: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let at = |name: &str| folder.path().join(name);
        let address = address.unwrap_or_else(|| at("containerd.sock"));
        let child = Command::new("containerd")
            .arg("--address")
            .arg(&address)
            .arg("--root")
            .arg(at("root"))
            .arg("--state")
            .arg(at("state"))
            .args(["--log-level", "error"])
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start containerd: {error}"));
        let this = Self { address, ours: Some((child, folder)) };
        wait_until("containerd to answer", || this.answers().then_some(()));
        this
    }

    fn answers(&self) -> bool {
        output(self.ctr().arg("version")).status.success()
    }

    /// A `ctr` that talks to it.
    pub fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.address);
        command
    }

    /// Its namespaces, one a line.
    pub fn namespaces(&self) -> String {
        run(self.ctr().args(["namespaces", "ls", "-q"]))
    }

    /// Its socket.
    pub fn address(&self) -> &Path {
        &self.address
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let Some((child, _)) = &mut self.ours else { return };
        Command::new("kill").arg(child.id().to_string()).status().ok();
        child.wait().ok();
        for suffix in ["", ".ttrpc"] {
            fs::remove_file(format!("{}{suffix}", self.address.display())).ok();
        }
        // runc's, of the namespace that ctr uses: it is the same for every containerd of a machine, and goes only when empty
        fs::remove_dir("/run/containerd/runc/default").ok();
    }
}

/// The demo's image as a file in `folder`.
pub fn image(folder: &Path) -> PathBuf {
    let file = folder.join("image.tar");
    run(Command::new(project().join("ci/image")).arg(&file));
    file
}
