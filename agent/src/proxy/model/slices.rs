//! The slices of one service.

use super::Slice;

/// In order of name. Nearly every service has one or two, and there are many services: no more room is taken than they need.
#[derive(Debug, Default)]
pub struct Slices(Vec<Slice>);

impl Slices {
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|slice| (*slice.name).cmp(name))
    }

    /// The slice of this name.
    pub fn get(&self, name: &str) -> Option<&Slice> {
        self.find(name).ok().map(|at| &self.0[at])
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Adds a slice, or puts it in the place of the one of its name.
    pub fn set(&mut self, slice: Slice) {
        match self.find(&slice.name) {
            Ok(at) => self.0[at] = slice,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, slice);
            }
        }
    }

    /// Removes the slice of this name; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let found = self.find(name);
        if let Ok(at) = found {
            self.0.remove(at);
            self.0.shrink_to_fit();
        }
        found.is_ok()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in order of name.
    pub fn iter(&self) -> std::slice::Iter<'_, Slice> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use netns_tools::iptables::Family;

    use super::*;
    use crate::proxy::model::ServiceName;

    fn slice(name: &str, family: Family) -> Slice {
        Slice {
            name: name.into(),
            service: ServiceName::new("default", "web"),
            family,
            ports: [].into(),
            endpoints: [].into(),
            triggered: None,
        }
    }

    #[test]
    fn slices_come_and_go_by_name_in_whatever_order() {
        let mut slices = Slices::default();
        for name in ["c", "a", "b", "a"] {
            slices.set(slice(name, Family::V4));
        }
        let names = |slices: &Slices| -> String { slices.iter().map(|one| &*one.name).collect() };
        assert_eq!(names(&slices), "abc");
        slices.set(slice("b", Family::V6));
        assert_eq!(slices.get("b").map(|one| one.family), Some(Family::V6));
        assert!(slices.remove("a") && !slices.remove("a") && !slices.has("a") && slices.has("c"));
        assert_eq!(names(&slices), "bc");
        assert!(slices.remove("c") && slices.remove("b") && slices.is_empty());
    }
}
