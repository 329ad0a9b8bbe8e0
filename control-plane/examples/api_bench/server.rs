//! The program that is measured.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Failure;
use super::client::Client;

/// The kernel counts the CPU's time in hundredths of a second, whatever its own clock (`proc(5)`).
const TICK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_mins(1);

/// A running server; killed at the end.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Runs it on a free port, and waits until it is ready.
    pub async fn run(program: &Path, data: &Path) -> Result<Self, Failure> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = free.local_addr()?.port();
        drop(free);
        let child = Command::new(program)
            .args(["run", "--insecure-loopback", "--bind-address", "127.0.0.1"])
            .args(["--disable-admission-plugins", "ServiceAccount"])
            .arg(format!("--secure-port={port}"))
            .arg("--data-dir")
            .arg(data.join("server"))
            .env("HEDDLE_LOG", "error")
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { child, port };
        let begun = Instant::now();
        while !server.is_ready().await {
            if begun.elapsed() > PATIENCE {
                return Err("the server is not ready after a minute".into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(server)
    }

    async fn is_ready(&self) -> bool {
        match Client::connect(self.port).await {
            Ok(mut client) => client.get("/readyz", "*/*").await.is_ok(),
            Err(_) => false,
        }
    }

    fn about(&self, file: &str) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?)
    }

    /// How much memory it has.
    pub fn resident_mb(&self) -> Result<f64, Failure> {
        let status = self.about("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kilobytes: u32 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(f64::from(kilobytes) / 1024.0)
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

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("the server {} is left behind: {error}", self.child.id());
        }
    }
}
