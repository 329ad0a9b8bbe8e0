//! The server that was built, as a process with a directory of its own.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::etcd::{Etcd, logs};
use crate::process::{Process, free_port, until};

/// Where the objects are.
#[derive(Clone, Copy)]
pub enum Store {
    Redb,
    Etcd,
}

/// A running server, on a store of its own.
pub struct Server {
    pub url: String,
    pub kubeconfig: std::path::PathBuf,
    // Ended before its store.
    process: Process,
    etcd: Option<Etcd>,
}

impl Server {
    /// Starts one whose files are in `home`, and waits until it says that it is ready; `ready` asks it.
    pub fn start(home: &Path, store: Store, ready: impl Fn(&Path) -> bool) -> Self {
        let etcd = match store {
            Store::Redb => None,
            Store::Etcd => Some(Etcd::start(home)),
        };
        let mut server = Self::start_on(home, etcd.as_ref(), ready);
        server.etcd = etcd;
        server
    }

    /// Starts one on an etcd that runs.
    pub fn start_on(home: &Path, etcd: Option<&Etcd>, ready: impl Fn(&Path) -> bool) -> Self {
        let data = home.join("data");
        let kubeconfig = data.join("pki/admin.kubeconfig");
        // Between the choice of a port and its use somebody else may take it: then once more with another.
        for _ in 0..5 {
            let port = free_port();
            let mut command = command(home, port);
            if let Some(etcd) = etcd {
                command.arg("--store").arg(format!("etcd://{}", etcd.client));
            }
            let mut process = Process::start(&mut command, "nothing, it should have been built");
            let url = format!("https://127.0.0.1:{port}");
            let current =
                || std::fs::read_to_string(&kubeconfig).is_ok_and(|text| text.contains(&url));
            if until(|| process.has_ended() || (current() && ready(&kubeconfig)))
                && !process.has_ended()
            {
                return Self { url, kubeconfig, process, etcd: None };
            }
        }
        panic!("the server does not get ready; the logs:\n{}", logs(home));
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }
}

fn command(home: &Path, port: u16) -> Command {
    let log = File::create(home.join("server.log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_heddle-server"));
    command
        .args(["run", "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"])
        .args(["--secure-port", &port.to_string()])
        .arg("--data-dir")
        .arg(home.join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command
}
