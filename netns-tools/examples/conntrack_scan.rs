//! What does it cost to ask for the connections of one address, in a kernel that tracks many?
//!
//! In a throw-away namespace with 0, 10 000 and 100 000 flows of each family, none of which is the address's: the median and the worst
//! of some questions as whoever gives an address to a new container would ask them. Needs the program `conntrack`.
//!
//! ```text
//! cargo run --release -p netns-tools --example conntrack_scan
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netns_tools::conntrack::{Conntrack, Filter};
use netns_tools::iptables::Family;
use netns_tools::testing::TestNetns;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 15;

/// Lines for `conntrack -R`: UDP flows from as many ports and addresses as it takes.
fn lines(count: usize, family: Family) -> String {
    let mut text = String::new();
    for number in 0..count {
        let (port, host) = (1024 + number % 50_000, 1 + number / 50_000);
        let (from, to) = match family {
            Family::V4 => (format!("198.51.100.{host}"), "203.0.113.9"),
            Family::V6 => (format!("2001:db8::{host:x}"), "2001:db8:1::9"),
        };
        writeln!(text, "-I -p udp -t 600 -s {from} -d {to} --sport {port} --dport 53").ok();
    }
    text
}

fn median_and_worst(mut ask: impl FnMut() -> Outcome<()>) -> Outcome<[Duration; 2]> {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        ask()?;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    Ok([took[ROUNDS / 2], took[ROUNDS - 1]])
}

fn measure(ns: &TestNetns, count: usize) -> Outcome<()> {
    let mut conntrack = Conntrack::open_in(ns.ns())?;
    let (v4, v6): (IpAddr, IpAddr) = ("10.244.1.7".parse()?, "fd00::7".parse()?);
    let filters = [
        ("IPv4, begun by", Filter::new(Family::V4).from(v4)),
        ("IPv4, answered by", Filter::new(Family::V4).answered_by(v4)),
        ("IPv6, begun by", Filter::new(Family::V6).from(v6)),
    ];
    for (what, filter) in filters {
        let [median, worst] = median_and_worst(|| {
            let found = conntrack.list(&filter)?;
            if found.is_empty() { Ok(()) } else { Err("flows of nobody".into()) }
        })?;
        println!("| {count} | {what} | {median:.1?} | {worst:.1?} |");
    }
    Ok(())
}

fn main() -> Outcome<()> {
    println!("| flows of each family | question | median | worst |\n|---|---|---|---|");
    for count in [0, 10_000, 100_000] {
        let ns = TestNetns::new("scan");
        let file = std::env::temp_dir().join(format!("conntrack-scan-{}", std::process::id()));
        for family in [Family::V4, Family::V6] {
            if count == 0 {
                continue;
            }
            std::fs::write(&file, lines(count, family))?;
            let name = file.display().to_string();
            ns.cmd(&["conntrack", "-R", &name]);
        }
        std::fs::remove_file(&file).ok();
        measure(&ns, count)?;
    }
    Ok(())
}
