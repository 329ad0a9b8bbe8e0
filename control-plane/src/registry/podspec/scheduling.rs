//! Where a pod may run.

use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;
use crate::meta::{label, name, selector};

pub(super) fn check_scheduling(spec: &Spot<'_>, findings: &mut Findings) {
    check_labels(&spec.field("nodeSelector"), findings);
    check_affinity(&spec.field("affinity"), findings);
    check_tolerations(&spec.field("tolerations"), findings);
    check_spread(&spec.field("topologySpreadConstraints"), findings);
    let mut seen = Vec::new();
    for gate in spec.field("schedulingGates").items() {
        let own = gate.field("name");
        // Kubernetes tells of the gate
        let told = Spot::at(own.value, gate.path);
        findings.sentences(&told, name::qualified(own.text()));
        if seen.contains(&own.text()) {
            findings.duplicate(&told);
        }
        seen.push(own.text());
    }
}

fn check_labels(labels: &Spot<'_>, findings: &mut Findings) {
    findings.extend(label::labels(labels.value, &labels.path));
}

fn check_affinity(affinity: &Spot<'_>, findings: &mut Findings) {
    let nodes = affinity.field("nodeAffinity");
    let required = nodes.field("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_there() {
        check_node_terms(&required, findings);
    }
    for preferred in nodes.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
        check_weight(&preferred.field("weight"), findings);
        check_node_term(&preferred.field("preference"), findings);
    }
    for pods in [affinity.field("podAffinity"), affinity.field("podAntiAffinity")] {
        for term in pods.field("requiredDuringSchedulingIgnoredDuringExecution").items() {
            check_pod_term(&term, findings);
        }
        for preferred in pods.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
            check_weight(&preferred.field("weight"), findings);
            check_pod_term(&preferred.field("podAffinityTerm"), findings);
        }
    }
}

/// Looks at terms of which a node must meet one.
pub(in crate::registry) fn check_node_terms(selector: &Spot<'_>, findings: &mut Findings) {
    let terms = selector.field("nodeSelectorTerms");
    if terms.is_empty() {
        findings.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        check_node_term(&term, findings);
    }
}

fn check_weight(weight: &Spot<'_>, findings: &mut Findings) {
    if !weight.integer().is_some_and(|weight| (1..=100).contains(&weight)) {
        findings.invalid(weight, "must be in the range 1-100");
    }
}

fn check_node_term(term: &Spot<'_>, findings: &mut Findings) {
    for requirement in term.field("matchExpressions").items() {
        check_node_requirement(&requirement, findings);
        let key = requirement.field("key");
        findings.sentences(&key, name::qualified(key.text()));
    }
    for requirement in term.field("matchFields").items() {
        check_node_field(&requirement, findings);
    }
}

