//! Labels of nodes that have another name by now, wherever nodes are selected.

use crate::meta::findings::Spot;

const OLD: [(&str, &str); 8] = [
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("beta.kubernetes.io/arch", r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#),
    (
        "beta.kubernetes.io/instance-type",
        r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#,
    ),
    ("beta.kubernetes.io/os", r#"deprecated since v1.14; use "kubernetes.io/os" instead"#),
    (
        "failure-domain.beta.kubernetes.io/region",
        r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
    ),
    ("node-role.kubernetes.io/master", r#"use "node-role.kubernetes.io/control-plane" instead"#),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
];

/// What there is to say of a label that should no longer be used.
pub fn deprecation(label: &str) -> Option<&'static str> {
    OLD.iter().find(|(old, _)| *old == label).map(|(_, what)| *what)
}

/// The label that came in an old one's place, where it means the same.
pub fn successor(label: &str) -> Option<&'static str> {
    let what = deprecation(label).filter(|what| what.starts_with("deprecated since v1.1"))?;
    what.split('"').nth(1)
}

/// The same of a field that names a label.
pub fn warning(label: &Spot<'_>) -> Option<String> {
    let name = label.text();
    deprecation(name).map(|what| format!("{}: {name} is {what}", label.path))
}

/// The same of what a term of a node selector asks for.
pub fn term_warnings(term: &Spot<'_>) -> Vec<String> {
    let asked = term.field("matchExpressions");
    asked.items().filter_map(|one| warning(&one.field("key"))).collect()
}
