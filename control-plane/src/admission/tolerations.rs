//! How long a pod stays on a node that is not ready or cannot be reached (`DefaultTolerationSeconds`).

use serde_json::{Value, json};

/// Five minutes: a node that restarts keeps its pods.
const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Gives a pod's `spec` the two tolerations, unless it says something of these taints itself.
pub fn add(spec: &mut Value) {
    let Some(list) = super::list(spec, "tolerations") else { return };
    for taint in TAINTS {
        if !list.iter().any(|toleration| tolerates(toleration, taint)) {
            list.push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
    }
}

/// Whether a toleration is about this taint: no key is every key, no effect is every effect.
fn tolerates(toleration: &Value, taint: &str) -> bool {
    let is = |field: &str, value: &str| {
        let found = toleration.get(field).and_then(Value::as_str).unwrap_or_default();
        found.is_empty() || found == value
    };
    is("key", taint) && is("effect", "NoExecute")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(mut spec: Value) -> Vec<String> {
        add(&mut spec);
        let list = spec["tolerations"].as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|one| {
                format!("{} {}", one["key"].as_str().unwrap_or("*"), one["tolerationSeconds"])
            })
            .collect()
    }

    #[test]
    fn what_a_pod_says_itself_counts() {
        let both = ["node.kubernetes.io/not-ready 300", "node.kubernetes.io/unreachable 300"];
        assert_eq!(keys(json!({})), both);
        assert_eq!(keys(json!({"tolerations": [{"operator": "Exists"}]})), ["* null"]);
        let own = json!({"tolerations": [{"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]});
        assert_eq!(keys(own), ["node.kubernetes.io/not-ready 5", both[1]]);
        let other = json!({"tolerations": [{"key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule"}]});
        assert_eq!(keys(other).len(), 3);
    }
}
