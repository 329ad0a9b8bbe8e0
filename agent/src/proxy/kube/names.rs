//! Names that many objects have in common: of nodes, zones and ports.

use std::collections::HashSet;
use std::sync::Arc;

/// Fewer names than this are not worth a search for those that nobody has any more.
const FEW: usize = 1024;

/// Every name once, however many objects have it: fifty thousand endpoints are on some hundred nodes.
#[derive(Debug)]
pub struct Names {
    known: HashSet<Arc<str>>,
    /// With so many it is seen which are still in use.
    many: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { known: HashSet::new(), many: FEW }
    }
}

impl Names {
    /// Makes a name the one that others with the same text have.
    pub fn share(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.known.get(name) {
            *name = Arc::clone(known);
            return;
        }
        if self.known.len() >= self.many {
            self.forget_unused();
        }
        self.known.insert(Arc::clone(name));
    }

    fn forget_unused(&mut self) {
        self.known.retain(|name| Arc::strong_count(name) > 1);
        self.many = FEW.max(2 * self.known.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_the_same_name() {
        let mut names = Names::default();
        let mut all: Vec<Arc<str>> = ["a", "b", "a"].map(Arc::from).into();
        for name in &mut all {
            names.share(name);
        }
        assert!(Arc::ptr_eq(&all[0], &all[2]) && !Arc::ptr_eq(&all[0], &all[1]));
        assert_eq!((&*all[0], &*all[1]), ("a", "b"));
    }

    #[test]
    fn names_that_nobody_has_any_more_are_forgotten() {
        let mut names = Names::default();
        let mut kept: Arc<str> = "kept".into();
        names.share(&mut kept);
        for number in 0..10 * FEW {
            names.share(&mut number.to_string().into());
        }
        assert!(names.known.len() <= FEW, "{}", names.known.len());
        let mut again: Arc<str> = "kept".into();
        names.share(&mut again);
        assert!(Arc::ptr_eq(&again, &kept));
    }
}
