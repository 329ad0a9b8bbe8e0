//! Roles and who has them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, name, text};
use super::defaults::{default_text, each};
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::selector::{self, Selector};
use crate::meta::{go_value, name as names};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The four kinds of `rbac.authorization.k8s.io/v1`.
pub fn kinds() -> [Kind; 4] {
    let role = |kind, plural, strategy: Role| {
        Kind::new(GROUP, "v1", kind, plural).columns(columns("Name Created_At")).behaves(strategy)
    };
    let binding = |kind, plural, strategy: Binding| {
        Kind::new(GROUP, "v1", kind, plural)
            .columns(columns("Name Role Age +Users +Groups +ServiceAccounts"))
            .behaves(strategy)
    };
    [
        role("Role", "roles", Role { namespaced: true }),
        role("ClusterRole", "clusterroles", Role { namespaced: false }).cluster_scoped(),
        binding("RoleBinding", "rolebindings", Binding { namespaced: true }),
        binding("ClusterRoleBinding", "clusterrolebindings", Binding { namespaced: false })
            .cluster_scoped(),
    ]
    .map(|kind| kind.named(names::path_segment))
}

struct Role {
    namespaced: bool,
}

impl Strategy for Role {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        for rule in root.field("rules").items() {
            check_rule(&rule, self.namespaced, &mut findings);
        }
        let aggregation = root.field("aggregationRule");
        if aggregation.is_there() {
            check_aggregation(&aggregation.field("clusterRoleSelectors"), &mut findings);
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, _: Timestamp) -> Vec<Value> {
        vec![json!(name(object)), json!(text(object, "/metadata/creationTimestamp"))]
    }
}

