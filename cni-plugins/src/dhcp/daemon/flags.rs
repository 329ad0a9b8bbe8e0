//! The command line of the daemon: the reference's flags, by their names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::dhcp::conf::DEFAULT_SOCKET;

/// Where leases are kept: like the namespaces that they are for, they do not outlive the machine's run.
const DEFAULT_STATE: &str = "/run/cni/dhcp-leases";

/// The flags. They can also be written as the reference's: `-socketpath PATH`.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Write the daemon's process number to this file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Where the host's root is, seen from the daemon: put before the paths of namespaces, socket and leases
    #[arg(long, value_name = "DIR")]
    pub hostprefix: Option<PathBuf>,
    /// The socket to listen on, unless systemd passes one
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socketpath: PathBuf,
    /// Ask servers to broadcast their answers
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub broadcast: bool,
    /// How long a single exchange with servers may take before it is begun anew
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// The longest pause between two messages to servers
    #[arg(long, value_name = "DURATION", default_value = "62s", value_parser = duration)]
    pub resendmax: Duration,
    /// How long to look for an address before ADD fails
    #[arg(long, value_name = "DURATION", default_value = "208s", value_parser = duration)]
    pub resendtimeout: Duration,
    /// Where leases are kept over a restart of the daemon
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE)]
    pub statedir: PathBuf,
}

impl Flags {
    /// A path of the host as the daemon sees it.
    pub fn at(&self, path: &Path) -> PathBuf {
        prefixed(self.hostprefix.as_deref(), path)
    }
}

/// `path` below `prefix`, as text is put together: both may be absolute.
pub fn prefixed(prefix: Option<&Path>, path: &Path) -> PathBuf {
    let mut whole = prefix.unwrap_or(Path::new("")).as_os_str().to_owned();
    whole.push(path);
    whole.into()
}

/// Arguments in the style of Go, where one dash does, as this parser wants them.
pub fn go_style(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let double = |arg: OsString| match arg.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(name) if name.len() > 1 && !name.starts_with('-') => format!("--{name}").into(),
        _ => arg,
    };
    args.map(double).collect()
}

/// Go's notation: `1m30s`, `1.5s`, `300ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 10s, 1m30s or 300ms");
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * seconds;
        rest = tail;
    }
    let duration = Duration::try_from_secs_f64(total).map_err(|_| wrong())?;
    if duration.is_zero() { Err(wrong()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(words: &str) -> Result<Flags, String> {
        let words = ["x"].into_iter().chain(words.split_whitespace()).map(OsString::from);
        let line = Line::try_parse_from(go_style(words)).map_err(|error| error.to_string())?;
        Ok(line.flags)
    }

    #[test]
    fn durations() {
        let table = [
            ("10s", Some(10_000)),
            ("1m2s", Some(62_000)),
            ("300ms", Some(300)),
            ("1.5s", Some(1500)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("0s", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
        ];
        for (text, millis) in table {
            assert_eq!(duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn the_references_spelling_and_ours() {
        let flags = parse("").unwrap();
        assert_eq!(flags.socketpath, Path::new("/run/cni/dhcp.sock"));
        assert_eq!(
            (flags.timeout, flags.resendmax, flags.resendtimeout),
            (Duration::from_secs(10), Duration::from_secs(62), Duration::from_secs(208))
        );
        assert!(!flags.broadcast);
        for words in [
            "-pidfile /p -hostprefix /host -socketpath=/s -broadcast -timeout 1s -resendmax=2s -resendtimeout 3s",
            "--pidfile /p --hostprefix=/host --socketpath /s --broadcast --timeout=1s --resendmax 2s --resendtimeout 3s",
        ] {
            let flags = parse(words).unwrap();
            assert_eq!(flags.pidfile.as_deref(), Some(Path::new("/p")));
            assert_eq!(flags.at(&flags.socketpath), Path::new("/host/s"));
            assert!(flags.broadcast);
            assert_eq!(flags.resendtimeout, Duration::from_secs(3));
        }
        assert!(!parse("-broadcast=false").unwrap().broadcast);
        assert!(parse("-timeout never").unwrap_err().contains("is not a duration"));
    }
}
