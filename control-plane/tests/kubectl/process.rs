//! Programs that a test starts, ended with the value that holds them, also when the test panics.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long anything may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A running program.
pub struct Process(pub Child);

impl Process {
    /// Starts it; `what` to install when it is not there.
    pub fn start(command: &mut Command, what: &str) -> Self {
        let name = command.get_program().to_owned();
        Self(command.spawn().unwrap_or_else(|error| {
            panic!("{} does not start: {error}; install {what}", name.display())
        }))
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("a child of ours").is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of loopback that nobody has right now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Asks until the answer is yes; whether it was in time.
pub fn until(mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
