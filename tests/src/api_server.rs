//! Our API server in a namespace, and kubectl beside it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use netns_tools::testing::TestNetns;

use crate::{bin_dir, run, wait_until};

/// Where it listens.
pub const PORT: &str = "6443";

/// A program that runs; killed at the end.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts one of ours in a namespace, with a log in `folder` that is named as it is.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(netns: &Path, name: &str, arguments: &[String], folder: &Path) -> Self {
        let path = folder.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut command = inside(netns, &bin_dir().join(name));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self(command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn inside(netns: &Path, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", netns.display())).arg(program);
    command
}

/// `heddle-server`; killed at the end.
#[derive(Debug)]
pub struct ApiServer {
    server: Option<Program>,
    netns: PathBuf,
    folder: PathBuf,
    address: String,
}

impl ApiServer {
    /// Starts it at an address of the namespace, and waits until it is ready. It keeps its data in `folder`.
    #[track_caller]
    pub fn start(ns: &TestNetns, folder: &Path, address: &str) -> Self {
        let (netns, folder) = (ns.ns().path().to_owned(), folder.to_owned());
        let mut server = Self { server: None, netns, folder, address: address.to_owned() };
        server.start_again();
        server
    }

    /// Starts it with what it knew, after [`Self::kill`].
    #[track_caller]
    pub fn start_again(&mut self) {
        let arguments = [
            "run".to_owned(),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={PORT}"),
            format!("--data-dir={}", self.data().display()),
        ];
        self.server = Some(Program::start(&self.netns, "heddle-server", &arguments, &self.folder));
        wait_until("the API server to be ready", || {
            self.try_kubectl(&["get", "--raw", "/readyz"]).status.success().then_some(())
        });
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.server = None;
        assert!(!self.try_kubectl(&["get", "--raw", "/readyz"]).status.success());
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.join("server")
    }

    /// Types a line after `kubectl`, as the administrator.
    pub fn try_kubectl(&self, words: &[&str]) -> Output {
        let program = std::env::var_os("HEDDLE_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let mut command = inside(&self.netns, Path::new(&program));
        command.env("HOME", &self.folder).arg("--request-timeout=10s");
        command.arg("--kubeconfig").arg(self.data().join("pki/admin.kubeconfig"));
        command.args(words).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()))
    }

    /// The same; what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn kubectl(&self, words: &[&str]) -> String {
        let output = self.try_kubectl(words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "kubectl {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// `kubectl apply` of a text.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        let path = self.folder.join("manifest.yaml");
        fs::write(&path, manifest).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.kubectl(&["apply", "-f", &path.to_string_lossy()]);
    }

    /// A kubeconfig with a certificate, as `heddle-server kubeconfig` makes it: `["--user", NAME]`, or `["--node", NAME]`.
    #[track_caller]
    pub fn kubeconfig(&self, whose: &[&str]) -> String {
        let mut command = Command::new(bin_dir().join("heddle-server"));
        command.arg("kubeconfig").args(whose).arg("--data-dir").arg(self.data());
        run(command.arg(format!("--server=https://{}:{PORT}", self.address)))
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("heddle-server.log")).unwrap_or_default()
    }
}
