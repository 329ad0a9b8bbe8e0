use tempfile::TempDir;

use super::*;

#[test]
fn what_is_ours_is_told_from_what_is_not() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("marked"), [b"\x7fELF...", MARK, b"..."].concat()).unwrap();
    fs::write(at("foreign"), b"#!/bin/sh\n").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("/usr/libexec/heddle-cni", at("dangling")).unwrap();
    symlink("marked", at("to-marked")).unwrap();
    symlink("foreign", at("to-foreign")).unwrap();
    for (name, expected) in [
        ("none", Found::Nothing),
        ("marked", Found::Ours),
        ("dangling", Found::Ours),
        ("to-marked", Found::Ours),
        ("foreign", Found::Foreign),
        ("directory", Found::Foreign),
        ("to-foreign", Found::Foreign),
    ] {
        assert_eq!(look(&at(name)).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_name_is_replaced_whole_and_a_failure_leaves_no_rest() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("bridge");
    fs::write(&path, "old").unwrap();
    let failing = |_: &Path| Err(io::Error::from(ErrorKind::StorageFull));
    assert!(put(&path, |_| false, failing).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    let half = |new: &Path| {
        fs::write(new, "half")?;
        Err(io::Error::from(ErrorKind::StorageFull))
    };
    assert!(put(&path, |_| false, half).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    put(&path, |_| false, |new| fs::write(new, "new")).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(put(&path, |_| true, failing).unwrap(), Report::Unchanged(path));
}

#[test]
fn an_installation_that_died_half_way_is_taken_back() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("bridge");
    fs::write(&path, "somebody's").unwrap();
    back_up(&path).unwrap();
    assert_eq!(uninstall(dir.path()).unwrap(), [Report::Kept(path)]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
