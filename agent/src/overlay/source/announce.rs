//! This node's own annotations.
//!
//! Only keys of the overlay are ever written or removed, each by its name in a merge patch (RFC 7386): others' annotations cannot be
//! touched, whatever happens to the object meanwhile.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::keeper::Duty;

/// What the annotations should be, by key; `None`: not there.
pub type Wanted = BTreeMap<&'static str, Option<String>>;

/// The annotations of the object by which nodes are announced, as they are; `None`: the object is not there.
pub type Annotations = Option<BTreeMap<String, String>>;

/// That the annotations are as they should be, as soon as that is known.
#[derive(Clone, Copy, Debug)]
pub struct Announcement;

impl Duty for Announcement {
    type Wanted = Option<Wanted>;
    type Seen = Annotations;
    const WHO: &'static str = "this Node's annotations";
    const STAYS: &'static str = "what other nodes know of this one";
    const WRITTEN: &'static str = "this node is announced in its Node object";
    const QUARREL: &'static str = "somebody changes this node's announcement (annotations of its Node object) again and again; does \
                                   flanneld run here, too? Stop it, or this overlay";
    const PERMISSION: &'static str = "get, list, watch and patch of nodes";

    fn patch(wanted: &Self::Wanted, seen: &Annotations) -> Option<Value> {
        patch(wanted.as_ref()?, seen.as_ref()?)
    }

    async fn write(
        api: &Api<Node>,
        name: &str,
        parameters: &PatchParams,
        patch: Value,
    ) -> kube::Result<()> {
        api.patch_metadata(name, parameters, &Patch::Merge(&patch)).await.map(drop)
    }

    fn problem(node: &str, reason: &str) -> String {
        format!(
            "other nodes are not told how to reach this one: cannot annotate Node {node}: {reason}"
        )
    }
}

/// The merge patch that makes `have` what `want` asks for; `None`: it is.
fn patch(want: &Wanted, have: &BTreeMap<String, String>) -> Option<Value> {
    let differs =
        |(key, value): &(&&'static str, &Option<String>)| have.get(**key) != value.as_ref();
    let changes: serde_json::Map<_, _> =
        want.iter().filter(differs).map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    if changes.is_empty() {
        return None;
    }
    // a merge patch sent for metadata alone must still say what it is of
    Some(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"annotations": changes}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let have = |all: &[(&str, &str)]| {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let want = Wanted::from([("a", Some("1".to_owned())), ("b", None)]);
        let of = |changes: Value| {
            Some(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"annotations": changes}}))
        };
        let table = [
            (have(&[]), of(json!({"a": "1"}))),
            (have(&[("a", "1")]), None),
            (have(&[("a", "2"), ("x", "y")]), of(json!({"a": "1"}))),
            (have(&[("a", "1"), ("b", "")]), of(json!({"b": null}))),
        ];
        for (have, expected) in table {
            assert_eq!(patch(&want, &have), expected, "{have:?}");
        }
    }
}
