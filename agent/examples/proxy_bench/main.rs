//! Measures the service proxy's rules: from objects in memory until the kernel has committed them, against what the loaders of
//! iptables and nftables need for the same rules in the same run, and what a connection through the rules costs. `ci/bench proxy`
//! builds and calls it.
//!
//! Figures of different machines or runs do not compare; ratios do. What kube-proxy needed was recorded once, on a machine of this
//! kind, from the API write until traffic followed; it is printed beside.
//!
//! ```text
//! proxy_bench [--sizes 1000x10,5000x10,10000x2] [--modes nftables,iptables-nft,iptables-legacy] [--rounds 30] [--flows 100000]
//! ```

mod floor;
mod flows;
mod path;
mod subject;
mod table;
mod usage;
mod world;

use std::error::Error;
use std::process::Stdio;

use netns_tools::testing::{End, TestNetns, veth_pair};

use subject::{Figures, Mode};
use table::{Line, Table};
use world::Size;

/// Results of this program.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: proxy_bench [--sizes NxE,...] [--modes nftables,iptables-nft,iptables-legacy] [--rounds N] [--flows N]";

/// What is asked for.
struct Plan {
    sizes: Vec<Size>,
    modes: Vec<Mode>,
    rounds: usize,
    flows: usize,
}

impl Plan {
    fn parse(words: &[String]) -> Outcome<Self> {
        let mut plan = Self {
            sizes: vec![Size::new(1_000, 10), Size::new(5_000, 10), Size::new(10_000, 2)],
            modes: Mode::ALL.to_vec(),
            rounds: 30,
            flows: 100_000,
        };
        for pair in words.chunks(2) {
            let [flag, value] = pair else { return Err(USAGE.into()) };
            match flag.as_str() {
                "--sizes" => plan.sizes = list(value, Size::parse)?,
                "--modes" => plan.modes = list(value, Mode::parse)?,
                "--rounds" => plan.rounds = value.parse()?,
                "--flows" => plan.flows = value.parse()?,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(plan)
    }
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Outcome<Vec<T>> {
    let one = |word: &str| parse(word).ok_or_else(|| format!("{word:?}: {USAGE}").into());
    text.split(',').map(one).collect()
}

fn main() -> Outcome {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match &words[..] {
        // by itself, inside a namespace
        [role, mode, size, rounds] if role == "subject" => {
            let (mode, size) = (Mode::parse(mode).ok_or(USAGE)?, Size::parse(size).ok_or(USAGE)?);
            print!("{}", subject::run(mode, size, rounds.parse()?)?.to_words());
            Ok(())
        }
        [role, mode, size] if role == "plan" => {
            let (mode, size) = (Mode::parse(mode).ok_or(USAGE)?, Size::parse(size).ok_or(USAGE)?);
            print!("{}", subject::plan(mode, size)?);
            Ok(())
        }
        words => report(&Plan::parse(words)?),
    }
}

fn report(plan: &Plan) -> Outcome {
    let load = || -> String {
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
    };
    println!("load before: {}", load());
    let mut table = Table::default();
    for size in &plan.sizes {
        for mode in &plan.modes {
            eprintln!("    {size} {mode}");
            let floors = floor::measure(*mode, *size, plan.rounds)?;
            let figures = measure(*mode, *size, plan.rounds)?;
            table.0.push(Line { mode: *mode, size: *size, figures, floors });
        }
    }
    print!("{table}");
    if plan.flows > 0 {
        println!("{}", flows::measure(plan.flows)?);
    }
    println!("load after: {}", load());
    Ok(())
}

/// One mode and size, in a process and a namespace of its own, with servers for the last service.
fn measure(mode: Mode, size: Size, rounds: usize) -> Outcome<Figures> {
    let (node, pods) = (TestNetns::new("bench"), TestNetns::new("bench"));
    let node_end = End(&node, "pods", &[world::NODE_ADDRESS]);
    veth_pair(node_end, End(&pods, "node", &world::SERVER_ADDRESSES));
    // services' addresses have a way, as on a node
    node.cmd(&["ip", "route", "add", "default", "via", &world::SERVER.to_string()]);
    let start = |address| path::Server::start(&pods, address);
    let servers = [start(world::SERVER)?, start(world::OTHER_SERVER)?];
    let mut command = node.command(&std::env::current_exe()?.to_string_lossy());
    command.args(["subject", mode.word(), &size.to_string(), &rounds.to_string()]);
    let output = command.stderr(Stdio::inherit()).output()?;
    drop(servers);
    if !output.status.success() {
        return Err(format!("{mode} at {size} failed: {}", output.status).into());
    }
    Figures::of_words(&String::from_utf8(output.stdout)?)
}

/// The middle one.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
