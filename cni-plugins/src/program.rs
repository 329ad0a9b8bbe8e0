//! The program around the plugins: which one is meant, or the command line of `heddle-cni` itself.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use cni::plugin::{Io, Plugin, serve};

use crate::call_log::CallLog;
use crate::suite::{PLUGINS, Plugins, find};

/// The name of the program when it is not called as a plugin.
pub const NAME: &str = "heddle-cni";

/// A name that is no plugin.
const EXIT_USAGE: u8 = 2;

/// Runs what the base name of the first argument asks for; returns the exit code.
///
/// A plugin's name: the CNI protocol on environment, standard input and output. Our own name (also with
/// a suffix, such as `heddle-cni-1.2`): the command line. Anything else is an error, told as the caller can
/// read it: in CNI's JSON (exit code 1) if `CNI_COMMAND` is set, else as text (exit code 2).
pub fn run(mut args: impl Iterator<Item = OsString>) -> u8 {
    let called = args.next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or(&called).to_string_lossy().into_owned();
    let mut args = args.peekable();
    if name == "dhcp" && args.next_if(|word| word == "daemon").is_some() {
        // As the reference's daemon is started.
        return crate::cli::run([called, "dhcp-daemon".into()].into_iter().chain(args));
    }
    if let Some(plugin) = find(&name) {
        return call(plugin);
    }
    if name.starts_with(NAME) {
        return crate::cli::run(std::iter::once(called).chain(args));
    }
    unknown(&name, std::env::var_os("CNI_COMMAND").is_some())
}

fn call(plugin: &dyn Plugin) -> u8 {
    let mut answer = Vec::new();
    let mut io: Io<'_> = Io::from_process();
    let Some(log) = CallLog::begin(plugin.name(), &io.variables) else {
        return serve(plugin, &Plugins, &mut io);
    };
    io.stdout = Box::new(Copied { to: std::io::stdout(), copy: &mut answer });
    let code = serve(plugin, &Plugins, &mut io);
    drop(io);
    log.end(code, &answer);
    code
}

/// A writer that remembers what it wrote.
struct Copied<'a, W> {
    to: W,
    copy: &'a mut Vec<u8>,
}

impl<W: Write> Write for Copied<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.copy.extend_from_slice(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn unknown(name: &str, called_by_runtime: bool) -> u8 {
    let names: Vec<_> = PLUGINS.iter().map(|plugin| plugin.name()).collect();
    let msg = format!("{NAME} has no plugin named {name:?}; it has: {}", names.join(", "));
    if !called_by_runtime {
        eprintln!("{msg}\nCall it by one of these names, or as \"{NAME} --help\".");
        return EXIT_USAGE;
    }
    let details = format!("the file {name:?} in the plugin directory is {NAME} under a wrong name");
    let error = cni::Error::new(cni::ErrorCode::InvalidConfig, msg).with_details(details);
    println!("{:#}", error.to_json(cni::Version::LATEST));
    1
}
