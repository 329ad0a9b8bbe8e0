//! The table that is printed.

use std::fmt;
use std::time::Duration;

/// What a case is compared with.
#[derive(Clone, Copy)]
pub enum Target {
    /// The reference must take at least so many times as long.
    Faster(f64),
    /// It may take at most so many times as long as the floor.
    Floor(f64),
    /// It may be at most so large.
    Below(f64),
    /// Just to know.
    None,
}

/// One line.
pub struct Line {
    /// What was measured.
    pub name: String,
    /// Ours, the reference's, the floor's.
    pub figures: [Option<f64>; 3],
    /// `ms`, `KiB`, …
    pub unit: &'static str,
    /// What is asked for.
    pub target: Target,
}

impl Line {
    fn ratio(&self) -> Option<f64> {
        let [ours, theirs, floor] = self.figures;
        match self.target {
            Target::Floor(_) => Some(ours? / floor?),
            Target::Faster(_) | Target::Below(_) | Target::None => Some(theirs? / ours?),
        }
    }

    fn met(&self) -> Option<bool> {
        match self.target {
            Target::Faster(times) => Some(self.ratio()? >= times),
            Target::Floor(times) => Some(self.ratio()? <= times),
            Target::Below(most) => Some(self.figures[0]? < most),
            Target::None => None,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |figure: Option<f64>| {
            figure.map_or(String::from("-"), |figure| format!("{figure:.2} {}", self.unit))
        };
        let [ours, theirs, floor] = self.figures.map(figure);
        let ratio = self.ratio().map_or(String::from("-"), |ratio| format!("{ratio:.2}"));
        let (target, unit) = match self.target {
            Target::Faster(times) => (format!("reference / heddle >= {times}"), ""),
            Target::Floor(times) => (format!("heddle / floor <= {times}"), ""),
            Target::Below(most) => (format!("below {most}"), self.unit),
            Target::None => (String::from("-"), ""),
        };
        let met = match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let target = format!("{target} {unit}");
        write!(
            f,
            "{:<34}{ours:>14}{theirs:>14}{floor:>14}{ratio:>8}  {:<28}{met}",
            self.name,
            target.trim()
        )
    }
}

/// All lines, with a heading.
pub struct Table(pub Vec<Line>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34}{:>14}{:>14}{:>14}{:>8}  target",
            "", "heddle", "reference", "floor", "ratio"
        )?;
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The middle one, in milliseconds.
pub fn median(mut times: Vec<Duration>) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| time.as_secs_f64() * 1e3)
}
