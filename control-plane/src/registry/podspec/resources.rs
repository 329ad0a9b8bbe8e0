//! How much of a node's resources a pod asks for and may use.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::meta::field_error::{FieldError, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name;
use crate::meta::quantity::{Format, Quantity};

/// Resources that every node has.
const STANDARD: &[&str] = &["cpu", "ephemeral-storage", "memory"];

fn is_huge_page(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

/// May more be used than was asked for? Of huge pages, and of what a device plugin hands out, every piece is given to one pod.
fn may_be_overcommitted(resource: &str) -> bool {
    STANDARD.contains(&resource)
}

fn quantity(spot: &Spot<'_>) -> Option<Quantity> {
    Quantity::from_json(spot.value).ok()
}

/// Whether a quantity that cannot be below nothing is.
pub(super) fn is_negative(spot: &Spot<'_>) -> bool {
    quantity(spot).is_some_and(Quantity::is_negative)
}

/// Looks at what a pod costs besides its containers. Kubernetes tells of it as of limits.
pub(super) fn check_overhead(overhead: &Spot<'_>, findings: &mut Findings) {
    let limits = overhead.path.field("limits");
    check_list(&Spot::at(overhead.value, limits), findings);
}

/// Looks at the amounts of resources by name.
fn check_list(list: &Spot<'_>, findings: &mut Findings) {
    for (resource, amount) in list.entries() {
        check_name(resource, &amount, findings);
        check_amount(resource, &amount, findings);
    }
}

fn check_name(resource: &str, amount: &Spot<'_>, findings: &mut Findings) {
    let key = Value::from(resource);
    let spot = Spot::at(&key, amount.path.clone());
    let sentences = name::qualified(resource);
    if sentences.is_empty() && !is_extended(resource) {
        findings.invalid(&spot, "doesn't follow extended resource name standard");
    }
    if sentences.is_empty()
        && !resource.contains('/')
        && !STANDARD.contains(&resource)
        && !is_huge_page(resource)
    {
        findings.invalid(&spot, "must be a standard resource type or fully qualified");
        findings.invalid(&spot, "must be a standard resource for containers");
    }
    findings.sentences(&spot, sentences);
}

/// A resource of somebody's domain: not of Kubernetes itself, and such that a quota can name what is asked for of it.
fn is_extended(resource: &str) -> bool {
    if !resource.contains('/') || resource.contains("kubernetes.io/") {
        return true;
    }
    !resource.starts_with("requests.")
        && name::qualified(&format!("requests.{resource}")).is_empty()
}

/// Looks at the claims of a container, which the pod must have.
pub(super) fn check_claims(claims: &Spot<'_>, spec: &Spot<'_>, findings: &mut Findings) {
    let of_pod = spec.field("resourceClaims");
    let mut known: Vec<&str> = of_pod.items().map(|claim| claim.field("name").text()).collect();
    known.retain(|name| !name.is_empty());
    known.sort_unstable();
    let mut seen = std::collections::BTreeSet::new();
    for claim in claims.items() {
        let text = claim.field("name").text();
        let told = Value::from(text);
        let spot = Spot::at(&told, claim.path.clone());
        if text.is_empty() {
            findings.required(&spot, "");
            continue;
        }
        if !seen.insert(text) {
            findings.duplicate(&spot);
        }
        if !known.contains(&text) {
            let those = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", known.join(", "))
            };
            let why = format!("must be one of the names in pod.spec.resourceClaims{those}");
            findings.add(FieldError::new(spot.path, Mistake::NotFound(told), why));
        }
    }
}

/// Huge pages are given whole, and only to containers that say what else they need.
fn check_huge_pages(resources: &Spot<'_>, findings: &mut Findings) {
    let all: Vec<_> = ["limits", "requests"]
        .iter()
        .flat_map(|list| resources.field(list).entries().collect::<Vec<_>>())
        .collect();
    for (resource, amount) in &all {
        let Some(size) = resource.strip_prefix("hugepages-") else { continue };
        let (Ok(size), Some(asked)) = (size.parse::<Quantity>(), quantity(amount)) else {
            continue;
        };
        let (size, pages) = (size.value(), asked.value());
        if size <= 0 || pages < 0 || pages % size != 0 {
            let told = Value::from(asked.to_string());
            let why = format!("{asked} is not positive integer multiple of {resource}");
            findings.invalid(&Spot::at(&told, amount.path.clone()), why);
        }
    }
    let any = |is: fn(&str) -> bool| all.iter().any(|(resource, _)| is(resource));
    if any(is_huge_page) && !any(|resource| matches!(resource, "cpu" | "memory")) {
        findings.forbidden(resources, "HugePages require cpu or memory");
    }
}

