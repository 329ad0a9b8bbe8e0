//! The server as a program, for benchmarks and for trying things out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use test_api_server::Server;
use test_api_server::generate::{Plan, objects};

/// A small Kubernetes API server for tests: no authentication, no checks, all in memory. Changes and faults: POST /control/…
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// Writes a kubeconfig that leads here.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// A JSON file with an object or a `List` to begin with.
    #[arg(long)]
    objects: Option<PathBuf>,
    /// Services to make.
    #[arg(long, default_value_t = 0)]
    services: u32,
    /// Endpoints of each.
    #[arg(long, default_value_t = 2)]
    endpoints: u32,
    /// The node of the first endpoint of each.
    #[arg(long, default_value = "node")]
    node: String,
    /// The address of the first service.
    #[arg(long, default_value_t = Ipv4Addr::new(10, 100, 0, 1))]
    first_address: Ipv4Addr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let server = Server::start(arguments.listen).await?;
    if let Some(path) = arguments.objects {
        server.put(serde_json::from_slice(&std::fs::read(path)?)?);
    }
    server.put_all(objects(&Plan {
        services: arguments.services,
        endpoints: arguments.endpoints,
        node: arguments.node,
        first_address: arguments.first_address,
    }));
    if let Some(path) = arguments.kubeconfig {
        std::fs::write(path, server.kubeconfig())?;
    }
    println!("listening on http://{}", server.address());
    std::future::pending().await
}
