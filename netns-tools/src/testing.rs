//! Throw-away namespaces for tests, of this crate and of others.
//!
//! Everything here panics when it fails, with a message that says what failed: that is how a test fails.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use crate::cause::one_line;
use crate::link::tap::{self, TapError};
use crate::netlink::Netlink;
use crate::netns::{self, NetNs};
use crate::{Link, Veth};

/// What every test namespace's name starts with, so that one left behind can be recognised.
pub const PREFIX: &str = "heddle-t-";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A namespace that is removed when this goes out of scope, also when the test panics.
///
/// Not `Send`: it belongs to the test's own thread.
///
/// ```compile_fail
/// let ns = netns_tools::testing::TestNetns::new("doc");
/// std::thread::spawn(move || drop(ns));
/// ```
#[derive(Debug)]
pub struct TestNetns {
    ns: NetNs,
    name: String,
    not_send: PhantomData<*const ()>,
}

impl TestNetns {
    /// Makes a namespace with a unique name that contains `label`.
    ///
    /// # Panics
    /// When it cannot be made: the test needs root.
    #[track_caller]
    pub fn new(label: &str) -> Self {
        let name = unique_name(label);
        match NetNs::create(&name) {
            Ok(ns) => Self { ns, name, not_send: PhantomData },
            Err(e) => panic!("cannot make a test namespace (root?): {}", one_line(&e)),
        }
    }

