//! The steps of a call: named, timed, and in test builds made to fail.
//!
//! A plugin runs everything that changes something as a [`step`]. What that buys it:
//!
//! - an error says at which step it happened;
//! - with `CNI_LOG` set every call leaves one line with the time of each of its steps ([`crate::call_log`]);
//! - in a test build `HEDDLE_FAULT` makes any step fail, or the process die there, so that tests can ask for every step what
//!   is left behind.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cni::Error;

/// A step that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Its name.
    pub name: &'static str,
    /// How long it took, with the steps inside it.
    pub time: Duration,
    /// Whether it succeeded.
    pub ok: bool,
}

/// The steps of this process in the order in which they ended. A process serves one call.
static TAKEN: Mutex<Vec<Taken>> = Mutex::new(Vec::new());

/// Runs one step of a call. `name` says what is done, so that it reads well after "at the step": `"make the veth pair"`.
pub fn step<T>(name: &'static str, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let start = Instant::now();
    let outcome = fault::before(name).and_then(|number| {
        let value = run()?;
        fault::after(number, name).map(|()| value)
    });
    let taken = Taken { name, time: start.elapsed(), ok: outcome.is_ok() };
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
    outcome.map_err(|error| locate(error, name))
}

/// The steps taken so far, and forgets them.
pub fn take_all() -> Vec<Taken> {
    std::mem::take(&mut TAKEN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The innermost step is named; the ones around it add nothing.
fn locate(mut error: Error, name: &str) -> Error {
    const MARK: &str = "at the step: ";
    if !error.details.contains(MARK) {
        let separator = if error.details.is_empty() { "" } else { "; " };
        error.details = format!("{}{separator}{MARK}{name}", error.details);
    }
    error
}

/// Faults on demand. Nothing of it is in a release build.
#[cfg(debug_assertions)]
mod fault {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cni::{Error, ErrorCode};
    use nix::sys::signal::{Signal, raise};

    /// `N:before:fail`, `N:after:fail`, `N:before:die` or `N:after:die`: which step of this process (0 is the first to begin),
    /// on which side of it, and whether it ends with an error or with the process.
    const VARIABLE: &str = "HEDDLE_FAULT";

    static BEGUN: AtomicUsize = AtomicUsize::new(0);

    pub fn before(name: &str) -> Result<usize, Error> {
        let number = BEGUN.fetch_add(1, Ordering::Relaxed);
        strike(number, "before", name).map(|()| number)
    }

    pub fn after(number: usize, name: &str) -> Result<(), Error> {
        strike(number, "after", name)
    }

    fn strike(number: usize, side: &str, name: &str) -> Result<(), Error> {
        let Ok(wanted) = std::env::var(VARIABLE) else { return Ok(()) };
        let Some(how) = wanted.strip_prefix(&format!("{number}:{side}:")) else { return Ok(()) };
        if how == "die" {
            // As abrupt as a kill from outside: nothing is unwound, no buffer is written.
            let _ = raise(Signal::SIGKILL);
        }
        Err(Error::new(ErrorCode::GENERIC, format!("{VARIABLE} struck {side} {name:?}")))
    }
}

#[cfg(not(debug_assertions))]
mod fault {
    use cni::Error;

    #[expect(clippy::unnecessary_wraps, reason = "the same form as in a test build")]
    pub fn before(_: &str) -> Result<(), Error> {
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the same form as in a test build")]
    pub fn after((): (), _: &str) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cni::ErrorCode;

    use super::*;

    #[test]
    fn the_innermost_step_is_named() {
        let inner = || step("turn the key", || Err(Error::new(ErrorCode::Io, "stuck")));
        let error: Error = step("open the door", inner).map(|(): ()| ()).unwrap_err();
        assert_eq!(
            (error.msg.as_str(), error.details.as_str()),
            ("stuck", "at the step: turn the key")
        );
        let known = || Err(Error::new(ErrorCode::Io, "stuck").with_details("rust"));
        let error: Error = step("open the door", known).map(|(): ()| ()).unwrap_err();
        assert_eq!(error.details, "rust; at the step: open the door");
    }
}
