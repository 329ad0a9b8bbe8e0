//! The server for programs without a runtime of their own, such as benchmarks.

use std::io;
use std::net::TcpListener;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::server::Server;

/// A server on a thread of its own, which ends with this.
pub struct ServerThread {
    /// The server.
    pub server: Server,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ServerThread {
    /// Serves on a listener, which may be of another network namespace.
    pub fn start(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server = runtime.block_on(async {
            io::Result::Ok(Server::serve(tokio::net::TcpListener::from_std(listener)?))
        })?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || drop(runtime.block_on(stopped)));
        Ok(Self { server, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