fn check_node_requirement(requirement: &Spot<'_>, findings: &mut Findings) {
    let (operator, values) = (requirement.field("operator"), requirement.field("values"));
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => {
            findings.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            findings.forbidden(
                &values,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "Gt" | "Lt" if values.len() != 1 => {
            findings.required(
                &values,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => findings.invalid(&operator, "not a valid selector operator"),
    }
}

/// Only a node's name can be asked for, and only by equality.
fn check_node_field(requirement: &Spot<'_>, findings: &mut Findings) {
    let (key, operator, values) =
        (requirement.field("key"), requirement.field("operator"), requirement.field("values"));
    match operator.text() {
        "In" | "NotIn" if values.len() != 1 => {
            findings.required(
                &values,
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
        "In" | "NotIn" => {}
        _ => findings.invalid(&operator, "not a valid selector operator"),
    }
    if key.text() == "metadata.name" {
        for value in values.items() {
            findings.sentences(&value, name::dns_subdomain(value.text()));
        }
    } else {
        findings.invalid(&key, "not a valid field selector key");
    }
}

fn check_pod_term(term: &Spot<'_>, findings: &mut Findings) {
    for field in ["labelSelector", "namespaceSelector"] {
        let pods = term.field(field);
        findings.extend(selector::validate(pods.value, &pods.path));
    }
    let namespaces = term.field("namespaces");
    for namespace in namespaces.items() {
        // Kubernetes tells of the list, and calls it by one
        let told = Spot::at(namespace.value, term.path.field("namespace"));
        findings.sentences(&told, name::dns_label(namespace.text()));
    }
    check_keys(term, findings);
    let topology = term.field("topologyKey");
    match topology.text() {
        "" => findings.required(&topology, "can not be empty"),
        key => findings.sentences(&topology, name::qualified(key)),
    }
}

fn check_tolerations(list: &Spot<'_>, findings: &mut Findings) {
    for toleration in list.items() {
        let (key, operator) = (toleration.field("key"), toleration.field("operator"));
        let (value, effect) = (toleration.field("value"), toleration.field("effect"));
        if !key.is_empty() {
            findings.sentences(&key, name::qualified(key.text()));
        }
        if key.is_empty() && operator.text() != "Exists" {
            findings.invalid(
                &operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.field("tolerationSeconds").is_there() && effect.text() != "NoExecute" {
            findings.invalid(&effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.text() {
            "Equal" | "" => {
                let why = name::label_value(value.text());
                if !why.is_empty() {
                    let told = Spot::at(value.value, operator.path.clone());
                    findings.invalid(&told, why.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let told = Spot::at(toleration.value, operator.path.clone());
                let told = told.of(&go_value::TOLERATION);
                findings.invalid(&told, "value must be empty when `operator` is 'Exists'");
            }
            _ => findings.one_of(&operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            findings.one_of(&effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        }
    }
}

/// Labels of the pod itself by which others are chosen.
fn check_keys(term: &Spot<'_>, findings: &mut Findings) {
    let lists = ["matchLabelKeys", "mismatchLabelKeys"].map(|field| term.field(field));
    for list in &lists {
        if !list.is_empty() && term.field("labelSelector").is_absent() {
            findings.forbidden(list, "must not be specified when labelSelector is not set");
            continue;
        }
        for key in list.items() {
            findings.sentences(&key, name::qualified(key.text()));
        }
    }
    for key in lists[0].items() {
        if lists[1].items().any(|other| other.text() == key.text()) {
            findings.invalid(&key, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

/// The same of a constraint, whose selector may not name them as well.
fn check_spread_keys(constraint: &Spot<'_>, findings: &mut Findings) {
    let (keys, pods) = (constraint.field("matchLabelKeys"), constraint.field("labelSelector"));
    if keys.is_empty() {
        return;
    }
    if pods.is_absent() {
        findings.forbidden(&keys, "must not be specified when labelSelector is not set");
    }
    let selected = |key: &str| {
        let mut expressions = pods.field("matchExpressions").items();
        pods.field("matchLabels").value.get(key).is_some()
            || expressions.any(|one| one.field("key").text() == key)
    };
    for key in keys.items() {
        findings.sentences(&key, name::qualified(key.text()));
        if selected(key.text()) {
            findings.invalid(&key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

fn check_spread(list: &Spot<'_>, findings: &mut Findings) {
    let pair = |constraint: &Spot<'_>| {
        let part = |field: &str| constraint.field(field).value.clone();
        (part("topologyKey"), part("whenUnsatisfiable"))
    };
    for (index, constraint) in list.items().enumerate() {
        let skew = constraint.field("maxSkew");
        if skew.integer().is_none_or(|skew| skew <= 0) {
            findings.invalid(&skew, "must be greater than zero");
        }
        let (topology, when) =
            (constraint.field("topologyKey"), constraint.field("whenUnsatisfiable"));
        if topology.is_empty() {
            findings.required(&topology, "can not be empty");
        }
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&when.text()) {
            let empty = serde_json::json!(when.text());
            let told = Spot::at(&empty, when.path.clone());
            findings.one_of(&told, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        if list.items().skip(index + 1).any(|other| pair(&other) == pair(&constraint)) {
            let both = serde_json::json!(format!("{{{}, {}}}", topology.text(), when.text()));
            let place = constraint.path.field("{topologyKey, whenUnsatisfiable}");
            findings.duplicate(&Spot::at(&both, place));
        }
        let least = constraint.field("minDomains");
        if least.integer().is_some_and(|least| least <= 0) {
            findings.invalid(&least, "must be greater than zero");
        }
        if least.is_there() && when.text() != "DoNotSchedule" {
            findings.invalid(
                &least,
                format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    when.text()
                ),
            );
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            findings.one_of(&constraint.field(policy), &["Honor", "Ignore"]);
        }
        check_spread_keys(&constraint, findings);
        let pods = constraint.field("labelSelector");
        findings.extend(selector::validate(pods.value, &pods.path));
    }
}
