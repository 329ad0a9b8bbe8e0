//! Fields that somebody applies with another value than their owner's.

use std::collections::BTreeMap;
use std::fmt;

use super::fieldset::{FieldSet, Path};
use super::managed::Manager;

/// One field and one of its owners.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The owner.
    pub manager: Manager,
    /// The field.
    pub path: Path,
}

/// A cause of the refusal, as it stands in `status.details.causes`; its reason is `FieldManagerConflict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The field.
    pub field: String,
    /// With whom.
    pub message: String,
}

/// Why an apply was refused. The client may force it (`force=true`), or leave the fields alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(Vec<Conflict>);

impl Conflicts {
    /// The reason of every cause.
    pub const REASON: &str = "FieldManagerConflict";

    /// Conflicts over what somebody owns; `None` when there are none.
    pub(super) fn of(owned: &BTreeMap<Manager, FieldSet>) -> Option<Self> {
        let conflict = |(manager, fields): (&Manager, &FieldSet)| {
            let paths = fields.paths().into_iter();
            let manager = manager.clone();
            paths.map(move |path| Conflict { manager: manager.clone(), path }).collect::<Vec<_>>()
        };
        let found: Vec<Conflict> = owned.iter().flat_map(conflict).collect();
        (!found.is_empty()).then_some(Self(found))
    }

    /// The conflicts over fields that are not in a set; `None` when there are none.
    pub(super) fn outside(self, allowed: &FieldSet) -> Option<Self> {
        let rest: Vec<Conflict> =
            self.0.into_iter().filter(|one| !allowed.contains(&one.path)).collect();
        (!rest.is_empty()).then_some(Self(rest))
    }

    /// Every conflict: by owner, then by field.
    pub fn iter(&self) -> impl Iterator<Item = &Conflict> {
        self.0.iter()
    }

    /// The causes for a Status.
    pub fn causes(&self) -> Vec<Cause> {
        let cause = |one: &Conflict| Cause {
            field: one.path.to_string(),
            message: format!("conflict with {}", one.manager),
        };
        self.0.iter().map(cause).collect()
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = &self.0[..] {
            return write!(
                out,
                "Apply failed with 1 conflict: conflict with {}: {}",
                one.manager, one.path
            );
        }
        let mut lines = Vec::new();
        let mut last = None;
        for one in &self.0 {
            if last != Some(&one.manager) {
                lines.push(format!("conflicts with {}:", one.manager));
                last = Some(&one.manager);
            }
            lines.push(format!("- {}", one.path));
        }
        write!(out, "Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}
