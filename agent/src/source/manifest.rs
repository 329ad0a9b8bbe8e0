//! The text of a manifest as objects: several documents, each judged on its own.

use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{SourceError, Sourced};
use crate::pod::validate as pod;
use crate::proxy::validate as service;

/// The largest file that is read, in bytes: etcd's limit on an object, which manifests are made for.
pub const MAX_FILE: u64 = 1 << 20;

/// What names an object in a folder: its kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

/// A mistake, and whose it is. `None`: what the document was meant to be cannot be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub error: SourceError,
    pub whose: Option<Identity>,
}

/// What one file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Its pods.
    pub pods: Vec<Sourced<Pod>>,
    /// Its services.
    pub services: Vec<Sourced<Service>>,
    /// Its slices of endpoints.
    pub slices: Vec<Sourced<EndpointSlice>>,
    pub(super) problems: Vec<Problem>,
}

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Document<'a> {
    /// From 1.
    number: usize,
    /// Its first line in the file, from 1.
    line: usize,
    text: &'a str,
}

/// An object that is not right: each reason, and the line if the parser knows one.
#[derive(Debug, Default)]
struct Refusal {
    reasons: Vec<String>,
    line: Option<usize>,
}

/// Reads a manifest. A document that is not right is reported and does not disturb the others.
pub fn parse(text: &str, path: &Path) -> Parsed {
    let mut parsed = Parsed::default();
    for document in documents(text) {
        let mut reader = Reader { parsed: &mut parsed, path, document };
        match serde_saphyr::from_str::<Value>(document.text) {
            Ok(Value::Null) => {}
            Ok(value) => reader.object(value, Some(document.text)),
            Err(error) => {
                let (line, message) = located(&error, document);
                reader.refuse(None, line, format!("is not valid YAML: {message}"));
            }
        }
    }
    parsed
}

/// The documents of a file. A line that begins with `---` is a boundary wherever it stands (YAML 1.2, 9.1.2), so a broken
/// document cannot swallow its neighbours.
fn documents(text: &str) -> Vec<Document<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            pieces.push((first, &text[start..offset]));
            let alone = line.trim_end() == "---";
            start = offset + if alone { line.len() } else { 3 };
            first = index + if alone { 2 } else { 1 };
        }
        offset += line.len();
    }
    pieces.push((first, &text[start..]));
    let filled = pieces.into_iter().filter(|(_, piece)| !is_blank(piece)).enumerate();
    filled.map(|(index, (line, text))| Document { number: index + 1, line, text }).collect()
}

/// Comments and directives alone are no document.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.starts_with(['#', '%']))
}

/// The line in the file, and the message without its own count of lines, which begins anew with each document.
fn located(error: &serde_saphyr::Error, document: Document<'_>) -> (Option<usize>, String) {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let Some(location) = error.location() else { return (None, first.to_owned()) };
    let prefix = format!("line {} column {}: ", location.line(), location.column());
    let message = first.strip_prefix(&prefix).unwrap_or(first).to_owned();
    let line = usize::try_from(location.line()).unwrap_or(1).max(1);
    (Some(document.line + line - 1), message)
}

/// Reads one document into what was found so far.
struct Reader<'a> {
    parsed: &'a mut Parsed,
    path: &'a Path,
    document: Document<'a>,
}

