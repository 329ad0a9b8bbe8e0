//! Where a plugin's file is. A name from a configuration never leads out of the directories that the operator gave.

use std::path::{Path, PathBuf};

/// A plugin that cannot be found.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LookupError {
    /// The type is not a plain file name.
    #[error("invalid plugin type {name:?}: it must be a file name, not a path")]
    InvalidName {
        /// The type as given.
        name: String,
    },
    /// No directory has it.
    #[error(
        "failed to find plugin {name:?} in path [{}]; install it there, or correct the type",
        directories(path)
    )]
    NotFound {
        /// The type.
        name: String,
        /// The directories that were searched.
        path: Vec<PathBuf>,
    },
}

fn directories(path: &[PathBuf]) -> String {
    path.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// Whether a plugin's type is a plain file name, so that it cannot lead out of a directory.
pub fn is_plugin_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// The first regular file of that name, in the order of the directories.
pub fn find_plugin(name: &str, path: &[PathBuf]) -> Result<PathBuf, LookupError> {
    if !is_plugin_name(name) {
        return Err(LookupError::InvalidName { name: name.to_owned() });
    }
    let found = path.iter().map(|directory| directory.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| LookupError::NotFound { name: name.to_owned(), path: path.to_owned() })
}

/// Whether a file is the program that runs now: the same device and inode, whatever its name.
pub(crate) fn is_own_program(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let own = identity(Path::new("/proc/self/exe"));
    own.is_some() && own == identity(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_escape() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("p"), "").unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        let path = [directory.path().join("sub"), directory.path().to_owned()];
        assert_eq!(find_plugin("p", &path).unwrap(), directory.path().join("p"));
        for name in ["../p", "/bin/true", "", ".", "..", "sub/../p", "p\0"] {
            assert!(
                matches!(find_plugin(name, &path), Err(LookupError::InvalidName { .. })),
                "{name:?}"
            );
        }
        let message = find_plugin("sub", &path).unwrap_err().to_string();
        let places = format!("{0}/sub {0}", directory.path().display());
        assert!(
            message.starts_with(&format!("failed to find plugin \"sub\" in path [{places}]")),
            "{message}"
        );
    }

    #[test]
    fn the_first_directory_wins() {
        let directory = tempfile::tempdir().unwrap();
        let path = ["missing", "a", "b"].map(|name| directory.path().join(name));
        for place in &path[1..] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("p"), "").unwrap();
        }
        assert_eq!(find_plugin("p", &path).unwrap(), path[1].join("p"));
        // a directory of the plugin's name is no plugin, a link to one is
        std::fs::remove_file(path[1].join("p")).unwrap();
        std::fs::create_dir(path[1].join("p")).unwrap();
        assert_eq!(find_plugin("p", &path).unwrap(), path[2].join("p"));
        std::os::unix::fs::symlink(path[2].join("p"), path[1].join("q")).unwrap();
        assert_eq!(find_plugin("q", &path).unwrap(), path[1].join("q"));
    }

    #[test]
    fn our_own_file_is_known_by_any_name() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("bridge");
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
        assert!(is_own_program(&link));
        assert!(!is_own_program(Path::new("/bin/sh")));
        assert!(!is_own_program(Path::new("/nowhere")));
    }
}
