//! What a runtime passes in the environment: `CNI_COMMAND` and its companions, and `CNI_ARGS`.
//!
//! The messages are the reference implementation's (its `skel`), because scripts and people match on them.

use std::path::PathBuf;

use crate::error::{Error, ErrorCode};
use crate::quote;

/// `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the command of the same name")]
pub enum Command {
    Add,
    Check,
    Del,
    Gc,
    Status,
    Version,
}

impl Command {
    /// As it stands in the environment.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Add, Self::Check, Self::Del, Self::Gc, Self::Status, Self::Version]
            .into_iter()
            .find(|command| command.as_str() == text)
    }

    /// Whether the command is about one attachment.
    const fn needs_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Check | Self::Del)
    }

    const fn needs_netns(self) -> bool {
        matches!(self, Self::Add | Self::Check)
    }
}

/// The environment of one call, validated.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for GC and STATUS.
    pub container_id: String,
    /// `CNI_NETNS`.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`; empty for GC and STATUS.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// `CNI_PATH`, split.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: a namespace equal to the plugin's own is accepted.
    pub netns_override: bool,
}

/// Looks up one variable.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl Environment {
    /// Reads and validates the variables. `Ok(None)`: `CNI_COMMAND` is not set, so a person called and wants to know what this is.
    pub fn read(lookup: &Lookup<'_>) -> Result<Option<Self>, Error> {
        let get = |name: &str| lookup(name).unwrap_or_default();
        let word = get("CNI_COMMAND");
        if word.is_empty() {
            return Ok(None);
        }
        let command =
            Command::parse(&word).ok_or_else(|| invalid(format!("unknown CNI_COMMAND: {word}")))?;
        let args = match command {
            // VERSION is about the plugin alone: nothing else of the environment may stand in its way.
            Command::Version => CniArgs::default(),
            _ => CniArgs::parse(&get("CNI_ARGS"))?,
        };
        let environment = Self {
            command,
            container_id: get("CNI_CONTAINERID"),
            netns: Some(get("CNI_NETNS")).filter(|path| !path.is_empty()).map(PathBuf::from),
            ifname: get("CNI_IFNAME"),
            args,
            path: std::env::split_paths(&get("CNI_PATH"))
                .filter(|p| !p.as_os_str().is_empty())
                .collect(),
            netns_override: matches!(
                get("CNI_NETNS_OVERRIDE").to_ascii_uppercase().as_str(),
                "1" | "TRUE"
            ),
        };
        if command != Command::Version {
            environment.validate()?;
        }
        Ok(Some(environment))
    }

    fn validate(&self) -> Result<(), Error> {
        let mut missing = Vec::new();
        if self.command.needs_attachment() {
            match self.container_id.as_str() {
                "" => missing.push("CNI_CONTAINERID"),
                id => validate_container_id(id)?,
            }
        }
        if self.command.needs_netns() && self.netns.is_none() {
            missing.push("CNI_NETNS");
        }
        if self.command.needs_attachment() {
            match self.ifname.as_str() {
                "" => missing.push("CNI_IFNAME"),
                name => validate_ifname(name)?,
            }
        }
        if self.path.is_empty() {
            missing.push("CNI_PATH");
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(invalid(format!("required env variables [{}] missing", missing.join(","))))
    }
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidEnvironment, msg)
}

/// Whether a text is an identifier of the specification: `[a-zA-Z0-9][a-zA-Z0-9_.\-]*`. Such a text is also a safe file name.
pub fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Checks a container id.
pub fn validate_container_id(id: &str) -> Result<(), Error> {
    if is_identifier(id) {
        return Ok(());
    }
    Err(invalid("invalid characters in containerID").with_details(id))
}

/// Checks an interface name by the kernel's rules.
pub fn validate_ifname(name: &str) -> Result<(), Error> {
    if name.len() > 15 {
        return Err(invalid("interface name is too long")
            .with_details(format!("{name:?} has more than 15 bytes")));
    }
    if name == "." || name == ".." {
        return Err(invalid("interface name is . or .."));
    }
    if name.is_empty()
        || name.chars().any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
    {
        return Err(invalid("interface name contains / or : or whitespace characters")
            .with_details(format!("{name:?}")));
    }
    Ok(())
}

/// The pair that makes unknown pairs acceptable.
const IGNORE_UNKNOWN: &str = "IgnoreUnknown";

/// `CNI_ARGS`: `KEY=VALUE;KEY2=VALUE2`. Keys are case-sensitive; of a key that is given twice the last value counts.
///
/// Two things that the reference refuses are accepted, because nothing is gained by refusing them: a value that contains `=`,
/// and an empty segment such as a trailing `;`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    pairs: Vec<(String, String)>,
}

impl CniArgs {
    /// Parses the variable; empty text has no pairs.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut pairs = Vec::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(invalid(format!("ARGS: invalid pair {pair:?}"))
                    .with_details("CNI_ARGS is written KEY=VALUE;KEY2=VALUE2"));
            };
            pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self { pairs })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().filter(|(own, _)| *own == key).last().map(|(_, value)| value)
    }

    /// All pairs, in the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Refuses keys that the plugin does not know, unless `IgnoreUnknown` is set, as the reference does.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<(), Error> {
        if self.ignores_unknown()? {
            return Ok(());
        }
        let unknown: Vec<_> = self
            .iter()
            .filter(|(key, _)| *key != IGNORE_UNKNOWN && !known.contains(key))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(invalid(format!("ARGS: unknown args {}", quote::list(&unknown)))
            .with_details("set IgnoreUnknown=1 in CNI_ARGS to accept them"))
    }

    fn ignores_unknown(&self) -> Result<bool, Error> {
        let Some(value) = self.get(IGNORE_UNKNOWN) else { return Ok(false) };
        match value.to_lowercase().as_str() {
            "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => {
                let pair = format!("{IGNORE_UNKNOWN}={value}");
                Err(invalid(format!(
                    "ARGS: error parsing value of pair {pair:?}: boolean unmarshal error: invalid input {value}"
                ))
                .with_details("write 1, true, 0 or false"))
            }
        }
    }
}

#[cfg(test)]
#[path = "args/tests.rs"]
mod tests;
