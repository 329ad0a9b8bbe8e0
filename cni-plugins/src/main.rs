//! `heddle-cni`: every Heddle CNI plugin in one file. The name that it is called by picks the plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_plugins::program::run(std::env::args_os())
}
