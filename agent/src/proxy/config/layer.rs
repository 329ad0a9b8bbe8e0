//! Where values come from: the file and the flags. Every mistake is kept, to be reported with all others.

use std::collections::BTreeMap;
use std::path::Path;

use conf::{ConfigError, Mistake};
use serde_json::{Map, Value, json};

use super::duration;
use super::field::{FIELDS, Field, Kind, find};

/// What the file's `apiVersion` must be.
pub const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// What the file's `kind` must be.
pub const KIND: &str = "KubeProxyConfiguration";

/// A value and the place it was written at.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// Of the kind that its field has.
    pub value: Value,
    /// The file with the field, or the flag.
    pub place: String,
}

/// The values of one origin, by field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    /// What was given.
    pub values: BTreeMap<&'static str, Given>,
    /// What is wrong with the rest.
    pub mistakes: Vec<Mistake>,
}

impl Layer {
    /// Reads a file.
    pub fn file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Ok(Self::text(&text, &path.display().to_string()))
    }

    /// Reads the text of a file called `name`, YAML or JSON.
    pub fn text(text: &str, name: &str) -> Self {
        let mut reader = Reader { layer: Self::default(), name };
        match serde_saphyr::from_str::<Value>(text) {
            Ok(Value::Object(document)) => reader.document(document),
            Ok(_) => reader.mistake("", format!("must be an object of kind {KIND}")),
            Err(error) => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                let first = first.strip_prefix("error: ").unwrap_or(first);
                reader.mistake("", format!("is not valid YAML: {first}"));
            }
        }
        reader.layer
    }

    /// Takes flags: pairs of a flag's name and its text. Of a flag that is given twice the last one counts; lists grow.
    pub fn flags(given: &[(String, Vec<String>)]) -> Self {
        let mut layer = Self::default();
        for (flag, texts) in given {
            let place = format!("--{flag}");
            let mut refused = None;
            for field in FIELDS.iter().filter(|field| field.flags.contains(&flag.as_str())) {
                match from_texts(field.kind, texts) {
                    Ok(value) => {
                        layer.values.insert(field.path, Given { value, place: place.clone() });
                    }
                    Err(text) => refused = Some((text, field.kind.expects())),
                }
            }
            // several fields have the flag, but it was written once
            if let Some((text, expects)) = refused {
                layer
                    .mistakes
                    .push(Mistake { place, reason: format!("{text:?} is not {expects}") });
            }
        }
        layer
    }
}

struct Reader<'a> {
    layer: Layer,
    name: &'a str,
}

impl Reader<'_> {
    fn place(&self, path: &str) -> String {
        if path.is_empty() { self.name.to_owned() } else { format!("{}: {path}", self.name) }
    }

    fn mistake(&mut self, path: &str, reason: String) {
        let place = self.place(path);
        self.layer.mistakes.push(Mistake { place, reason });
    }

    fn document(&mut self, mut document: Map<String, Value>) {
        for (key, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            let found = document.remove(key).unwrap_or_default();
            if found != expected {
                self.mistake(key, format!("is {found}, and must be {expected:?}"));
            }
        }
        self.object(document, "");
    }

    fn object(&mut self, object: Map<String, Value>, prefix: &str) {
        for (key, value) in object {
            let path = format!("{prefix}{key}");
            let inner = format!("{path}.");
            let is_section = FIELDS.iter().any(|field| field.path.starts_with(&inner));
            match (find(&path), value) {
                // Go reads null as "not given"
                (Some(_), Value::Null) => {}
                (Some(field), value) => self.field(field, value),
                (None, Value::Null) if is_section => {}
                (None, Value::Object(section)) if is_section => self.object(section, &inner),
                (None, _) if is_section => self.mistake(&path, "must be an object".to_owned()),
                (None, _) => self.mistake(&path, format!("there is no such field{}", near(&path))),
            }
        }
    }

    fn field(&mut self, field: &'static Field, value: Value) {
        match checked(field.kind, value) {
            Ok(value) if field.zero_is_default && is_zero(&value) => {}
            Ok(value) => {
                let place = self.place(field.path);
                self.layer.values.insert(field.path, Given { value, place });
            }
            Err(value) => {
                self.mistake(field.path, format!("{value} is not {}", field.kind.expects()));
            }
        }
    }
}

