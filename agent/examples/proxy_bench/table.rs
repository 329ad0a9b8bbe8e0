//! The tables that are printed, in Markdown.

use std::fmt;

use crate::floor::{Floors, Nat};
use crate::program;
use crate::subject::{Figures, Mode};
use crate::topology::{Connects, Pair};
use crate::world::Size;

/// What was measured of one mode at one size.
pub struct Line {
    /// Which.
    mode: Mode,
    /// How much.
    size: Size,
    /// Of the rules.
    pub rules: Option<(Figures, Connects)>,
    /// The loader's.
    pub floors: Option<Floors>,
    /// Of the program.
    pub program: Option<program::Figures>,
}

/// Lines with a heading.
#[derive(Default)]
pub struct Table {
    /// One of each mode and size.
    pub lines: Vec<Line>,
    /// What translation itself costs.
    pub nat: Option<Nat>,
}

/// See [`RECORDED`].
type Recorded = (Mode, Size, Option<f64>, Option<f64>, Option<f64>);

/// kube-proxy 1.36.2: first sync and one endpoint change (from the API write until traffic followed) in milliseconds, memory in MB.
/// `None`: more than 300 s, or not recorded.
const RECORDED: [Recorded; 9] = [
    (Mode::Nftables, Size::new(1_000, 10), Some(1_150.0), Some(372.0), Some(106.0)),
    (Mode::Nftables, Size::new(5_000, 10), Some(8_200.0), Some(2_580.0), Some(221.0)),
    (Mode::Nftables, Size::new(10_000, 2), Some(43_900.0), Some(7_641.0), Some(307.0)),
    (Mode::IptablesNft, Size::new(1_000, 10), Some(7_000.0), Some(94.0), None),
    (Mode::IptablesNft, Size::new(5_000, 10), None, None, None),
    (Mode::IptablesNft, Size::new(10_000, 2), Some(153_000.0), Some(1_549.0), None),
    (Mode::IptablesLegacy, Size::new(1_000, 10), Some(1_400.0), Some(169.0), None),
    (Mode::IptablesLegacy, Size::new(5_000, 10), Some(4_950.0), Some(805.0), None),
    (Mode::IptablesLegacy, Size::new(10_000, 2), Some(2_900.0), Some(565.0), None),
];

/// A figure, the most that it should be, and the words for it.
struct Goal {
    name: &'static str,
    figure: f64,
    most: f64,
    unit: &'static str,
}

impl Line {
    /// Nothing is measured yet.
    pub const fn of(mode: Mode, size: Size) -> Self {
        Self { mode, size, rules: None, floors: None, program: None }
    }

    /// What is asked for.
    fn goals(&self) -> Vec<Goal> {
        let goal = |name, figure, most, unit| Goal { name, figure, most, unit };
        let large = self.size == Size::new(10_000, 2);
        let nftables = self.mode == Mode::Nftables;
        let mut goals = Vec::new();
        if let (Some((figures, connects)), Some(floors)) = (&self.rules, &self.floors) {
            if nftables {
                goals.push(goal("CPU of one change", figures.change_cpu, 5.0, "ms"));
                goals.push(goal("a pod's connection / direct", connects.pod.ratio(), 1.1, ""));
                goals.push(goal("the node's connection / direct", connects.node.ratio(), 1.1, ""));
            } else {
                goals.push(goal("first sync / floor", figures.first / floors.first, 1.3, ""));
                goals.push(goal("one change / floor", figures.change / floors.change, 1.3, ""));
            }
        }
        if let Some(program) = &self.program {
            if nftables {
                let most = if large { 1_500.0 } else { 2_000.0 };
                goals.push(goal("first sync of the program", program.first, most, "ms"));
                goals.push(goal("one change of the program", program.change, 25.0, "ms"));
            }
            if large {
                // MB, not MiB
                let held = program.memory[1] * 1.048_576;
                goals.push(goal("memory of the program", held, 60.0, "MB"));
            }
            goals.extend(program.idle.map(|idle| goal("idle", idle, 0.5, "%")));
        }
        goals
    }

