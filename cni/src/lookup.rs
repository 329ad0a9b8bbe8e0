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
        "failed to find plugin {name:?} in path {path:?}; install it there, or correct the type"
    )]
    NotFound {
        /// The type.
        name: String,
        /// The directories that were searched.
        path: Vec<PathBuf>,
    },
}

/// The first regular file of that name, in the order of the directories.
pub fn find_plugin(name: &str, path: &[PathBuf]) -> Result<PathBuf, LookupError> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    if !plain {
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
        assert!(
            find_plugin("sub", &path)
                .unwrap_err()
                .to_string()
                .contains("failed to find plugin \"sub\"")
        );
    }
}