    /// The namespace.
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// Its name below `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` inside, on a thread of its own; a panic in it continues here.
    #[track_caller]
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.ns.run(f).unwrap_or_else(|e| panic!("cannot enter {}: {}", self.name, one_line(&e)))
    }

    /// A netlink socket inside.
    #[track_caller]
    pub fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.ns)
            .unwrap_or_else(|e| panic!("cannot use netlink in {}: {}", self.name, one_line(&e)))
    }

    /// The link `name` inside, which must be there.
    #[track_caller]
    pub fn link(&self, name: &str) -> Link {
        match self.netlink().link(name) {
            Ok(Some(link)) => link,
            Ok(None) => panic!("there is no link {name} in {}", self.name),
            Err(e) => panic!("{}", one_line(&e)),
        }
    }

    /// Opens the other end of a tap device inside: each read is a frame that the link sends, each write one that it receives.
    pub fn open_tap(&self, name: &str, multi_queue: bool) -> Result<File, TapError> {
        self.run(|| tap::attach(name, multi_queue))
    }

    /// A command that will run inside. Only the network namespace changes: `/sys` still shows the caller's links.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let fd: OwnedFd = self.ns.as_fd().try_clone_to_owned().unwrap_or_else(|e| {
            panic!("cannot duplicate the descriptor of {}: {e}", self.name);
        });
        // SAFETY: between fork and exec only the system call setns() is made, which is async-signal-safe; nothing is
        // allocated or locked.
        unsafe {
            command.pre_exec(move || setns(&fd, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
        }
        command
    }

    /// Runs a command inside, given as program and arguments, and returns what it did.
    #[track_caller]
    pub fn output(&self, words: &[&str]) -> Output {
        let (program, args) = words.split_first().expect("a command has at least one word");
        // From a thread that is there already: starting the program then copies nothing of this process, which takes long.
        let output = self.run(|| Command::new(program).args(args).output());
        output.unwrap_or_else(|e| panic!("cannot run {words:?} in {}: {e}", self.name))
    }

    /// Runs a command inside, which must succeed, and returns what it printed: `ns.cmd(&["ip", "-j", "link"])`.
    #[track_caller]
    pub fn cmd(&self, words: &[&str]) -> String {
        let output = self.output(words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{words:?} in {}: {}\n{}{}",
            self.name,
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// As [`Self::cmd`], for commands that print JSON.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> serde_json::Value {
        let text = self.cmd(words);
        // `ip -j` prints nothing at all for an empty list.
        let text = if text.trim().is_empty() { "[]" } else { &text };
        serde_json::from_str(text)
            .unwrap_or_else(|e| panic!("{words:?} printed no JSON: {e}\n{text}"))
    }

    /// Sets the link `name` up and gives it `addresses`, usable at once (no duplicate address detection).
    #[track_caller]
    pub fn configure(&self, name: &str, addresses: &[&str]) {
        let index = self.link(name).index;
        let mut netlink = self.netlink();
        let done = netlink.set_up(index).and_then(|()| {
            addresses.iter().try_for_each(|address| {
                let net = address.parse().unwrap_or_else(|e| panic!("{address}: {e}"));
                netlink.add_address_without_dad(index, net)
            })
        });
        done.unwrap_or_else(|e| {
            panic!("cannot configure {name} in {}: {}", self.name, one_line(&e))
        });
    }
}

impl Drop for TestNetns {
    fn drop(&mut self) {
        if let Err(e) = NetNs::delete(&self.name) {
            // Panicking while panicking would abort and hide the first cause.
            let message = format!("cannot remove test namespace {}: {}", self.name, one_line(&e));
            assert!(std::thread::panicking(), "{message}");
            eprintln!("{message}");
        }
    }
}

/// One end of a veth pair: where, its name, its addresses as `address/prefix`.
#[derive(Debug, Clone, Copy)]
pub struct End<'a>(pub &'a TestNetns, pub &'a str, pub &'a [&'a str]);

/// Joins two test namespaces by a veth pair, with both ends and `lo` up and addressed.
#[track_caller]
pub fn veth_pair(one: End<'_>, other: End<'_>) {
    let veth = Veth { peer_ns: Some(other.0.ns()), ..Veth::new(one.1, other.1) };
    if let Err(e) = one.0.netlink().add_veth(&veth) {
        panic!("{}", one_line(&e));
    }
    for End(ns, name, addresses) in [one, other] {
        ns.configure("lo", &[]);
        ns.configure(name, addresses);
    }
}

/// A name that no other test uses at the same time, in this process or another.
pub fn unique_name(label: &str) -> String {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{label}-{}-{number}", std::process::id())
}

/// The names of test namespaces that are there now. After a test run there must be none.
#[track_caller]
pub fn leftovers() -> Vec<String> {
    let listed = netns::list().unwrap_or_else(|e| panic!("{}", one_line(&e)));
    listed.into_iter().map(|ns| ns.name).filter(|name| name.starts_with(PREFIX)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_namespace_goes_with_its_guard() {
        let ns = TestNetns::new("guard");
        let name = ns.name().to_owned();
        assert!(leftovers().contains(&name));
        drop(ns);
        assert!(!leftovers().contains(&name));
    }

    #[test]
    fn a_namespace_goes_when_the_test_panics() {
        let mut name = String::new();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let ns = TestNetns::new("panic");
            ns.name().clone_into(&mut name);
            ns.run(|| panic!("on purpose"));
        }));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"on purpose"));
        assert!(!name.is_empty() && !leftovers().contains(&name));
    }

    #[test]
    fn commands_run_inside() {
        let (one, other) = (TestNetns::new("cmd"), TestNetns::new("cmd"));
        veth_pair(
            End(&one, "left", &["10.9.0.1/24", "fd00::1/64"]),
            End(&other, "right", &["10.9.0.2/24", "fd00::2/64"]),
        );
        assert_eq!(one.json(&["ip", "-j", "link", "show", "left"])[0]["ifname"], "left");
        assert!(!one.output(&["ip", "link", "show", "right"]).status.success());
        for address in ["10.9.0.2", "fd00::2"] {
            let listener = other.run(|| TcpListener::bind((address, 0)).unwrap());
            let port = listener.local_addr().unwrap().port();
            let stream = one.run(|| TcpStream::connect((address, port)).unwrap());
            assert_eq!(stream.peer_addr().unwrap().ip().to_string(), address);
        }
    }
}
