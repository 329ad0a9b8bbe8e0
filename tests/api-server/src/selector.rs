//! Label and field selectors.

use crate::store::Stored;

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Present(String),
    Absent(String),
    Is(String, String),
    IsNot(String, String),
}

/// Which objects are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    name: Option<String>,
    namespace: Option<String>,
}

impl Selector {
    /// From the parameters of a request.
    pub fn new(namespace: Option<&str>, labels: &str, fields: &str) -> Self {
        let name = fields.split(',').find_map(|field| field.strip_prefix("metadata.name="));
        Self {
            labels: labels.split(',').filter(|part| !part.is_empty()).map(requirement).collect(),
            name: name.map(|name| name.trim_start_matches('=').to_owned()),
            namespace: namespace.map(str::to_owned),
        }
    }

    /// Whether an object is asked for.
    pub fn matches(&self, object: &Stored) -> bool {
        let labels = |requirement: &Requirement| match requirement {
            Requirement::Present(key) => object.labels.contains_key(key),
            Requirement::Absent(key) => !object.labels.contains_key(key),
            Requirement::Is(key, value) => object.labels.get(key) == Some(value),
            Requirement::IsNot(key, value) => object.labels.get(key) != Some(value),
        };
        self.labels.iter().all(labels)
            && self.name.as_ref().is_none_or(|name| *name == object.name)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == object.namespace)
    }
}

fn requirement(text: &str) -> Requirement {
    if let Some(key) = text.strip_prefix('!') {
        Requirement::Absent(key.to_owned())
    } else if let Some((key, value)) = text.split_once("!=") {
        Requirement::IsNot(key.to_owned(), value.to_owned())
    } else if let Some((key, value)) = text.split_once('=') {
        Requirement::Is(key.to_owned(), value.trim_start_matches('=').to_owned())
    } else {
        Requirement::Present(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn selectors_select() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let object = Stored {
            namespace: "default".into(),
            name: "one".into(),
            labels,
            version: 1,
            text: "{}".into(),
        };
        let table = [
            (None, "", "", true),
            (Some("default"), "app", "metadata.name=one", true),
            (Some("other"), "", "", false),
            (None, "!app", "", false),
            (None, "!other,!more", "", true),
            (None, "app=web", "", true),
            (None, "app==web", "", true),
            (None, "app!=web", "", false),
            (None, "other", "", false),
            (None, "", "metadata.name=two", false),
        ];
        for (namespace, labels, fields, expected) in table {
            let selector = Selector::new(namespace, labels, fields);
            assert_eq!(selector.matches(&object), expected, "{namespace:?} {labels} {fields}");
        }
    }
}
