//! Which boot of the machine a lease was made in.
//!
//! A lease is worth something only while its container lives, and no container outlives the kernel. After a power failure
//! nobody calls DEL for the containers that ran: their leases would stay until somebody calls GC, and a runtime that never
//! does runs out of addresses.
//!
//! # How a boot is remembered
//!
//! `.heddle-boot/<boot id>/lease-10.1.0.2+<container>` is a second name (a hard link) of the lease's file `10.1.0.2`. The boot id is
//! the kernel's (`/proc/sys/kernel/random/boot_id`, random(4)). A lease is of that boot if both names are the same file **now**:
//! as long as the second name is there, the kernel gives the file's inode number to nobody else, so a lease that another
//! program made later under the same address is never taken for the old one, not even for the same container. When the
//! reference plugin releases a lease, it walks the whole directory and removes every file with that content, so it removes
//! the second name too. (The second name is no address, or the reference would count the address twice.)
//!
//! # Whose a lease is, without reading it
//!
//! `<container>` is a digest of the container's id. An ADD must know whether its container holds an address already; to read every
//! lease of a network for that took it half a millisecond per 100 leases, while every other ADD waited for the lock. A list of the two
//! folders, which tells names and inode numbers, is enough to know which leases certainly are another's. Only the rest is read.
//!
//! # Leases that the reference wrote
//!
//! They carry no boot id, and the times of a file do not replace it: they come from the wall clock, and so does the time of
//! the boot. A machine without a battery-backed clock starts in the past and is set right minutes later; a lease made in those
//! minutes would look older than the boot that it was made in, and its address would be given away under a living container.
//! So time decides nothing here. Instead every lease without a second name that is seen under the lock gets one for the boot
//! in which it is **seen**: it is of this boot or of an earlier one, so once another boot has come, it is certainly dead.
//! What was written before the first such look is thus reclaimed one boot later, or by DEL or GC as ever.
//!
//! # Directories that several machines share
//!
//! Their leases may be another machine's, with a boot id of its own. On file systems that can be shared nothing is
//! remembered and nothing reclaimed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The directory of the boots, in the network's.
const FOLDER: &str = ".heddle-boot";
/// Before the address: alone, the reference would read it as a lease.
const PREFIX: &str = "lease-";
/// Between the address and the container's digest.
const OF: char = '+';
/// File systems that other machines may write to (`linux/magic.h`, and those of the file systems themselves): AFS, Ceph,
/// CIFS, FUSE (virtiofs among them), GFS2, NFS, OCFS2, Lustre, SMB1, SMB2, 9P.
const SHARED: [i64; 11] = [
    0x5346_414f,
    0x00c3_6400,
    0xff53_4d42,
    0x6573_5546,
    0x0116_1970,
    0x6969,
    0x7461_636f,
    0x0bd0_0bd0,
    0x517b,
    0xfe53_4d42,
    0x0102_1997,
];

/// The boots in which the leases of one network were made or seen.
#[derive(Debug)]
pub(super) struct Boots {
    /// The network's directory.
    leases: PathBuf,
    /// This boot; `None`: nothing can be said of boots here.
    current: Option<String>,
}

impl Boots {
    /// The boots of the network with this directory, which must exist.
    pub(super) fn of(leases: &Path) -> Self {
        let current = if is_shared(leases) { None } else { boot_id() };
        Self { leases: leases.to_owned(), current }
    }

    /// Remembers that the lease of `address`, whose file is `file`, is of this boot and of this container.
    pub(super) fn remember(
        &self,
        address: IpAddr,
        container_id: &str,
        file: &Path,
    ) -> io::Result<()> {
        self.place(address, container_id, |name| fs::hard_link(file, name)).map(drop)
    }