fn check_amount(resource: &str, amount: &Spot<'_>, findings: &mut Findings) {
    let quantity = match Quantity::from_json(amount.value) {
        Ok(quantity) => quantity,
        Err(error) => return findings.invalid(amount, error.to_string()),
    };
    if quantity.is_negative() {
        findings.invalid(amount, "must be greater than or equal to 0");
    }
    if resource.contains('/') && quantity != Quantity::new(quantity.value(), Format::DecimalSi) {
        findings.invalid(amount, "must be an integer");
    }
}

/// Looks at a container's `resources`.
pub(super) fn check_resources(resources: &Spot<'_>, findings: &mut Findings) {
    let (limits, requests) = (resources.field("limits"), resources.field("requests"));
    check_list(&limits, findings);
    check_list(&requests, findings);
    check_huge_pages(resources, findings);
    for (resource, asked) in requests.entries() {
        let limit = limits.field(resource);
        if limit.is_absent() {
            if !may_be_overcommitted(resource) {
                findings.required(&limits, "Limit must be set for non overcommitable resources");
            }
            continue;
        }
        let (Some(most), Some(wanted)) = (quantity(&limit), quantity(&asked)) else { continue };
        let told = Spot::at(asked.value, requests.path.clone());
        if may_be_overcommitted(resource) && wanted > most {
            findings.invalid(
                &told,
                format!("must be less than or equal to {resource} limit of {most}"),
            );
        } else if !may_be_overcommitted(resource) && wanted != most {
            findings.invalid(&told, format!("must be equal to {resource} limit of {most}"));
        }
    }
}

/// What a pod asks for and may use, by resource: all its containers at once, or the largest step of its start, whichever is more,
/// and its overhead. A limit that one container lacks is none for the pod, so it is left out.
pub fn requests_and_limits(
    spec: &Value,
) -> (BTreeMap<String, Quantity>, BTreeMap<String, Quantity>) {
    (total(spec, "requests"), total(spec, "limits"))
}

fn total(spec: &Value, field: &str) -> BTreeMap<String, Quantity> {
    let spec = Spot::root(spec);
    let of = |container: &Spot<'_>| amounts(&container.field("resources").field(field));
    let mut running = BTreeMap::new();
    for container in spec.field("containers").items() {
        add(&mut running, &of(&container));
    }
    // Sidecars stay: those that started before an init container run beside it.
    let (mut sidecars, mut start) = (BTreeMap::new(), BTreeMap::new());
    for container in spec.field("initContainers").items() {
        let mut step = of(&container);
        if container.field("restartPolicy").text() == "Always" {
            add(&mut running, &step);
            add(&mut sidecars, &step);
            step.clone_from(&sidecars);
        } else {
            add(&mut step, &sidecars);
        }
        largest(&mut start, step);
    }
    largest(&mut running, start);
    if field == "requests" || !running.is_empty() {
        let overhead = amounts(&spec.field("overhead"));
        if field == "requests" {
            add(&mut running, &overhead);
        } else {
            let limited: BTreeMap<_, _> =
                overhead.into_iter().filter(|(name, _)| running.contains_key(name)).collect();
            add(&mut running, &limited);
        }
    }
    running
}

fn amounts(list: &Spot<'_>) -> BTreeMap<String, Quantity> {
    list.entries()
        .filter_map(|(name, amount)| Some((name.to_owned(), quantity(&amount)?)))
        .collect()
}

fn add(sum: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = entry.plus(*amount);
    }
}

fn largest(most: &mut BTreeMap<String, Quantity>, other: BTreeMap<String, Quantity>) {
    for (name, amount) in other {
        let entry = most.entry(name).or_insert(Quantity::ZERO);
        if amount > *entry {
            *entry = amount;
        }
    }
}

