//! In the real kernel; every name is unique and removed again.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::sync::Barrier;

use super::*;
use crate::netlink::Netlink;
use crate::testing::{TestNetns, unique_name};

/// Removes a name when the test ends, however it ends.
struct Name(String);

impl Name {
    fn new(label: &str) -> Self {
        Self(unique_name(label))
    }

    fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = NetNs::delete(&self.0);
    }
}

/// `ip netns` as an independent witness.
fn ip_netns(args: &[&str]) -> std::process::Output {
    std::process::Command::new("ip").arg("netns").args(args).output().unwrap()
}

fn ip_netns_list() -> Vec<String> {
    let output = ip_netns(&["list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next().map(Into::into)).collect()
}

#[test]
fn create_open_and_delete_as_ip_netns_sees_it() {
    let name = Name::new("life");
    let before = NetnsId::current().unwrap();
    let made = NetNs::create(&name.0).unwrap();
    assert_eq!(NetnsId::current().unwrap(), before, "the caller has not moved");
    assert_ne!(made.id(), before);
    assert_eq!(made.path(), name.path());
    assert_eq!(NetNs::named(&name.0).unwrap().id(), made.id());
    assert!(ip_netns_list().contains(&name.0));
    assert!(list().unwrap().iter().any(|ns| ns.name == name.0 && ns.id == made.id()));

    assert!(NetNs::delete(&name.0).unwrap());
    assert!(!NetNs::delete(&name.0).unwrap(), "deleting twice is no error");
    assert!(!ip_netns_list().contains(&name.0));
    assert!(NetNs::named(&name.0).unwrap_err().is_not_found());
}

#[test]
fn works_hand_in_hand_with_ip_netns() {
    let (ours, theirs) = (Name::new("ours"), Name::new("theirs"));
    NetNs::create(&ours.0).unwrap();
    assert!(ip_netns(&["delete", &ours.0]).status.success());
    assert!(NetNs::named(&ours.0).unwrap_err().is_not_found());

    assert!(ip_netns(&["add", &theirs.0]).status.success());
    assert!(matches!(NetNs::create(&theirs.0), Err(NetnsError::Exists { .. })));
    NetNs::named(&theirs.0).unwrap();
    assert!(NetNs::delete(&theirs.0).unwrap());
}

#[test]
fn of_eight_creators_exactly_one_wins() {
    let name = Name::new("race");
    let start = Barrier::new(8);
    let won: Vec<NetNs> = thread::scope(|scope| {
        let creators: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    NetNs::create(&name.0)
                })
            })
            .collect();
        creators
            .into_iter()
            .filter_map(|creator| match creator.join().unwrap() {
                Ok(ns) => Some(ns),
                Err(NetnsError::Exists { .. }) => None,
                Err(e) => panic!("{e}: {:?}", std::error::Error::source(&e)),
            })
            .collect()
    });
    assert_eq!(won.len(), 1);
    assert_eq!(NetNs::named(&name.0).unwrap().id(), won[0].id());
}

#[test]
fn creators_race_with_ip_netns() {
    let name = Name::new("iprace");
    let start = Barrier::new(4);
    let winners: usize = thread::scope(|scope| {
        let creators: Vec<_> = (0..4)
            .map(|i| {
                let (start, name) = (&start, &name);
                scope.spawn(move || {
                    start.wait();
                    if i % 2 == 0 {
                        NetNs::create(&name.0).is_ok()
                    } else {
                        ip_netns(&["add", &name.0]).status.success()
                    }
                })
            })
            .collect();
        creators.into_iter().map(|creator| usize::from(creator.join().unwrap())).sum()
    });
    assert_eq!(winners, 1);
    NetNs::named(&name.0).unwrap();
}