    fn recorded(&self) -> [Option<f64>; 3] {
        let mut all = RECORDED.iter();
        let found = all.find(|(mode, size, ..)| (*mode, *size) == (self.mode, self.size));
        found.map_or([None; 3], |(_, _, first, change, memory)| [*first, *change, *memory])
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, figure, most, unit } = self;
        let met = if figure <= most { "met" } else { "MISSED" };
        write!(f, "{name:<32}{figure:>10.2} {unit:<4} at most {most:>8.2} {unit:<4}{met}")
    }
}

/// Milliseconds, or seconds where they are many.
struct Time(f64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms >= 10_000.0 => write!(f, "{:.1} s", ms / 1e3),
            ms if ms >= 1_000.0 => write!(f, "{:.2} s", ms / 1e3),
            ms if ms >= 10.0 => write!(f, "{ms:.0} ms"),
            ms => write!(f, "{ms:.1} ms"),
        }
    }
}

fn told(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |ms| Time(ms).to_string())
}

impl Table {
    fn programs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "The program, from its start or the API write until traffic follows; memory in MB: after the first sync, after changes, at most\n\n\
             | mode, services × endpoints | first sync | one change (worst) | memory | idle CPU | kube-proxy: first, change, memory |\n\
             |---|---|---|---|---|---|"
        )?;
        for line in &self.lines {
            let Some(figures) = &line.program else { continue };
            let [first, change, memory] = line.recorded();
            let memory =
                memory.map_or_else(|| "-".to_owned(), |megabytes| format!("{megabytes:.0} MB"));
            let held = figures.memory.map(|mib| format!("{:.0}", mib * 1.048_576)).join(", ");
            writeln!(
                f,
                "| {} {} | {} | {} ({}) | {held} | {} | {}, {}, {memory} |",
                line.mode,
                line.size,
                Time(figures.first),
                Time(figures.change),
                Time(figures.change_worst),
                figures.idle.map_or_else(|| "-".to_owned(), |idle| format!("{idle:.2} %")),
                told(first),
                told(change),
            )?;
        }
        writeln!(f)
    }

    fn rules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "The rules alone, from objects in memory until the kernel has committed them; memory in MB, at most, of objects, model and rules\n\n\
             | mode, services × endpoints | first sync (floor) | its CPU | one change (floor) | worst | its CPU | seen by a connection | a look | memory |\n\
             |---|---|---|---|---|---|---|---|---|"
        )?;
        for line in &self.lines {
            let (Some((figures, _)), Some(floors)) = (&line.rules, &line.floors) else { continue };
            writeln!(
                f,
                "| {} {} | {} ({}) | {} | {} ({}) | {} | {} | {} | {} | {:.0} |",
                line.mode,
                line.size,
                Time(figures.first),
                Time(floors.first),
                Time(figures.first_cpu),
                Time(figures.change),
                Time(floors.change),
                Time(figures.change_worst),
                Time(figures.change_cpu),
                Time(figures.follow),
                Time(figures.look),
                figures.memory * 1.048_576,
            )?;
        }
        writeln!(f)
    }

    fn connections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "A connection to the last service (direct to its endpoint), and how many times as long it takes\n\n\
             | rules | from a pod | ratio | from the node | ratio |\n|---|---|---|---|---|"
        )?;
        let mut line = |name: &str, Connects { pod, node }: &Connects| {
            let cells = |pair: &Pair| {
                format!("{:.1} µs ({:.1} µs) | {:.2}", pair.service, pair.direct, pair.ratio())
            };
            writeln!(f, "| {name} | {} | {} |", cells(pod), cells(node))
        };
        if let Some(Nat { rule, map }) = &self.nat {
            line("floor: one rule", rule)?;
            line("floor: one map", map)?;
        }
        for known in &self.lines {
            if let Some((_, connects)) = &known.rules {
                line(&format!("{} {}", known.mode, known.size), connects)?;
            }
        }
        writeln!(f)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lines.iter().any(|line| line.program.is_some()) {
            self.programs(f)?;
        }
        if self.lines.iter().any(|line| line.rules.is_some()) {
            self.rules(f)?;
            self.connections(f)?;
        }
        for line in &self.lines {
            for goal in line.goals() {
                writeln!(f, "    {:<16}{:<10}{goal}", line.mode, line.size.to_string())?;
            }
        }
        Ok(())
    }
}
