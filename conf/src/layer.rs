//! Where values come from: the file, the flags, the defaults; later layers win over earlier ones.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::error::{ConfigError, Mistake};
use crate::key::{KEYS, Kind, Reader};

/// A value as written, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub place: String,
    pub items: Vec<String>,
}

/// The values of one origin, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    pub(crate) values: BTreeMap<&'static str, Written>,
    pub(crate) mistakes: Vec<Mistake>,
}

impl Layer {
    /// The defaults. `node_name` is the host's.
    pub fn defaults(node_name: &str) -> Self {
        let mut layer = Self::default();
        for key in KEYS {
            let text = if key.name == "node_name" { node_name } else { key.default };
            layer.values.insert(
                key.name,
                Written { place: "default".to_owned(), items: vec![text.to_owned()] },
            );
        }
        layer
    }

    /// Flags of a program: pairs of a key's name and the values given. One that the program does not read is a mistake.
    pub fn flags(
        reader: Reader,
        given: impl IntoIterator<Item = (&'static str, Vec<String>)>,
    ) -> Self {
        let mut layer = Self::default();
        for (name, items) in given {
            let place = format!("--{}", name.replace(['.', '_'], "-"));
            let key = KEYS.iter().find(|key| key.name == name);
            if key.is_some_and(|key| !key.is_read_by(reader)) {
                layer.mistake(
                    place,
                    format!("{} has no use for {name}; leave it out", reader.as_str()),
                );
                continue;
            }
            layer.values.insert(name, Written { place, items });
        }
        layer
    }

    /// Reads a file. Mistakes in it are kept and reported with all others.
    pub fn file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Ok(Self::text(&text, &path.display().to_string()))
    }

    /// Reads the text of a file called `name`.
    pub fn text(text: &str, name: &str) -> Self {
        let mut layer = Self::default();
        let place = |offset: usize| {
            format!("{name}:{}", text[..offset.min(text.len())].matches('\n').count() + 1)
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let place = place(error.span().map_or(0, |span| span.start));
            layer.mistakes.push(Mistake { place, reason: error.message().to_owned() });
        }
        // what a file holds that does not parse is a guess: mistakes in it might be none
        if layer.mistakes.is_empty() {
            layer.table(table.get_ref(), "", &place);
        }
        layer
    }

    fn table(&mut self, table: &DeTable<'_>, prefix: &str, place: &dyn Fn(usize) -> String) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let place_of_key = place(key.span().start);
            if let DeValue::Table(inner) = value.get_ref()
                && KEYS.iter().any(|key| key.name.starts_with(&format!("{name}.")))
            {
                self.table(inner, &format!("{name}."), place);
                continue;
            }
            let inner = KEYS.iter().find(|key| key.name.starts_with(&format!("{name}.")));
            match KEYS.iter().find(|key| key.name == name) {
                None if inner.is_some() => {
                    self.mistake(place_of_key, format!("{name}: is a table; write [{name}]"));
                }
                None => {
                    self.mistake(place_of_key, format!("unknown key {name}{}", suggestion(&name)));
                }
                Some(key) => match items(value.get_ref(), key.kind) {
                    Some(items) => {
                        self.values.insert(key.name, Written { place: place_of_key, items });
                    }
                    None => self
                        .mistake(place_of_key, format!("{name}: expected {}", key.kind.expects())),
                },
            }
        }
    }

    fn mistake(&mut self, place: String, reason: String) {
        self.mistakes.push(Mistake { place, reason });
    }
}

/// A value of the right type, as text.
fn items(value: &DeValue<'_>, kind: Kind) -> Option<Vec<String>> {
    let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
    match kind {
        Kind::Paths => value.as_array()?.iter().map(|item| text(item.get_ref())).collect(),
        Kind::Flag => value.as_bool().map(|flag| vec![flag.to_string()]),
        kind if kind.is_number() => value.as_integer().map(|number| vec![number.to_string()]),
        _ => text(value).map(|text| vec![text]),
    }
}

/// The known key that looks most like an unknown one.
fn suggestion(name: &str) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let close = KEYS.iter().map(|key| {
        let whole = distance(name, key.name);
        // the right key in the wrong table is close, too
        (whole.min(distance(&last(name), &last(key.name)) + 1), key.name)
    });
    match close.min() {
        Some((steps, key)) if steps <= 3 => format!("; did you mean {key}?"),
        _ => format!(
            "; the keys are: {}",
            KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