#[test]
fn a_plain_file_left_behind_is_recognised_and_removed() {
    let name = Name::new("stale");
    // Makes sure that the directory is there.
    drop(TestNetns::new("dir"));
    File::create(name.path()).unwrap();
    assert!(matches!(NetNs::named(&name.0), Err(NetnsError::NotANamespace { .. })));
    assert!(matches!(NetNs::create(&name.0), Err(NetnsError::Exists { .. })));
    assert!(list().unwrap().iter().all(|ns| ns.name != name.0));
    assert!(NetNs::delete(&name.0).unwrap());
    assert!(!name.path().exists());
    NetNs::create(&name.0).unwrap();
}

#[test]
fn stacked_mounts_are_all_taken_off() {
    let name = Name::new("stacked");
    NetNs::create(&name.0).unwrap();
    for _ in 0..3 {
        bind(Path::new(OWN_NAMESPACE), &name.path(), MsFlags::empty()).unwrap();
    }
    assert!(NetNs::delete(&name.0).unwrap());
    assert!(!name.path().exists());
}

#[test]
fn an_open_namespace_outlives_its_name() {
    let name = Name::new("open");
    let ns = NetNs::create(&name.0).unwrap();
    let mut netlink = Netlink::open_in(&ns).unwrap();
    assert!(NetNs::delete(&name.0).unwrap());
    assert_eq!(netlink.links().unwrap().len(), 1);
    assert_eq!(ns.run(|| NetnsId::current().unwrap()).unwrap(), ns.id());
    // The name is free again, for another namespace.
    assert_ne!(NetNs::create(&name.0).unwrap().id(), ns.id());
}

#[test]
fn a_name_in_use_by_a_process_is_deleted_all_the_same() {
    let name = Name::new("busy");
    let ns = NetNs::create(&name.0).unwrap();
    let mut child =
        ns.run(|| std::process::Command::new("sleep").arg("60").spawn().unwrap()).unwrap();
    let deleted = NetNs::delete(&name.0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(deleted.unwrap());
}

#[test]
fn run_enters_a_thread_and_leaves_the_caller() {
    let ns = TestNetns::new("run");
    let mut seen = Vec::new();
    let before = NetnsId::current().unwrap();
    assert!(!ns.ns().is_current().unwrap());
    let inside = ns.run(|| {
        // Borrows from the caller are fine: the thread ends first.
        seen.push(NetnsId::current().unwrap());
        ns_is_current(&seen)
    });
    assert!(inside);
    assert_eq!(seen, [ns.ns().id()]);
    assert_eq!(NetnsId::current().unwrap(), before);
    assert_eq!(NetNs::current().unwrap().id(), before);
    assert!(NetNs::current().unwrap().is_current().unwrap());
}

#[test]
fn visit_enters_and_comes_back() {
    let (ns, inner) = (TestNetns::new("visit"), TestNetns::new("visit"));
    let before = NetnsId::current().unwrap();
    let thread = std::thread::current().id();
    let inner = inner.ns();
    let seen = ns.ns().visit(|| {
        assert_eq!(std::thread::current().id(), thread);
        let within = inner.visit(|| NetnsId::current().unwrap()).unwrap();
        (NetnsId::current().unwrap(), within)
    });
    assert_eq!(seen.unwrap(), (ns.ns().id(), inner.id()));
    assert_eq!(NetnsId::current().unwrap(), before);
}

#[test]
fn visit_comes_back_from_a_panic() {
    let ns = TestNetns::new("visit");
    let before = NetnsId::current().unwrap();
    let panics = || ns.ns().visit(|| -> () { panic!("on purpose") });
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
    assert!(outcome.is_err());
    assert_eq!(NetnsId::current().unwrap(), before);
}

fn ns_is_current(seen: &[NetnsId]) -> bool {
    NetNs::current().unwrap().id() == seen[0]
}

#[test]
fn open_tells_missing_from_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    File::create(at("file")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();

    for missing in [at("nowhere"), at("dangling"), at("file/below"), "/proc/0/ns/net".into()] {
        let error = NetNs::open(&missing).unwrap_err();
        assert!(error.is_not_found(), "{}: {error:?}", missing.display());
    }
    let mount_namespace = PathBuf::from("/proc/self/ns/mnt");
    for wrong in [at("file"), at("fifo"), at("socket"), dir.path().into(), mount_namespace] {
        let error = NetNs::open(&wrong).unwrap_err();
        assert!(
            matches!(error, NetnsError::NotANamespace { .. }),
            "{}: {error:?}",
            wrong.display()
        );
        assert!(!error.is_not_found());
    }
    symlink("/proc/self/ns/net", at("link")).unwrap();
    assert!(NetNs::open(at("link")).unwrap().is_current().unwrap());
}

#[test]
fn refuses_names_that_are_no_file_names() {
    let long = "x".repeat(NAME_MAX + 1);
    for name in ["", ".", "..", "a/b", "/run/netns/a", "../netns/a", "a\0b", &long] {
        for error in [
            NetNs::create(name).unwrap_err(),
            NetNs::named(name).unwrap_err(),
            NetNs::delete(name).unwrap_err(),
        ] {
            assert!(matches!(error, NetnsError::InvalidName { .. }), "{name:?}: {error:?}");
        }
    }
    let longest =
        Name(format!("{}{}", unique_name("long"), "x".repeat(NAME_MAX))[..NAME_MAX].into());
    NetNs::create(&longest.0).unwrap();
}

#[test]
fn the_directory_is_a_shared_mount() {
    drop(TestNetns::new("shared"));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    // Fields: id parent major:minor root mount-point options optional-fields… - …
    let shared: Vec<bool> = mounts
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some(NETNS_DIR))
        .map(|line| line.contains(" shared:"))
        .collect();
    assert!(!shared.is_empty() && shared.iter().all(|shared| *shared), "{mounts}");
}

