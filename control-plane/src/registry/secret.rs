//! Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, map, name, text};
use super::configmap::{DATA_MAX, entries, immutable_data, keys, size};
use super::defaults::{child, default_text};
use super::kind::Kind;
use super::strategy::Strategy;
use super::tls_pair;
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::findings::{Findings, Spot};

/// `v1 Secret`.
pub fn kind() -> Kind {
    Kind::new("", "v1", "Secret", "secrets")
        .select_by(&["type"])
        .columns(columns("Name Type Data Age"))
        .behaves(Secret)
}

struct Secret;

impl Strategy for Secret {
    /// `stringData` is for writing only: it becomes part of `data`.
    fn default(&self, object: &mut Value) {
        default_text(object, "type", "Opaque");
        let Some(Value::Object(texts)) =
            object.as_object_mut().and_then(|map| map.remove("stringData"))
        else {
            return;
        };
        if let Some(data) = child(object, "data") {
            for (key, value) in texts {
                data[key] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        findings.extend(keys(object, "/data"));
        for (key, value) in map(object, "/data").into_iter().flatten() {
            if value.as_str().is_some_and(|value| STANDARD.decode(value).is_err()) {
                let at = FieldPath::root("data").key(key);
                findings.add(FieldError::invalid(at, &json!("<hidden>"), "must be base64"));
            }
        }
        if size(object, "/data") / 4 * 3 > DATA_MAX {
            findings.add(FieldError::new(FieldPath::root("data"), Mistake::TooLong(DATA_MAX), ""));
        }
        check_type(object, &mut findings);
        if text(object, "/type") == "kubernetes.io/service-account-token"
            && text(object, "/metadata/annotations/kubernetes.io~1service-account.name").is_empty()
        {
            let at = FieldPath::of_pointer("/metadata/annotations")
                .key("kubernetes.io/service-account.name");
            findings.add(FieldError::new(at, Mistake::Required, ""));
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        findings.extend(immutable_data(object, old, &["data"]));
        findings.immutable(&root.pointer("/type"), &before.pointer("/type"));
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        if text(object, "/type") != "kubernetes.io/tls" {
            return Vec::new();
        }
        let [certificate, key] = ["/data/tls.crt", "/data/tls.key"]
            .map(|data| STANDARD.decode(text(object, data)).unwrap_or_default());
        tls_pair::mistake(&certificate, &key).into_iter().collect()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            json!(name(object)),
            json!(text(object, "/type")),
            json!(entries(object, "/data")),
            json!(age(object, now)),
        ]
    }
}

fn check_type(object: &Value, findings: &mut Findings) {
    let data = Spot::root(object).field("data");
    let at = |key: &str| Spot { path: data.path.key(key), ..data.field(key) };
    for key in needed_keys(text(object, "/type")).iter().filter(|key| at(key).is_absent()) {
        findings.required(&at(key), "");
    }
    match text(object, "/type") {
        "kubernetes.io/basic-auth" => {
            let both = ["username", "password"].map(at);
            if both.iter().all(Spot::is_absent) {
                for one in &both {
                    findings.required(one, "");
                }
            }
        }
        kind @ ("kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson") => {
            let spot = at(needed_keys(kind)[0]);
            let read = STANDARD.decode(spot.text()).ok().filter(|_| spot.is_there());
            if let Some(Err(error)) = read.map(|read| serde_json::from_slice::<Value>(&read)) {
                let hidden = json!("<secret contents redacted>");
                // where it breaks, not what stands there
                let why = format!("it is no JSON: line {} column {}", error.line(), error.column());
                findings.invalid(&Spot::at(&hidden, spot.path), why);
            }
        }
        // a key without anything in it opens nothing
        "kubernetes.io/ssh-auth" if at("ssh-privatekey").value == "" => {
            findings.required(&at("ssh-privatekey"), "");
        }
        _ => {}
    }
}

/// What the data of a secret of this type must have.
fn needed_keys(of: &str) -> &'static [&'static str] {
    match of {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_data_becomes_data() {
        let mut object = json!({"data": {"a": "MQ=="}, "stringData": {"b": "2"}});
        Secret.default(&mut object);
        assert_eq!(object, json!({"type": "Opaque", "data": {"a": "MQ==", "b": "Mg=="}}));
        assert!(Secret.validate(&object).is_empty());
    }

    #[test]
    fn a_value_that_is_no_base64_is_refused_without_being_repeated() {
        let errors = Secret.validate(&json!({"type": "Opaque", "data": {"a": "%hidden%"}}));
        assert_eq!(errors[0].to_string(), r#"data[a]: Invalid value: "<hidden>": must be base64"#);
    }

    #[test]
    fn what_programs_log_in_with_can_be_read() {
        let told = |kind: &str, data: Value| -> Vec<String> {
            let errors = Secret.validate(&json!({"type": kind, "data": data}));
            errors.iter().map(ToString::to_string).collect()
        };
        let docker = "kubernetes.io/dockerconfigjson";
        assert!(told(docker, json!({".dockerconfigjson": "e30="})).is_empty());
        assert_eq!(
            told(docker, json!({".dockerconfigjson": "bm8="})),
            [
                r#"data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": it is no JSON: line 1 column 2"#
            ]
        );
        assert_eq!(
            told("kubernetes.io/basic-auth", json!({})),
            ["data[username]: Required value", "data[password]: Required value"]
        );
        assert!(told("kubernetes.io/basic-auth", json!({"username": "YQ=="})).is_empty());
    }

    #[test]
    fn a_type_asks_for_its_keys() {
        let errors =
            Secret.validate(&json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}));
        assert_eq!(errors[0].to_string(), "data[tls.key]: Required value");
        let pair = |of: &str| {
            Secret.warnings(&json!({"type": of, "data": {"tls.crt": "", "tls.key": ""}}), None)
        };
        assert_eq!(
            pair("kubernetes.io/tls"),
            ["tls: failed to find any PEM data in certificate input"]
        );
        assert!(pair("Opaque").is_empty());
    }
}
