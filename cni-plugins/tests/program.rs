//! The multi-call program by its own name and by wrong ones.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use cni_plugins::suite::PLUGINS;
use tempfile::TempDir;

/// All names of the program, sorted.
fn all_names() -> Vec<&'static str> {
    let plugins = PLUGINS.iter().map(|plugin| plugin.name());
    let mut names: Vec<_> = plugins.chain(["heddle-cni"]).collect();
    names.sort_unstable();
    names
}

fn heddle(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heddle-cni")).args(args).output().unwrap()
}

fn run(dir: &Path, command: &str, more: &[&str]) -> Output {
    let dir = dir.to_str().unwrap();
    heddle(&[&[command, "--bin-dir", dir], more].concat())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn list_and_version() {
    let list = heddle(&["list"]);
    assert!(list.status.success());
    for name in PLUGINS.iter().map(|plugin| plugin.name()) {
        assert!(text(&list.stdout).lines().any(|line| line.starts_with(name)));
    }
    let version = heddle(&["--version"]);
    assert_eq!(text(&version.stdout).trim(), concat!("heddle-cni ", env!("CARGO_PKG_VERSION")));
    let wrong = heddle(&["no-such-command"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn each_plugin_answers_version() {
    let dir = TempDir::new().unwrap();
    assert!(run(dir.path(), "install", &[]).status.success());
    let versions = |program: &Path| -> Vec<String> {
        let output = Command::new(program).env_clear().env("CNI_COMMAND", "VERSION").output();
        let json: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        serde_json::from_value(json["supportedVersions"].clone()).unwrap()
    };
    let mut compared = 0;
    for name in PLUGINS.iter().map(|plugin| plugin.name()) {
        let ours = versions(&dir.path().join(name));
        assert_eq!(ours.last().map(String::as_str), Some("1.1.0"), "{name}");
        let reference = Path::new("/usr/lib/cni").join(name);
        if reference.exists() {
            // 1.1.1 is older than the specification 1.1.0
            let newer = ["1.1.0".to_owned()];
            assert_eq!(ours, [versions(&reference).as_slice(), &newer].concat(), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared}");
}

#[test]
fn a_wrong_name_is_told_as_the_caller_can_read_it() {
    let call = |command: Option<&str>| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_heddle-cni"));
        program.arg0("/opt/cni/bin/flannel").env_remove("CNI_COMMAND");
        program.envs(command.map(|command| ("CNI_COMMAND", command))).output().unwrap()
    };
    let person = call(None);
    assert_eq!(person.status.code(), Some(2));
    assert!(text(&person.stderr).contains("no plugin named \"flannel\"; it has: bridge, "));
    assert!(person.stdout.is_empty());
    let runtime = call(Some("ADD"));
    assert_eq!(runtime.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&runtime.stdout).unwrap();
    assert_eq!(json["code"], 7);
}

#[test]
fn install_is_complete_idempotent_and_undone_by_uninstall() {
    for kind in ["symlink", "hardlink", "copy"] {
        let root = TempDir::new().unwrap();
        let dir = root.path().join("cni/bin");
        let first = run(&dir, "install", &["--link", kind]);
        assert!(first.status.success(), "{first:?}");
        assert_eq!(names(&dir), all_names());
        let file = fs::metadata(dir.join("heddle-cni")).unwrap();
        let plugin = fs::symlink_metadata(dir.join("bridge")).unwrap();
        match kind {
            "symlink" => {
                assert_eq!(fs::read_link(dir.join("bridge")).unwrap(), Path::new("heddle-cni"));
            }
            "hardlink" => assert_eq!(plugin.ino(), file.ino()),
            _ => assert!(plugin.is_file() && plugin.ino() != file.ino()),
        }
        let again = run(&dir, "install", &["--link", kind]);
        assert!(text(&again.stdout).lines().all(|line| line.starts_with("unchanged")), "{again:?}");
        // The other kinds replace it, and back.
        assert!(run(&dir, "install", &["--link", "copy"]).status.success());
        assert!(run(&dir, "install", &["--link", kind]).status.success());
        assert_eq!(names(&dir), all_names());
        let gone = run(&dir, "uninstall", &[]);
        assert_eq!(text(&gone.stdout).lines().count(), PLUGINS.len() + 1, "{gone:?}");
        assert_eq!(names(&dir), [""; 0]);
        assert!(run(&dir, "uninstall", &[]).status.success());
    }
}

#[test]
fn other_suites_are_kept_unless_forced() {
    let dir = TempDir::new().unwrap();
    fs::copy("/usr/lib/cni/bridge", dir.path().join("bridge")).unwrap();
    symlink("/usr/lib/cni/loopback", dir.path().join("loopback")).unwrap();
    fs::write(dir.path().join("flannel"), "not ours").unwrap();
    let refused = run(dir.path(), "install", &[]);
    assert_eq!(refused.status.code(), Some(1));
    let message = text(&refused.stderr);
    assert!(
        message.contains("/bridge") && message.contains("/loopback") && message.contains("--force"),
        "{message}"
    );
    assert_eq!(names(dir.path()), ["bridge", "flannel", "loopback"], "nothing changed");

    let kept = run(dir.path(), "uninstall", &[]);
    assert!(kept.status.success());
    assert_eq!(names(dir.path()), ["bridge", "flannel", "loopback"]);

    let forced = run(dir.path(), "install", &["--force"]);
    assert!(forced.status.success(), "{forced:?}");
    assert!(fs::read_link(dir.path().join("bridge")).is_ok());
    let backups = ["bridge.before-heddle", "loopback.before-heddle"];
    assert!(backups.iter().all(|name| dir.path().join(name).exists()), "{forced:?}");
    // again: ours now, nothing to keep
    let again = run(dir.path(), "install", &["--force"]);
    assert!(text(&again.stdout).lines().all(|line| line.starts_with("unchanged")), "{again:?}");
    assert!(run(dir.path(), "uninstall", &[]).status.success());
    assert_eq!(names(dir.path()), ["bridge", "flannel", "loopback"]);
    let content = |path: &Path| fs::read(path).unwrap();
    assert_eq!(content(&dir.path().join("bridge")), content(Path::new("/usr/lib/cni/bridge")));
    let link = fs::read_link(dir.path().join("loopback")).unwrap();
    assert_eq!(link, Path::new("/usr/lib/cni/loopback"));
}

#[test]
fn only_some() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("loopback"), "not ours").unwrap();
    let some = run(dir.path(), "install", &["--only", "bridge,host-local"]);
    assert!(some.status.success(), "{some:?}");
    assert_eq!(names(dir.path()), ["bridge", "heddle-cni", "host-local", "loopback"]);
    let wrong = run(dir.path(), "install", &["--only", "bridge,flannel"]);
    let said = text(&wrong.stderr);
    assert!(
        wrong.status.code() == Some(2) && said.contains("flannel") && said.contains("host-local"),
        "{said}"
    );
    assert!(run(dir.path(), "uninstall", &[]).status.success());
    assert_eq!(names(dir.path()), ["loopback"]);
}

#[test]
fn a_directory_that_cannot_be_written_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = run(&file.path().join("bin"), "install", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("Not a directory"), "{output:?}");
}

/// An ADD of `host-local` in a folder, started by a shell that says so.
fn host_local(dir: &Path, shell: &str) -> Command {
    let conf = serde_json::json!({"cniVersion": "1.0.0", "name": "net", "type": "host-local",
        "ipam": {"type": "host-local", "dataDir": dir, "ranges": [[{"subnet": "10.1.0.0/24"}]]}});
    fs::write(dir.join("conf"), conf.to_string()).unwrap();
    symlink(env!("CARGO_BIN_EXE_heddle-cni"), dir.join("host-local")).unwrap();
    let mut command = Command::new("/bin/sh");
    command.current_dir(dir).args(["-c", shell]).env("CNI_COMMAND", "ADD");
    for (name, value) in [("CONTAINERID", "c"), ("NETNS", "/run/netns/c"), ("IFNAME", "eth0")] {
        command.env(format!("CNI_{name}"), value);
    }
    command.env("CNI_PATH", dir);
    command
}

#[test]
fn the_answer_goes_nowhere_else_when_standard_output_is_closed() {
    let dir = TempDir::new().unwrap();
    let output = host_local(dir.path(), "./host-local <conf >&- 2>&-").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let file = |name: &str| fs::read(dir.path().join("net").join(name)).unwrap();
    assert_eq!(file("10.1.0.2"), b"c\r\neth0");
    assert_eq!(file("lock"), b"");
}

#[test]
fn a_caller_that_went_away_does_not_end_the_call() {
    let dir = TempDir::new().unwrap();
    let mut command = host_local(dir.path(), "exec ./host-local <conf");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("cannot write the answer"), "{output:?}");
}
