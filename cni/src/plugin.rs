//! The plugin's side of the protocol: read the environment and standard input once, negotiate the version, call the plugin,
//! print exactly one JSON document.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use crate::args::{CniArgs, Command, Environment};
use crate::config::{self, PluginConf, Previous};
use crate::error::{Error, ErrorCode};
use crate::result::CniResult;
use crate::version::Version;

/// The most that is read from standard input, in bytes.
pub const MAX_STDIN: u64 = 4 << 20;

/// One plugin. It is given everything and asked only for what is its own.
pub trait Plugin: Sync {
    /// Its type: the file name under which it is installed.
    fn name(&self) -> &'static str;
    /// One line on what it is, for a person who calls it.
    fn about(&self) -> String;
    /// Attaches a container. The result is complete: it holds what the chain made before as well.
    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error>;
    /// Checks that an attachment is still as ADD left it.
    fn check(&self, call: &Call<'_>) -> Result<(), Error>;
    /// Detaches a container. Idempotent; what is not there is detached.
    fn del(&self, call: &Call<'_>) -> Result<(), Error>;
    /// Releases what belongs to attachments that are not among the valid ones.
    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Ok(())
    }
    /// Whether ADD could be served now.
    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Ok(())
    }
    /// The versions that it speaks.
    fn versions(&self) -> &[Version] {
        Version::ALL
    }
}

/// The plugins that are in this same program, for delegation without another process.
pub trait Suite: Sync {
    /// The plugin of a type.
    fn find(&self, plugin_type: &str) -> Option<&dyn Plugin>;
}

/// A suite of none: every delegate is another program.
pub struct NoSuite;

impl Suite for NoSuite {
    fn find(&self, _: &str) -> Option<&dyn Plugin> {
        None
    }
}

/// An attachment that is in use, as GC is told (`cni.dev/valid-attachments`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct ValidAttachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface in it.
    pub ifname: String,
}

/// One call, validated.
pub struct Call<'a> {
    /// What is asked.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for GC and STATUS.
    pub container_id: String,
    /// `CNI_NETNS`.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`; empty for GC and STATUS.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`.
    pub netns_override: bool,
    /// The configuration.
    pub conf: PluginConf,
    /// GC: the attachments that are in use.
    pub valid_attachments: Vec<ValidAttachment>,
    /// Standard input as it came, which a delegate gets too.
    pub stdin: Vec<u8>,
    /// The variables as they came, which a delegate gets too.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) suite: &'a dyn Suite,
    pub(crate) notes: Notes,
}

/// What is to be said on standard error after the call: what delegates said there (SPEC 1.1.0, section 4).
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<u8>>>);

impl Notes {
    pub(crate) fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A plugin's environment and streams, injectable so that a test can call a plugin in process.
pub struct Io<'a> {
    /// The environment's `CNI_…` variables.
    pub variables: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: Box<dyn Read + 'a>,
    /// Standard output: one JSON document.
    pub stdout: Box<dyn Write + 'a>,
    /// Standard error: words for a person.
    pub stderr: Box<dyn Write + 'a>,
}

impl Io<'static> {
    /// The process' own.
    pub fn from_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(key, value)| {
                Some((key.into_string().ok()?, value.to_string_lossy().into_owned()))
            })
            .filter(|(key, _)| key.starts_with("CNI_"))
            .collect();
        Self {
            variables,
            stdin: Box::new(io::stdin()),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
        }
    }
}

/// Serves one call of `plugin`. Returns the exit code: 0, or 1 after an error document.
pub fn serve(plugin: &dyn Plugin, suite: &dyn Suite, io: &mut Io<'_>) -> u8 {
    let environment = match Environment::read(&|name| io.variables.get(name).cloned()) {
        Ok(Some(environment)) => environment,
        Ok(None) => return about(plugin, io),
        Err(error) => return fail(io, &error, Version::LATEST),
    };
    if environment.command == Command::Version {
        return answer(io, &version_document(plugin));
    }
    let mut version = Version::LATEST;
    let notes = Notes::default();
    let outcome = call(plugin, suite, environment, io, &mut version, &notes);
    // Standard error is for people: nothing depends on whether it can be written.
    io.stderr.write_all(&notes.take()).ok();
    match outcome {
        Ok(None) => 0,
        Ok(Some(document)) => answer(io, &document),
        Err(error) => fail(io, &error, version),
    }
}

/// Everything after the environment. `version` becomes the configuration's as soon as it is known: an error is written in it.
fn call(
    plugin: &dyn Plugin,
    suite: &dyn Suite,
    environment: Environment,
    io: &mut Io<'_>,
    version: &mut Version,
    notes: &Notes,
) -> Result<Option<Value>, Error> {
    let command = environment.command;
    let stdin = read_stdin(&mut io.stdin)?;
    let raw = config::object(&stdin)?;
    if let Ok(known) = config::version_of(&raw, Version::ALL) {
        *version = known;
    }
    let conf = configuration(plugin, command, raw, notes)?;
    allow(command, conf.cni_version)?;
    let call = Call {
        command,
        container_id: environment.container_id,
        netns: environment.netns,
        ifname: environment.ifname,
        args: environment.args,
        path: environment.path,
        netns_override: environment.netns_override,
        valid_attachments: match command {
            Command::Gc => valid_attachments(&conf)?,
            _ => Vec::new(),
        },
        conf,
        stdin,
        variables: io.variables.clone(),
        suite,
        notes: notes.clone(),
    };
    call.dispatch(plugin)
}

