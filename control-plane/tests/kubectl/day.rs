//! Somebody at a shell with kubectl and a server.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use tempfile::TempDir;

use crate::process::{PATIENCE, Process, until};
use crate::server::{Server, Store};
use crate::transcript::{normalised, without_race};

/// What the server is measured against.
const VERSION: &str = "v1.32.";

/// One chapter of the day: a server, and what was typed and seen so far.
pub struct Day {
    // Ended before its directory goes.
    server: Server,
    home: TempDir,
    kubectl: PathBuf,
    transcript: String,
}

impl Day {
    pub fn begin(store: Store) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let kubectl = find_kubectl();
        copy_manifests(home.path());
        let server = Server::start(home.path(), store, |kubeconfig| {
            let mut command =
                kubectl_command(&kubectl, home.path(), kubeconfig, "get --raw /readyz");
            command.output().expect("kubectl runs").status.success()
        });
        let mut day = Self { server, home, kubectl, transcript: String::new() };
        for namespace in ["default", "kube-system"] {
            day.wait_for(
                &format!("get serviceaccounts -n {namespace} -o name"),
                "serviceaccount/default",
            );
            day.wait_for(
                &format!("get configmaps -n {namespace} -o name"),
                "configmap/kube-root-ca.crt",
            );
        }
        day.wait_for("get endpointslices -n default -o name", "/kubernetes");
        day
    }

    /// Types each line after `kubectl`; what is seen goes to the transcript.
    pub fn kubectl(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let output = self.run(line);
            self.note(line, &output);
        }
    }

    /// Types one line and keeps what is seen out of the transcript.
    pub fn quietly(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {line}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Types a line until what it prints holds a text.
    pub fn wait_for(&mut self, line: &str, text: &str) {
        let seen = until(|| String::from_utf8_lossy(&self.run(line).stdout).contains(text));
        assert!(seen, "kubectl {line} never shows {text:?}: {:?}", self.run(line));
    }

    /// Types a line that goes on by itself, then the others, and ends the first one when it has printed so many lines.
    pub fn while_running(&mut self, line: &str, first: usize, then: &str, lines: usize) {
        let mut command = self.command(line);
        let mut process =
            Process::start(command.stdout(Stdio::piped()).stderr(Stdio::inherit()), "kubectl");
        let output = BufReader::new(process.0.stdout.take().expect("a pipe"));
        let (sender, receiver) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut seen = Vec::new();
        let mut see = |count: usize| {
            while seen.len() < count {
                let next = receiver.recv_timeout(PATIENCE);
                seen.push(next.unwrap_or_else(|error| {
                    panic!("kubectl {line} printed no more than {seen:?}: {error}")
                }));
            }
        };
        see(first);
        self.kubectl(then);
        see(lines);
        drop(process);
        reader.join().expect("the reader ends with the process");
        let text = self.normalised(&seen.join("\n"));
        let _ = writeln!(self.transcript, "$ kubectl {line} &\n{text}\n");
    }

    /// Starts a line that ends by itself; [`Started::finish`] notes what it printed.
    pub fn start(&self, line: &str) -> Started {
        let mut command = self.command(line);
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl runs");
        let line = line.to_owned();
        let seen = std::thread::spawn(move || child.wait_with_output().expect("kubectl ends"));
        Started { line, seen }
    }

    /// Waits for a line that was started.
    pub fn finish(&mut self, started: Started) {
        let output = started.seen.join().expect("kubectl ends");
        self.note(&started.line, &output);
    }

    /// Writes a file next to the manifests.
    pub fn file(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).expect("a file");
    }

    /// Ends the chapter: what was seen.
    pub fn end(mut self) -> String {
        assert!(!self.server.has_ended(), "the server has ended by itself");
        std::mem::take(&mut self.transcript)
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("kubectl runs")
    }

    fn command(&self, line: &str) -> Command {
        let mut command =
            kubectl_command(&self.kubectl, self.home.path(), &self.server.kubeconfig, line);
        command.env("SERVER", &self.server.url);
        command
    }

    fn note(&mut self, line: &str, output: &Output) {
        let mut text = format!("$ kubectl {line}\n");
        text += &self.normalised(&String::from_utf8_lossy(&output.stdout));
        let errors = without_race(&String::from_utf8_lossy(&output.stderr));
        for line in self.normalised(&errors).lines() {
            let _ = write!(text, "\n! {line}");
        }
        let code = output.status.code().expect("kubectl is not killed");
        if code != 0 {
            let _ = write!(text, "\n= {code}");
        }
        text = text.replace("\n\n! ", "\n! ");
        let _ = writeln!(self.transcript, "{}\n", text.trim_end());
    }

    fn normalised(&self, text: &str) -> String {
        let home = self.home.path().to_string_lossy();
        let port = self.server.url.rsplit(':').next().expect("the URL has a port");
        normalised(text, &[(&self.server.url, "SERVER"), (port, "PORT"), (&home, "HOME")])
    }
}

/// A line that was started.
pub struct Started {
    line: String,
    seen: std::thread::JoinHandle<Output>,
}

/// kubectl with the words of a line as a shell reads them, in a directory of its own.
pub fn kubectl_command(kubectl: &Path, home: &Path, kubeconfig: &Path, line: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("exec \"$KUBECTL\" {line}")])
        .env_clear()
        .env("KUBECTL", kubectl)
        .env("KUBECONFIG", kubeconfig)
        .env("HOME", home)
        .env("KUBE_EDITOR", "sed -i s/big/small/")
        .env("TZ", "UTC")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// The kubectl to use, which must be of the version that the server is measured against.
pub fn find_kubectl() -> PathBuf {
    let path =
        PathBuf::from(std::env::var_os("HEDDLE_KUBECTL").unwrap_or_else(|| "kubectl".into()));
    let ask = "let HEDDLE_KUBECTL name a kubectl 1.32 (ci/test fetches one), or put one on PATH";
    let output = Command::new(&path).args(["version", "--client"]).output();
    let output =
        output.unwrap_or_else(|error| panic!("{} does not run: {error}; {ask}", path.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains(&format!("Client Version: {VERSION}")),
        "{} is not {VERSION}x but {text:?}; {ask}",
        path.display()
    );
    path
}

fn copy_manifests(home: &Path) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl/manifests");
    for entry in std::fs::read_dir(folder).expect("the manifests") {
        let entry = entry.expect("a manifest");
        std::fs::copy(entry.path(), home.join(entry.file_name())).expect("a copy");
    }
}
