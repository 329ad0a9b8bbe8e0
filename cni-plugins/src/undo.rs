//! What a failed ADD has to take back.

/// Undo steps, taken in reverse order unless the work is declared done.
///
/// Each step says what it undoes, so that one that fails itself can be named: what stays behind then is for
/// the DEL that a runtime calls after a failed ADD.
#[derive(Default)]
pub struct Undo<'a> {
    steps: Vec<(&'static str, Step<'a>)>,
}

type Step<'a> = Box<dyn FnOnce() -> Result<(), cni::Error> + 'a>;

impl<'a> Undo<'a> {
    /// Remembers how to undo what was just done; `what` completes "cannot undo …".
    pub fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<(), cni::Error> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Ends the work. If it is done, nothing will be undone; if it failed, everything is, and the error tells what could not be.
    pub fn settle<T>(self, outcome: Result<T, cni::Error>) -> Result<T, cni::Error> {
        match outcome {
            Ok(done) => {
                self.disarm();
                Ok(done)
            }
            Err(cause) => Err(self.roll_back(cause)),
        }
    }

    /// The work is done: nothing will be undone.
    fn disarm(mut self) {
        self.steps.clear();
    }

    /// Undoes everything and returns `cause`, its details extended by whatever could not be undone.
    fn roll_back(mut self, mut cause: cni::Error) -> cni::Error {
        for failure in self.unwind() {
            if !cause.details.is_empty() {
                cause.details.push_str("; ");
            }
            cause.details.push_str(&failure);
        }
        cause
    }

    fn unwind(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step() {
                failures.push(format!("cannot undo {what}: {error}"));
            }
        }
        failures
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for failure in self.unwind() {
            eprintln!("{failure}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn error(text: &str) -> cni::Error {
        cni::Error::new(cni::ErrorCode::Io, text)
    }

    #[test]
    fn steps_run_in_reverse_and_failures_are_told() {
        let log = RefCell::new(Vec::new());
        let note = |n: u8| {
            let log = &log;
            move || {
                log.borrow_mut().push(n);
                Ok(())
            }
        };
        let mut undo = Undo::default();
        undo.push("one", note(1));
        undo.push("two", || Err(error("stuck")));
        undo.push("three", note(3));
        let error = undo.roll_back(error("cause").with_details("why"));
        assert_eq!(*log.borrow(), [3, 1]);
        assert_eq!(error.msg, "cause");
        assert!(error.details.starts_with("why; cannot undo two: "), "{}", error.details);
    }

    #[test]
    fn dropping_undoes_and_disarming_does_not() {
        let done = Cell::new(0);
        let again = || {
            done.set(done.get() + 1);
            Ok(())
        };
        let mut undo = Undo::default();
        undo.push("it", again);
        drop(undo);
        assert_eq!(done.get(), 1);
        let mut undo = Undo::default();
        undo.push("it", again);
        undo.disarm();
        assert_eq!(done.get(), 1);
    }
}
