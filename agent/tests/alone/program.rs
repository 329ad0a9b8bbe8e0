//! A program that runs beside a test, pods that answer, and those who ask them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_api_server::Server;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_heddle-agent");
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A program that tells the service manager when it is ready. It ends with this.
pub struct Program {
    child: Child,
    socket: UnixDatagram,
    log: PathBuf,
}

impl Program {
    /// Starts it; its log and the service manager's socket are in `folder`. What one before it said stays in the log.
    pub fn spawn(mut command: Command, folder: &Path) -> Self {
        let (ready, log) = (folder.join("notify"), folder.join("log"));
        fs::remove_file(&ready).ok();
        let socket = UnixDatagram::bind(&ready).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        command.env("NOTIFY_SOCKET", &ready).stdin(Stdio::null());
        command.stderr(File::options().create(true).append(true).open(&log).unwrap());
        Self { child: command.spawn().unwrap(), socket, log }
    }

    /// The same, and waits until it is ready.
    pub fn start(command: Command, folder: &Path) -> Self {
        let program = Self::spawn(command, folder);
        program.wait_until_ready();
        program
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The lines of its log that are warnings or worse.
    pub fn warned(&self) -> Vec<String> {
        let said = self.said();
        let lines = said.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR"));
        lines.map(str::to_owned).collect()
    }

    pub fn wait_until_ready(&self) {
        let mut text = [0; 256];
        loop {
            let length = self.socket.recv(&mut text).unwrap_or_else(|_| panic!("{}", self.said()));
            if text[..length].starts_with(b"READY=1") {
                return;
            }
        }
    }

    /// Ends it as systemd does; what it said.
    pub fn stop(mut self) -> String {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        let said = self.said();
        assert!(status.success(), "{said}");
        said
    }

    /// Ends it as the kernel does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An API server at an address of a namespace, with its kubeconfig in `folder`. It ends with the runtime.
pub fn serve(ns: &TestNetns, at: &str, folder: &Path) -> (Server, tokio::runtime::Runtime) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let listener = ns.run(|| TcpListener::bind(at).unwrap());
    listener.set_nonblocking(true).unwrap();
    let server = runtime
        .block_on(async { Server::serve(tokio::net::TcpListener::from_std(listener).unwrap()) });
    fs::write(folder.join("kubeconfig"), server.kubeconfig()).unwrap();
    (server, runtime)
}

/// Has a pod say its name at port 8080.
pub fn say(pod: &TestNetns, name: &'static str) {
    let listener = pod.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.write_all(name.as_bytes()).ok();
        }
    });
}

/// Asks once; the whole answer.
pub fn ask(from: &TestNetns, to: &str, request: &[u8]) -> std::io::Result<String> {
    from.run(|| {
        let to: SocketAddr = to.parse().unwrap();
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// Asks until it is this one that answers.
pub fn reaches(from: &TestNetns, to: &str, name: &str) {
    within(&format!("{to} is {name}"), || {
        let answer = ask(from, to, b"");
        if answer.as_deref().ok() == Some(name) { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

pub fn within<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) => assert!(Instant::now() < end, "{what}: {reason}"),
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}
