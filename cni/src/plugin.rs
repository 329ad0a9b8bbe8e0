//! The plugin's side of the protocol: read the environment and standard input once, negotiate the version, call the plugin,
//! print exactly one JSON document.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{CniArgs, Command, Environment};
use crate::config::{PluginConf, incompatible};
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
    match call(plugin, suite, environment, io, &mut version) {
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
) -> Result<Option<Value>, Error> {
    let stdin = read_stdin(&mut io.stdin)?;
    let conf = PluginConf::parse(&stdin)?;
    *version = conf.cni_version;
    if !plugin.versions().contains(&conf.cni_version) {
        return Err(incompatible(conf.cni_version.as_str(), plugin.versions()));
    }
    allow(environment.command, conf.cni_version)?;
    let call = Call {
        command: environment.command,
        container_id: environment.container_id,
        netns: environment.netns,
        ifname: environment.ifname,
        args: environment.args,
        path: environment.path,
        netns_override: environment.netns_override,
        valid_attachments: valid_attachments(&conf)?,
        conf,
        stdin,
        variables: io.variables.clone(),
        suite,
    };
    call.dispatch(plugin)
}

impl Call<'_> {
    /// Calls the plugin. `Some` is the document to print.
    pub(crate) fn dispatch(&self, plugin: &dyn Plugin) -> Result<Option<Value>, Error> {
        match self.command {
            Command::Add => plugin.add(self)?.to_json(self.conf.cni_version).map(Some),
            Command::Check => plugin.check(self).map(|()| None),
            Command::Del => plugin.del(self).map(|()| None),
            Command::Gc => plugin.gc(self).map(|()| None),
            Command::Status => plugin.status(self).map(|()| None),
            Command::Version => Ok(Some(version_document(plugin))),
        }
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
        ));
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

/// Both spellings in use are read: the specification's and that of the first libcni that had GC.
fn valid_attachments(conf: &PluginConf) -> Result<Vec<ValidAttachment>, Error> {
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        if let Some(value) = conf.raw.get(key).filter(|value| !value.is_null()) {
            return Vec::deserialize(value)
                .map_err(|error| Error::new(ErrorCode::Decode, format!("{key}: {error}")));
        }
    }
    Ok(Vec::new())
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

/// Prints the one document. A reader that went away cannot be told of it, the exit code can.
fn answer(io: &mut Io<'_>, document: &Value) -> u8 {
    let written = writeln!(io.stdout, "{document:#}").and_then(|()| io.stdout.flush());
    u8::from(written.is_err())
}

#[cfg(test)]
#[path = "plugin/tests.rs"]
mod tests;
