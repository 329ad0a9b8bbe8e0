//! Cluster roles that are made of others, chosen by their labels.

use serde_json::{Value, json};

use super::Rule;

/// The cluster roles whose rules are not what their `aggregationRule` gathers, as they should be written. To be asked after any cluster
/// role changed, until it answers with nothing: an aggregate may be part of another one.
pub fn due(cluster_roles: &[Value]) -> Vec<Value> {
    let aggregates = cluster_roles.iter().filter(|role| is_aggregate(role));
    let due = aggregates.filter_map(|role| {
        let rules = gathered(role, cluster_roles);
        (Rule::of_role(role) != rules).then(|| with_rules(role, &rules))
    });
    due.collect()
}

/// Whether a cluster role has an `aggregationRule` with selectors.
pub fn is_aggregate(role: &Value) -> bool {
    !selectors(role).is_empty()
}

fn selectors(role: &Value) -> &[Value] {
    let list = role["aggregationRule"]["clusterRoleSelectors"].as_array();
    list.map_or(&[], Vec::as_slice)
}

/// The rules of all others that a selector chooses, selector by selector, in the order of their names, each once.
fn gathered(role: &Value, all: &[Value]) -> Vec<Rule> {
    let own = &role["metadata"]["name"];
    let mut others: Vec<_> = all.iter().filter(|other| other["metadata"]["name"] != *own).collect();
    others.sort_by_key(|other| other["metadata"]["name"].as_str().unwrap_or_default());
    let mut rules: Vec<Rule> = Vec::new();
    for selector in selectors(role) {
        let chosen = others.iter().filter(|other| selects(selector, &other["metadata"]["labels"]));
        for rule in chosen.flat_map(|other| Rule::of_role(other)) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    rules
}

fn with_rules(role: &Value, rules: &[Rule]) -> Value {
    let mut written = role.clone();
    written["rules"] = rules.iter().map(Rule::to_json).collect();
    written
}

/// Whether a `LabelSelector` chooses an object with these labels. An empty one chooses all.
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    equal.into_iter().all(|(key, value)| labels[key] == *value)
        && expressions.all(|expression| holds(expression, labels))
}

fn holds(expression: &Value, labels: &Value) -> bool {
    let key = expression["key"].as_str().unwrap_or_default();
    let value = labels.get(key);
    let listed = || {
        value.is_some_and(|value| {
            expression["values"].as_array().is_some_and(|list| list.contains(value))
        })
    };
    match expression["operator"].as_str() {
        Some("In") => listed(),
        Some("NotIn") => !listed(),
        Some("Exists") => value.is_some(),
        Some("DoesNotExist") => value.is_none(),
        _ => false,
    }
}

/// An `aggregationRule` of one label with the value `true`.
pub(super) fn by_label(label: &str) -> Value {
    json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, labels: Value, resource: &str) -> Value {
        json!({"metadata": {"name": name, "labels": labels},
            "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]})
    }

    #[test]
    fn an_aggregate_has_the_rules_of_those_it_chooses() {
        let whole = json!({"metadata": {"name": "whole", "labels": {"to": "true"}}, "rules": null,
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "true"}},
                {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]},
                    {"key": "hidden", "operator": "DoesNotExist"}]}]}});
        let all = vec![
            whole,
            part("z", json!({"to": "true"}), "pods"),
            part("a", json!({"to": "true"}), "services"),
            part("b", json!({"tier": "b"}), "nodes"),
            part("same", json!({"tier": "a"}), "pods"),
            part("c", json!({"tier": "b", "hidden": "yes"}), "secrets"),
            part("d", json!({"tier": "c"}), "endpoints"),
        ];
        let written = due(&all);
        assert_eq!(written.len(), 1);
        let resources: Vec<_> =
            Rule::of_role(&written[0]).into_iter().map(|rule| rule.resources[0].clone()).collect();
        assert_eq!(resources, ["services", "pods", "nodes"]);
        let settled: Vec<_> = written.into_iter().chain(all.into_iter().skip(1)).collect();
        assert_eq!(due(&settled), Vec::<Value>::new());
    }
}
