//! The keys of a configuration, one by one, so that an error can name the one that it is about.

use cni::plugin::Call;
use cni::{Error, ErrorCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A configuration's document.
pub struct Keys<'a> {
    network: &'a str,
    raw: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    /// The keys of a call's configuration.
    pub fn of(call: &'a Call<'_>) -> Self {
        Self { network: &call.conf.name, raw: &call.conf.raw }
    }

    /// The value at a path such as `args.cni.mac`. `null` counts as absent, on the way there too, as in the reference
    /// plugins.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut object = self.raw;
        let mut walked = String::new();
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            walked = if walked.is_empty() { parent.into() } else { format!("{walked}.{parent}") };
            object = match object.get(parent) {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::Object(object)) => object,
                Some(_) => return Err(self.wrong(&walked, "it must be an object")),
            };
        }
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
        T::deserialize(value).map(Some).map_err(|error| self.wrong(path, &error.to_string()))
    }

    /// A text that is not empty.
    pub fn text(&self, path: &str) -> Result<Option<String>, Error> {
        Ok(self.get::<String>(path)?.filter(|text| !text.is_empty()))
    }

    /// A switch; off unless it is on.
    pub fn is_on(&self, path: &str) -> Result<bool, Error> {
        Ok(self.get(path)?.unwrap_or(false))
    }

    fn wrong(&self, path: &str, why: &str) -> Error {
        let msg = format!("cannot decode {path:?} of network {:?}: {why}", self.network);
        Error::new(ErrorCode::Decode, msg)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_nulls_and_errors() {
        let raw = json!({
            "on": true, "off": false, "none": null, "text": "x", "empty": "", "number": 5,
            "args": { "cni": { "mac": "m", "none": null } }, "broken": { "cni": 7 }, "gone": null,
        });
        let keys = Keys { network: "n", raw: raw.as_object().unwrap() };
        assert!(keys.is_on("on").unwrap());
        for off in ["off", "none", "missing", "gone.further.down", "args.none.x"] {
            assert!(!keys.is_on(off).unwrap(), "{off}");
        }
        assert_eq!(keys.text("text").unwrap().as_deref(), Some("x"));
        assert_eq!(keys.text("empty").unwrap(), None);
        assert_eq!(keys.text("args.cni.mac").unwrap().as_deref(), Some("m"));
        let message = |path| keys.is_on(path).unwrap_err().msg;
        assert_eq!(
            message("number"),
            "cannot decode \"number\" of network \"n\": invalid type: integer `5`, expected a boolean"
        );
        assert_eq!(
            message("broken.cni.mac"),
            "cannot decode \"broken.cni\" of network \"n\": it must be an object"
        );
    }
}
