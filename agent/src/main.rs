//! Entry point of `heddle-agent`.

use std::path::Path;
use std::process::ExitCode;

use heddle_agent::{cli, log};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // one process per container: nothing of the daemon may be started for it
    if args.next().is_some_and(|word| word == log::COMMAND) {
        return match args.next() {
            Some(path) => log::writer_main(Path::new(&path)),
            None => ExitCode::from(2),
        };
    }
    cli::main()
}
