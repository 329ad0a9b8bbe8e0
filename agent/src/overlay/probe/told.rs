//! What was found, in words.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Key, Known, Outcome};
use crate::overlay::plan::MTU_MIN_IPV6;

/// What is known of each node, in words: once, if it is the same of all ways there.
pub fn words(ways: &BTreeMap<Key, Known>) -> BTreeMap<Arc<str>, String> {
    let mut nodes = BTreeMap::<Arc<str>, Vec<(&Key, String)>>::new();
    for (key, known) in ways {
        let text = if is_narrow(key, known) {
            format!("packets of {MTU_MIN_IPV6} bytes do not arrive, which IPv6 needs")
        } else {
            known.to_string()
        };
        nodes.entry(key.node.clone()).or_default().push((key, text));
    }
    let told = nodes.into_iter().map(|(node, texts)| {
        let same = texts.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let family = |key: &Key| if key.to.is_ipv6() { "IPv6" } else { "IPv4" };
        let all = texts.iter().map(|(key, text)| format!("{}: {text}", family(key)));
        let text = match texts.first() {
            Some((_, text)) if same => text.clone(),
            _ => all.collect::<Vec<_>>().join("; "),
        };
        (node, text)
    });
    told.collect()
}

/// Whether a way of pods' IPv6 carries less than that needs.
pub fn is_narrow(key: &Key, known: &Known) -> bool {
    let narrow = matches!(known.outcome, Some(Outcome::ArrivesUpTo(size)) if size < MTU_MIN_IPV6);
    narrow && key.to.is_ipv6()
}

/// What arrives at a node that has too narrow a way for IPv6, as its IPv4 found it out.
pub fn carried(node: &str, ways: &BTreeMap<Key, Known>) -> Option<u32> {
    let found = ways.iter().filter(|(key, _)| &*key.node == node && key.to.is_ipv4());
    let sizes = found.filter_map(|(_, known)| match known.outcome {
        Some(Outcome::ArrivesUpTo(size)) if size < MTU_MIN_IPV6 => Some(size),
        _ => None,
    });
    sizes.min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::probe::Cause;

    fn known(full: u32, outcome: Outcome) -> Known {
        Known { outcome: Some(outcome), mtu: None, full }
    }

    fn ways(of: &[(&str, &str, Known)]) -> BTreeMap<Key, Known> {
        let key = |node: &str, to: &str| Key { node: node.into(), to: to.parse().unwrap() };
        of.iter().map(|(node, to, known)| (key(node, to), *known)).collect()
    }

    #[test]
    fn what_holds_for_both_families_is_said_once() {
        let silent = known(1450, Outcome::Nothing(Cause::Silent));
        let told = words(&ways(&[
            ("b", "10.244.2.0", known(1450, Outcome::Arrives)),
            ("b", "fd00:2::", known(1450, Outcome::Arrives)),
            ("c", "10.244.3.0", known(1450, Outcome::Arrives)),
            ("c", "fd00:3::", silent),
            ("d", "10.244.4.0", silent),
        ]));
        assert_eq!(told["b"], "packets of 1450 bytes arrive");
        assert_eq!(told["c"], format!("IPv4: packets of 1450 bytes arrive; IPv6: {silent}"));
        assert_eq!(told["d"], silent.to_string());
    }
}
