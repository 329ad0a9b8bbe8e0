//! A table's chains and sets, as far as packets meet them.

use std::collections::BTreeMap;
use std::time::Duration;

use netns_tools::iptables::Family;
use netns_tools::nftables::{Base, Data, Element, Expr, Key, MapOf, Set, Type, Verdict};

use super::super::lint::Graph;
use crate::proxy::nftables::{ChainObject, Elements, Objects, SetName, clients};

/// The chains and sets of one table.
#[derive(Clone, Debug, Default)]
pub struct NftRuleset {
    /// By name.
    pub chains: BTreeMap<String, NftChain>,
    /// By name.
    pub sets: BTreeMap<String, NftSet>,
}

/// A chain.
#[derive(Clone, Debug, Default)]
pub struct NftChain {
    /// How it hangs in the kernel.
    pub base: Option<Base>,
    /// Its rules.
    pub rules: Vec<Vec<Expr>>,
}

/// A set or a map.
#[derive(Clone, Debug, Default)]
pub struct NftSet {
    /// The fields of its key.
    pub key: Vec<Type>,
    /// The fields of what it holds for a key, if that is no verdict.
    pub data: Vec<Type>,
    /// How long an element stays that a rule added and that says nothing about it.
    pub timeout: Option<Duration>,
    /// Elements that keys do not have to equal.
    ranges: Vec<Element>,
    /// The others.
    elements: BTreeMap<Vec<u8>, Option<Data>>,
}

/// What a set or map stores for a key that it has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored<'a> {
    /// It is a set.
    Nothing,
    /// It is a map.
    Data(&'a Data),
}

/// The length of a field in bytes.
const fn length(field: Type) -> usize {
    match field {
        Type::Ipv4Addr | Type::Mark => 4,
        Type::Ipv6Addr | Type::IfName => 16,
        Type::EtherAddr => 6,
        Type::InetProto => 1,
        Type::InetService => 2,
    }
}

/// Each field of a concatenation is filled up to four bytes.
fn total(fields: &[Type]) -> usize {
    match fields {
        [only] => length(*only),
        fields => fields.iter().map(|field| length(*field).next_multiple_of(4)).sum(),
    }
}

impl NftSet {
    /// A set or map of these elements.
    pub fn new(definition: &Set<'_>, elements: impl IntoIterator<Item = Element>) -> Self {
        let (ranges, exact): (Vec<Element>, Vec<Element>) =
            elements.into_iter().partition(|element| element.to.is_some());
        let exact =
            exact.into_iter().map(|element| (element.key.as_slice().to_vec(), element.data));
        let data = match definition.map {
            Some(MapOf::Data(fields)) => fields.to_vec(),
            _ => Vec::new(),
        };
        let (key, timeout) = (definition.key.to_vec(), definition.default_timeout);
        Self { key, data, timeout, ranges, elements: exact.collect() }
    }

    /// How many bytes a key has in registers.
    pub(super) fn key_length(&self) -> usize {
        total(&self.key)
    }

    /// How many bytes a map's data has in registers.
    pub(super) fn data_length(&self) -> usize {
        total(&self.data)
    }

    /// What is stored for a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<Stored<'_>> {
        let range = || self.ranges.iter().find(|element| self.holds(element, key));
        let data = self.elements.get(key).or_else(|| range().map(|range| &range.data))?;
        Some(data.as_ref().map_or(Stored::Nothing, Stored::Data))
    }

    /// Every field of a range is a range.
    fn holds(&self, element: &Element, key: &[u8]) -> bool {
        let Some(to) = &element.to else { return false };
        let mut start = 0;
        self.key.iter().all(|field| {
            let part = start..start + length(*field);
            start += length(*field).next_multiple_of(4);
            let of = |bytes: &[u8]| bytes.get(part.clone()).map(<[u8]>::to_vec);
            let (low, high) = (of(element.key.as_slice()), of(to.as_slice()));
            let wanted = of(key);
            low <= wanted && wanted <= high
        })
    }

    fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        let ranges = self.ranges.iter().map(|element| element.data.as_ref());
        let all = self.elements.values().map(Option::as_ref).chain(ranges);
        all.filter_map(|data| match data {
            Some(Data::Verdict(verdict)) => Some(verdict),
            _ => None,
        })
    }
}

impl NftRuleset {
    /// What a table of one family holds, as the backend has it.
    pub fn of(family: Family, objects: &Objects) -> Self {
        let chain = |chain: &ChainObject| NftChain {
            base: chain.base,
            rules: chain.rules.iter().map(|rule| rule.expressions().to_vec()).collect(),
        };
        let chains = objects.chains.iter().map(|(name, known)| (name.to_string(), chain(known)));
        let set = |(name, elements): (&SetName, &Elements)| {
            let element = |(key, data): (&Key, &Option<Data>)| Element {
                data: data.clone(),
                ..Element::new(*key)
            };
            let set = NftSet::new(&name.definition(family), elements.iter().map(element));
            (name.name().to_owned(), set)
        };
        let clients = objects.clients.iter().map(|(name, timeout)| {
            (name.to_string(), NftSet::new(&clients(name, *timeout, family), []))
        });
        let sets = objects.sets.iter().map(set).chain(clients);
        Self { chains: chains.collect(), sets: sets.collect() }
    }

    /// What points to what: chains by their names, sets by their names behind `@`.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        for (name, chain) in &self.chains {
            graph.add(name, chain.base.is_some(), chain.rules.is_empty());
            for expression in chain.rules.iter().flatten() {
                if let Some(target) = target(expression) {
                    graph.link(name, &target);
                }
            }
        }
        for (name, set) in &self.sets {
            let name = format!("@{name}");
            // a set without elements is as good as any: nothing is in it
            graph.add(&name, false, false);
            for target in set.verdicts().filter_map(jump) {
                graph.link(&name, &target);
            }
        }
        graph
    }
}

fn target(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Verdict(verdict) => jump(verdict),
        Expr::Lookup { set, .. } | Expr::Dynset { set, .. } => Some(format!("@{set}")),
        _ => None,
    }
}

fn jump(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain.to_string()),
        _ => None,
    }
}
