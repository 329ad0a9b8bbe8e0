//! Who claims what, by range, and who is refused.
//!
//! A claim is refused when it overlaps one that an older node holds. A refused claim holds nothing: it refuses nobody else. So one
//! node with a range that covers everybody's is refused alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{Claim, Refusal};
use crate::overlay::node::NodeRecord;

/// A node's place in [`Claims::slots`].
type Id = u32;

/// Nobody, as in "nobody refuses it".
const NOBODY: Id = Id::MAX;

/// A claim as a range of numbers: the first `len` bits of `first`, left-aligned. As bytes, the highest first: they sort as the number does
/// and need no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    space: Space,
    first: [u8; 16],
    len: u8,
}

/// Ranges of different spaces never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Space {
    Ipv4,
    Ipv6,
    Mac,
}

impl Range {
    fn of(claim: Claim) -> Self {
        let (space, first, len) = match claim {
            Claim::Mac(mac) => {
                let first = mac.0.iter().fold(0, |all, byte| all << 8 | u128::from(*byte)) << 80;
                (Space::Mac, first, 48)
            }
            Claim::Address(IpAddr::V4(ip)) => (Space::Ipv4, u128::from(ip.to_bits()) << 96, 32),
            Claim::Address(IpAddr::V6(ip)) => (Space::Ipv6, ip.to_bits(), 128),
            Claim::PodCidr(cidr) => {
                let host = Self::of(Claim::Address(cidr.ip()));
                (host.space, host.number(), cidr.prefix())
            }
        };
        Self { space, first: (first & mask(len)).to_be_bytes(), len }
    }

    fn number(self) -> u128 {
        u128::from_be_bytes(self.first)
    }

    /// Of the first bits alone.
    fn widened(self, len: u8) -> Self {
        Self { first: (self.number() & mask(len)).to_be_bytes(), len, ..self }
    }

    fn overlaps(self, other: Self) -> bool {
        let len = self.len.min(other.len);
        self.space == other.space && (self.number() ^ other.number()) & mask(len) == 0
    }

    /// The keys of this range and of those within it.
    fn within(self) -> RangeInclusive<(Self, Id)> {
        let last = (self.number() | !mask(self.len)).to_be_bytes();
        let last = Self { first: last, len: u8::MAX, ..self };
        (self, 0)..=(last, Id::MAX)
    }

    /// The keys of exactly this range.
    fn exactly(self) -> RangeInclusive<(Self, Id)> {
        (self, 0)..=(self, Id::MAX)
    }
}

/// The first `len` bits of 128.
fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0)
}

/// The older of two comes first; one of which it is not known is the youngest.
type Age = (i64, Arc<str>);

fn age(record: &NodeRecord) -> Age {
    (record.created.unwrap_or(i64::MAX), record.name.clone())
}

/// Claims that are to be looked at again, the oldest first.
type Due = BTreeSet<(Age, Range, Id)>;

/// All claims.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    ids: BTreeMap<Arc<str>, Id>,
    /// What a node claims is read of its record each time: there are thousands, and they hardly change.
    slots: Vec<Option<Arc<NodeRecord>>>,
    free: Vec<Id>,
    /// Every claim with its node, and who refuses it.
    held: BTreeMap<(Range, Id), Id>,
    /// How many ranges there are of each length: only these can contain another.
    lengths: BTreeMap<(Space, u8), usize>,
}

impl Claims {
    /// Takes in a node that is new or changed. Adds to `changed` who is refused something else than before.
    pub(super) fn put(&mut self, record: &Arc<NodeRecord>, changed: &mut BTreeSet<String>) {
        let known = self.ids.get(&record.name).copied();
        if let Some(slot) = known.and_then(|id| self.slots.get_mut(id as usize)?.as_mut())
            && slot.created == record.created
            && claims_of(slot) == claims_of(record)
        {
            *slot = record.clone();
            return;
        }
        let mut due = Due::new();
        self.take_out(&record.name, &mut due);
        let id = self.take_in(record.clone(), &mut due);
        self.settle(due, id, changed);
    }

    /// A node is gone.
    pub(super) fn remove(&mut self, name: &str, changed: &mut BTreeSet<String>) {
        let mut due = Due::new();
        self.take_out(name, &mut due);
        self.settle(due, NOBODY, changed);
    }

    fn slot(&self, id: Id) -> Option<&NodeRecord> {
        self.slots.get(id as usize)?.as_deref()
    }

