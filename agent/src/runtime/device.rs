//! The node's devices, which a privileged container sees all of.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

/// What every container gets anew, or what belongs to the agent's own terminal.
const OWN: [&str; 6] = ["console", "fd", "mqueue", "ptmx", "pts", "shm"];

/// A device file of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path, the same inside.
    pub path: PathBuf,
    /// Whether it is a block device; else it is a character device.
    pub block: bool,
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
}

impl Device {
    /// As the OCI runtime specification has it (`linux.devices`).
    pub fn to_json(&self) -> Value {
        json!({
            "path": self.path, "type": if self.block { "b" } else { "c" },
            "major": self.major, "minor": self.minor,
            "fileMode": self.mode, "uid": self.uid, "gid": self.gid,
        })
    }
}

/// The devices of the node. One that goes away meanwhile is left out.
pub fn of_the_node() -> io::Result<Vec<Device>> {
    let mut devices = Vec::new();
    collect(Path::new("/dev"), true, &mut devices)?;
    devices.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(devices)
}

fn collect(folder: &Path, is_top: bool, devices: &mut Vec<Device>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_top && OWN.iter().any(|own| name == *own) {
            continue;
        }
        // not through symbolic links: what they lead to is found by its own name
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        let kind = meta.file_type();
        if kind.is_dir() {
            collect(&entry.path(), false, devices)?;
        } else if kind.is_block_device() || kind.is_char_device() {
            devices.push(Device {
                path: entry.path(),
                block: kind.is_block_device(),
                major: major(meta.rdev()),
                minor: minor(meta.rdev()),
                mode: meta.mode() & 0o7777,
                uid: meta.uid(),
                gid: meta.gid(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_among_them_and_terminals_are_not() {
        let devices = of_the_node().unwrap();
        let null = devices.iter().find(|device| device.path == Path::new("/dev/null")).unwrap();
        assert_eq!((null.block, null.major, null.minor, null.mode), (false, 1, 3, 0o666));
        assert_eq!(null.to_json()["type"], "c");
        assert!(!devices.iter().any(|device| device.path.starts_with("/dev/pts")));
    }
}
