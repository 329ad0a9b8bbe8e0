//! Versions of a `CustomResourceDefinition`. Sentences are those of `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::column::items;
use super::custom::{is_shared, schema_of, schema_path};
use super::jsonpath::JsonPath;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

/// The types of printer columns, and what their values may be more than that.
pub const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
/// See [`COLUMN_TYPES`].
pub const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// The most selectable fields of a version.
const MOST_SELECTABLE: usize = 8;
const LONGEST_WARNING: usize = 256;

/// What is wrong with the versions of a definition.
pub fn check_all(versions: &Spot<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    let mut unique = true;
    let all = versions.value.as_array().map_or(&[][..], Vec::as_slice);
    for (index, version) in versions.items().enumerate() {
        let named = version.field("name");
        unique &= seen.insert(named.text());
        let wrong = name::dns_1035_label(named.text());
        if !wrong.is_empty() {
            findings.invalid(&named, wrong.join(","));
        }
        check_warning(&version, findings);
        check_parts(&version, all, index, findings);
    }
    if !unique {
        findings.invalid(versions, "must contain unique version names");
    }
    if versions.items().filter(|version| version.field("storage").is_true()).count() != 1 {
        findings.invalid(versions, "must have exactly one version marked as storage version");
    }
}

/// What is wrong with what a version says of its objects. Kubernetes tells of what all versions say alike once, as of the definition.
fn check_parts(version: &Spot<'_>, all: &[Value], index: usize, findings: &mut Findings) {
    let part = |field: &str| {
        let spot = version.field(field);
        match is_shared(all, field) {
            true if index > 0 => None,
            true => Some(Spot { path: FieldPath::root("spec").field(field), ..spot }),
            false => Some(spot),
        }
    };
    let schema = version.field("schema").field("openAPIV3Schema");
    if schema.is_absent() {
        findings.required(&schema, "schemas are required");
    } else if part("schema").is_some() {
        let path = schema_path(all, index);
        if let Err(errors) = schema_of(version.value, &path) {
            findings.extend(errors);
        }
        let has_status = |version: &Value| version.pointer("/subresources/status").is_some();
        let whose = if is_shared(all, "schema") { all } else { &all[index..=index] };
        if whose.iter().any(has_status) {
            check_root(&Spot { path, ..schema.clone() }, findings);
        }
    }
    if let Some(subresources) = part("subresources") {
        check_scale(&subresources, findings);
    }
    for column in part("additionalPrinterColumns").iter().flat_map(Spot::items) {
        check_column(&column, findings);
    }
    if let Some(fields) = part("selectableFields") {
        check_selectable(&fields, schema.value, findings);
    }
}

/// The rules that can cost too much. A schema that was there before is not judged again.
pub fn costs(object: &Value, old: &Value) -> Vec<FieldError> {
    let before = items(old, "/spec/versions");
    let is_new = |version: &Value| {
        let same = |one: &&Value| one["name"] == version["name"];
        before.iter().find(same).is_none_or(|one| one["schema"] != version["schema"])
    };
    let all = items(object, "/spec/versions");
    let once = if is_shared(all, "schema") { 1 } else { all.len() };
    let new = all.iter().enumerate();
    let new = new.filter(|(_, one)| has_rules(&one["schema"]) && is_new(one)).take(once);
    let costs = new.filter_map(|(index, one)| {
        let path = schema_path(all, index);
        Some(schema_of(one, &path).ok()?.costs(&path))
    });
    costs.flatten().collect()
}

/// Whether there are rules anywhere in a schema; most have none, and need not be read again.
fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            fields.contains_key("x-kubernetes-validations") || fields.values().any(has_rules)
        }
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

/// What clients of a deprecated version are told.
fn check_warning(version: &Spot<'_>, findings: &mut Findings) {
    let warning = version.field("deprecationWarning");
    let text = warning.text();
    if warning.is_absent() {
        return;
    }
    if !version.field("deprecated").is_true() {
        findings.invalid(&warning, "can only be set for deprecated versions");
        return;
    }
    if text.len() > LONGEST_WARNING {
        findings.invalid(&warning, format!("must be <= {LONGEST_WARNING} characters long"));
    }
    if text.is_empty() {
        findings.invalid(&warning, "must not be an empty string");
    }
    let hidden = |sign: char| sign.is_control() || sign.is_whitespace() && sign != ' ';
    if let Some(index) = text.find(hidden) {
        let why = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        );
        findings.invalid(&warning, why);
    }
}

