//! Which netlink client for a program that starts, makes a handful of requests and ends, as a plugin does?
//!
//! Runs, alternately and in a throw-away namespace, whole processes that make one veth pair with an address and a route:
//! `pair_blocking` (this crate), `pair_rtnetlink` (the rtnetlink crate on tokio's current-thread runtime), and for
//! reference `ip -batch` with the same commands and a single `ip link add`. Prints medians, first of making alone, then
//! with the deletion, during which the kernel waits for others to let go of the link: milliseconds, whoever asks.
//!
//! ```text
//! RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' cargo build --release \
//!     --target x86_64-unknown-linux-gnu -p netns-tools --examples
//! target/x86_64-unknown-linux-gnu/release/examples/netlink_compare 300
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;

const BATCH: &str = "link add cmp0 type veth peer name cmp1
link set cmp0 up
address add 10.9.8.1/24 dev cmp0
route add 10.9.9.0/24 via 10.9.8.2
";
const BATCH_DELETE: &str = "link delete cmp0\n";

struct Candidate {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    /// Whether the pair is still there after a run; it is then deleted, untimed.
    keeps: bool,
    times: Vec<Duration>,
    /// The largest resident set seen, in KiB, as wait4(2) reports it.
    rss: i64,
}

impl Candidate {
    fn new(name: &'static str, program: impl Into<PathBuf>, args: &[&str], keeps: bool) -> Self {
        Self {
            name,
            program: program.into(),
            args: args.iter().map(ToString::to_string).collect(),
            keeps,
            times: Vec::new(),
            rss: 0,
        }
    }

    fn run(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let start = Instant::now();
        let child = Command::new(&self.program).args(&self.args).stdin(Stdio::null()).spawn()?;
        let (status, rss) = wait(child.id())?;
        self.times.push(start.elapsed());
        self.rss = self.rss.max(rss);
        if status != 0 {
            return Err(format!("{} ended with status {status}", self.name).into());
        }
        if self.keeps {
            Command::new("ip").args(["link", "delete", "cmp0"]).status()?;
        }
        Ok(())
    }

    fn median(&mut self) -> f64 {
        self.times.sort_unstable();
        self.times[self.times.len() / 2].as_secs_f64() * 1e3
    }
}

/// Waits for a child; its wait status, and the most memory it has used, in KiB.
fn wait(pid: u32) -> Result<(i32, i64), Box<dyn Error + Send + Sync>> {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live, writable values of the right types; `pid` is our child, not yet waited for.
    let waited = unsafe { libc::wait4(pid.try_into()?, &raw mut status, 0, &raw mut usage) };
    if waited < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok((status, usage.ru_maxrss))
}

/// The most memory one run has used by its own account (`VmHWM`), in KiB. The figure of wait4(2) also covers the moment
/// between fork and exec, when the child still has this program's memory.
fn own_rss(program: &Path) -> Result<String, Box<dyn Error + Send + Sync>> {
    let output = Command::new(program).arg("--rss").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or("?").trim().trim_end_matches(" kB").to_owned())
}

/// A script for `ip -batch`, removed when this goes out of scope.
struct Script(PathBuf);

impl Script {
    fn new(text: &str) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("netlink_compare-{}", std::process::id()));
        std::fs::write(&path, text).map(|()| Self(path))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn compare(runs: u32, keep: bool) -> Result<(), Box<dyn Error + Send + Sync>> {
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or("this program has no folder")?;
    let script = Script::new(&if keep { BATCH.into() } else { format!("{BATCH}{BATCH_DELETE}") })?;
    let script_path = script.0.to_string_lossy().into_owned();
    let args: &[&str] = if keep { &["--keep"] } else { &[] };
    let add = ["link", "add", "cmp0", "type", "veth", "peer", "name", "cmp1"];
    let ip = Path::new("/sbin/ip");
    let mut candidates = vec![
        Candidate::new("pair_blocking", folder.join("pair_blocking"), args, keep),
        Candidate::new("pair_rtnetlink", folder.join("pair_rtnetlink"), args, keep),
        Candidate::new("ip -batch", ip, &["-batch", &script_path], keep),
    ];
    if keep {
        candidates.push(Candidate::new("ip link add", ip, &add, true));
    }
    (0..runs).try_for_each(|_| candidates.iter_mut().try_for_each(Candidate::run))?;

    let what = if keep { "make" } else { "make and delete" };
    println!("{what}, {runs} runs each; memory in KiB, binary in bytes");
    println!("{:<16}{:>10}{:>8}{:>8}{:>10}", "", "median", "maxrss", "VmHWM", "binary");
    let mut medians = Vec::new();
    for candidate in &mut candidates {
        let peak = if candidate.program == ip { "-".into() } else { own_rss(&candidate.program)? };
        let size = std::fs::metadata(&candidate.program)?.len();
        let median = candidate.median();
        medians.push(median);
        let (name, rss) = (candidate.name, candidate.rss);
        println!("{name:<16}{median:>7.3} ms{rss:>8}{peak:>8}{size:>10}");
    }
    println!("rtnetlink / blocking: {:.3}\n", medians[1] / medians[0]);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let runs = std::env::args().nth(1).map_or(Ok(200), |runs| runs.parse())?;
    let ns = TestNetns::new("compare");
    // On a thread that is in the namespace: what it starts is too, and nothing has to run between fork and exec.
    ns.run(|| compare(runs, true).and_then(|()| compare(runs, false)))
}
