//! `netns`: look at and enter network namespaces, and see who is connected to whom.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use netns_tools::cause::one_line;

fn main() -> ExitCode {
    // clap ends the process with 2 for wrong usage and 0 for --help and --version.
    let cli = cli::Cli::parse();
    match cli::run(cli, &mut std::io::stdout().lock()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("netns: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}
