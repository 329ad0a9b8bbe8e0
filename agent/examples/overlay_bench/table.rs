//! The tables that are printed, in Markdown, and the targets.

use std::fmt;

use crate::median;
use crate::peers;
use crate::place::{Attachment, Builder, Path, Place};
use crate::traffic::Figures;

/// Ours against the same by hand, at least.
const TARGET: f64 = 0.97;

/// The samples of one topology, in the order of the rounds.
pub struct Row {
    /// Which.
    pub place: Place,
    /// One of each round.
    pub samples: Vec<Figures>,
}

/// All rows.
#[derive(Default)]
pub struct Table {
    /// In the order of printing.
    pub rows: Vec<Row>,
}

/// A figure of a sample, whether more is better, and its name.
type Column = (&'static str, bool, fn(&Figures) -> f64);

const COLUMNS: [Column; 4] = [
    ("TCP stream", true, |figures| figures.stream),
    ("request", false, |figures| figures.request),
    ("connection", false, |figures| figures.connection),
    ("datagrams", true, |figures| figures.datagrams),
];

impl Row {
    fn median(&self, of: fn(&Figures) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }

    /// How this compares with another, as "more is better": the median of the rounds' own ratios, because what disturbs the machine
    /// disturbs both of a round.
    fn against(&self, other: &Self, (_, more, of): Column) -> f64 {
        let pairs = self.samples.iter().zip(&other.samples);
        let ratio = |(own, other): (&Figures, &Figures)| {
            if more { of(own) / of(other) } else { of(other) / of(own) }
        };
        median(pairs.map(ratio).collect())
    }
}

/// Every path with every attachment.
fn cases() -> impl Iterator<Item = (Path, Attachment)> {
    Path::ALL.into_iter().flat_map(|path| Attachment::ALL.map(|attachment| (path, attachment)))
}

/// A line of one against another.
fn compared(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    (one, other): (Option<&Row>, Option<&Row>),
) -> fmt::Result {
    let (Some(one), Some(other)) = (one, other) else { return Ok(()) };
    let ratios = COLUMNS.map(|column| format!("{:.2}", one.against(other, column)));
    writeln!(f, "| {name} | {} |", ratios.join(" | "))
}

impl Table {
    fn row(&self, path: Path, attachment: Attachment, builder: Builder) -> Option<&Row> {
        let wanted = Place { path, attachment, builder };
        self.rows.iter().find(|row| row.place == wanted)
    }

    fn ours(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Heddle against the same by hand: medians of the rounds' ratios, 1 is equal, more is better\n"
        )?;
        for (path, attachment) in cases() {
            let hand = self.row(path, attachment, Builder::Hand);
            let heddle = self.row(path, attachment, Builder::Heddle);
            let (Some(hand), Some(heddle)) = (hand, heddle) else { continue };
            for column in COLUMNS {
                let ratio = heddle.against(hand, column);
                let met = if ratio >= TARGET { "met" } else { "MISSED" };
                let name = format!("{}, {}", path.word(), attachment.word());
                writeln!(
                    f,
                    "    {name:<18}{:<14}{ratio:>6.3}  at least {TARGET:.2}  {met}",
                    column.0
                )?;
            }
        }
        writeln!(f)
    }

    fn choices(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "One way against another, more is better\n\n| | TCP stream | request | connection | datagrams |\n|---|---|---|---|---|"
        )?;
        for path in Path::ALL {
            for builder in Builder::ALL {
                let of = |attachment| self.row(path, attachment, builder);
                let name = match builder {
                    Builder::Bare => "no rules",
                    Builder::Hand => "rules by hand",
                    Builder::Heddle => "heddle",
                };
                let name = format!("ptp / bridge, {}, {name}", path.word());
                compared(f, &name, (of(Attachment::Ptp), of(Attachment::Bridge)))?;
            }
        }
        for attachment in Attachment::ALL {
            let of = |builder| self.row(Path::Vxlan, attachment, builder);
            let name = format!("rules / no rules, vxlan, {}", attachment.word());
            compared(f, &name, (of(Builder::Hand), of(Builder::Bare)))?;
        }
        writeln!(f)
    }

    /// Segments that travel together: many times the MTU.
    fn segments(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let (packet, mtu) = (row.median(|figures| figures.packet), row.place.path.mtu());
            let met = if packet >= 4.0 * f64::from(mtu) { "met" } else { "MISSED" };
            writeln!(
                f,
                "    {:<44}{packet:>8.0} bytes a packet at the receiver, at least {} (4 × MTU)  {met}",
                row.place.to_string(),
                4 * mtu
            )?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Pod to pod, medians of {} rounds in which all of a path took turns\n\n\
             | path | TCP one stream Gbit/s | request p50 µs | connect-request-close p50 µs | UDP kpps |\n|---|---|---|---|---|",
            self.rows.first().map_or(0, |row| row.samples.len())
        )?;
        for row in &self.rows {
            let [stream, request, connection, datagrams] = COLUMNS.map(|(_, _, of)| row.median(of));
            writeln!(
                f,
                "| {} | {stream:.2} | {request:.1} | {connection:.1} | {datagrams:.0} |",
                row.place
            )?;
        }
        writeln!(f)?;
        self.ours(f)?;
        self.choices(f)?;
        self.segments(f)
    }
}

/// What thousands of remote nodes take.
#[derive(Default)]
pub struct Peers {
    /// By number of remote nodes; the first has few, to compare memory with.
    pub lines: Vec<peers::Figures>,
}

impl Peers {
    fn goals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(few) = self.lines.first() else { return Ok(()) };
        for line in &self.lines[1..] {
            let mut goal = |name: &str, figure: f64, most: f64, unit: &str| {
                let met = if figure <= most { "met" } else { "MISSED" };
                writeln!(
                    f,
                    "    {:>6} nodes  {name:<34}{figure:>9.2} {unit:<3} at most {most:>6.2} {unit:<3} {met}",
                    line.count
                )
            };
            goal("first route to last / one batch", line.programming / line.floor, 1.3, "")?;
            let ours = line.programming / line.floor_ours;
            goal("first route to last / batch of ours", ours, 1.3, "")?;
            goal("one change, from the API's word", line.change, 5.0, "ms")?;
            if line.count >= 10_000 {
                // MB, not MiB
                goal(
                    "memory more than with few",
                    (line.memory - few.memory) * 1.048_576,
                    20.0,
                    "MB",
                )?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Remote nodes; medians, in ms; the batch is route, neighbour and forwarding entry of each, in one call\n\n\
             | nodes | one batch | one batch, our layout | first route to last | start to last route | one change (worst) | one node more | memory MB |\n\
             |---|---|---|---|---|---|---|---|"
        )?;
        for line in &self.lines {
            writeln!(
                f,
                "| {} | {:.1} | {:.1} | {:.1} | {:.0} | {:.2} ({:.1}) | {:.2} | {:.1} |",
                line.count,
                line.floor,
                line.floor_ours,
                line.programming,
                line.start,
                line.change,
                line.change_worst,
                line.arrival,
                line.memory * 1.048_576
            )?;
        }
        writeln!(f)?;
        self.goals(f)
    }
}
