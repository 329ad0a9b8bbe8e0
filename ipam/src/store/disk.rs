//! Leases as files, in the layout of the reference `host-local` plugin.
//!
//! In `<data dir>/<network>/`:
//!
//! | file | mode | content |
//! | --- | --- | --- |
//! | `10.1.0.2`, `fd00::2` | 0600 | `<container id>\r\n<interface>`; old format: the container's id alone |
//! | `last_reserved_ip.<set>` | 0600 | the address that this range set handed out last |
//! | `lock` | 0750 | held with `flock(2)` by whoever reads or changes leases |
//! | `.heddle-new` | 0600 | an address file being written where nothing is known of boots (ours only; left over after a crash, harmless) |
//! | `.heddle-boot/` | 0700 | in which boot a lease was made (ours only, see `boot.rs`) |
//! | `.heddle-freed` | 0600 | in which order addresses were given back (ours only, see `freed.rs`) |
//!
//! An address file appears whole or not at all: it is written under another name (the one that says of which boot it is) and then linked
//! with `link(2)`, which fails if the address is taken. The reference creates the file and then writes it, so
//! if it is killed between the two, an **empty** file stays; nobody can ever release that by name. Because
//! every writer holds the lock, an empty file seen under the lock is always such a leftover: it counts as
//! free, [`Store::reserve`] takes it over and [`Store::sweep`] removes it.
//!
//! Nothing is synced to the disk: the leases matter only as long as the containers of this boot live; those of an earlier
//! boot are reclaimed by the first ADD or GC, and a file that a power failure leaves empty as above.

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, DirEntryExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::boot::{Boots, Known, forget_boots};
use super::freed::Freed;
use super::{Holdings, Lease, Owner, Store, StoreError, freed};

/// Where leases are kept unless a configuration says otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// Between the container's id and the interface; the reference ends lines so on every system.
const LINE_BREAK: &str = "\r\n";
/// Not an address, so nobody takes it for one, and used only under the lock, so one name is enough.
const NEW_FILE: &str = ".heddle-new";

/// The leases of one network on disk, locked against every other process and thread.
#[derive(Debug)]
pub struct DiskStore {
    dir: PathBuf,
    boots: Boots,
    /// Whether a lease of which no boot is known is dated when it is seen. Not for DEL.
    dates: bool,
    /// Unlocks on drop.
    _lock: Flock<File>,
}

