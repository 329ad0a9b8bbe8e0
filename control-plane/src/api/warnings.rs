//! What the caller of a write should hear although the write is let in: unknown fields, values that do nothing or not for long.

use std::sync::{Arc, Mutex, PoisonError};

/// The warnings of one request, each once, in the order in which they came up. Copies share them.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Some more. A write that is tried again may tell them again.
    pub fn add(&self, more: impl IntoIterator<Item = String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in more {
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }

    /// All of them; none are left.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_what_is_told_once() {
        let warnings = Warnings::default();
        warnings.clone().add(["a".to_owned(), "b".to_owned()]);
        warnings.add(["a".to_owned()]);
        assert_eq!(warnings.take(), ["a", "b"]);
        assert!(warnings.take().is_empty());
    }
}