/// `status.qosClass`: who goes first when memory runs out.
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
pub fn quality_of_service(spec: &Value) -> &'static str {
    let spec = Spot::root(spec);
    let lists = [spec.field("containers"), spec.field("initContainers")];
    let resources: Vec<_> =
        lists.iter().flat_map(Spot::items).map(|container| container.field("resources")).collect();
    let matters = |list: &Spot<'_>| {
        amounts(list).into_iter().filter(|(name, amount)| is_counted(name, amount)).collect()
    };
    let pairs: Vec<(BTreeMap<_, _>, BTreeMap<_, _>)> = resources
        .iter()
        .map(|spot| (matters(&spot.field("requests")), matters(&spot.field("limits"))))
        .collect();
    if pairs.iter().all(|(requests, limits)| requests.is_empty() && limits.is_empty()) {
        return "BestEffort";
    }
    let guaranteed =
        |(requests, limits): &(BTreeMap<String, Quantity>, BTreeMap<String, Quantity>)| {
            limits.len() == 2
                && requests.iter().all(|(name, amount)| limits.get(name) == Some(amount))
        };
    if pairs.iter().all(guaranteed) { "Guaranteed" } else { "Burstable" }
}

fn is_counted(name: &str, amount: &Quantity) -> bool {
    matches!(name, "cpu" | "memory") && *amount > Quantity::ZERO
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mistakes(resources: Value) -> Vec<String> {
        let mut findings = Findings::default();
        check_resources(
            &Spot::at(&resources, crate::meta::field_error::FieldPath::root("resources")),
            &mut findings,
        );
        findings.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn more_cannot_be_asked_for_than_may_be_used() {
        assert_eq!(
            mistakes(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}})),
            [
                r#"resources.requests: Invalid value: "1500m": must be less than or equal to cpu limit of 1"#
            ]
        );
        assert!(
            mistakes(json!({"limits": {"cpu": 1}, "requests": {"cpu": "1000m", "memory": "1Gi"}}))
                .is_empty()
        );
        assert_eq!(
            mistakes(json!({"limits": {"a.b/gpu": 2}, "requests": {"a.b/gpu": 1}})),
            ["resources.requests: Invalid value: 1: must be equal to a.b/gpu limit of 2"]
        );
        assert_eq!(
            mistakes(json!({"requests": {"a.b/gpu": "1"}})),
            [
                "resources.limits: Required value: Limit must be set for non overcommitable resources"
            ]
        );
    }

    #[test]
    fn amounts_and_names() {
        assert_eq!(
            mistakes(json!({"limits": {"cpu": "-1"}})),
            [r#"resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0"#]
        );
        assert_eq!(
            mistakes(json!({"limits": {"disk": "1"}})),
            [
                r#"resources.limits[disk]: Invalid value: "disk": must be a standard resource type or fully qualified"#,
                r#"resources.limits[disk]: Invalid value: "disk": must be a standard resource for containers"#
            ]
        );
        assert_eq!(
            mistakes(json!({"limits": {"a.b/gpu": "1500m"}})),
            [r#"resources.limits[a.b/gpu]: Invalid value: "1500m": must be an integer"#]
        );
        assert_eq!(mistakes(json!({"limits": {"cpu": "much"}})).len(), 1);
    }

    #[test]
    fn the_largest_step_of_the_start_counts() {
        let spec = json!({
            "containers": [{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "500m"}}}],
            "initContainers": [
                {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "250m"}}},
                {"resources": {"requests": {"cpu": "3"}}},
            ],
            "overhead": {"cpu": "10m"},
        });
        let (requests, limits) = requests_and_limits(&spec);
        assert_eq!(requests["cpu"], Quantity::from_milli(3260));
        assert_eq!(requests["memory"], Quantity::new(1 << 30, Format::BinarySi));
        assert!(limits.is_empty());
    }

    #[test]
    fn classes() {
        let with = |resources: Value| json!({"containers": [{"resources": resources}]});
        assert_eq!(quality_of_service(&with(json!({}))), "BestEffort");
        assert_eq!(quality_of_service(&with(json!({"requests": {"cpu": "1"}}))), "Burstable");
        let both = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        assert_eq!(quality_of_service(&with(both.clone())), "Guaranteed");
        let mixed = json!({"containers": [{"resources": both}, {}]});
        assert_eq!(quality_of_service(&mixed), "Burstable");
    }
}