impl DiskStore {
    /// Makes the network's directory if needed, waits for the lock, and reclaims the leases of earlier boots.
    pub fn lock(data_dir: &Path, network: &str) -> Result<Self, StoreError> {
        let dir = directory(data_dir, network)?;
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&dir);
        made.map_err(|source| failed("create directory", &dir, source))?;
        let mut store = Self::lock_directory(dir)?;
        store.reclaim()?;
        store.dates = true;
        Ok(store)
    }

    /// Waits for the lock; `None` if the network has no directory, that is, no leases. Nothing is reclaimed: what DEL needs
    /// must not depend on more than it.
    pub fn lock_existing(data_dir: &Path, network: &str) -> Result<Option<Self>, StoreError> {
        let dir = directory(data_dir, network)?;
        if !exists(&dir)? {
            return Ok(None);
        }
        Self::lock_directory(dir).map(Some)
    }

    /// Every lease of a network, without waiting for the lock and without writing anything: a snapshot
    /// to look at, not to decide on.
    pub fn peek(data_dir: &Path, network: &str) -> Result<Vec<Lease>, StoreError> {
        let dir = directory(data_dir, network)?;
        if !exists(&dir)? {
            return Ok(Vec::new());
        }
        let boots = Boots::of(&dir);
        let earlier = boots.earlier_folders().and_then(|folders| boots.earlier(&folders));
        let earlier = earlier
            .map_err(|source| failed("look for leases of earlier boots in", &dir, source))?;
        let mut leases = read_leases(&dir)?;
        // The next ADD reclaims them, so they are nobody's.
        leases.retain(|lease| !earlier.contains(&lease.address));
        Ok(leases)
    }

    /// Releases the leases of earlier boots; returns the addresses.
    fn reclaim(&mut self) -> Result<Vec<IpAddr>, StoreError> {
        let dir = self.dir.clone();
        let failed = |source| failed("reclaim leases of earlier boots in", &dir, source);
        let folders = self.boots.earlier_folders().map_err(failed)?;
        let earlier = self.boots.earlier(&folders).map_err(failed)?;
        for address in &earlier {
            self.release(*address)?;
        }
        forget_boots(&folders).map_err(failed)?;
        Ok(earlier.into_iter().collect())
    }

    /// The leases of which it is known that they are of this boot.
    fn known(&self) -> Result<Known, StoreError> {
        let known = self.boots.known();
        known.map_err(|source| failed("look for leases of this boot in", &self.dir, source))
    }

    /// Remembers of a lease of which no boot is known, such as the reference's, that it was there in this one.
    fn date(&self, lease: &Lease) -> Result<(), StoreError> {
        let path = self.dir.join(lease.address.to_string());
        let done = self.boots.remember(lease.address, &lease.container_id, &path);
        done.map_err(|source| failed("remember the boot of", &path, source))
    }

    fn lock_directory(dir: PathBuf) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        // Before the lock: others wait for it.
        let boots = Boots::of(&dir);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o750);
        let mut file =
            options.open(&path).map_err(|source| failed("open lock file", &path, source))?;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(Self { dir, boots, dates: false, _lock: lock }),
                Err((file, nix::Error::EINTR)) => file,
                Err((_, errno)) => return Err(failed("lock", &path, errno.into())),
            }
        }
    }

    /// Writes a lease under a name that is no address: the one that stays as its second, or one that is to be removed.
    fn stage(&self, address: IpAddr, owner: &Owner) -> Result<Staged, StoreError> {
        let content = format!("{}{LINE_BREAK}{}", owner.container_id, owner.ifname);
        let write = |path: &Path| write_new(path, &content);
        let second = self.boots.place(address, &owner.container_id, write).map_err(|source| {
            // Half a file is nobody's lease; it goes with the boot at the latest.
            let _ = self.boots.forget(address);
            failed("remember the boot of", &self.dir.join(address.to_string()), source)
        })?;
        if let Some(path) = second {
            return Ok(Staged { path, stays: true });
        }
        let path = self.dir.join(NEW_FILE);
        // Removed, never truncated: after a crash between link and unlink it may still be a second name
        // of a live lease.
        ignore_missing(fs::remove_file(&path))
            .map_err(|source| failed("remove left-over file", &path, source))?;
        write(&path).map_err(|source| failed("write", &path, source))?;
        Ok(Staged { path, stays: false })
    }

    /// Links the finished file to its address. `false`: the address is taken.
    fn publish(&self, new: &Path, address: IpAddr) -> Result<bool, StoreError> {
        let path = self.dir.join(address.to_string());
        let mut linked = fs::hard_link(new, &path);
        if linked.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
            if !is_leftover(&path) {
                return Ok(false);
            }
            linked = fs::remove_file(&path).and_then(|()| fs::hard_link(new, &path));
        }
        linked.map_err(|source| failed("create address file", &path, source)).map(|()| true)
    }

    /// Written in place. A new file that takes the old one's name would be safer from a crash, which here costs no more than the
    /// round robin, but ext4 then writes its content to the disk at once, while everybody waits for the lock.
    fn set_last_reserved(&self, set: usize, address: IpAddr) -> Result<(), StoreError> {
        let path = self.dir.join(last_reserved_name(set));
        let text = address.to_string();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let written = options.open(&path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            if file.metadata()?.len() == text.len() as u64 {
                return Ok(());
            }
            file.set_len(text.len() as u64)
        });
        written.map_err(|source| failed("write", &path, source))
    }
}

/// A lease that is written but not yet one.
struct Staged {
    path: PathBuf,
    /// Whether the name is the lease's second one.
    stays: bool,
}

