//! In which order addresses were given back, so that the one that has rested longest is handed out first.
//!
//! Round robin alone (`last_reserved_ip`) counts from the address that was handed out last, not from the one that was given
//! back last: the neighbour of the former may have been free for a week or for a millisecond. Whoever still knows the old
//! container behind an address, a connection or a neighbour's cache, then talks to the wrong one.
//!
//! `.heddle-freed` has a line for each release, the newest last: `freed 10.1.0.2`. (The word makes a line no container's id: the
//! reference takes a file whose content is a container's id for that container's lease.) Only the latest releases are
//! kept; whatever is not among them has rested longer. Losing the file costs an order, never an address, so a failure to
//! write it fails nothing.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const FILE: &str = ".heddle-freed";
const NEW_FILE: &str = ".heddle-freed-new";
const WORD: &str = "freed ";
/// So many releases are kept when the file is shortened.
const KEPT: usize = 1024;
/// The length, in bytes, at which it is: about four times as many lines.
const LONG: u64 = 64 << 10;

/// The addresses that were given back lately, each once, the one that has rested longest first.
pub(super) fn read(dir: &Path) -> Vec<IpAddr> {
    let text = fs::read(dir.join(FILE)).unwrap_or_default();
    // A power failure may leave anything in it.
    let text = String::from_utf8_lossy(&text);
    let mut seen = HashSet::new();
    let newest_first = text.lines().rev().filter_map(|line| line.strip_prefix(WORD)?.parse().ok());
    let mut list: Vec<IpAddr> = newest_first.filter(|ip| seen.insert(*ip)).collect();
    list.reverse();
    list
}

/// Notes that `address` was given back.
pub(super) fn note(dir: &Path, address: IpAddr) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(dir.join(FILE))?;
    file.write_all(line(address).as_bytes())?;
    if file.metadata()?.len() > LONG { shorten(dir) } else { Ok(()) }
}

fn shorten(dir: &Path) -> io::Result<()> {
    let list = read(dir);
    let kept = &list[list.len().saturating_sub(KEPT)..];
    let text: String = kept.iter().map(|address| line(*address)).collect();
    let new = dir.join(NEW_FILE);
    fs::write(&new, text)?;
    fs::rename(new, dir.join(FILE))
}

fn line(address: IpAddr) -> String {
    format!("{WORD}{address}\n")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tempfile::TempDir;

    use super::*;

    fn ip(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a01_0000 + number).into()
    }

    #[test]
    fn the_last_release_of_an_address_counts() {
        let dir = TempDir::new().unwrap();
        assert!(read(dir.path()).is_empty());
        for number in [1, 2, 3, 1] {
            note(dir.path(), ip(number)).unwrap();
        }
        assert_eq!(read(dir.path()), [ip(2), ip(3), ip(1)]);
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(FILE), b"\xff\0\0freed x\nfreed 10.1.0.7\nfre").unwrap();
        assert_eq!(read(dir.path()), [ip(7)]);
    }

    #[test]
    fn the_file_stays_short_and_keeps_the_latest() {
        let dir = TempDir::new().unwrap();
        for number in 0..9000 {
            note(dir.path(), ip(number)).unwrap();
        }
        let length = fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert!(length <= LONG, "{length}");
        let list = read(dir.path());
        assert!(list.len() >= KEPT, "{}", list.len());
        assert_eq!(list.last(), Some(&ip(8999)));
        assert!(list.is_sorted());
        assert!(!dir.path().join(NEW_FILE).exists());
    }
}