fn configuration(
    plugin: &dyn Plugin,
    command: Command,
    raw: Map<String, Value>,
    notes: &Notes,
) -> Result<PluginConf, Error> {
    let given = raw.get("prevResult").is_some_and(|value| !value.is_null());
    let previous = match command {
        Command::Add | Command::Check => Previous::Needed,
        _ => Previous::IfReadable,
    };
    let conf = PluginConf::from_object(raw, plugin.versions(), previous)?;
    if given && conf.prev_result.is_none() {
        notes.add(b"the prevResult cannot be decoded and is ignored\n");
    }
    Ok(conf)
}

impl Call<'_> {
    /// Calls the plugin. `Some` is the document to print.
    fn dispatch(&self, plugin: &dyn Plugin) -> Result<Option<Value>, Error> {
        match self.command {
            Command::Add => plugin.add(self)?.to_json(self.conf.cni_version).map(Some),
            Command::Check => plugin.check(self).map(|()| None),
            Command::Del => plugin.del(self).map(|()| None),
            Command::Gc => plugin.gc(self).map(|()| None),
            Command::Status => plugin.status(self).map(|()| None),
            Command::Version => Ok(Some(version_document(plugin))),
        }
    }

    /// Calls a plugin of this same program with what it would refuse, and answer, as a program of its own.
    pub(crate) fn dispatch_delegate(&self, plugin: &dyn Plugin) -> Result<Option<Value>, Error> {
        let version = self.conf.cni_version;
        if !plugin.versions().contains(&version) {
            return Err(config::incompatible(version.as_str(), plugin.versions()));
        }
        allow(self.command, version)?;
        self.dispatch(plugin)
    }
}

fn read_stdin(stdin: &mut dyn Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    stdin.take(MAX_STDIN + 1).read_to_end(&mut bytes).map_err(|error| {
        Error::new(ErrorCode::Io, "cannot read the network configuration from standard input")
            .with_details(error.to_string())
    })?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(Error::new(
            ErrorCode::Decode,
            format!("the network configuration is larger than {MAX_STDIN} bytes"),
        )
        .with_details("nothing was done; a network configuration is a few kilobytes"));
    }
    Ok(bytes)
}

/// CHECK came with 0.4.0, GC and STATUS with 1.1.0.
fn allow(command: Command, version: Version) -> Result<(), Error> {
    let since = match command {
        Command::Check => Version::V0_4_0,
        Command::Gc | Command::Status => Version::V1_1_0,
        Command::Add | Command::Del | Command::Version => return Ok(()),
    };
    if version >= since {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::IncompatibleVersion,
        format!("config version does not allow {}", command.as_str()),
    )
    .with_details(format!(
        "the configuration is for {version}, {} needs {since}",
        command.as_str()
    )))
}

/// Both spellings in use are read: the specification's, and the one that it wrongly had at first.
///
/// A list that is missing is not an empty one: a plugin that took it so would release every attachment there is.
fn valid_attachments(conf: &PluginConf) -> Result<Vec<ValidAttachment>, Error> {
    const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    for key in KEYS {
        if let Some(value) = conf.raw.get(key) {
            // Go writes an empty list as null.
            return Option::<Vec<_>>::deserialize(value)
                .map(Option::unwrap_or_default)
                .map_err(|error| Error::new(ErrorCode::Decode, format!("{key}: {error}")));
        }
    }
    Err(Error::new(ErrorCode::InvalidConfig, format!("GC needs {}", KEYS[0]))
        .with_details("without it every attachment would be released; write [] to ask for that"))
}

fn version_document(plugin: &dyn Plugin) -> Value {
    let supported: Vec<_> = plugin.versions().iter().map(|version| version.as_str()).collect();
    json!({ "cniVersion": Version::LATEST.as_str(), "supportedVersions": supported })
}

fn about(plugin: &dyn Plugin, io: &mut Io<'_>) -> u8 {
    let supported: Vec<_> = plugin.versions().iter().map(|version| version.as_str()).collect();
    let text =
        format!("{}\nCNI protocol versions supported: {}\n", plugin.about(), supported.join(", "));
    io.stderr.write_all(text.as_bytes()).ok();
    0
}

fn fail(io: &mut Io<'_>, error: &Error, version: Version) -> u8 {
    answer(io, &error.to_json(version));
    1
}

/// Prints the one document, in one write. A reader that went away can be told only by the exit code.
fn answer(io: &mut Io<'_>, document: &Value) -> u8 {
    let mut text = Vec::new();
    // The reference's layout. Writing to memory and of a `Value` cannot fail.
    let mut layout = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    document.serialize(&mut layout).ok();
    text.push(b'\n');
    match io.stdout.write_all(&text).and_then(|()| io.stdout.flush()) {
        Ok(()) => 0,
        Err(error) => {
            writeln!(io.stderr, "cannot write the answer to standard output: {error}").ok();
            1
        }
    }
}

#[cfg(test)]
#[path = "plugin/tests.rs"]
mod tests;
