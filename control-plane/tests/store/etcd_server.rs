//! Members of etcd on loopback, in a directory of their own, ended with the value that started them.

use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heddle_server::store::etcd::{EtcdConfig, EtcdStore, EtcdTls};
use tempfile::TempDir;

use crate::events::PATIENCE;
use crate::subject::limits;

/// A running member.
pub struct Member {
    command: Command,
    pub client: String,
    process: Child,
}

impl Member {
    fn start(mut command: Command, client: String) -> Self {
        let process = command.spawn().unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("no etcd on PATH: apt-get install etcd-server"),
            _ => panic!("etcd does not start: {error}"),
        });
        Self { command, client, process }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may have ended by itself, which a test that needs it will notice.
        let _ = self.process.kill();
        self.process.wait().expect("a child of ours");
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.kill();
        self.process = self.command.spawn().expect("it started before");
    }

    fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("a child of ours").is_some()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Members that form a cluster.
pub struct Cluster {
    // Ended before the directory is removed.
    pub members: Vec<Member>,
    pub home: TempDir,
    tls: Option<EtcdTls>,
}

/// Certificates of a cluster that speaks TLS to clients and wants theirs.
pub struct Certificates {
    pub ca: PathBuf,
    pub server: (PathBuf, PathBuf),
    pub client: (PathBuf, PathBuf),
}

impl Cluster {
    /// Starts so many members, and waits until they agree on a leader.
    pub async fn start(size: usize) -> Self {
        Self::start_with(size, |_| None).await
    }

    /// The same with TLS; `certificates` makes them in the directory.
    pub async fn start_with(
        size: usize,
        certificates: impl Fn(&Path) -> Option<Certificates>,
    ) -> Self {
        // Between the choice of a port and its use somebody else may take it: then once more with others.
        for _ in 0..5 {
            let home = tempfile::tempdir().expect("a directory");
            let certificates = certificates(home.path());
            let mut cluster = Self::spawn(size, home, certificates.as_ref());
            if cluster.is_ready().await {
                return cluster;
            }
        }
        panic!("etcd does not start; see its log above");
    }

    fn spawn(size: usize, home: TempDir, certificates: Option<&Certificates>) -> Self {
        let ports = free_ports(2 * size);
        let peers: Vec<_> =
            ports[size..].iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let all: Vec<_> =
            peers.iter().enumerate().map(|(i, peer)| format!("m{i}={peer}")).collect();
        let members = (0..size)
            .map(|i| {
                let client = format!("127.0.0.1:{}", ports[i]);
                let command =
                    command(home.path(), i, &client, &peers[i], &all.join(","), certificates);
                Member::start(command, client)
            })
            .collect();
        let tls = certificates.map(|certificates| EtcdTls {
            ca: Some(certificates.ca.clone()),
            identity: Some(certificates.client.clone()),
        });
        Self { members, home, tls }
    }

    async fn is_ready(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.members.iter_mut().any(Member::has_ended) {
                break;
            }
            let config = EtcdConfig { timeout: Duration::from_secs(2), ..self.config() };
            if EtcdStore::connect(config).await.is_ok() {
                return true;
            }
        }
        for i in 0..self.members.len() {
            let log = std::fs::read_to_string(self.home.path().join(format!("m{i}.log")));
            eprintln!("log of member {i}: {}", log.unwrap_or_default());
        }
        false
    }

    /// How to reach it.
    pub fn config(&self) -> EtcdConfig {
        let members = self.members.iter().map(|member| member.client.clone()).collect();
        let timeout = PATIENCE / 2;
        let (tls, watch) = (self.tls.clone(), limits());
        EtcdConfig { tls, timeout, retention: None, watch, ..EtcdConfig::new(members) }
    }

    /// A store in it.
    pub async fn store(&self) -> EtcdStore {
        EtcdStore::connect(self.config()).await.expect("the cluster is ready")
    }

    /// Which member leads.
    pub async fn leader(&self) -> usize {
        for (i, member) in self.members.iter().enumerate() {
            let mut client =
                etcd_client::Client::connect([&member.client], None).await.expect("a client");
            let status = client.status().await.expect("a status");
            let header = status.header().expect("a header");
            if status.leader() == header.member_id() {
                return i;
            }
        }
        panic!("nobody leads");
    }
}

fn command(
    home: &Path,
    index: usize,
    client: &str,
    peer: &str,
    all: &str,
    certificates: Option<&Certificates>,
) -> Command {
    let scheme = if certificates.is_some() { "https" } else { "http" };
    let client = format!("{scheme}://{client}");
    let log = File::create(home.join(format!("m{index}.log"))).expect("a log");
    let mut command = Command::new("etcd");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // Etcd 3.4 refuses to start elsewhere than on amd64 without this word.
        .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"))
        .args(["--name", &format!("m{index}"), "--logger", "zap", "--log-level", "error"])
        .arg("--data-dir")
        .arg(home.join(format!("m{index}")))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", all, "--initial-cluster-state", "new"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log);
    if let Some(Certificates { ca, server: (certificate, key), .. }) = certificates {
        command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
        command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(ca);
    }
    command
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}
