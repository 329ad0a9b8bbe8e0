//! Measures the overlay. Traffic between pods of one node, of two nodes on one link and of two nodes by VXLAN, against the same
//! topology made by hand; both ways in which pods are attached. `ci/bench overlay` builds and calls this.
//!
//! Figures of different machines or runs do not compare; ratios do: all that is compared with each other takes turns. Tables are
//! Markdown.
//!
//! ```text
//! overlay_bench [--cni PATH] [--agent PATH] [--rounds 15] [--time 300] [--paths same,host-gw,vxlan] [--peers 1000,5000,10000]
//!               [--parts traffic,peers]
//! ```

mod hand;
mod heddle;
mod node;
mod peers;
mod place;
mod program;
mod table;
mod testbed;
mod traffic;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use heddle::Plugins;
use place::{Attachment, Builder, Path, Place};
use program::Program;
use table::{Peers, Row, Table};
use testbed::Testbed;
use traffic::Effort;

/// Results of this program.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: overlay_bench [--cni PATH] [--agent PATH] [--rounds N] [--time MILLISECONDS] [--paths same,host-gw,vxlan] \
                     [--peers N,...] [--parts traffic,peers]";

/// So few that they take no memory.
const FEW: u32 = 10;
/// Rounds of the remote nodes, each of which takes many seconds.
const PEER_ROUNDS: usize = 3;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Traffic,
    Peers,
}

impl Part {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "traffic" => Some(Self::Traffic),
            "peers" => Some(Self::Peers),
            _ => None,
        }
    }
}

/// What is asked for.
struct Plan {
    cni: Option<PathBuf>,
    agent: Option<PathBuf>,
    rounds: usize,
    time: Duration,
    paths: Vec<Path>,
    peers: Vec<u32>,
    parts: Vec<Part>,
}

impl Plan {
    fn parse(words: &[String]) -> Outcome<Self> {
        let mut plan = Self {
            cni: None,
            agent: None,
            rounds: 15,
            time: Duration::from_millis(300),
            paths: Path::ALL.to_vec(),
            peers: vec![1_000, 5_000, 10_000],
            parts: vec![Part::Traffic, Part::Peers],
        };
        for pair in words.chunks(2) {
            let [flag, value] = pair else { return Err(USAGE.into()) };
            match flag.as_str() {
                "--cni" => plan.cni = Some(value.into()),
                "--agent" => plan.agent = Some(value.into()),
                "--rounds" => plan.rounds = value.parse()?,
                "--time" => plan.time = Duration::from_millis(value.parse()?),
                "--paths" => plan.paths = list(value, Path::parse)?,
                "--peers" => plan.peers = list(value, |word| word.parse().ok())?,
                "--parts" => plan.parts = list(value, Part::parse)?,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(plan)
    }

    const fn effort(&self) -> Effort {
        Effort { time: self.time, requests: 2_000, connections: 600 }
    }
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Outcome<Vec<T>> {
    let one = |word: &str| parse(word).ok_or_else(|| format!("{word:?}: {USAGE}").into());
    text.split(',').map(one).collect()
}

fn main() -> Outcome {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let plan = Plan::parse(&words)?;
    println!("{}; load before: {}\n", machine(), load());
    if plan.parts.contains(&Part::Traffic) {
        traffic(&plan)?;
    }
    if plan.parts.contains(&Part::Peers) {
        peers(&plan)?;
    }
    println!("load after: {}", load());
    Ok(())
}

fn traffic(plan: &Plan) -> Outcome {
    let cni =
        plan.cni.as_ref().ok_or_else(|| format!("--cni says where heddle-cni is; {USAGE}"))?;
    let plugins = Plugins::install(cni)?;
    let program = plan.agent.clone().map(Program::new);
    if program.is_none() {
        println!(
            "No --agent: what is Heddle's here are the plugins; routes, tunnel and rules are by hand.\n"
        );
    }
    let mut table = Table::default();
    for path in &plan.paths {
        table.rows.extend(compare(*path, plan, &plugins, program.as_ref())?);
    }
    println!("{table}");
    Ok(())
}

fn peers(plan: &Plan) -> Outcome {
    let agent =
        plan.agent.clone().ok_or_else(|| format!("--agent says where the program is; {USAGE}"))?;
    let program = Program::new(agent);
    let mut table = Peers::default();
    for count in std::iter::once(FEW).chain(plan.peers.iter().copied()) {
        eprintln!("    {count} nodes");
        table.lines.push(peers::measure(&program, count, PEER_ROUNDS)?);
    }
    println!("{table}");
    Ok(())
}

/// All topologies of a path, which take turns. Each round begins with another one.
fn compare(
    path: Path,
    plan: &Plan,
    plugins: &Plugins,
    program: Option<&Program>,
) -> Outcome<Vec<Row>> {
    eprintln!("    {}", path.word());
    let mut rows = Vec::new();
    for attachment in Attachment::ALL {
        for builder in Builder::ALL {
            let place = Place { path, attachment, builder };
            rows.push((Testbed::new(place, plugins, program)?, Row { place, samples: Vec::new() }));
        }
    }
    // the first round fills caches and is not counted
    for round in 0..=plan.rounds {
        for turn in 0..rows.len() {
            let at = (round + turn) % rows.len();
            let (testbed, row) = &mut rows[at];
            let sample = testbed.sample(plan.effort());
            let sample = sample.map_err(|error| format!("{}: {error}", row.place))?;
            if round > 0 {
                row.samples.push(sample);
            }
        }
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// The middle one.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Kernel and processor.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let processors = read("/proc/cpuinfo");
    let mut models = processors.lines().filter_map(|line| line.strip_prefix("model name"));
    let number = models.clone().count();
    let model = models.next().unwrap_or_default().trim_start_matches(['\t', ' ', ':']).to_owned();
    format!("Linux {}, {number} × {model}", kernel.trim())
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
