//! `heddle-server`: a small Kubernetes API server.

use std::error::Error as _;
use std::process::ExitCode;

use clap::Parser;
use heddle_server::command::Command;
use heddle_server::memory;
use tracing_subscriber::EnvFilter;

/// A small Kubernetes API server: one process, one file, stock clients.
#[derive(Parser)]
#[command(name = "heddle-server", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    memory::economise();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let filter = EnvFilter::try_from_env("HEDDLE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Arguments::parse().command.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut message = error.to_string();
            let mut cause = error.source();
            while let Some(one) = cause {
                message += &format!(": {one}");
                cause = one.source();
            }
            tracing::error!("{message}");
            ExitCode::FAILURE
        }
    }
}
