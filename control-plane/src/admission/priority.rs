//! How important a pod is (`Priority`).

use serde_json::{Value, json};

/// The classes that are there without anybody having made them.
const OF_THE_SYSTEM: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// Why a pod cannot have the priority that it names. The caller puts `pods "name" is forbidden: ` before it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PriorityError {
    /// No such class.
    #[error("no PriorityClass with name {0} was found")]
    Missing(String),
    /// The number is not the class's.
    #[error(
        "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {class} from the given PriorityClass name"
    )]
    Given {
        /// What the pod says.
        given: i64,
        /// What its class says.
        class: i64,
    },
}

/// Gives a pod's `spec` the number and the policy of its class. `classes` are all `PriorityClass` objects.
pub fn admit<'a>(
    spec: &mut Value,
    classes: impl IntoIterator<Item = &'a Value>,
) -> Result<(), PriorityError> {
    let named =
        spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let class = match named.as_str() {
        "" => by_default(classes),
        name => find(name, classes).ok_or_else(|| PriorityError::Missing(name.to_owned()))?,
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64)
        && given != class.value
    {
        return Err(PriorityError::Given { given, class: class.value });
    }
    let Some(map) = spec.as_object_mut() else { return Ok(()) };
    if !class.name.is_empty() {
        map.insert("priorityClassName".to_owned(), json!(class.name));
    }
    map.insert("priority".to_owned(), json!(class.value));
    map.entry("preemptionPolicy").or_insert_with(|| json!(class.preemption));
    Ok(())
}

struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Class {
    fn new(name: &str, value: i64) -> Self {
        Self { name: name.to_owned(), value, preemption: "PreemptLowerPriority".to_owned() }
    }

    fn of(object: &Value) -> Self {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let mut class = Self::new(
            text("/metadata/name").unwrap_or_default(),
            object["value"].as_i64().unwrap_or_default(),
        );
        if let Some(policy) = text("/preemptionPolicy") {
            policy.clone_into(&mut class.preemption);
        }
        class
    }
}

/// The class for pods that name none: of several, the lowest.
fn by_default<'a>(classes: impl IntoIterator<Item = &'a Value>) -> Class {
    let candidates =
        classes.into_iter().filter(|class| class["globalDefault"] == json!(true)).map(Class::of);
    candidates.min_by_key(|class| class.value).unwrap_or_else(|| Class::new("", 0))
}

fn find<'a>(name: &str, classes: impl IntoIterator<Item = &'a Value>) -> Option<Class> {
    let made = classes.into_iter().map(Class::of).find(|class| class.name == name);
    made.or_else(|| {
        OF_THE_SYSTEM
            .iter()
            .find(|class| class.0 == name)
            .map(|(name, value)| Class::new(name, *value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_number_of_its_class() {
        let classes = [
            json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}),
            json!({"metadata": {"name": "usual"}, "value": 10, "globalDefault": true}),
        ];
        let admitted = |mut spec: Value| admit(&mut spec, &classes).map(|()| spec);
        assert_eq!(
            admitted(json!({})),
            Ok(
                json!({"priorityClassName": "usual", "priority": 10, "preemptionPolicy": "PreemptLowerPriority"})
            )
        );
        assert_eq!(
            admitted(json!({"priorityClassName": "high"})),
            Ok(json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"}))
        );
        assert_eq!(
            admitted(json!({"priorityClassName": "none"})),
            Err(PriorityError::Missing("none".to_owned()))
        );
        assert_eq!(
            admitted(json!({"priority": 5})),
            Err(PriorityError::Given { given: 5, class: 10 })
        );
        let critical =
            admitted(json!({"priorityClassName": "system-node-critical"})).expect("a class");
        assert_eq!(critical["priority"], 2_000_001_000_i64);
    }

    #[test]
    fn without_classes_all_are_equal() {
        let mut spec = json!({});
        admit(&mut spec, []).expect("no class is needed");
        assert_eq!(spec, json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}));
    }
}
