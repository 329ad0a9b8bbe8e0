//! What a transaction asks for, judged.

use super::{Condition, Operation, Record, Revision};

/// Panics at a transaction that no caller may send: an empty one, or one with a key twice.
pub fn assert_well_formed(operations: &[Operation]) {
    assert!(!operations.is_empty(), "an empty transaction was sent to the store");
    let mut keys: Vec<_> = operations.iter().map(|operation| operation.key.as_str()).collect();
    keys.sort_unstable();
    let twice = keys.windows(2).find(|pair| pair[0] == pair[1]);
    assert!(
        twice.is_none(),
        "a transaction names the key {:?} twice",
        twice.map_or("", |pair| pair[0])
    );
}

impl Condition {
    /// Whether a key that was last written at `modified` (`None`: it does not exist) satisfies it.
    pub(super) fn holds(self, modified: Option<Revision>) -> bool {
        match self {
            Self::Absent => modified.is_none(),
            Self::At(revision) => modified == Some(revision),
        }
    }
}

/// The first operation whose condition does not hold of what its key holds; `held` has one entry per operation.
pub fn first_unmet(operations: &[Operation], held: &[Option<Record>]) -> Option<usize> {
    operations
        .iter()
        .zip(held)
        .position(|(operation, held)| !operation.condition.holds(held.as_ref().map(|r| r.modified)))
}

/// The end (exclusive) of the range of keys that begin with a prefix; `None` when no key comes after them.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Write;

    fn check(key: &str, condition: Condition) -> Operation {
        Operation { key: key.into(), condition, write: Write::Check }
    }

    #[test]
    fn conditions_hold_of_exactly_what_they_name() {
        assert!(Condition::Absent.holds(None));
        assert!(!Condition::Absent.holds(Some(Revision(3))));
        assert!(Condition::At(Revision(3)).holds(Some(Revision(3))));
        assert!(!Condition::At(Revision(3)).holds(Some(Revision(4))));
        assert!(!Condition::At(Revision(3)).holds(None));
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_has_it_not() {
        assert_eq!(prefix_end(b"/pods/"), Some(b"/pods0".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    #[should_panic(expected = "empty transaction")]
    fn an_empty_transaction_is_a_mistake() {
        assert_well_formed(&[]);
    }

    #[test]
    #[should_panic(expected = "\"/a\" twice")]
    fn a_key_twice_is_a_mistake() {
        let operations = ["/a", "/b", "/a"].map(|key| check(key, Condition::Absent));
        assert_well_formed(&operations);
    }
}
