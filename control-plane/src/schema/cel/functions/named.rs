//! Formats of names: `format.dns1123Label().validate(self)` gives what is wrong, or nothing.
//! <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-format-library>

use serde_json::Value;

use super::super::budget::Budget;
use super::super::value::Val;
use super::Answer;
use crate::meta::name;
use crate::schema::structural::has_format;

/// The names of the formats.
const NAMES: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], _: &Budget) -> Answer<'a> {
    let known = |wanted: &str| NAMES.iter().find(|known| **known == wanted).copied();
    match (name, args) {
        ("format.named", [Val::String(wanted)]) => Some(Ok(
            known(wanted).map_or(Val::Optional(None), |format| Val::some(Val::Format(format)))
        )),
        ("validate", [Val::Format(format), Val::String(text)]) => Some(Ok(validate(format, text))),
        (name, []) => known(name.strip_prefix("format.")?).map(|format| Ok(Val::Format(format))),
        _ => None,
    }
}

fn validate<'a>(format: &str, text: &str) -> Val<'a> {
    // a prefix of a name may end in a dash, for what is put behind it does not
    let prefix = |text: &str| text.strip_suffix('-').map(|start| format!("{start}a"));
    let prefixed = prefix(text);
    let prefixed = prefixed.as_deref().unwrap_or(text);
    let wrong = match format {
        "dns1123Label" => name::dns_label(text),
        "dns1123Subdomain" => name::dns_subdomain(text),
        "dns1035Label" => name::dns_1035_label(text),
        "dns1123LabelPrefix" => name::dns_label(prefixed),
        "dns1123SubdomainPrefix" => name::dns_subdomain(prefixed),
        "dns1035LabelPrefix" => name::dns_1035_label(prefixed),
        "qualifiedName" => name::qualified(text),
        "labelValue" => name::label_value(text),
        other if has_format(other, &Value::from(text)) => Vec::new(),
        "uri" => vec!["invalid URI".to_owned()],
        "uuid" => vec!["does not match the UUID format".to_owned()],
        "byte" => vec!["invalid base64".to_owned()],
        "date" => vec!["invalid date".to_owned()],
        _ => vec!["invalid datetime".to_owned()],
    };
    if wrong.is_empty() {
        return Val::Optional(None);
    }
    Val::some(Val::list(wrong.into_iter().map(Val::made).collect()))
}
