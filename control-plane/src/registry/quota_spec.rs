//! What is wrong with the spec of a quota. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use serde_json::{Value, json};

use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;
use crate::meta::name;
use crate::meta::quantity::Quantity;

/// What pods ask for, and may use.
const OF_PODS: [&str; 6] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
/// Other amounts.
const AMOUNTS: [&str; 4] = [
    "ephemeral-storage",
    "limits.ephemeral-storage",
    "requests.ephemeral-storage",
    "requests.storage",
];
/// What is counted.
const COUNTS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const SCOPES: [&str; 6] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
];
const OPPOSITES: [(&str, &str); 2] =
    [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];

fn is_huge_page(resource: &str) -> bool {
    resource.strip_prefix("requests.").unwrap_or(resource).starts_with("hugepages-")
}

/// A resource that quotas know by a name without a domain.
fn is_known(resource: &str) -> bool {
    let lists: [&[&str]; 3] = [&OF_PODS, &AMOUNTS, &COUNTS];
    is_huge_page(resource) || lists.iter().any(|list| list.contains(&resource))
}

/// A resource of which there are no parts.
pub fn is_counted(resource: &str) -> bool {
    COUNTS.contains(&resource) || (resource.contains('/') && !resource.contains("kubernetes.io/"))
}

/// Looks at the amounts of resources by name.
pub fn check_amounts(list: &Spot<'_>, findings: &mut Findings) {
    for (resource, amount) in list.entries() {
        let key = json!(resource);
        let spot = Spot::at(&key, amount.path.clone());
        let sentences = name::qualified(resource);
        if !resource.contains('/') && !is_known(resource) {
            if sentences.is_empty() && resource != "storage" {
                findings.invalid(&spot, "must be a standard resource type or fully qualified");
            }
            findings.invalid(&spot, "must be a standard resource for quota");
        }
        findings.sentences(&spot, sentences);
        check_amount(resource, &amount, findings);
    }
}

/// An amount is not negative, and a count a whole number.
pub fn check_amount(resource: &str, amount: &Spot<'_>, findings: &mut Findings) {
    match Quantity::from_json(amount.value) {
        Err(error) => findings.invalid(amount, error.to_string()),
        Ok(quantity) => {
            if quantity.is_negative() {
                findings.invalid(amount, "must be greater than or equal to 0");
            }
            if is_counted(resource) && quantity.milli_value() % 1000 != 0 {
                findings.invalid(amount, "must be an integer");
            }
        }
    }
}

/// Looks at which objects a quota is about.
pub fn check_scopes(spec: &Spot<'_>, findings: &mut Findings) {
    let scopes = spec.field("scopes").of(&go_value::QUOTA_SCOPES);
    let hard: Vec<&str> = spec.field("hard").entries().map(|(resource, _)| resource).collect();
    let named: Vec<&str> = scopes.items().map(|scope| scope.text()).collect();
    check_each(&named, &hard, &scopes, &scopes, findings);
    let selector = spec.field("scopeSelector");
    let expressions = selector.field("matchExpressions");
    for one in expressions.items() {
        let place = |field: &str| Spot::at(one.field(field).value, expressions.path.field(field));
        let scope = place("scopeName");
        let told = Spot::at(selector.value, expressions.path.clone());
        check_each(&[scope.text()], &hard, &scope, &told, findings);
        check_operator(scope.text(), &place("operator"), &place("values"), findings);
    }
    let selected: Vec<&str> =
        expressions.items().map(|one| one.field("scopeName").text()).collect();
    check_opposites(&selected, &scopes, findings);
}

/// Each scope is known, and such that what is limited is something of it.
fn check_each(
    scopes: &[&str],
    hard: &[&str],
    unknown: &Spot<'_>,
    whole: &Spot<'_>,
    findings: &mut Findings,
) {
    for scope in scopes {
        if !SCOPES.contains(scope) {
            findings.invalid(unknown, "unsupported scope");
            continue;
        }
        let fits = |resource: &str| {
            resource == "pods" || (*scope != "BestEffort" && OF_PODS.contains(&resource))
        };
        for _ in hard.iter().filter(|resource| is_known(resource) && !fits(resource)) {
            findings.invalid(whole, "unsupported scope applied to resource");
        }
    }
    if scopes.len() > 1 {
        check_opposites(scopes, whole, findings);
    }
}

fn check_opposites(scopes: &[&str], told: &Spot<'_>, findings: &mut Findings) {
    for (one, other) in OPPOSITES {
        if [one, other].iter().all(|scope| scopes.contains(scope)) {
            findings.invalid(told, "conflicting scopes");
        }
    }
}

fn check_operator(scope: &str, operator: &Spot<'_>, values: &Spot<'_>, findings: &mut Findings) {
    let alone = SCOPES.contains(&scope) && scope != "PriorityClass";
    if alone && operator.text() != "Exists" {
        findings.invalid(operator, "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
    }
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => findings.required(
            values,
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => findings.invalid(
            values,
            "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        text => {
            let told = Value::from(text);
            let spot = Spot::at(&told, operator.path.clone());
            findings.invalid(&spot, "not a valid selector operator");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(spec: Value) -> Vec<String> {
        let (object, mut findings) = (json!({"spec": spec}), Findings::default());
        let spec = Spot::root(&object).field("spec");
        check_amounts(&spec.field("hard"), &mut findings);
        check_scopes(&spec, &mut findings);
        findings.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn resources_are_known_and_counts_are_whole() {
        let hard = json!({"count/jobs.batch": 1, "requests.nvidia.com/gpu": "2", "requests.hugepages-2Mi": "2Mi", "pods": "3"});
        assert_eq!(told(json!({"hard": hard})), [""; 0]);
        assert_eq!(
            told(json!({"hard": {"disk": "1", "pods": "1500m"}})),
            [
                r#"spec.hard[disk]: Invalid value: "disk": must be a standard resource type or fully qualified"#,
                r#"spec.hard[disk]: Invalid value: "disk": must be a standard resource for quota"#,
                r#"spec.hard[pods]: Invalid value: "1500m": must be an integer"#,
            ]
        );
    }

    #[test]
    fn scopes_are_of_what_is_limited() {
        assert_eq!(told(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})), [""; 0]);
        assert_eq!(
            told(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]})),
            [
                r#"spec.scopes: Invalid value: []core.ResourceQuotaScope{"BestEffort"}: unsupported scope applied to resource"#
            ]
        );
        let selector = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
        let place = "spec.scopeSelector.matchExpressions";
        assert_eq!(told(selector("In", json!(["high"]))), [""; 0]);
        assert_eq!(
            told(selector("In", json!([]))),
            [format!(
                "{place}.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            )]
        );
        assert_eq!(
            told(selector("Like", json!([]))),
            [format!(r#"{place}.operator: Invalid value: "Like": not a valid selector operator"#)]
        );
        let found = told(
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "In", "values": ["a"]}]}}),
        );
        assert!(
            found.len() == 1 && found[0].contains("must be 'Exist' when scope is any of"),
            "{found:?}"
        );
    }
}
