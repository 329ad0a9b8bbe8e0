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

use std::cell::{Cell, OnceCell};
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
const KEPT: usize = 512;
/// The length, in bytes, at which it is: about four times as many lines. Every ADD reads the file.
const LONG: u64 = 32 << 10;
/// So many questions are answered from the file's text before the list is made: mostly there is one, and to make the list
/// takes as long as some twenty.
const FROM_TEXT: u32 = 8;

/// The addresses that were given back lately; one that is not among them has rested longer.
#[derive(Debug, Default)]
pub struct Freed {
    text: Vec<u8>,
    asked: Cell<u32>,
    /// Each address once, the one that has rested longest first; and the same in no order.
    list: OnceCell<(Vec<IpAddr>, HashSet<IpAddr>)>,
}

impl Freed {
    /// The releases of the network with this directory.
    pub(super) fn read(dir: &Path) -> Self {
        Self { text: fs::read(dir.join(FILE)).unwrap_or_default(), ..Self::default() }
    }

    /// Whether `address` was given back lately.
    pub fn contains(&self, address: IpAddr) -> bool {
        if self.list.get().is_none() && self.asked.get() < FROM_TEXT {
            self.asked.set(self.asked.get() + 1);
            let (text, line) = (&self.text, line(address));
            return text.split(|byte| *byte == b'\n').any(|one| one == line.trim_end().as_bytes());
        }
        self.parsed().1.contains(&address)
    }

    /// Each address once, the one that has rested longest first.
    pub fn list(&self) -> &[IpAddr] {
        &self.parsed().0
    }

    fn parsed(&self) -> &(Vec<IpAddr>, HashSet<IpAddr>) {
        self.list.get_or_init(|| {
            // A power failure may leave anything in it.
            let text = String::from_utf8_lossy(&self.text);
            let mut seen = HashSet::new();
            let newest_first = text.lines().rev();
            let newest_first =
                newest_first.filter_map(|line| line.strip_prefix(WORD)?.parse().ok());
            let mut list: Vec<IpAddr> = newest_first.filter(|ip| seen.insert(*ip)).collect();
            list.reverse();
            (list, seen)
        })
    }
}

/// Of a list that names each address once, the one that has rested longest first.
impl From<Vec<IpAddr>> for Freed {
    fn from(list: Vec<IpAddr>) -> Self {
        let set = list.iter().copied().collect();
        Self { list: OnceCell::from((list, set)), ..Self::default() }
    }
}

/// Notes that `address` was given back.
pub(super) fn note(dir: &Path, address: IpAddr) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(dir.join(FILE))?;
    file.write_all(line(address).as_bytes())?;
    if file.metadata()?.len() > LONG { shorten(dir) } else { Ok(()) }
}

fn shorten(dir: &Path) -> io::Result<()> {
    let freed = Freed::read(dir);
    let list = freed.list();
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
        assert!(Freed::read(dir.path()).list().is_empty());
        for number in [1, 2, 3, 1] {
            note(dir.path(), ip(number)).unwrap();
        }
        assert_eq!(Freed::read(dir.path()).list(), [ip(2), ip(3), ip(1)]);
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(FILE), b"\xff\0\0freed x\nfreed 10.1.0.7\nfre").unwrap();
        assert_eq!(Freed::read(dir.path()).list(), [ip(7)]);
    }

    #[test]
    fn the_text_and_the_list_say_the_same() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(FILE), b"freed fd00::7\nfreed 10.1.0.70\nfreed 10.1.0.8")
            .unwrap();
        let said = |freed: &Freed| {
            let asked = ["fd00::7", "10.1.0.7", "10.1.0.70", "10.1.0.8", "10.1.0.80"];
            asked.map(|address| freed.contains(address.parse().unwrap()))
        };
        let freed = Freed::read(dir.path());
        assert_eq!(said(&freed), [true, false, true, true, false]);
        assert!(freed.list.get().is_none());
        assert_eq!(freed.list().len(), 3);
        assert_eq!(said(&freed), [true, false, true, true, false]);
    }

    #[test]
    fn the_file_stays_short_and_keeps_the_latest() {
        let dir = TempDir::new().unwrap();
        for number in 0..9000 {
            note(dir.path(), ip(number)).unwrap();
        }
        let length = fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert!(length <= LONG, "{length}");
        let freed = Freed::read(dir.path());
        let list = freed.list();
        assert!(list.len() >= KEPT, "{}", list.len());
        assert_eq!(list.last(), Some(&ip(8999)));
        assert!(list.is_sorted());
        assert!(!dir.path().join(NEW_FILE).exists());
    }
}
