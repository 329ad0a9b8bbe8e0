//! Putting the one file under every plugin's name, and taking it away again.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::program::NAME;
use crate::suite::PLUGINS;

/// Marks our file, whatever its version and name, so that nobody else's is replaced or removed.
const MARK: &[u8] = b"heddle-cni multi-call CNI plugin binary; this text marks the file as ours";

/// Follows the name of a file of somebody else's that `--force` replaced.
const BACKUP: &str = "before-heddle";

/// How a plugin's name leads to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LinkKind {
    /// A relative symbolic link to `heddle-cni` in the same directory
    Symlink,
    /// A second name of the same file
    Hardlink,
    /// A file of its own
    Copy,
}

/// What happened to one file.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// It is new, or replaced another.
    Installed(PathBuf),
    /// It was there already, just so.
    Unchanged(PathBuf),
    /// It is gone.
    Removed(PathBuf),
    /// It belongs to somebody else and was left alone.
    Kept(PathBuf),
    /// It belongs to somebody else and is now under this other name.
    BackedUp(PathBuf),
    /// It is somebody else's again, as before the installation.
    Restored(PathBuf),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed(path) => write!(f, "installed {}", path.display()),
            Self::Unchanged(path) => write!(f, "unchanged {}", path.display()),
            Self::Removed(path) => write!(f, "removed   {}", path.display()),
            Self::Kept(path) => write!(f, "kept      {} (not ours)", path.display()),
            Self::BackedUp(path) => write!(f, "backup    {}", path.display()),
            Self::Restored(path) => write!(f, "restored  {}", path.display()),
        }
    }
}

/// Why an installation did not happen.
#[derive(Debug, Error)]
pub enum InstallError {
    /// Names that other programs occupy; nothing was changed.
    #[error(
        "{} held by other programs: {}; nothing was changed. Use --force to replace them (uninstall brings them back), --only to name others, or another --bin-dir",
        if .0.len() == 1 { "a name is" } else { "names are" },
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Foreign(Vec<PathBuf>),
    /// The file system refused an operation.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What stands under a name.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    Foreign,
}