fn check_rule(rule: &Spot<'_>, namespaced: bool, findings: &mut Findings) {
    let field = |name| rule.field(name);
    if field("verbs").is_empty() {
        findings.required(&field("verbs"), "verbs must contain at least one value");
    }
    let (groups, resources, paths) =
        (field("apiGroups"), field("resources"), field("nonResourceURLs").of(&go_value::TEXTS));
    if !paths.is_empty() {
        if namespaced {
            findings.invalid(&paths, "namespaced rules cannot apply to non-resource URLs");
        }
        if !groups.is_empty() || !resources.is_empty() || !field("resourceNames").is_empty() {
            findings.invalid(
                &paths,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if groups.is_empty() {
        findings.required(&groups, "resource rules must supply at least one api group");
    }
    if resources.is_empty() {
        findings.required(&resources, "resource rules must supply at least one resource");
    }
}

fn check_aggregation(selectors: &Spot<'_>, findings: &mut Findings) {
    if selectors.is_empty() {
        findings.required(
            selectors,
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        );
    }
    for one in selectors.items() {
        findings.extend(selector::validate(one.value, &one.path));
        if Selector::from_object(one.value).is_err() {
            findings.invalid(&one, "invalid label selector.");
        }
    }
}

struct Binding {
    namespaced: bool,
}

impl Strategy for Binding {
    fn default(&self, object: &mut Value) {
        if let Some(role) = object.get_mut("roleRef") {
            default_text(role, "apiGroup", GROUP);
        }
        for subject in each(object, "subjects") {
            let group = match text(subject, "/kind") {
                "User" | "Group" => GROUP,
                _ => continue,
            };
            default_text(subject, "apiGroup", group);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let role = root.field("roleRef");
        findings.one_of(&role.field("apiGroup"), &[GROUP]);
        let kinds: &[&str] =
            if self.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        findings.one_of_or_empty(&role.field("kind"), kinds);
        match role.field("name").text() {
            "" => findings.required(&role.field("name"), ""),
            name => findings.sentences(&role.field("name"), names::path_segment(name)),
        }
        for subject in root.field("subjects").items() {
            check_subject(&subject, self.namespaced, &mut findings);
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        if object.get("roleRef") != old.get("roleRef") {
            let role = Spot::root(object).field("roleRef").of(&go_value::ROLE);
            findings.invalid(&role, "cannot change roleRef");
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
        let [users, groups, accounts] =
            ["User", "Group", "ServiceAccount"].map(|kind| subjects(object, kind));
        vec![
            json!(name(object)),
            json!(role),
            json!(age(object, now)),
            json!(users),
            json!(groups),
            json!(accounts),
        ]
    }
}

fn check_subject(subject: &Spot<'_>, namespaced: bool, findings: &mut Findings) {
    let (kind, group) = (subject.field("kind"), subject.field("apiGroup"));
    let own_name = subject.field("name");
    if own_name.is_empty() {
        findings.required(&own_name, "");
    }
    match kind.text() {
        "ServiceAccount" => {
            if !own_name.is_empty() {
                findings.sentences(&own_name, names::dns_subdomain(own_name.text()));
            }
            findings.one_of(&group, &[""]);
            // in a namespace it is that of the binding
            if !namespaced && subject.field("namespace").is_empty() {
                findings.required(&subject.field("namespace"), "");
            }
        }
        "User" | "Group" => findings.one_of(&group, &[GROUP]),
        _ => findings.one_of_or_empty(&kind, &["ServiceAccount", "User", "Group"]),
    }
}

/// The subjects of a kind, as one cell.
fn subjects(object: &Value, kind: &str) -> String {
    let of_kind =
        items(object, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
    let told = of_kind.map(|subject| match kind {
        "ServiceAccount" => format!("{}/{}", text(subject, "/namespace"), text(subject, "/name")),
        _ => text(subject, "/name").to_owned(),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A list of mistakes as text, for tests of kinds.
#[cfg(test)]
fn told(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_for_resources_or_for_paths() {
        let role = json!({"rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
            {},
        ]});
        assert_eq!(
            told(&Role { namespaced: true }.validate(&role)),
            [
                r#"rules[1].nonResourceURLs: Invalid value: []string{"/metrics"}: namespaced rules cannot apply to non-resource URLs"#,
                "rules[2].verbs: Required value: verbs must contain at least one value",
                "rules[2].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[2].resources: Required value: resource rules must supply at least one resource",
            ]
        );
        assert_eq!(Role { namespaced: false }.validate(&role).len(), 3);
    }

    #[test]
    fn a_binding_names_a_role_for_good() {
        let binding = Binding { namespaced: false };
        let mut object = json!({"roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [
            {"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]});
        binding.default(&mut object);
        assert_eq!(object["subjects"][0]["apiGroup"], GROUP);
        assert!(binding.validate(&object).is_empty());
        let other = json!({"roleRef": {"kind": "Role", "name": "edit", "apiGroup": GROUP}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]});
        assert_eq!(
            told(&binding.validate(&other)),
            [
                r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
                "subjects[0].namespace: Required value",
            ]
        );
        assert_eq!(Binding { namespaced: true }.validate(&other), []);
        let nobody = json!({"roleRef": {"kind": "ClusterRole", "name": "view", "apiGroup": GROUP}, "subjects": [{}]});
        assert_eq!(
            told(&binding.validate(&nobody)),
            [
                "subjects[0].name: Required value",
                r#"subjects[0].kind: Unsupported value: "": supported values: "ServiceAccount", "User", "Group""#,
            ]
        );
        assert_eq!(
            told(&binding.validate_update(&other, &object)),
            [
                r#"roleRef: Invalid value: rbac.RoleRef{APIGroup:"rbac.authorization.k8s.io", Kind:"Role", Name:"edit"}: cannot change roleRef"#
            ]
        );
        let row = binding.row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(row[1], "ClusterRole/view");
        assert_eq!(row[5], "default/robot");
        for kind in kinds() {
            assert_eq!(
                kind.columns.len(),
                kind.strategy.row(&object, Timestamp::UNIX_EPOCH).len(),
                "{kind:?}"
            );
        }
    }
}