    /// Has `make` put a file, which must not exist, at the second name of a lease of this boot; returns the name. `None`: nothing is
    /// remembered here.
    pub(super) fn place(
        &self,
        address: IpAddr,
        container_id: &str,
        make: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<Option<PathBuf>> {
        let Some(boot) = &self.current else { return Ok(None) };
        let folder = self.leases.join(FOLDER).join(boot);
        let name = folder.join(format!("{PREFIX}{address}{OF}{:016x}", digest(container_id)));
        match make(&name) {
            Ok(()) => return Ok(Some(name)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            }
            // Of a lease that somebody removed by hand, or that was never finished.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => fs::remove_file(&name)?,
            Err(error) => return Err(error),
        }
        make(&name).map(|()| Some(name))
    }

    /// Forgets whatever is remembered of `address`.
    pub(super) fn forget(&self, address: IpAddr) -> io::Result<()> {
        for boot in self.folders()? {
            for second in remembered(&boot)?.into_iter().filter(|one| one.address == address) {
                ignore_missing(fs::remove_file(second.path))?;
            }
        }
        Ok(())
    }

    /// The leases that are certainly of an earlier boot, with these folders ([`Self::earlier_folders`]).
    pub(super) fn earlier(&self, folders: &[PathBuf]) -> io::Result<BTreeSet<IpAddr>> {
        let mut found = BTreeSet::new();
        for folder in folders {
            for second in remembered(folder)? {
                if same_file(&second.path, &self.leases.join(second.address.to_string()))? {
                    found.insert(second.address);
                }
            }
        }
        Ok(found)
    }

    /// The leases that are remembered for this boot.
    pub(super) fn known(&self) -> io::Result<Known> {
        let Some(boot) = &self.current else { return Ok(Known::default()) };
        let seconds = remembered(&self.leases.join(FOLDER).join(boot))?.into_iter();
        Ok(Known(seconds.map(|one| ((one.address, one.inode), one.container)).collect()))
    }

    /// The folders of earlier boots.
    pub(super) fn earlier_folders(&self) -> io::Result<Vec<PathBuf>> {
        let Some(boot) = &self.current else { return Ok(Vec::new()) };
        let mut folders = self.folders()?;
        folders.retain(|folder| folder.file_name() != Some(OsStr::new(boot)));
        Ok(folders)
    }

    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let entries = entries(&self.leases.join(FOLDER))?;
        Ok(entries.iter().filter(|one| is_boot_id(&one.file_name())).map(DirEntry::path).collect())
    }
}

/// Forgets earlier boots, with these folders; their leases must have been released.
pub(super) fn forget_boots(folders: &[PathBuf]) -> io::Result<()> {
    for folder in folders {
        for second in remembered(folder)? {
            ignore_missing(fs::remove_file(second.path))?;
        }
        // Something else in it is not ours, and keeps it there.
        match fs::remove_dir(folder) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) =>
            {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The leases of a boot: address and inode number of the file, and the digest of the container's id where the second name has one.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<(IpAddr, u64), Option<u64>>);

impl Known {
    /// Whether the file of `address` with this inode number is remembered as a lease.
    pub(super) fn is_lease(&self, address: IpAddr, inode: u64) -> bool {
        self.0.contains_key(&(address, inode))
    }

    /// Whether that file may be a lease of this container: not if it is remembered as another's.
    pub(super) fn may_be_of(&self, container_id: &str, address: IpAddr, inode: u64) -> bool {
        let container = self.0.get(&(address, inode)).copied().flatten();
        container.is_none_or(|container| container == digest(container_id))
    }
}

/// A second name.
struct Second {
    address: IpAddr,
    inode: u64,
    container: Option<u64>,
    path: PathBuf,
}

impl Second {
    fn of(entry: &DirEntry) -> Option<Self> {
        let name = entry.file_name();
        let name = name.to_str()?.strip_prefix(PREFIX)?;
        let (address, container) = name.split_once(OF).unwrap_or((name, ""));
        Some(Self {
            address: address.parse().ok()?,
            inode: entry.ino(),
            container: u64::from_str_radix(container, 16).ok(),
            path: entry.path(),
        })
    }
}

/// FNV-1a (draft-eastlake-fnv) of a container's id. Should two ids have the same, a lease is read in vain.
fn digest(container_id: &str) -> u64 {
    let step = |digest: u64, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    container_id.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// What a boot's folder remembers.
fn remembered(folder: &Path) -> io::Result<Vec<Second>> {
    Ok(entries(folder)?.iter().filter_map(Second::of).collect())
}

/// What is in a folder; one that is missing has nothing.
fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let look = |path: &Path| match fs::symlink_metadata(path) {
        Ok(data) => Ok(Some((data.dev(), data.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let (one, other) = (look(one)?, look(other)?);
    Ok(one.is_some() && one == other)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A directory that cannot be asked counts as shared.
fn is_shared(dir: &Path) -> bool {
    statfs(dir).map_or(true, |found| {
        let magic: i64 = found.filesystem_type().0;
        // 32-bit kernels extend the sign.
        SHARED.contains(&(magic & 0xffff_ffff))
    })
}

fn boot_id() -> Option<String> {
    let text = fs::read_to_string(BOOT_ID).ok()?;
    let id = text.trim();
    is_boot_id(OsStr::new(id)).then(|| id.to_owned())
}

/// `d0993542-be06-4bca-8412-d58c6489bf6a`.
fn is_boot_id(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.len() == 36 && name.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}