/// Puts the running program into `bin_dir` (made if needed) and links the names of the plugins in `only`, or of all if that is
/// empty, to it.
///
/// Each name is replaced atomically: a runtime sees the old or the new plugin, never none. Before the first change, every name
/// is checked: one that is somebody else's stops the whole installation unless `force`, and is kept under another name then.
pub fn install(
    bin_dir: &Path,
    link: LinkKind,
    only: &[String],
    force: bool,
) -> Result<Vec<Report>, InstallError> {
    let program = own_program()?;
    let names = names(bin_dir, |name| only.is_empty() || only.iter().any(|wanted| wanted == name));
    let mut foreign = Vec::new();
    for path in &names {
        if look(path)? == Found::Foreign {
            foreign.push(path.clone());
        }
    }
    if !foreign.is_empty() && !force {
        return Err(InstallError::Foreign(foreign));
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(bin_dir);
    made.map_err(|source| failed("create directory", bin_dir, source))?;

    let mut reports = foreign.iter().map(|path| back_up(path)).collect::<Result<Vec<_>, _>>()?;
    let (file, links) = names.split_first().expect("our own name is always the first one");
    reports.push(put(file, |path| same_file(&program, path), |new| copy(&program, new))?);
    for path in links {
        reports.push(put_link(file, path, link)?);
    }
    Ok(reports)
}

fn put_link(file: &Path, path: &Path, link: LinkKind) -> Result<Report, InstallError> {
    match link {
        LinkKind::Symlink => put(
            path,
            |path| fs::read_link(path).is_ok_and(|target| target == Path::new(NAME)),
            |new| symlink(NAME, new),
        ),
        LinkKind::Hardlink => {
            put(path, |path| same_inode(file, path), |new| fs::hard_link(file, new))
        }
        LinkKind::Copy => put(
            path,
            |path| !same_inode(file, path) && same_file(file, path),
            |new| copy(file, new),
        ),
    }
}

/// Removes from `bin_dir` the names that lead to our file, and the file. Missing ones are no error. What an installation
/// replaced takes its place again.
pub fn uninstall(bin_dir: &Path) -> Result<Vec<Report>, InstallError> {
    let mut reports = Vec::new();
    // The links first: without the file they would be recognised only by their target's name.
    for path in names(bin_dir, |_| true).into_iter().rev() {
        let found = look(&path)?;
        if found == Found::Foreign {
            // An installation that was killed between the backup and the replacement.
            let second = backup(&path);
            if same_inode(&path, &second) {
                fs::remove_file(&second).map_err(|source| failed("remove", &second, source))?;
            }
            reports.push(Report::Kept(path));
            continue;
        }
        match fs::rename(backup(&path), &path) {
            Ok(()) => reports.push(Report::Restored(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if found == Found::Ours {
                    fs::remove_file(&path).map_err(|source| failed("remove", &path, source))?;
                    reports.push(Report::Removed(path));
                }
            }
            Err(source) => return Err(failed("restore", &path, source)),
        }
    }
    Ok(reports)
}

fn backup(path: &Path) -> PathBuf {
    path.with_added_extension(BACKUP)
}

/// Gives a file a second name, so that the first can be replaced without a moment in which there is none. An older backup is
/// of an older file: what was in use last is what is wanted back.
fn back_up(path: &Path) -> Result<Report, InstallError> {
    let to = backup(path);
    put(&to, |_| false, |new| fs::hard_link(path, new)).map(|_| Report::BackedUp(to))
}

/// Our own name first, then those of the plugins that are wanted.
fn names(bin_dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let plugins = PLUGINS.iter().map(|plugin| plugin.name()).filter(|name| wanted(name));
    std::iter::once(NAME).chain(plugins).map(|name| bin_dir.join(name)).collect()
}

fn own_program() -> Result<PathBuf, InstallError> {
    // Opened through /proc, it is the running file even if its name was replaced meanwhile.
    let path = PathBuf::from("/proc/self/exe");
    path.metadata().map_err(|source| failed("look at", &path, source))?;
    Ok(path)
}

fn look(path: &Path) -> Result<Found, InstallError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Err(source) => Err(failed("look at", path, source)),
        Ok(meta) if meta.is_symlink() => {
            let target = fs::read_link(path).map_err(|source| failed("read link", path, source))?;
            let by_name = target.file_name().is_some_and(|name| name == NAME);
            Ok(if by_name || is_marked(path) { Found::Ours } else { Found::Foreign })
        }
        Ok(_) if is_marked(path) => Ok(Found::Ours),
        Ok(_) => Ok(Found::Foreign),
    }
}

fn is_marked(path: &Path) -> bool {
    path.is_file()
        && fs::read(path).is_ok_and(|content| content.windows(MARK.len()).any(|part| part == MARK))
}

/// Makes `path` what `make` makes of a temporary name, unless it `is_so` already.
fn put(
    path: &Path,
    is_so: impl Fn(&Path) -> bool,
    make: impl Fn(&Path) -> io::Result<()>,
) -> Result<Report, InstallError> {
    if is_so(path) {
        return Ok(Report::Unchanged(path.to_owned()));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let _ = fs::remove_file(&new);
    let done = make(&new).and_then(|()| fs::rename(&new, path));
    done.map_err(|source| {
        let _ = fs::remove_file(&new);
        failed("install", path, source)
    })?;
    Ok(Report::Installed(path.to_owned()))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    // A half-written plugin after a power failure would be worse than none.
    File::open(to)?.sync_all()
}

fn same_inode(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

/// Whether `path` is a regular, executable file with the content of `program`.
fn same_file(program: &Path, path: &Path) -> bool {
    let plain = fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 == 0o111);
    let read = |path: &Path| -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        File::open(path)?.read_to_end(&mut content)?;
        Ok(content)
    };
    plain && matches!((read(program), read(path)), (Ok(a), Ok(b)) if a == b)
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> InstallError {
    InstallError::Io { operation, path: path.to_owned(), source }
}