/// Where the last part of an unknown field would be right.
fn near(path: &str) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let same = FIELDS.iter().find(|field| last(field.path) == last(path));
    same.map_or_else(
        || format!(" in {API_VERSION}; remove it"),
        |field| format!("; did you mean {}?", field.path),
    )
}

/// A value as written in a file, in the one form that it is kept in; the value itself if it is not of the kind.
fn checked(kind: Kind, value: Value) -> Result<Value, Value> {
    let fits = match kind {
        Kind::Flag => value.is_boolean(),
        Kind::Whole(least, most) => {
            value.as_i64().is_some_and(|number| (least..=most).contains(&number))
        }
        Kind::Number => value.is_number(),
        Kind::Text => value.is_string(),
        Kind::List => {
            value.as_array().is_some_and(|items| items.iter().all(serde_json::Value::is_string))
        }
        Kind::Gates => {
            value.as_object().is_some_and(|gates| gates.values().all(serde_json::Value::is_boolean))
        }
        Kind::Modules => value.as_array().is_some_and(|items| items.iter().all(is_module)),
        Kind::Duration => return go_duration(&value).ok_or(value),
        Kind::DurationOrNanoseconds => {
            let nanoseconds = value.as_u64().map(std::time::Duration::from_nanos);
            let written = nanoseconds.map(|duration| json!(duration::format(duration)));
            return written.or_else(|| go_duration(&value)).ok_or(value);
        }
    };
    if fits { Ok(value) } else { Err(value) }
}

fn go_duration(value: &Value) -> Option<Value> {
    Some(json!(duration::format(duration::parse(value.as_str()?)?)))
}

fn is_module(value: &Value) -> bool {
    let known = |module: &Map<String, Value>| {
        module.len() == 2 && module["filePattern"].is_string() && module["verbosity"].is_u64()
    };
    let keys = ["filePattern", "verbosity"];
    value
        .as_object()
        .is_some_and(|module| keys.iter().all(|key| module.contains_key(*key)) && known(module))
}

/// What Go cannot tell from "not given" in a field that is no pointer.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0s",
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// A flag's texts as a value; the text that is wrong if one is.
fn from_texts(kind: Kind, texts: &[String]) -> Result<Value, String> {
    let last = texts.last().map(String::as_str).unwrap_or_default();
    let wrong = || last.to_owned();
    let parts = || texts.iter().flat_map(|text| text.split(',')).filter(|part| !part.is_empty());
    let value = match kind {
        Kind::Flag => json!(go_bool(last).ok_or_else(wrong)?),
        Kind::Whole(..) => json!(last.parse::<i64>().map_err(|_| wrong())?),
        Kind::Number => json!(last.parse::<f64>().map_err(|_| wrong())?),
        Kind::Text | Kind::Duration | Kind::DurationOrNanoseconds => json!(last),
        Kind::List => json!(parts().collect::<Vec<_>>()),
        Kind::Gates => {
            let gate = |part: &str| {
                let (name, on) = part.split_once('=').ok_or_else(|| part.to_owned())?;
                Ok((name.to_owned(), json!(go_bool(on).ok_or_else(|| part.to_owned())?)))
            };
            Value::Object(parts().map(gate).collect::<Result<Map<_, _>, String>>()?)
        }
        Kind::Modules => {
            let module = |part: &str| {
                let (file, verbosity) = part.split_once('=').ok_or_else(|| part.to_owned())?;
                let verbosity: u32 = verbosity.parse().map_err(|_| part.to_owned())?;
                Ok(json!({"filePattern": file, "verbosity": verbosity}))
            };
            Value::Array(parts().map(module).collect::<Result<Vec<_>, String>>()?)
        }
    };
    checked(kind, value).map_err(|_| wrong())
}

/// What Go's `strconv.ParseBool` takes.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
