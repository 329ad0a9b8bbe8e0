//! One rule of a role: what it allows, and whether other rules allow all of it.
//!
//! Kubernetes documentation, "Using RBAC Authorization": `*` stands for all; `*/scale` for a subresource of all; an empty list of
//! names for all names; a path may end with `*`.

use serde_json::{Map, Value, json};

use crate::auth::attributes::{Attributes, Target};

/// A rule. Which lists matter depends on what is asked for: paths or resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// API groups; the core is the empty one.
    pub groups: Vec<String>,
    /// Resources, `pods` or `pods/log`.
    pub resources: Vec<String>,
    /// Paths that are no resources.
    pub paths: Vec<String>,
    /// The names of objects; empty is all.
    pub names: Vec<String>,
    /// What may be done.
    pub verbs: Vec<String>,
}

impl Rule {
    /// From a `PolicyRule`. What is not a list of texts is taken for empty: validation has refused it before.
    pub fn from_json(rule: &Value) -> Self {
        Self {
            groups: texts(&rule["apiGroups"]),
            resources: texts(&rule["resources"]),
            paths: texts(&rule["nonResourceURLs"]),
            names: texts(&rule["resourceNames"]),
            verbs: texts(&rule["verbs"]),
        }
    }

    /// The rules of a role.
    pub fn of_role(role: &Value) -> Vec<Self> {
        role["rules"].as_array().into_iter().flatten().map(Self::from_json).collect()
    }

    /// Everything, as `system:masters` may do.
    pub fn everything() -> [Self; 2] {
        let all = || vec!["*".to_owned()];
        [
            Self { groups: all(), resources: all(), verbs: all(), ..Self::default() },
            Self { paths: all(), verbs: all(), ..Self::default() },
        ]
    }

    /// As a `PolicyRule`.
    pub fn to_json(&self) -> Value {
        let lists = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        let filled = lists.into_iter().filter(|(name, list)| *name == "verbs" || !list.is_empty());
        filled.map(|(name, list)| (name.to_owned(), json!(list))).collect::<Map<_, _>>().into()
    }

    /// Whether it allows what is asked for.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has(&self.verbs, attributes.verb) {
            return false;
        }
        match attributes.target {
            Target::Path(path) => self.paths.iter().any(|own| path_covers(own, path)),
            Target::Resource(it) => {
                has(&self.groups, it.group)
                    && self.allows_resource(it.resource, it.subresource)
                    && (self.names.is_empty() || self.names.iter().any(|name| name == it.name))
            }
        }
    }

    fn allows_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|own| match own.split_once('/') {
            _ if own == "*" => true,
            None => subresource.is_empty() && own == resource,
            Some((first, second)) => {
                !subresource.is_empty()
                    && second == subresource
                    && (first == "*" || first == resource)
            }
        })
    }

    /// The same in rules of one verb, one group, one resource and at most one name each, or one verb and one path.
    pub fn broken_down(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for group in &self.groups {
                for resource in &self.resources {
                    let part = Self {
                        groups: one(group),
                        resources: one(resource),
                        verbs: one(verb),
                        ..Self::default()
                    };
                    let named = |name| Self { names: one(name), ..part.clone() };
                    if self.names.is_empty() {
                        parts.push(part);
                    } else {
                        parts.extend(self.names.iter().map(named));
                    }
                }
            }
            parts.extend(self.paths.iter().map(|path| Self {
                paths: one(path),
                verbs: one(verb),
                ..Self::default()
            }));
        }
        parts
    }

    /// Whether it allows all that a broken-down rule allows.
    pub fn covers(&self, part: &Self) -> bool {
        let names = self.names.is_empty()
            || (!part.names.is_empty() && part.names.iter().all(|name| self.names.contains(name)));
        let paths = |wanted: &String| self.paths.iter().any(|own| path_covers(own, wanted));
        part.verbs.iter().all(|verb| has(&self.verbs, verb))
            && part.groups.iter().all(|group| has(&self.groups, group))
            && part.resources.iter().all(|resource| self.covers_resource(resource))
            && part.paths.iter().all(paths)
            && names
    }

    fn covers_resource(&self, wanted: &str) -> bool {
        let below = wanted.split_once('/').map(|(_, subresource)| subresource);
        has(&self.resources, wanted)
            || self
                .resources
                .iter()
                .any(|own| own.strip_prefix("*/").is_some_and(|own| Some(own) == below))
    }

    /// In one line, as kube-apiserver writes it into refusals.
    pub fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let filled = parts.into_iter().filter(|(_, list)| !list.is_empty());
        let texts: Vec<_> = filled.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
        format!("{{{}}}", texts.join(", "))
    }
}

