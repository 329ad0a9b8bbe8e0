//! Measures this suite of CNI plugins against the reference plugins and against the floor (`cni_floor`), in one run on one
//! machine, and prints a table. `ci/bench cni` builds everything and calls it.
//!
//! Figures of different machines or runs do not compare; ratios do. The candidates take turns, each in namespaces of its own, and the
//! medians are told. A call is timed from starting the program to its end.
//!
//! ```text
//! cni_bench HEDDLE_DIR REFERENCE_DIR FLOOR_PROGRAM HEDDLE_PROGRAM [ROUNDS]
//! ```

mod call;
mod cases;
mod table;

use std::error::Error;
use std::path::PathBuf;

use cases::Bench;

/// Results of this program.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str =
    "usage: cni_bench HEDDLE_DIR REFERENCE_DIR FLOOR_PROGRAM HEDDLE_PROGRAM [ROUNDS]";

fn main() -> Outcome {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [heddle, reference, floor, program, rest @ ..] = &words[..] else {
        return Err(USAGE.into());
    };
    let rounds = rest.first().map_or(Ok(100), |rounds| rounds.parse())?;
    let paths = [heddle, reference, floor, program].map(PathBuf::from);
    let table = Bench::new(paths, rounds)?.run()?;
    print!("{table}");
    Ok(())
}
