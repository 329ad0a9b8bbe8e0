//! A table in few bytes, to see whether what the kernel holds is what it should hold. That is nearly always so, and then not a single
//! element need be kept, of which there are some ten thousands.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use netns_tools::nftables::{Data, Key, Verdict};

use super::difference;
use super::layout::SetName;
use super::objects::Objects;
use super::transaction::{Change, Sink};

/// Two functions that nobody knows before (they are keyed at random), so that two tables are taken for the same by one chance in 2^128.
#[derive(Clone, Debug, Default)]
pub struct Hashes([RandomState; 2]);

/// The elements of one set: how many, and the sum of what the functions make of each. The order does not matter, as in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    count: usize,
    sums: [u64; 2],
}

impl Sum {
    /// Takes in an element. Keys are compared by their bytes.
    pub fn add(&mut self, hashes: &Hashes, key: &Key, data: Option<&Data>) {
        self.count += 1;
        for (sum, function) in self.sums.iter_mut().zip(&hashes.0) {
            let mut state = function.build_hasher();
            key.as_slice().hash(&mut state);
            hash_data(data, &mut state);
            *sum = sum.wrapping_add(state.finish());
        }
    }

    /// Takes in other elements of the same set.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum = sum.wrapping_add(more);
        }
    }
}

fn hash_data(data: Option<&Data>, state: &mut impl Hasher) {
    match data {
        None => 0_u8.hash(state),
        Some(Data::Value(value)) => (1_u8, value.as_slice()).hash(state),
        // the verdict of all our maps
        Some(Data::Verdict(Verdict::Goto(chain))) => (2_u8, chain).hash(state),
        Some(Data::Verdict(other)) => (3_u8, format!("{other:?}")).hash(state),
    }
}

/// Chains with their rules, and a sum of each set.
#[derive(Debug, Default)]
pub struct Summary {
    hashes: Hashes,
    /// Without elements.
    pub objects: Objects,
    sums: BTreeMap<SetName, Sum>,
}

impl Summary {
    /// Of nothing, to be compared with others by the same functions.
    pub fn new(hashes: &Hashes) -> Self {
        Self { hashes: hashes.clone(), ..Self::default() }
    }

    /// Sets the sum of a set.
    pub fn set(&mut self, set: SetName, sum: Sum) {
        self.sums.insert(set, sum);
    }

    /// Whether this, of the kernel, is what is desired.
    pub fn agrees_with(&self, desired: &Self) -> bool {
        let chains = difference::between(&self.objects, &desired.objects);
        chains.is_some_and(|changes| changes.is_empty()) && self.sums == desired.sums
    }
}

impl Sink for Summary {
    fn push(&mut self, change: Change) {
        match change {
            Change::AddSet(set) => drop(self.sums.entry(set).or_default()),
            Change::AddElement { set, key, data } => {
                self.sums.entry(set).or_default().add(&self.hashes, &key, data.as_ref());
            }
            other => self.objects.change(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(host: u8, data: impl Into<Option<Data>>) -> Change {
        let key = Key::new(std::net::Ipv4Addr::new(10, 0, 0, host)).and(6_u8).and(80_u16);
        Change::AddElement { set: SetName::Services, key, data: data.into() }
    }

    fn to(chain: &str) -> Data {
        Data::Verdict(Verdict::Goto(chain.into()))
    }

    fn summary(hashes: &Hashes, changes: impl IntoIterator<Item = Change>) -> Summary {
        let mut summary = Summary::new(hashes);
        summary.push(Change::AddSet(SetName::Services));
        for change in changes {
            summary.push(change);
        }
        summary
    }

    #[test]
    fn the_order_does_not_matter_and_everything_else_does() {
        let hashes = Hashes::default();
        let both = || [element(1, to("a")), element(2, to("b"))];
        let desired = summary(&hashes, both());
        let mut turned = both();
        turned.reverse();
        assert!(summary(&hashes, turned).agrees_with(&desired));
        let value = Some(Data::Value(Key::new(1_u16)));
        for other in [
            vec![],
            vec![element(1, to("a"))],
            vec![element(1, to("b")), element(2, to("a"))],
            vec![element(1, to("a")), element(3, to("b"))],
            vec![element(1, to("a")), element(2, None::<Data>)],
            vec![element(1, to("a")), element(2, value)],
            vec![element(1, to("a")), element(2, to("b")), element(2, to("b"))],
        ] {
            assert!(!summary(&hashes, other.clone()).agrees_with(&desired), "{other:?}");
        }
        // a chain too much
        let chain = Change::AddChain { name: "c".into(), base: None };
        assert!(!summary(&hashes, both().into_iter().chain([chain])).agrees_with(&desired));
    }

    #[test]
    fn parts_of_a_set_make_up_the_whole() {
        let hashes = Hashes::default();
        let key = |host: u8| Key::new(host);
        let sum = |hosts: &[u8]| {
            let mut sum = Sum::default();
            for host in hosts {
                sum.add(&hashes, &key(*host), None);
            }
            sum
        };
        let mut parts = sum(&[3]);
        parts.merge(sum(&[1, 2]));
        assert_eq!(parts, sum(&[1, 2, 3]));
    }
}
