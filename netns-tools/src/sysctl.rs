//! Kernel parameters below `/proc/sys`, in the calling thread's network namespace where they are per namespace.
//!
//! To act on another namespace: `ns.visit(|| sysctl::write("net/ipv4/ip_forward", "1"))`. See sysctl(8) and
//! `Documentation/networking/ip-sysctl.rst`.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const ROOT: &str = "/proc/sys";

/// A kernel parameter that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysctlError {
    /// The key cannot be a path below `/proc/sys`.
    #[error("`{key}` is not a kernel parameter; expected a name such as net/ipv4/ip_forward")]
    InvalidKey {
        /// The key as given.
        key: String,
    },
    /// This kernel, or this namespace, has no such parameter: a module may not be loaded, or a link may be gone.
    #[error("there is no kernel parameter {key} here (is its module loaded? is its link there?)")]
    NotFound {
        /// The key as given.
        key: String,
    },
    /// Reading failed.
    #[error("cannot read kernel parameter {key}")]
    Read {
        /// The key as given.
        key: String,
        /// Why.
        source: io::Error,
    },
    /// Writing failed. `EROFS` in a container means that `/proc/sys` is mounted read-only; `EINVAL` that the kernel does
    /// not accept the value.
    #[error("cannot set kernel parameter {key} to `{value}`")]
    Write {
        /// The key as given.
        key: String,
        /// The value that was refused.
        value: String,
        /// Why.
        source: io::Error,
    },
}

impl SysctlError {
    /// Whether there is no such parameter. IPv6 may be switched off altogether, for example.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, SysctlError>;

/// The value of `key`, without the newline at its end.
///
/// A key is written with `/` or with `.`, whichever comes first being the separator (sysctl(8)):
/// `net/ipv4/conf/eth0.5/forwarding` is `net.ipv4.conf.eth0/5.forwarding`.
pub fn read(key: &str) -> Result<String> {
    let path = path(key)?;
    match std::fs::read_to_string(path) {
        Ok(value) => Ok(value.trim_end().to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(SysctlError::NotFound { key: key.into() })
        }
        Err(source) => Err(SysctlError::Read { key: key.into(), source }),
    }
}

/// Sets `key` to `value`.
pub fn write(key: &str, value: &str) -> Result<()> {
    let path = path(key)?;
    // Not `fs::write`, which would try to create a parameter that does not exist.
    let written = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SysctlError::NotFound { key: key.into() },
        _ => SysctlError::Write { key: key.into(), value: value.into(), source },
    })
}

/// Sets `key` to `value` unless it has that value; says whether it was changed. So a parameter that is right already can
/// be ensured where `/proc/sys` is read-only, as in a container.
///
/// The file is opened once for both where that is allowed. The kernel keeps the parameters of all namespaces under the same names, and
/// to look one up takes it the longer the more namespaces there are: with 400 of them a tenth of an ADD.
pub fn ensure(key: &str, value: &str) -> Result<bool> {
    let file = OpenOptions::new().read(true).write(true).open(path(key)?);
    let Ok(mut file) = file else {
        // Not there, or read-only: as it was.
        if same(&read(key)?, value) {
            return Ok(false);
        }
        return write(key, value).map(|()| true);
    };
    let mut now = String::new();
    file.read_to_string(&mut now)
        .map_err(|source| SysctlError::Read { key: key.into(), source })?;
    if same(&now, value) {
        return Ok(false);
    }
    // At its beginning: the kernel refuses, or ignores, what is written elsewhere (sysctl_writes_strict).
    file.write_all_at(value.as_bytes(), 0).map(|()| true).map_err(|source| SysctlError::Write {
        key: key.into(),
        value: value.into(),
        source,
    })
}

/// The kernel puts tabs between several values, and a newline at the end.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

/// The file of `key`, which never lies outside of `/proc/sys`.
fn path(key: &str) -> Result<PathBuf> {
    let with_slashes: Cow<'_, str> = match key.find(['.', '/']) {
        Some(first) if key.as_bytes()[first] == b'.' => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect::<String>()
            .into(),
        _ => key.into(),
    };
    let sound = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if with_slashes.split('/').all(sound) {
        Ok(Path::new(ROOT).join(&*with_slashes))
    } else {
        Err(SysctlError::InvalidKey { key: key.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestNetns;

    #[test]
    fn keys() {
        let table = [
            ("net/ipv4/ip_forward", Some("/proc/sys/net/ipv4/ip_forward")),
            ("net.ipv4.ip_forward", Some("/proc/sys/net/ipv4/ip_forward")),
            ("net/ipv4/conf/eth0.5/forwarding", Some("/proc/sys/net/ipv4/conf/eth0.5/forwarding")),
            ("net.ipv4.conf.eth0/5.forwarding", Some("/proc/sys/net/ipv4/conf/eth0.5/forwarding")),
            ("", None),
            ("/net/ipv4/ip_forward", None),
            ("../../etc/passwd", None),
            ("net/../../../etc/passwd", None),
            ("net/ipv4/./ip_forward", None),
            ("net//ipv4", None),
            ("net/ipv4/", None),
            ("net.ipv4..ip_forward", None),
            ("net/ipv4/ip\0", None),
        ];
        for (key, want) in table {
            assert_eq!(path(key).ok().as_deref(), want.map(Path::new), "{key}");
        }
    }

    #[test]
    fn acts_on_the_threads_namespace() {
        let (one, other) = (TestNetns::new("sysctl"), TestNetns::new("sysctl"));
        let key = "net/ipv4/ip_forward";
        one.run(|| write(key, "0").unwrap());
        other.run(|| write(key, "0").unwrap());
        assert!(one.run(|| ensure(key, "1").unwrap()));
        assert!(!one.run(|| ensure(key, "1").unwrap()));
        assert_eq!(one.run(|| read(key).unwrap()), "1");
        assert_eq!(other.run(|| read(key).unwrap()), "0");
    }

    #[test]
    fn values_in_several_parts_are_compared_by_parts() {
        let ns = TestNetns::new("sysctl");
        ns.run(|| {
            assert!(ensure("net/ipv4/ip_local_port_range", "20000 20100").unwrap());
            assert!(!ensure("net/ipv4/ip_local_port_range", "20000 20100").unwrap());
        });
    }

    #[test]
    fn says_what_is_wrong() {
        let ns = TestNetns::new("sysctl");
        ns.run(|| {
            let missing = write("net/ipv4/conf/nosuch/forwarding", "1").unwrap_err();
            assert!(missing.is_not_found(), "{missing:?}");
            assert!(read("net/ipv4/conf/nosuch/forwarding").unwrap_err().is_not_found());
            let wrong = write("net/ipv4/ip_forward", "perhaps").unwrap_err();
            assert_eq!(
                wrong.to_string(),
                "cannot set kernel parameter net/ipv4/ip_forward to `perhaps`"
            );
        });
    }
}
