//! The cgroups of pods. runc makes and removes a container's own; the pod's, above it, is ours to remove.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The cgroup of a pod, as the kubelet names it without systemd.
pub fn pod_parent(uid: &str) -> String {
    format!("/kubepods/pod{uid}")
}

/// How the node's cgroups are arranged (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A hierarchy for each controller.
    V1,
    /// The same, and an empty version 2 hierarchy beside them, at `unified`.
    Hybrid,
    /// One hierarchy for all.
    V2,
}

/// The node's layout.
pub fn layout() -> Layout {
    layout_below(Path::new(ROOT))
}

fn layout_below(root: &Path) -> Layout {
    // this file is in every directory of version 2, and in none of version 1
    if root.join("cgroup.controllers").exists() {
        Layout::V2
    } else if root.join("unified/cgroup.controllers").exists() {
        Layout::Hybrid
    } else {
        Layout::V1
    }
}

/// The hierarchies: one under v2, one per controller under v1, both under the hybrid layout.
fn hierarchies(root: &Path) -> Vec<PathBuf> {
    if layout_below(root) == Layout::V2 {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    // controllers that share a hierarchy have symbolic links to it
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Whether the kernel killed a process of a cgroup for want of memory: `oom_kill` of `memory.oom_control` (v1) or of
/// `memory.events` (v2). An event tells of it too, but not if the process dies before the watch for it is set up.
pub fn was_oom_killed(parent: &str, container: &str) -> bool {
    was_oom_killed_below(Path::new(ROOT), parent, container)
}

fn was_oom_killed_below(root: &Path, parent: &str, container: &str) -> bool {
    let (memory, file) = match layout_below(root) {
        Layout::V2 => (root.to_owned(), "memory.events"),
        Layout::V1 | Layout::Hybrid => (root.join("memory"), "memory.oom_control"),
    };
    let folder = memory.join(parent.trim_start_matches('/')).join(container);
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|count| count.trim() != "0")
}

/// Removes a pod's cgroup from every hierarchy, with empty ones that a killed runtime left in it, and the one above it with
/// the last pod. Idempotent.
pub fn remove(parent: &str) -> io::Result<()> {
    remove_below(Path::new(ROOT), parent)
}

fn remove_below(root: &Path, parent: &str) -> io::Result<()> {
    let mut first = Ok(());
    for hierarchy in hierarchies(root) {
        let folder = hierarchy.join(parent.trim_start_matches('/'));
        first = first.and(remove_tree(&folder));
        // refused as long as it holds another pod
        folder.parent().filter(|above| *above != hierarchy).map(fs::remove_dir);
    }
    first
}

/// Cgroups are removed as folders, children first; the files in them are the kernel's.
fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_found_and_removal_is_idempotent() {
        let root = tempfile::tempdir().unwrap();
        for controller in ["memory", "cpu", "unified"] {
            fs::create_dir_all(root.path().join(controller).join("kubepods/podx/c1")).unwrap();
        }
        assert_eq!(hierarchies(root.path()).len(), 3);
        remove_below(root.path(), &pod_parent("x")).unwrap();
        remove_below(root.path(), &pod_parent("x")).unwrap();
        assert!(!root.path().join("memory/kubepods/podx").exists());
        assert!(
            !root.path().join("memory/kubepods").exists() && root.path().join("memory").exists()
        );
        assert_eq!(layout_below(root.path()), Layout::V1);
        fs::write(root.path().join("unified/cgroup.controllers"), "").unwrap();
        assert_eq!(layout_below(root.path()), Layout::Hybrid);
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        assert_eq!(layout_below(root.path()), Layout::V2);
        assert_eq!(hierarchies(root.path()), [root.path()]);
    }

    #[test]
    fn oom_kills_are_read_in_both_layouts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let killed = |container| was_oom_killed_below(root.path(), &pod_parent("x"), container);
        write(
            "memory/kubepods/podx/a/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        );
        write(
            "memory/kubepods/podx/b/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
        );
        assert!(killed("a") && !killed("b") && !killed("gone"));
        write("cgroup.controllers", "memory\n");
        write("kubepods/podx/b/memory.events", "low 0\noom 1\noom_kill 2\noom_group_kill 0\n");
        assert!(!killed("a") && killed("b"));
    }
}
