//! Regular expressions of schemas. Like Go's they take time in proportion to the text, whatever the expression is.

use regex_lite::Regex;
use serde::{Deserialize, Deserializer};

/// An expression; it may be broken, which is told of with its place in the schema.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub text: Box<str>,
    pub regex: Result<Regex, String>,
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = Box::<str>::deserialize(source)?;
        let regex = Regex::new(&text).map_err(|error| error.to_string());
        Ok(Self { text, regex })
    }
}
