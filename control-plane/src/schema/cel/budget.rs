//! How much an evaluation may do.

use std::cell::Cell;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has none: no such key, division by zero.
    Error(String),
    /// It costs too much. Nothing goes on after this.
    Cost,
}

impl Fault {
    /// A value of a type that is not what the function takes. Only values whose type was not known lead here.
    pub(super) fn no_overload() -> Self {
        Self::Error("no such overload".to_owned())
    }

    /// An error in these words.
    pub(super) fn error<T>(text: impl Into<String>) -> Result<T, Self> {
        Err(Self::Error(text.into()))
    }
}

/// Steps that are left. A step is an expression that is evaluated, an item that is looked at or made, or ten bytes of text.
#[derive(Debug)]
pub struct Budget(Cell<u64>);

impl Budget {
    /// So many steps.
    pub fn new(steps: u64) -> Self {
        Self(Cell::new(steps))
    }

    /// How many are left.
    pub fn left(&self) -> u64 {
        self.0.get()
    }

    /// Takes steps before they are done.
    pub(super) fn spend(&self, steps: u64) -> Result<(), Fault> {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or_default());
        left.map(drop).ok_or(Fault::Cost)
    }

    /// Takes the steps for so many items.
    pub(super) fn items(&self, count: usize) -> Result<(), Fault> {
        self.spend(count as u64)
    }

    /// Takes the steps for so many bytes of text, read or made.
    pub(super) fn text(&self, bytes: usize) -> Result<(), Fault> {
        self.spend(bytes as u64 / 10 + 1)
    }
}
