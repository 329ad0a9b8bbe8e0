//! What a runtime passes in the environment: `CNI_COMMAND` and its companions, and `CNI_ARGS`.
//!
//! The messages are the reference implementation's (its `skel`), because scripts and people match on them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, ErrorCode};

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
        let environment = Self {
            command,
            container_id: get("CNI_CONTAINERID"),
            netns: Some(get("CNI_NETNS")).filter(|path| !path.is_empty()).map(PathBuf::from),
            ifname: get("CNI_IFNAME"),
            args: CniArgs::parse(&get("CNI_ARGS"))?,
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

/// `CNI_ARGS`: `KEY=VALUE;KEY2=VALUE2`. Later pairs win.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    pairs: BTreeMap<String, String>,
}

impl CniArgs {
    /// Parses the variable; empty text has no pairs.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut pairs = BTreeMap::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(invalid(format!("CNI_ARGS: invalid pair {pair:?}: write KEY=VALUE")));
            };
            pairs.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self { pairs })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(String::as_str)
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Refuses keys that the plugin does not know, unless `IgnoreUnknown` is set, as the reference does.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<(), Error> {
        let truthy =
            |value: &str| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "t");
        if self.get("IgnoreUnknown").is_some_and(truthy) {
            return Ok(());
        }
        let unknown: Vec<_> = self
            .pairs
            .keys()
            .filter(|key| *key != "IgnoreUnknown" && !known.contains(&key.as_str()))
            .cloned()
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(invalid(format!("ARGS: unknown args {unknown:?}"))
            .with_details("set IgnoreUnknown=1 in CNI_ARGS to accept them"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Environment>, Error> {
        Environment::read(&|name| {
            pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned())
        })
    }

    const FULL: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin:/b"),
    ];

    #[test]
    fn a_full_environment_is_read() {
        let env = read(&FULL).unwrap().unwrap();
        assert_eq!(env.command, Command::Add);
        assert_eq!(env.path, [PathBuf::from("/opt/cni/bin"), PathBuf::from("/b")]);
        assert!(!env.netns_override);
    }

    #[test]
    fn no_command_is_a_person() {
        assert!(read(&[]).unwrap().is_none());
    }

    #[test]
    fn messages_are_the_references() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("CNI_COMMAND", "FOO")], "unknown CNI_COMMAND: FOO"),
            (
                &[("CNI_COMMAND", "ADD")],
                "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
            ),
            (
                &[("CNI_COMMAND", "DEL")],
                "required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing",
            ),
            (&[("CNI_COMMAND", "GC")], "required env variables [CNI_PATH] missing"),
            (
                &[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "a/b")],
                "invalid characters in containerID",
            ),
            (
                &[
                    ("CNI_COMMAND", "DEL"),
                    ("CNI_CONTAINERID", "a"),
                    ("CNI_IFNAME", "0123456789abcdef"),
                ],
                "interface name is too long",
            ),
            (
                &[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "..")],
                "interface name is . or ..",
            ),
            (
                &[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "a b")],
                "interface name contains / or : or whitespace characters",
            ),
        ];
        for (env, message) in cases {
            let error = read(env).unwrap_err();
            assert_eq!((error.msg.as_str(), error.code.code()), (*message, 4));
        }
    }

    #[test]
    fn args_are_pairs() {
        let args = CniArgs::parse("IgnoreUnknown=1;MAC=00:11:22:33:44:55;A=b=c").unwrap();
        assert_eq!(args.get("MAC"), Some("00:11:22:33:44:55"));
        assert_eq!(args.get("A"), Some("b=c"));
        assert!(args.refuse_unknown(&["MAC"]).is_ok());
        assert!(CniArgs::parse("MAC").is_err());
        let strict = CniArgs::parse("K8S_POD_NAME=x").unwrap();
        assert!(strict.refuse_unknown(&["MAC"]).unwrap_err().msg.contains("K8S_POD_NAME"));
    }
}
