//! The programs that are measured.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Failure;
use super::client::{Door, Protocol};

/// The kernel counts the CPU's time in hundredths of a second, whatever its own clock (`proc(5)`).
const TICK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_mins(1);

/// A port of loopback that nobody has right now.
pub fn free_port() -> Result<u16, Failure> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A running program; killed at the end.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Result<Self, Failure> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self(child.map_err(|error| format!("{name} does not start: {error}"))?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("the process {} is left behind: {error}", self.0.id());
        }
    }
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub program: PathBuf,
    /// Where its folder is.
    pub place: PathBuf,
    /// The addresses of etcd; `None`: a file.
    pub etcd: Option<String>,
    /// As for everybody: with TLS, and only for those who may.
    pub tls: bool,
}

/// A running server.
pub struct Server {
    process: Process,
    pub door: Door,
}

impl Server {
    /// Runs it on a free port, and waits until it is ready.
    pub async fn run(setup: &Setup) -> Result<Self, Failure> {
        let port = free_port()?;
        let data = setup.place.join("server");
        let mut command = Command::new(&setup.program);
        command
            .args(["run", "--bind-address", "127.0.0.1"])
            .args(["--disable-admission-plugins", "ServiceAccount"])
            .arg(format!("--secure-port={port}"))
            .arg("--data-dir")
            .arg(&data)
            .env("HEDDLE_LOG", "error");
        if !setup.tls {
            command.arg("--insecure-loopback");
        }
        if let Some(etcd) = &setup.etcd {
            command.arg(format!("--store=etcd://{etcd}"));
        }
        let process = Process::start(&mut command)?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            // the certificates are made at the first start
            let door = if setup.tls {
                Door::locked(port, &data.join("pki"))
            } else {
                Ok(Door::open(port))
            };
            if let Ok(door) = door
                && is_ready(&door).await
            {
                return Ok(Self { process, door });
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err("the server is not ready after a minute".into())
    }

    fn about(&self, file: &str) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{file}", self.process.0.id()))?)
    }

    fn memory(&self, what: &str) -> Result<f64, Failure> {
        let status = self.about("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)).ok_or("no such line")?;
        let kilobytes: u32 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(f64::from(kilobytes) / 1024.0)
    }

    /// How much memory it has.
    pub fn resident_mb(&self) -> Result<f64, Failure> {
        self.memory("VmRSS:")
    }

    /// The most that it had since the last time this was asked for.
    pub fn peak_mb(&self) -> Result<f64, Failure> {
        let peak = self.memory("VmHWM:")?;
        // 5: the peak begins anew (`proc(5)`)
        std::fs::write(format!("/proc/{}/clear_refs", self.process.0.id()), "5")?;
        Ok(peak)
    }

    /// How much of the CPU's time it has had.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let stat = self.about("stat")?;
        // the name of the program, in brackets, may hold anything
        let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        Ok(ticks.sum::<Result<u32, _>>()? * TICK)
    }
}

async fn is_ready(door: &Door) -> bool {
    match door.connect(Protocol::Http1).await {
        Ok(mut client) => client.get("/readyz", "*/*").await.is_ok(),
        Err(_) => false,
    }
}

/// Debian's etcd with one member, on the same disk.
pub struct Etcd {
    pub address: String,
    _process: Process,
}

impl Etcd {
    pub async fn run(place: &Path) -> Result<Self, Failure> {
        let [address, peer] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let (client, peer) = (format!("http://{address}"), format!("http://{peer}"));
        let mut command = Command::new("etcd");
        command
            // Etcd 3.4 refuses to start elsewhere than on amd64 without this word.
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"))
            .args(["--name", "m0", "--logger", "zap", "--log-level", "error"])
            .arg("--data-dir")
            .arg(place.join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("m0={peer}"), "--initial-cluster-state", "new"])
            .stderr(Stdio::null());
        let process = Process::start(&mut command).map_err(|error| {
            format!("{error}; apt-get install etcd-server, or --parts without etcd")
        })?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Ok(mut client) = etcd_client::Client::connect([&address], None).await
                && client.get("ready", None).await.is_ok()
            {
                return Ok(Self { address, _process: process });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("etcd is not ready after a minute".into())
    }
}
