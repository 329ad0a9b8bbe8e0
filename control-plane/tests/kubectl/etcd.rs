//! An etcd of one member on loopback.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{Process, free_port, until};

/// A running member.
pub struct Etcd {
    pub client: String,
    _process: Process,
}

impl Etcd {
    /// Starts one whose files are in `home`, and waits until it listens.
    pub fn start(home: &Path) -> Self {
        // Between the choice of a port and its use somebody else may take it: then once more with others.
        for attempt in 0..5 {
            let (client, peer) =
                (format!("127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
            let folder = home.join(format!("etcd{attempt}"));
            let mut process = Process::start(
                &mut command(&folder, &client, &peer),
                "etcd (apt-get install etcd-server)",
            );
            if until(|| process.has_ended() || TcpStream::connect(&client).is_ok())
                && !process.has_ended()
            {
                return Self { client, _process: process };
            }
        }
        panic!("etcd does not start; its logs:\n{}", logs(home));
    }
}

fn command(folder: &Path, client: &str, peer: &str) -> Command {
    let client = format!("http://{client}");
    let log = File::create(folder.with_extension("log")).expect("a log");
    let mut command = Command::new("etcd");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // Etcd 3.4 refuses to start elsewhere than on amd64 without this word.
        .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"))
        .args(["--name", "m0", "--logger", "zap", "--log-level", "error"])
        .arg("--data-dir")
        .arg(folder)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", &format!("m0={peer}"), "--initial-cluster-state", "new"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log);
    command
}

/// What the logs of a folder say.
pub fn logs(home: &Path) -> String {
    let files = std::fs::read_dir(home)
        .expect("the directory")
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect()
}
