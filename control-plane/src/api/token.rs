//! Continue tokens: where a list ended, and at which revision it is read.
//!
//! A token is not secret and is not believed: what it says is checked, and it can only name keys below the prefix that the request
//! itself may list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::status::Status;

const VERSION: u64 = 1;
/// Stands for no revision, as in the tokens of Kubernetes.
const LATEST: i64 = -1;
/// A namespace, `/` and a name, with room to spare.
const LONGEST: usize = 1024;

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The revision of the whole list; `None`: that of the next page, because the first one's is forgotten.
    pub revision: Option<u64>,
    /// What stands after the prefix in the key of the last object.
    pub after: String,
    /// How many objects come after it, when somebody counted them. Who makes up a number is told one that follows from it.
    pub left: Option<u64>,
}

impl Token {
    /// Reads what [`Token::write`] wrote.
    pub fn read(text: &str) -> Result<Self, Status> {
        let bad = || {
            Status::bad_request(
                "invalid continue token: continue key is not valid: it was not made by this server, or was changed",
            )
        };
        let bytes = (text.len() <= 2 * LONGEST)
            .then(|| URL_SAFE_NO_PAD.decode(text).ok())
            .flatten()
            .ok_or_else(bad)?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        let revision = match value.get("rv").and_then(Value::as_i64) {
            Some(LATEST) => None,
            Some(number) => Some(u64::try_from(number).map_err(|_| bad())?),
            None => return Err(bad()),
        };
        let after = value.get("after").and_then(Value::as_str).ok_or_else(bad)?;
        let left = value.get("left").and_then(Value::as_u64);
        let sound = value.get("v").and_then(Value::as_u64) == Some(VERSION)
            && revision != Some(0)
            && (1..=LONGEST).contains(&after.len())
            && !after.chars().any(char::is_control);
        if sound { Ok(Self { revision, after: after.to_owned(), left }) } else { Err(bad()) }
    }

    /// The token as clients hold it.
    pub fn write(&self) -> String {
        let revision = self.revision.map_or(json!(LATEST), |revision| json!(revision));
        let mut value = json!({"v": VERSION, "rv": revision, "after": self.after});
        if let Some(left) = self.left {
            value["left"] = json!(left);
        }
        URL_SAFE_NO_PAD.encode(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for (revision, left) in [(Some(7), None), (Some(1), Some(0)), (None, Some(u64::MAX))] {
            let token = Token { revision, after: "default/web".to_owned(), left };
            assert_eq!(Token::read(&token.write()).unwrap(), token);
        }
    }

    proptest! {
        #[test]
        fn anything_else_is_a_bad_request(text in ".{0,80}", value in "[a-z0-9{}\":,]{0,40}") {
            for text in [text, URL_SAFE_NO_PAD.encode(value)] {
                if let Err(status) = Token::read(&text) {
                    prop_assert_eq!(status.code(), 400);
                }
            }
        }
    }
}