impl Reader<'_> {
    fn refuse(&mut self, whose: Option<Identity>, line: Option<usize>, reason: String) {
        let number = self.document.number;
        let object = whose.as_ref().map_or_else(
            || format!("document {number}"),
            |id| format!("{} {}/{}", id.kind, id.namespace, id.name),
        );
        let line = Some(line.unwrap_or(self.document.line));
        let error = SourceError { path: self.path.to_owned(), line, object, reason };
        self.parsed.problems.push(Problem { error, whose });
    }

    /// `text` is the object as written, if it is a document of its own.
    fn object(&mut self, mut value: Value, text: Option<&str>) {
        let whose = identity(&value);
        let word =
            |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, version) = (word("kind"), word("apiVersion"));
        match (version.as_str(), kind.as_str()) {
            ("v1", "Pod") => {
                // with numbers made text the document no longer says the same as the object
                let text = text.filter(|_| !quantities_to_text(&mut value));
                let checked = self.typed::<Pod>(&value, text, |pod| {
                    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
                    pod::pod(pod, &value)
                });
                self.keep(checked, whose, |parsed| &mut parsed.pods);
            }
            ("v1", "Service") => {
                let checked = self.typed::<Service>(&value, text, |service| {
                    service.metadata.namespace.get_or_insert_with(|| "default".to_owned());
                    service::service(service)
                });
                self.keep(checked, whose, |parsed| &mut parsed.services);
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let checked = self.typed::<EndpointSlice>(&value, text, |slice| {
                    slice.metadata.namespace.get_or_insert_with(|| "default".to_owned());
                    service::slice(slice)
                });
                self.keep(checked, whose, |parsed| &mut parsed.slices);
            }
            ("v1", "List") => match value.get_mut("items").map(Value::take) {
                None | Some(Value::Null) => {}
                Some(Value::Array(items)) => {
                    for item in items {
                        self.object(item, None);
                    }
                }
                Some(_) => self.refuse(None, None, "items: must be a list".to_owned()),
            },
            // the overlay's: it reads them by itself, and says what is wrong with them
            ("v1", "Node") => {}
            ("", _) | (_, "") => {
                self.refuse(whose, None, "apiVersion and kind are needed".to_owned());
            }
            _ => self.refuse(
                whose,
                None,
                format!("kind {kind} ({version}) is not supported in static mode; use Pod or Service of v1, or EndpointSlice of discovery.k8s.io/v1"),
            ),
        }
    }

    fn keep<T>(
        &mut self,
        checked: Result<T, Refusal>,
        whose: Option<Identity>,
        list: impl Fn(&mut Parsed) -> &mut Vec<Sourced<T>>,
    ) {
        match checked {
            Ok(object) => {
                let sourced =
                    Sourced { path: self.path.to_owned(), line: self.document.line, object };
                list(self.parsed).push(sourced);
            }
            Err(refusal) => self.refuse(whose, refusal.line, refusal.reasons.join("; ")),
        }
    }

    /// The typed object, if `check` has nothing against it. A field that Kubernetes does not know is refused: it is a typing
    /// mistake that would otherwise be silently without effect.
    fn typed<T: DeserializeOwned>(
        &self,
        value: &Value,
        text: Option<&str>,
        check: impl FnOnce(&mut T) -> Result<(), Vec<String>>,
    ) -> Result<T, Refusal> {
        let mut reasons = Vec::new();
        let mut note = |path: serde_ignored::Path<'_>| {
            reasons.push(format!("{}: Kubernetes has no such field", field(&path)));
        };
        let fields = serde_ignored::Deserializer::new(value, &mut note);
        let mut object = serde_path_to_error::deserialize(fields).map_err(|error| {
            // the text is read once more because only there a value of the wrong type has a line
            let again = text.and_then(|text| serde_saphyr::from_str::<T>(text).err());
            let line = again.and_then(|again| located(&again, self.document).0);
            Refusal { reasons: vec![error.to_string()], line }
        })?;
        reasons.extend(check(&mut object).err().into_iter().flatten());
        if reasons.is_empty() { Ok(object) } else { Err(Refusal { reasons, line: None }) }
    }
}

/// A field as Kubernetes writes it: `spec.containers[0].image`.
fn field(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field(parent)),
        Path::Map { parent, key } => {
            let parent = field(parent);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => field(parent),
    }
}

/// What an object calls itself, if it does.
fn identity(value: &Value) -> Option<Identity> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let named = |text: Option<String>| text.filter(|text| !text.is_empty());
    Some(Identity {
        kind: named(text("/kind"))?,
        namespace: named(text("/metadata/namespace")).unwrap_or_else(|| "default".to_owned()),
        name: named(text("/metadata/name"))?,
    })
}

/// Kubernetes takes `cpu: 2` for `cpu: "2"`; the typed object only has text. Says whether anything was changed.
fn quantities_to_text(pod: &mut Value) -> bool {
    let mut changed = false;
    let containers = pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        for list in ["/resources/limits", "/resources/requests"] {
            let quantities = container.pointer_mut(list).and_then(Value::as_object_mut);
            for quantity in quantities.into_iter().flat_map(serde_json::Map::values_mut) {
                if let Value::Number(number) = quantity {
                    *quantity = Value::String(number.to_string());
                    changed = true;
                }
            }
        }
    }
    changed
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
