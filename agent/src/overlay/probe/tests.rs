//! Probes between real network namespaces.

mod checksum;
mod mtu;
mod world;

/// Runs a task on a runtime of the calling thread, and so in its network namespace.
pub fn block_on<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task)
}