impl Store for DiskStore {
    fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        read_leases(&self.dir)
    }

    fn holdings(&self, owner: &Owner) -> Result<Holdings, StoreError> {
        let known = self.known()?;
        let mut holdings = Holdings::default();
        for file in address_files(&self.dir)? {
            let certain = known.is_lease(file.address, file.inode);
            let own = known.may_be_of(&owner.container_id, file.address, file.inode);
            let lease = if certain && !own { None } else { file.read(&self.dir) };
            if let Some(lease) = lease.as_ref().filter(|_| self.dates && !certain) {
                self.date(lease)?;
            }
            if certain || lease.is_some() {
                holdings.taken.push(file.address);
            }
            holdings.own.extend(lease.filter(|lease| lease.belongs_to(owner)));
        }
        Ok(holdings)
    }

    fn last_reserved(&self, set: usize) -> Result<Option<IpAddr>, StoreError> {
        let path = self.dir.join(last_reserved_name(set));
        match fs::read_to_string(&path) {
            // Text that is no address costs the round robin once, not the ADD.
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
                Ok(None)
            }
            Err(source) => Err(failed("read", &path, source)),
        }
    }

    fn reserve(&mut self, address: IpAddr, owner: &Owner, set: usize) -> Result<bool, StoreError> {
        let path = self.dir.join(address.to_string());
        // Before the boot of whoever holds it is overwritten.
        if fs::symlink_metadata(&path).is_ok() && !is_leftover(&path) {
            return Ok(false);
        }
        // With the boot first: a lease that nobody knows the boot of would be reclaimed one boot later than the others.
        let staged = self.stage(address, owner)?;
        let taken = self.publish(&staged.path, address);
        if !(staged.stays && matches!(taken, Ok(true))) {
            // What cannot be removed now is removed by the next write, or with the boot.
            let _ = fs::remove_file(&staged.path);
        }
        if !taken? {
            return Ok(false);
        }
        if let Err(error) = self.set_last_reserved(set, address) {
            self.release(address)?;
            return Err(error);
        }
        Ok(true)
    }

    fn release(&mut self, address: IpAddr) -> Result<bool, StoreError> {
        let path = self.dir.join(address.to_string());
        let held = ignore_missing(fs::remove_file(&path))
            .map_err(|source| failed("remove address file", &path, source))?;
        // The address is free. What fails now costs the order of reuse, or a name that the next boot forgets.
        let _ = self.boots.forget(address);
        if held {
            let _ = freed::note(&self.dir, address);
        }
        Ok(held)
    }

    fn freed(&self) -> Result<Freed, StoreError> {
        Ok(Freed::read(&self.dir))
    }

    fn sweep(&mut self) -> Result<Vec<IpAddr>, StoreError> {
        let mut swept = self.reclaim()?;
        let known = self.known()?;
        for file in address_files(&self.dir)? {
            if known.is_lease(file.address, file.inode) {
                continue;
            }
            if let Some(lease) = file.read(&self.dir) {
                self.date(&lease)?;
            } else if is_leftover(&file.path(&self.dir)) && self.release(file.address)? {
                swept.push(file.address);
            }
        }
        let new = self.dir.join(NEW_FILE);
        ignore_missing(fs::remove_file(&new))
            .map_err(|source| failed("remove left-over file", &new, source))?;
        Ok(swept)
    }
}

fn write_new(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

/// The network's directory. The name comes from a configuration and must not lead anywhere else.
fn directory(data_dir: &Path, network: &str) -> Result<PathBuf, StoreError> {
    if matches!(network, "" | "." | "..") || network.contains(['/', '\0']) {
        return Err(StoreError::NetworkName(network.to_owned()));
    }
    Ok(data_dir.join(network))
}

fn exists(dir: &Path) -> Result<bool, StoreError> {
    dir.try_exists().map_err(|source| failed("look at directory", dir, source))
}

fn last_reserved_name(set: usize) -> String {
    format!("last_reserved_ip.{set}")
}

fn read_leases(dir: &Path) -> Result<Vec<Lease>, StoreError> {
    let files = address_files(dir)?;
    // A file that cannot be read or is gone again is nobody's lease that we could name. If it is there, it
    // still keeps its address taken, because linking fails.
    Ok(files.iter().filter_map(|file| file.read(dir)).collect())
}

/// As `fs::read`, but with two system calls less for a file of a few dozen bytes.
fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 512];
    let count = File::open(path)?.read(&mut buffer)?;
    if count == buffer.len() { fs::read(path) } else { Ok(buffer[..count].to_vec()) }
}

/// `None`: an empty file, which is nobody's.
fn parse_lease(address: IpAddr, content: &[u8]) -> Option<Lease> {
    let content = String::from_utf8_lossy(content);
    let (container_id, ifname) = match content.trim().split_once(LINE_BREAK) {
        Some((container_id, ifname)) => (container_id, Some(ifname.to_owned())),
        None => (content.trim(), None),
    };
    let container_id = container_id.to_owned();
    (!container_id.is_empty()).then_some(Lease { address, container_id, ifname })
}

fn is_leftover(path: &Path) -> bool {
    fs::read(path).is_ok_and(|content| content.trim_ascii().is_empty())
}

/// A file named by an address.
struct AddressFile {
    address: IpAddr,
    inode: u64,
}

impl AddressFile {
    fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.address.to_string())
    }

    /// The lease in it.
    fn read(&self, dir: &Path) -> Option<Lease> {
        parse_lease(self.address, &read_small(&self.path(dir)).ok()?)
    }
}

/// The files named by an address, in the form in which we (and the reference) write it. Another spelling of
/// the same address is not ours, and releasing it by our spelling would miss it.
fn address_files(dir: &Path) -> Result<Vec<AddressFile>, StoreError> {
    let entries = fs::read_dir(dir).map_err(|source| failed("list directory", dir, source))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| failed("list directory", dir, source))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Ok(address) = name.parse::<IpAddr>()
            && address.to_string() == name
        {
            files.push(AddressFile { address, inode: entry.ino() });
        }
    }
    Ok(files)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { operation, path: path.to_owned(), source }
}
