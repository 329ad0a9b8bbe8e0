//! `/etc/cni/tuning/allowlist.conf`: which kernel parameters a network may set. One regular expression a line, which may match
//! anywhere in a key as the configuration writes it. Without the file everything is allowed.

use std::fs;
use std::io;
use std::path::Path;

use cni::{Error, ErrorCode};
use regex_lite::Regex;

use super::sysctls::Sysctl;

/// The same file as the reference's.
const PATH: &str = "/etc/cni/tuning/allowlist.conf";

/// Refuses what is not allowed.
pub fn check(sysctls: &[Sysctl]) -> Result<(), Error> {
    match read(Path::new(PATH))? {
        Some(lines) => check_lines(sysctls, &lines),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<Option<Vec<String>>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            Ok(Some(lines.map(str::to_owned).collect()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            // Going on as if everything were allowed would be the wrong way to fail.
            let msg = format!("cannot read the list of allowed sysctls {}", path.display());
            Err(Error::new(ErrorCode::Io, msg).with_details(error.to_string()))
        }
    }
}

fn check_lines(sysctls: &[Sysctl], lines: &[String]) -> Result<(), Error> {
    let patterns = lines.iter().map(|line| pattern(line)).collect::<Result<Vec<_>, _>>()?;
    let allowed = |sysctl: &Sysctl| patterns.iter().any(|pattern| pattern.is_match(&sysctl.key));
    let Some(refused) = sysctls.iter().find(|sysctl| !allowed(sysctl)) else { return Ok(()) };
    let msg = format!(
        "Sysctl {} is not allowed. Only the following sysctls are allowed: [{}]",
        refused.key,
        lines.join(" ")
    );
    let details = format!("an administrator of this node may add a line to {PATH}");
    Err(Error::new(ErrorCode::InvalidConfig, msg).with_details(details))
}

fn pattern(line: &str) -> Result<Regex, Error> {
    Regex::new(line).map_err(|error| {
        let msg = format!("{PATH}: {line:?} is not a regular expression");
        Error::new(ErrorCode::InvalidConfig, msg).with_details(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_it(key: &str, text: &str) -> Result<(), Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let sysctl = Sysctl { key: key.into(), value: "1".into() };
        check_lines(&[sysctl], &read(file.path()).unwrap().unwrap())
    }

    #[test]
    fn lines_are_expressions_that_match_anywhere() {
        let list = "\n  ^net\\.core\\.somaxconn$ \nipv4.conf\n";
        for (key, allowed) in [
            ("net.core.somaxconn", true),
            ("net.core.somaxconn2", false),
            ("net/ipv4/conf/IFNAME/forwarding", true),
            ("net.ipv6.conf.all.forwarding", false),
        ] {
            assert_eq!(try_it(key, list).is_ok(), allowed, "{key}");
        }
        let refused = try_it("net.a", list).unwrap_err();
        assert_eq!(
            refused.msg,
            "Sysctl net.a is not allowed. Only the following sysctls are allowed: [^net\\.core\\.somaxconn$ ipv4.conf]"
        );
    }

    #[test]
    fn an_empty_list_allows_nothing_and_a_missing_one_everything() {
        assert!(try_it("net.core.somaxconn", "\n").is_err());
        assert_eq!(read(Path::new("/no/such/file")).unwrap(), None);
        assert_eq!(read(Path::new("/")).unwrap_err().code, ErrorCode::Io);
    }

    #[test]
    fn a_broken_expression_is_named() {
        let error = try_it("net.core.somaxconn", "net.core.somaxconn\n(").unwrap_err();
        assert!(error.msg.contains("\"(\" is not a regular expression"), "{error}");
    }
}