/// With a path for the status of its own the schema of the status is taken out of the whole: nothing may stand around it.
fn check_root(schema: &Spot<'_>, findings: &mut Findings) {
    const MAY: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations";
    const NOT: [&str; 18] = [
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "default",
        "definitions",
        "dependencies",
        "enum",
        "maxProperties",
        "minProperties",
        "not",
        "nullable",
        "oneOf",
        "patternProperties",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
    ];
    let set = |spot: Spot<'_>| !spot.is_empty() && *spot.value != Value::Bool(false);
    if NOT.iter().any(|field| set(schema.field(field))) {
        let why = format!(
            "only [{MAY}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        findings.invalid(schema, why);
    }
}

/// A path of fields, each after a dot.
fn is_simple(path: &Spot<'_>, findings: &mut Findings) -> bool {
    let simple = path.text().starts_with('.');
    if !simple {
        findings.invalid(path, "must be a simple json path starting with .");
    }
    simple
}

fn check_scale(subresources: &Spot<'_>, findings: &mut Findings) {
    let spot = subresources.field("scale");
    if spot.is_absent() {
        return;
    }
    for (field, below, needed, why) in [
        ("specReplicasPath", &[".spec."][..], true, "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], true, "should be a json path under .status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            false,
            "should be a json path under either .spec or .status",
        ),
    ] {
        let path = spot.field(field);
        if path.is_empty() {
            if needed {
                findings.required(&path, "");
            }
        } else if is_simple(&path, findings)
            && !below.iter().any(|below| path.text().starts_with(below))
        {
            findings.invalid(&path, why);
        }
    }
}

fn check_column(column: &Spot<'_>, findings: &mut Findings) {
    if column.field("name").is_empty() {
        findings.required(&column.field("name"), "");
    }
    for (field, known, needed) in
        [("type", &COLUMN_TYPES[..], true), ("format", &COLUMN_FORMATS[..], false)]
    {
        let spot = column.field(field);
        let why = format!("must be one of {}", known.join(","));
        if spot.is_empty() {
            if needed {
                findings.required(&spot, why);
            }
        } else if !known.contains(&spot.text()) {
            findings.invalid(&spot, why);
        }
    }
    let path = column.field("jsonPath");
    let path = Spot { path: column.field("JSONPath").path, ..path };
    if path.is_empty() {
        findings.required(&path, "");
    } else if is_simple(&path, findings)
        && let Err(why) = JsonPath::parse(path.text())
    {
        findings.invalid(&path, why);
    }
}

fn check_selectable(fields: &Spot<'_>, schema: &Value, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for path in fields.items().map(|field| field.field("jsonPath")) {
        if path.is_empty() {
            findings.required(&path, "");
            continue;
        }
        let text = path.text();
        if text == ".metadata" || text.starts_with(".metadata.") {
            findings.invalid(&path, "must not point to fields in metadata");
            continue;
        }
        match described(schema, text) {
            Err(why) => {
                findings.invalid(&path, format!("is an invalid path: {why}"));
                continue;
            }
            Ok(field)
                if !matches!(field["type"].as_str(), Some("string" | "boolean" | "integer")) =>
            {
                findings.invalid(&path, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.");
            }
            Ok(_) => {}
        }
        if !seen.insert(text) {
            findings.duplicate(&path);
        }
    }
    if seen.len() > MOST_SELECTABLE {
        findings.too_many(fields, seen.len(), MOST_SELECTABLE);
    }
}

/// The schema of the field that a path leads to.
fn described<'a>(schema: &'a Value, path: &str) -> Result<&'a Value, String> {
    let Some(names) = path.strip_prefix('.') else {
        let got = path.split(['.', '[', ']']).next().unwrap_or_default();
        return Err(format!("expected [ or . but got: {got}"));
    };
    names.split('.').try_fold(schema, |schema, name| {
        schema["properties"].get(name).ok_or_else(|| "does not refer to a valid field".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_all_versions_say_alike_is_told_once() {
        let version = |name: &str, kind: &str| {
            json!({"name": name, "storage": name == "v1", "schema": {"openAPIV3Schema": {"type": kind}},
            "additionalPrinterColumns": [{"type": "date", "jsonPath": ".a"}]})
        };
        let shared = "spec.validation.openAPIV3Schema.type: Invalid value";
        let column = "spec.additionalPrinterColumns[0].name: Required value";
        let own =
            |index| format!("spec.versions[{index}].schema.openAPIV3Schema.type: Invalid value");
        for (kinds, expected) in [
            (["string", "string"], vec![shared.to_owned(), column.to_owned()]),
            (["string", "object"], vec![own(0), column.to_owned()]),
            (["object", "string"], vec![column.to_owned(), own(1)]),
        ] {
            let versions = json!([version("v1", kinds[0]), version("v2", kinds[1])]);
            let mut findings = Findings::default();
            let path = FieldPath::of_pointer("/spec/versions");
            check_all(&Spot::at(&versions, path), &mut findings);
            let told: Vec<String> = findings.into_vec().iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), expected.len(), "{told:#?}");
            let all = told.iter().zip(&expected).all(|(one, expected)| one.starts_with(expected));
            assert!(all, "{told:#?}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn what_a_version_may_say() {
        let text = json!({"type": "string"});
        let mut many: Vec<Value> = Vec::new();
        let mut properties = json!({"list": {"type": "array", "items": text}, "a": text});
        for index in 0..9 {
            properties[format!("f{index}")] = text.clone();
            many.push(json!({"jsonPath": format!(".spec.f{index}")}));
        }
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}});
        let limited = {
            let mut schema = schema.clone();
            schema["minProperties"] = json!(1);
            json!({"openAPIV3Schema": schema})
        };
        let column = |column: Value| json!({"additionalPrinterColumns": [column]});
        let select = |path: &str| json!({"selectableFields": [{"jsonPath": path}]});
        let scale = |spec: &str| json!({"subresources": {"scale": {"specReplicasPath": spec, "statusReplicasPath": ".status.a"}}});
        for (fields, expected) in [
            (json!({"deprecated": true, "deprecationWarning": "use v2"}), ""),
            (
                json!({"deprecationWarning": "use v2"}),
                ".deprecationWarning: Invalid value: \"use v2\": can only be set for deprecated versions",
            ),
            (
                json!({"deprecated": true, "deprecationWarning": ""}),
                ".deprecationWarning: Invalid value: \"\": must not be an empty string",
            ),
            (
                json!({"deprecated": true, "deprecationWarning": "a".repeat(257)}),
                "must be <= 256 characters long",
            ),
            (
                json!({"deprecated": true, "deprecationWarning": "a\tb"}),
                "non-printable character found at index 1",
            ),
            (
                json!({"schema": limited, "subresources": {"status": {}}}),
                "spec.validation.openAPIV3Schema: Invalid value: {",
            ),
            (json!({"schema": limited}), ""),
            (json!({"name": "V1"}), ".name: Invalid value: \"V1\": a DNS-1035 label"),
            (json!({"storage": false}), "versions: Invalid value"),
            (scale(".spec.a"), ""),
            (
                scale("spec.a"),
                "specReplicasPath: Invalid value: \"spec.a\": must be a simple json path starting with .",
            ),
            (scale(".status.a"), "should be a json path under .spec"),
            (
                column(
                    json!({"name": "A", "type": "integer", "format": "int32", "jsonPath": ".spec.a"}),
                ),
                "",
            ),
            (
                column(
                    json!({"name": "A", "type": "integer", "format": "int8", "jsonPath": ".spec.a"}),
                ),
                "[0].format: Invalid value: \"int8\": must be one of byte,",
            ),
            (
                column(json!({"name": "A", "jsonPath": ".spec.a"})),
                "[0].type: Required value: must be one of boolean,date,",
            ),
            (
                column(json!({"name": "A", "type": "date", "jsonPath": "spec.a"})),
                "[0].JSONPath: Invalid value: \"spec.a\": must be a simple",
            ),
            (column(json!({"type": "date", "jsonPath": ".a"})), "[0].name: Required value"),
            (column(json!({"name": "A", "type": "date"})), "[0].JSONPath: Required value"),
            (select(".spec.a"), ""),
            (
                select(".spec.b"),
                "[0].jsonPath: Invalid value: \".spec.b\": is an invalid path: does not refer to a valid field",
            ),
            (select("spec.a"), "is an invalid path: expected [ or . but got: spec"),
            (select(".spec.list"), "must point to a field of type string, boolean or integer."),
            (select(".metadata.name"), "must not point to fields in metadata"),
            (json!({"selectableFields": [{}]}), "[0].jsonPath: Required value"),
            (
                json!({"selectableFields": [{"jsonPath": ".spec.a"}, {"jsonPath": ".spec.a"}]}),
                "[1].jsonPath: Duplicate value",
            ),
            (
                json!({"selectableFields": many}),
                ".selectableFields: Too many: 9: must have at most 8 items",
            ),
        ] {
            let mut version =
                json!({"name": "v1", "storage": true, "schema": {"openAPIV3Schema": schema}});
            version.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
            let (versions, mut findings) = (json!([version]), Findings::default());
            check_all(&Spot::at(&versions, FieldPath::root("versions")), &mut findings);
            let told: Vec<String> = findings.into_vec().iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), usize::from(!expected.is_empty()), "{fields}: {told:?}");
            assert!(told.iter().all(|one| one.contains(expected)), "{fields}: {told:?}");
        }
    }
}