/// A list of texts as Go writes one: `["a" "b"]`.
pub(crate) fn quoted(list: &[String]) -> String {
    let texts: Vec<_> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

fn path_covers(own: &str, wanted: &str) -> bool {
    own == wanted || own.ends_with('*') && wanted.starts_with(own.trim_end_matches('*'))
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::User;
    use crate::auth::attributes::Resource;

    fn rule(json: Value) -> Rule {
        Rule::from_json(&json)
    }

    fn asks(rule: &Rule, verb: &str, what: &str) -> bool {
        let user = User::new("ada", []);
        if what.starts_with('/') {
            return rule.allows(&Attributes::at(&user, verb, what));
        }
        let (what, name) = what.split_once(' ').unwrap_or((what, ""));
        let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let resource = Resource { group, resource, subresource, namespace: "ns", name };
        rule.allows(&Attributes::on(&user, verb, resource))
    }

    #[test]
    fn a_rule_allows_what_it_says_and_no_more() {
        let pods =
            rule(json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}));
        let named = rule(
            json!({"apiGroups": ["*"], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["*"]}),
        );
        let scale =
            rule(json!({"apiGroups": ["apps"], "resources": ["*/scale"], "verbs": ["update"]}));
        let all = rule(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
        let paths = rule(json!({"nonResourceURLs": ["/healthz", "/logs/*"], "verbs": ["get"]}));
        let cases = [
            (&pods, "get", "pods", true),
            (&pods, "get", "pods x", true),
            (&pods, "get", "pods/log x", true),
            (&pods, "get", "pods/exec x", false),
            (&pods, "list", "pods", false),
            (&pods, "get", "pods.metrics.k8s.io", false),
            (&named, "delete", "secrets a", true),
            (&named, "delete", "secrets b", false),
            (&named, "list", "secrets", false),
            (&scale, "update", "deployments.apps/scale x", true),
            (&scale, "update", "deployments.apps x", false),
            (&scale, "update", "replicasets.apps/status x", false),
            (&all, "impersonate", "users", true),
            (&all, "get", "pods/log x", true),
            (&all, "get", "/healthz", false),
            (&paths, "get", "/healthz", true),
            (&paths, "get", "/healthz/etcd", false),
            (&paths, "get", "/logs/", true),
            (&paths, "get", "/logs/a/b", true),
            (&paths, "get", "/logs", false),
            (&paths, "put", "/logs/a", false),
        ];
        for (rule, verb, what, expected) in cases {
            assert_eq!(asks(rule, verb, what), expected, "{verb} {what} by {}", rule.compact());
        }
    }

    #[test]
    fn a_rule_covers_what_it_allows() {
        let one = |resources: &[&str], names: &[&str]| {
            rule(
                json!({"apiGroups": [""], "resources": resources, "resourceNames": names, "verbs": ["get"]}),
            )
        };
        let cases = [
            (one(&["pods"], &[]), one(&["pods"], &["a"]), true),
            (one(&["pods"], &["a", "b"]), one(&["pods"], &["a"]), true),
            (one(&["pods"], &["a"]), one(&["pods"], &["b"]), false),
            (one(&["pods"], &["a"]), one(&["pods"], &[]), false),
            (one(&["*/log"], &[]), one(&["pods/log"], &[]), true),
            (one(&["pods"], &[]), one(&["pods/log"], &[]), false),
            (one(&["*/log"], &[]), one(&["*"], &[]), false),
            (one(&["*"], &[]), one(&["*/log"], &[]), true),
        ];
        for (owner, part, expected) in cases {
            assert_eq!(owner.covers(&part), expected, "{} and {}", owner.compact(), part.compact());
        }
        let paths = |path: &str| rule(json!({"nonResourceURLs": [path], "verbs": ["get"]}));
        assert!(paths("/a/*").covers(&paths("/a/b*")) && !paths("/a/b").covers(&paths("/a/*")));
        assert!(!one(&["*"], &[]).covers(&paths("/a")) && !paths("*").covers(&one(&["pods"], &[])));
    }

    #[test]
    fn a_rule_in_one_line_and_in_json() {
        let object = json!({"verbs": ["get"], "apiGroups": ["", "apps"], "resources": ["pods"], "resourceNames": ["a"]});
        let rule = rule(object.clone());
        let line =
            r#"{APIGroups:["" "apps"], Resources:["pods"], ResourceNames:["a"], Verbs:["get"]}"#;
        assert_eq!(rule.compact(), line);
        assert_eq!(rule.to_json(), object);
    }

    fn lists(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec(proptest::sample::select(words).prop_map(ToOwned::to_owned), 0..3)
    }

    fn rules() -> impl Strategy<Value = Rule> {
        let resources = lists(&["*", "pods", "pods/log", "*/log"]);
        (lists(&["", "apps", "*"]), resources, lists(&["a", "b"]), lists(&["get", "put", "*"]))
            .prop_map(|(groups, resources, names, verbs)| Rule {
                groups,
                resources,
                names,
                verbs,
                paths: vec![],
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// What a rule covers it also allows: a check against escalation that says yes to more is a hole.
        #[test]
        fn what_is_covered_is_allowed(owner in rules(), servant in rules()) {
            for part in servant.broken_down().iter().filter(|part| owner.covers(part)) {
                for verb in ["get", "put", "other"] {
                    for what in ["pods", "pods/log", "x/log", "pods.apps", "pods.apps/log a", "pods a", "pods c"] {
                        prop_assert!(!asks(part, verb, what) || asks(&owner, verb, what),
                            "{} covers {} but not {verb} {what}", owner.compact(), part.compact());
                    }
                }
            }
        }
    }
}
