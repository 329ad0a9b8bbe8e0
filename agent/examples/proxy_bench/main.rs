//! Measures the service proxy. The rules by themselves: from objects in memory until the kernel has committed them, against what the
//! loaders of iptables and nftables need for the same rules in the same run, and what a connection through the rules costs, against
//! what translation itself costs. The program as it is shipped: from the API until traffic follows, its memory, its idleness.
//! `ci/bench proxy` builds and calls this.
//!
//! Figures of different machines or runs do not compare; ratios do. What kube-proxy needed was recorded once, on a machine of this
//! kind, from the API write until traffic followed; it is printed beside. Tables are Markdown.
//!
//! ```text
//! proxy_bench [--agent PATH] [--sizes 1000x10,5000x10,10000x2] [--modes nftables,iptables-nft,iptables-legacy] [--rounds 20]
//!             [--flows 100000] [--idle 20] [--parts rules,program,flows]
//! ```

mod floor;
mod flows;
mod path;
mod program;
mod subject;
mod table;
mod topology;
mod usage;
mod world;

use std::error::Error;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use subject::{Figures, Mode};
use table::{Line, Table};
use topology::{Connects, Topology};
use world::Size;

/// Results of this program.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: proxy_bench [--agent PATH] [--sizes NxE,...] [--modes nftables,iptables-nft,iptables-legacy] [--rounds N] \
                     [--flows N] [--idle SECONDS] [--parts rules,program,flows]";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Rules,
    Program,
    Flows,
}

impl Part {
    const ALL: [Self; 3] = [Self::Rules, Self::Program, Self::Flows];

    fn parse(word: &str) -> Option<Self> {
        let names = ["rules", "program", "flows"];
        names.iter().zip(Self::ALL).find(|(name, _)| **name == word).map(|(_, part)| part)
    }
}

/// What is asked for.
struct Plan {
    agent: Option<PathBuf>,
    sizes: Vec<Size>,
    modes: Vec<Mode>,
    rounds: usize,
    flows: usize,
    idle: Duration,
    parts: Vec<Part>,
}

impl Plan {
    fn parse(words: &[String]) -> Outcome<Self> {
        let mut plan = Self {
            agent: None,
            sizes: vec![Size::new(1_000, 10), Size::new(5_000, 10), Size::new(10_000, 2)],
            modes: Mode::ALL.to_vec(),
            rounds: 20,
            flows: 100_000,
            idle: Duration::from_secs(20),
            parts: Part::ALL.to_vec(),
        };
        for pair in words.chunks(2) {
            let [flag, value] = pair else { return Err(USAGE.into()) };
            match flag.as_str() {
                "--agent" => plan.agent = Some(value.into()),
                "--sizes" => plan.sizes = list(value, Size::parse)?,
                "--modes" => plan.modes = list(value, Mode::parse)?,
                "--rounds" => plan.rounds = value.parse()?,
                "--flows" => plan.flows = value.parse()?,
                "--idle" => plan.idle = Duration::from_secs(value.parse()?),
                "--parts" => plan.parts = list(value, Part::parse)?,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(plan)
    }

    fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The program, if it is to be measured.
    fn program(&self) -> Outcome<Option<&PathBuf>> {
        match &self.agent {
            _ if !self.wants(Part::Program) => Ok(None),
            Some(agent) => Ok(Some(agent)),
            None => Err(format!("--agent says where the program is; {USAGE}").into()),
        }
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
    let program = plan.program()?;
    println!("load before: {}\n", load());
    let mut table = Table::default();
    for size in &plan.sizes {
        for mode in &plan.modes {
            eprintln!("    {size} {mode}");
            let mut line = Line::of(*mode, *size);
            if plan.wants(Part::Rules) {
                line.floors = Some(floor::measure(*mode, *size, plan.rounds)?);
                line.rules = Some(measure(*mode, *size, plan.rounds)?);
            }
            if let Some(agent) = program {
                // it takes half a minute
                let idle = (plan.sizes.last() == Some(size)).then_some(plan.idle);
                line.program = Some(program::measure(agent, *mode, *size, idle)?);
            }
            table.lines.push(line);
        }
    }
    if plan.wants(Part::Rules)
        && let Some(size) = plan.sizes.last()
    {
        table.nat = Some(floor::nat(*size)?);
    }
    println!("{table}");
    if plan.wants(Part::Flows) && plan.flows > 0 {
        println!("{}", flows::measure(plan.flows)?);
    }
    println!("load after: {}", load());
    Ok(())
}

/// One mode and size, in a process and a namespace of its own, with servers for the last service.
fn measure(mode: Mode, size: Size, rounds: usize) -> Outcome<(Figures, Connects)> {
    let topology = Topology::new(size);
    let _servers = topology.serve()?;
    let mut command = topology.node.command(&std::env::current_exe()?.to_string_lossy());
    command.args(["subject", mode.word(), &size.to_string(), &rounds.to_string()]);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{mode} at {size} failed: {}", output.status).into());
    }
    let figures = Figures::of_words(&String::from_utf8(output.stdout)?)?;
    // the rules stay
    Ok((figures, topology.connect(world::cluster_ip(size.last()))?))
}

/// The middle one.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
