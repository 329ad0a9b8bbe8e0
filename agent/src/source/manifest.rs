//! The text of a manifest as objects: several documents, each judged on its own.

use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, Service};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{SourceError, Sourced};
use crate::pod::plan;
use crate::proxy::validate;

/// The largest file that is read, in bytes: etcd's limit on an object, which manifests are made for.
pub const MAX_FILE: u64 = 1 << 20;

/// What one file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Its pods.
    pub pods: Vec<Sourced<Pod>>,
    /// Its services.
    pub services: Vec<Sourced<Service>>,
    /// What is wrong with the rest.
    pub errors: Vec<SourceError>,
}

/// Reads a manifest. A document that is not right is reported and does not disturb the others.
pub fn parse(text: &str, path: &Path) -> Parsed {
    let mut parsed = Parsed::default();
    for (number, (line, document)) in documents(text).into_iter().enumerate() {
        let place = format!("document {}, line {line}", number + 1);
        match serde_saphyr::from_str::<Value>(document) {
            Ok(Value::Null) => {}
            Ok(value) => parsed.object(&value, path, &place),
            Err(error) => parsed.error(
                path,
                place,
                format!("is not valid YAML: {}", first_line(&error.to_string())),
            ),
        }
    }
    parsed
}

/// The documents of a file with the numbers of their first lines. A line that begins with `---` is a boundary wherever it
/// stands (YAML 1.2, 9.1.2), so a broken document cannot swallow its neighbours.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            documents.push((first, &text[start..offset]));
            start = offset + if line.trim_end() == "---" { line.len() } else { 3 };
            first = index + 2;
        }
        offset += line.len();
    }
    documents.push((first, &text[start..]));
    documents.retain(|(_, document)| !document.trim().is_empty());
    documents
}

impl Parsed {
    fn error(&mut self, path: &Path, object: String, reason: String) {
        self.errors.push(SourceError { path: path.to_owned(), object, reason });
    }

    fn object(&mut self, value: &Value, path: &Path, place: &str) {
        let text =
            |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, version) = (text("kind"), text("apiVersion"));
        let meta = |key: &str| {
            value.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default()
        };
        let namespace = if meta("namespace").is_empty() { "default" } else { meta("namespace") };
        let name = match meta("name") {
            "" => place.to_owned(),
            name => format!("{kind} {namespace}/{name}"),
        };
        match (version.as_str(), kind.as_str()) {
            ("v1", "Pod") => {
                let checked = typed::<Pod>(value).and_then(|mut pod| {
                    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
                    plan::validate(&pod, value).map(|()| pod)
                });
                self.keep(checked, path, name, |parsed| &mut parsed.pods);
            }
            ("v1", "Service") => {
                let checked = typed::<Service>(value).and_then(|mut service| {
                    service.metadata.namespace.get_or_insert_with(|| "default".to_owned());
                    validate::service(&service).map(|()| service)
                });
                self.keep(checked, path, name, |parsed| &mut parsed.services);
            }
            ("v1", "List") => {
                for item in value.get("items").and_then(Value::as_array).into_iter().flatten() {
                    self.object(item, path, place);
                }
            }
            ("", _) | (_, "") => {
                self.error(path, name, "apiVersion and kind are needed".to_owned());
            }
            _ => self.error(
                path,
                name,
                format!("kind {kind} ({version}) is not supported here; use Pod or Service of v1"),
            ),
        }
    }

    fn keep<T>(
        &mut self,
        checked: Result<T, Vec<String>>,
        path: &Path,
        name: String,
        list: impl Fn(&mut Self) -> &mut Vec<Sourced<T>>,
    ) {
        match checked {
            Ok(object) => list(self).push(Sourced { path: path.to_owned(), object }),
            Err(reasons) => self.error(path, name, reasons.join("; ")),
        }
    }
}

/// The typed object. A field that Kubernetes does not know is refused: it is a typing mistake that would otherwise be
/// silently without effect.
fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<String>> {
    let mut unknown = Vec::new();
    let object = serde_ignored::deserialize(value, |path| {
        // an optional field stands in the path as a question mark of its own
        unknown.push(format!("{}: no such field", path.to_string().replace(".?", "")));
    });
    let object = object.map_err(|error| vec![error.to_string()])?;
    if unknown.is_empty() { Ok(object) } else { Err(unknown) }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: c, image: i}\n";

    fn errors(text: &str) -> Vec<String> {
        let parsed = parse(text, Path::new("/m/a.yaml"));
        parsed.errors.iter().map(|error| format!("{}: {}", error.object, error.reason)).collect()
    }

    #[test]
    fn documents_are_judged_one_by_one() {
        let text =
            format!("# comment\n---\n{POD}---\nkind: [\n---\n{}", POD.replace("web", "other"));
        let parsed = parse(&text, Path::new("/m/a.yaml"));
        let names: Vec<_> =
            parsed.pods.iter().map(|pod| pod.object.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["web", "other"]);
        assert_eq!(parsed.errors.len(), 1);
        assert!(parsed.errors[0].object.contains("line 10"), "{:?}", parsed.errors);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (
                POD.replace("image: i", "image: i, comand: [x]"),
                "Pod default/web: spec.containers.0.comand: no such field",
            ),
            (
                POD.replace("kind: Pod", "kind: Deployment"),
                "Deployment default/web: kind Deployment (v1) is not supported",
            ),
            (POD.replace("kind: Pod", ""), "apiVersion and kind are needed"),
            (POD.replace("{name: c, image: i}", "5"), "Pod default/web: invalid type"),
            ("just text".to_owned(), "apiVersion and kind are needed"),
        ];
        for (text, expected) in cases {
            let found = errors(&text);
            assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn an_alias_bomb_is_an_error_or_small() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let refs = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
        }
        assert_eq!(errors(&bomb).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn hostile_text_never_panics(text in "\\PC{0,300}") {
            parse(&text, Path::new("x"));
        }
    }
}
