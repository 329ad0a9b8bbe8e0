//! The table that is printed.

use std::fmt;

use crate::floor::Floors;
use crate::subject::{Figures, Mode};
use crate::world::Size;

/// What was measured of one mode at one size.
pub struct Line {
    /// Which.
    pub mode: Mode,
    /// How much.
    pub size: Size,
    /// Ours.
    pub figures: Figures,
    /// The loader's.
    pub floors: Floors,
}

/// Lines with a heading.
#[derive(Default)]
pub struct Table(pub Vec<Line>);

/// kube-proxy 1.36.2: first sync and one endpoint change (from the API write until traffic followed) in milliseconds, memory in MiB.
/// `None`: more than 300 s, or not recorded.
const RECORDED: [(Mode, Size, Option<f64>, Option<f64>, Option<f64>); 9] = [
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
    /// What is asked for.
    fn goals(&self) -> Vec<Goal> {
        let Figures { first, change, change_cpu, memory, connect: [service, direct, _], .. } =
            self.figures;
        let goal = |name, figure, most, unit| Goal { name, figure, most, unit };
        let large = self.size == Size::new(10_000, 2);
        let mut goals = Vec::new();
        if self.mode == Mode::Nftables {
            let most = if large { 1_500.0 } else { 2_000.0 };
            goals.push(goal("first sync", first, most, "ms"));
            goals.push(goal("one change", change, 25.0, "ms"));
            goals.push(goal("CPU of one change", change_cpu, 5.0, "ms"));
            goals.push(goal("a connection / a direct one", service / direct, 1.1, ""));
        } else {
            goals.push(goal("first sync / floor", first / self.floors.first, 1.3, ""));
            goals.push(goal("one change / floor", change / self.floors.change, 1.3, ""));
        }
        if large {
            goals.push(goal("memory", memory, 60.0, "MiB"));
        }
        goals
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, figure, most, unit } = self;
        let met = if figure <= most { "met" } else { "MISSED" };
        write!(f, "{name:<28}{figure:>10.2} {unit:<4} at most {most:>8.2} {unit:<4}{met}")
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            first,
            first_cpu,
            change,
            change_worst,
            change_cpu,
            follow,
            look,
            memory,
            connect,
        } = self.figures;
        let recorded =
            RECORDED.iter().find(|(mode, size, ..)| (*mode, *size) == (self.mode, self.size));
        let (_, _, their_first, their_change, their_memory) =
            recorded.copied().unwrap_or((self.mode, self.size, None, None, None));
        let told =
            |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.0}"));
        let theirs = [their_first, their_change, their_memory].map(told).join(" / ");
        write!(
            f,
            "{:<16}{:<10}{first:>9.0}{first_cpu:>9.0}{:>9.0}{change:>10.1}{change_worst:>9.1}{change_cpu:>9.1}{:>9.1}{follow:>9.1}{look:>8.1}{memory:>8.0}{:>9.0}{:>8.0}{:>7.0}   {theirs}",
            self.mode,
            self.size.to_string(),
            self.floors.first,
            self.floors.change,
            connect[0],
            connect[1],
            connect[2],
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "times in ms, connections in us, memory in MiB (of objects, model and backend); kube-proxy: recorded, not run"
        )?;
        writeln!(
            f,
            "{:<16}{:<10}{:>9}{:>9}{:>9}{:>10}{:>9}{:>9}{:>9}{:>9}{:>8}{:>8}{:>9}{:>8}{:>7}   kube-proxy: first / change / memory",
            "",
            "",
            "first",
            "CPU",
            "floor",
            "change",
            "worst",
            "CPU",
            "floor",
            "follows",
            "look",
            "memory",
            "connect",
            "direct",
            "bare"
        )?;
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        for line in &self.0 {
            for goal in line.goals() {
                writeln!(f, "{:<16}{:<10}{goal}", line.mode, line.size.to_string())?;
            }
        }
        Ok(())
    }
}