#[test]
fn another_mount_namespace_sees_later_names_come_and_go() {
    drop(TestNetns::new("shared"));
    let name = Name::new("seen");
    let path = name.path();
    thread::scope(|scope| {
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            // Threads share a file system context, which a mount namespace of one's own excludes.
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_SLAVE | MsFlags::MS_REC,
                None::<&str>,
            )
            .unwrap();
            for () in std::iter::once(()).chain(asked) {
                tell.send(NetNs::open(&path).map(|ns| ns.id()).ok()).unwrap();
            }
        });
        assert_eq!(told.recv().unwrap(), None);
        let ns = NetNs::create(&name.0).unwrap();
        ask.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), Some(ns.id()));
        NetNs::delete(&name.0).unwrap();
        ask.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), None);
    });
}

#[test]
fn messages_say_what_which_and_what_to_do() {
    let name = Name::new("said");
    drop(TestNetns::new("dir"));
    File::create(name.path()).unwrap();
    let path = name.path().display().to_string();
    assert_eq!(
        NetNs::named(&name.0).unwrap_err().to_string(),
        format!(
            "{path} is not a network namespace (a file left behind? `netns del` removes one from /run/netns)"
        )
    );
    assert_eq!(
        NetNs::create(&name.0).unwrap_err().to_string(),
        format!("{path} exists already; use another name or delete it first (`netns del`)")
    );
}

#[test]
fn who_may_not_is_told_what_it_needs() {
    // Without privileges on a thread of its own: effective user ids are per thread to the kernel.
    let error = thread::spawn(|| {
        // SAFETY: the system call takes numbers only. Not libc's setresuid(), which changes every thread.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, -1, 65534, -1) };
        assert_eq!(changed, 0);
        NetNs::create(&unique_name("denied")).unwrap_err()
    });
    let text = error.join().unwrap().to_string();
    assert!(text.ends_with(" (this needs root: CAP_SYS_ADMIN)"), "{text}");
}

#[test]
fn a_scratch_namespace_ends_with_its_use() {
    let before = NetnsId::current().unwrap();
    let (inside, links) = NetNs::scratch(|| {
        let links = crate::Netlink::open().unwrap().links().unwrap();
        (NetnsId::current().unwrap(), links)
    })
    .unwrap();
    assert_ne!(before, inside);
    assert_eq!(NetnsId::current().unwrap(), before);
    assert_eq!(links.iter().map(|link| &*link.name).collect::<Vec<_>>(), ["lo"]);
}