    fn take_in(&mut self, slot: Arc<NodeRecord>, due: &mut Due) -> Id {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Id::try_from(self.slots.len() - 1).expect("fewer nodes than four thousand million")
        });
        let age = age(&slot);
        for range in ranges_of(&slot) {
            // as refused, so that looking at it makes it held and tells those that overlap it
            if self.held.insert((range, id), id).is_none() {
                *self.lengths.entry((range.space, range.len)).or_default() += 1;
            }
            due.insert((age.clone(), range, id));
        }
        self.ids.insert(slot.name.clone(), id);
        self.slots[id as usize] = Some(slot);
        id
    }

    fn take_out(&mut self, name: &str, due: &mut Due) {
        let Some(id) = self.ids.remove(name) else { return };
        let Some(slot) = self.slots[id as usize].take() else { return };
        self.free.push(id);
        for range in ranges_of(&slot) {
            let Some(refused_by) = self.held.remove(&(range, id)) else { continue };
            self.forget_length(range);
            if refused_by == NOBODY {
                self.look_again(range, &age(&slot), due);
            }
        }
    }

    fn forget_length(&mut self, range: Range) {
        let key = (range.space, range.len);
        if let Some(count) = self.lengths.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&key);
            }
        }
    }

    /// Every claim that overlaps `range`.
    fn overlapping(&self, range: Range) -> impl Iterator<Item = (Range, Id, Id)> {
        let wider = self.lengths.range((range.space, 0)..(range.space, range.len));
        let wider =
            wider.flat_map(move |((_, len), _)| self.held.range(range.widened(*len).exactly()));
        wider.chain(self.held.range(range.within())).map(|((range, id), by)| (*range, *id, *by))
    }

    /// The younger ones that overlap `range`.
    fn look_again(&self, range: Range, than: &Age, due: &mut Due) {
        for (other, id, _) in self.overlapping(range) {
            if let Some(age) = self.slot(id).map(age).filter(|age| age > than) {
                due.insert((age, other, id));
            }
        }
    }

    /// Decides what is due, from the oldest on: a decision only depends on older ones. Whom `anew` refuses as before is told, too: it may
    /// do so for another claim, which is named.
    fn settle(&mut self, mut due: Due, anew: Id, changed: &mut BTreeSet<String>) {
        while let Some((age, range, id)) = due.pop_first() {
            let by = self.refused_by(range, id, &age);
            let Some(entry) = self.held.get_mut(&(range, id)) else { continue };
            let before = std::mem::replace(entry, by);
            if before == by && (by == NOBODY || by != anew) {
                continue;
            }
            changed.insert(age.1.to_string());
            if (before == NOBODY) != (by == NOBODY) {
                self.look_again(range, &age, &mut due);
            }
        }
    }

    /// The oldest of those that are older and hold something that overlaps `range`.
    fn refused_by(&self, range: Range, id: Id, age: &Age) -> Id {
        let holders =
            self.overlapping(range).filter(|(_, other, by)| *other != id && *by == NOBODY);
        let older = holders.filter_map(|(_, other, _)| {
            let theirs = self::age(self.slot(other)?);
            (theirs < *age).then_some((theirs, other))
        });
        older.min().map_or(NOBODY, |(_, other)| other)
    }

    /// Why `name` does not hold `claim`; `None`: it does, or does not even claim it.
    pub(super) fn refusal(&self, name: &str, claim: Claim) -> Option<Refusal> {
        let id = *self.ids.get(name)?;
        let by = *self.held.get(&(Range::of(claim), id))?;
        let holder = self.slot(by)?;
        let overlaps = |held: &Claim| Range::of(*held).overlaps(Range::of(claim));
        let held = claims_of(holder).into_iter().find(overlaps).unwrap_or(claim);
        Some(Refusal { node: name.into(), claim, holder: holder.name.to_string(), held })
    }

    /// All that is refused of one node.
    pub(super) fn refusals_of(&self, record: &NodeRecord) -> impl Iterator<Item = Refusal> {
        claims_of(record).into_iter().filter_map(|claim| self.refusal(&record.name, claim))
    }

    /// All that is refused.
    pub(super) fn refusals(&self) -> impl Iterator<Item = Refusal> {
        let refused = self.held.iter().filter(|(_, by)| **by != NOBODY);
        refused.filter_map(|((range, id), _)| {
            let record = self.slot(*id)?;
            let claim = claims_of(record).into_iter().find(|claim| Range::of(*claim) == *range)?;
            self.refusal(&record.name, claim)
        })
    }
}

/// What a node claims, each once.
fn claims_of(record: &NodeRecord) -> BTreeSet<Claim> {
    let announced = record.announced.iter();
    let ends = announced.clone().flat_map(|announced| {
        announced.vteps.iter().flat_map(|vtep| [Claim::Address(vtep.address), Claim::Mac(vtep.mac)])
    });
    let addresses =
        announced.flat_map(|announced| announced.addresses.iter().copied().map(Claim::Address));
    let cidrs = record.pod_cidrs.iter().copied().map(Claim::PodCidr);
    cidrs.chain(addresses).chain(ends).collect()
}

fn ranges_of(record: &NodeRecord) -> impl Iterator<Item = Range> {
    claims_of(record).into_iter().map(Range::of)
}

#[cfg(test)]
impl Claims {
    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        let slots = self.slots.iter().all(Option::is_none);
        slots && self.ids.is_empty() && self.held.is_empty() && self.lengths.is_empty()
    }
}
