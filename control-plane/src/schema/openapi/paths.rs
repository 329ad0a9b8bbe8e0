//! The operations of a document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::components::{REFERENCE, list_of, name};
use super::{GroupVersionKind, Served};
use crate::schema::definitions::Definitions;

/// The last one is for built-in kinds only: kubectl sends it to kinds that have it here.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Parameters of queries: name, type, what it does.
type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = ("dryRun", "string", "All: everything is done but the storing.");
const FIELD_MANAGER: Parameter = ("fieldManager", "string", "Who is making the change.");
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What is done about unknown and duplicate fields: Ignore, Warn or Strict.",
);
const FORCE: Parameter = ("force", "boolean", "Takes fields that others own; for apply only.");
const WRITING: [Parameter; 3] = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCHING: [Parameter; 4] = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const DELETING: [Parameter; 3] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How long the object is given to end by itself."),
    (
        "propagationPolicy",
        "string",
        "What happens to dependents: Orphan, Background or Foreground.",
    ),
];
const LISTING: [Parameter; 9] = [
    ("allowWatchBookmarks", "boolean", "Events of type BOOKMARK are understood."),
    ("continue", "string", "Where the part before this one ended."),
    ("fieldSelector", "string", "Only objects with these fields."),
    ("labelSelector", "string", "Only objects with these labels."),
    ("limit", "integer", "No more objects than this in one answer."),
    ("resourceVersion", "string", "How old the answer may be."),
    ("sendInitialEvents", "boolean", "A watch begins with what is there."),
    ("timeoutSeconds", "integer", "When the answer ends."),
    ("watch", "boolean", "Changes as they happen instead of a list."),
];

/// `api/v1`, `apis/apps/v1`: where a group and version stand.
pub(super) fn root(kind: &GroupVersionKind) -> String {
    let GroupVersionKind { group, version, .. } = kind;
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// All paths of these resources.
pub(super) fn of(served: &[Served]) -> BTreeMap<String, Value> {
    served
        .iter()
        .flat_map(resource)
        .filter(|(_, operations)| operations.as_object().is_some_and(|all| all.len() > 1))
        .collect()
}

fn resource(served: &Served) -> Vec<(String, Value)> {
    let root = format!("/{}", root(&served.kind));
    let collection = if served.namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", served.plural)
    } else {
        format!("{root}/{}", served.plural)
    };
    let named = format!("{collection}/{{name}}");
    let verbs: Vec<&str> = served.verbs.iter().map(String::as_str).collect();
    let mut paths = Vec::new();
    if served.namespaced {
        let everywhere = verbs.iter().copied().filter(|verb| *verb == "list").collect::<Vec<_>>();
        paths.push((
            format!("{root}/{}", served.plural),
            "AllNamespaces",
            everywhere,
            &served.kind,
        ));
    }
    let below = ["list", "create", "deletecollection"];
    let (of_all, of_one): (Vec<&str>, Vec<&str>) =
        verbs.iter().partition(|verb| below.contains(verb));
    paths.push((collection, "", of_all, &served.kind));
    paths.push((named.clone(), "", of_one, &served.kind));
    for subresource in &served.subresources {
        let verbs = subresource.verbs.iter().map(String::as_str).collect();
        paths.push((
            format!("{named}/{}", subresource.name),
            subresource.name.as_str(),
            verbs,
            &subresource.kind,
        ));
    }
    let operations = |(path, suffix, verbs, kind): (String, &str, Vec<&str>, &GroupVersionKind)| {
        let mut all: Map<String, Value> = verbs
            .iter()
            .filter_map(|verb| operation(verb, kind, &format!("{}{suffix}", served.plural)))
            .collect();
        all.insert("parameters".to_owned(), in_path(&path));
        (path, Value::Object(all))
    };
    paths.into_iter().map(operations).collect()
}

/// The method and the operation of a verb; `None` for those without one of their own.
fn operation(verb: &str, kind: &GroupVersionKind, what: &str) -> Option<(String, Value)> {
    let (method, action, parameters, answer): (_, _, &[Parameter], _) = match verb {
        "get" => ("get", "get", &[], name(kind)),
        "list" => ("get", "list", &LISTING, name(&list_of(kind))),
        "create" => ("post", "post", &WRITING, name(kind)),
        "update" => ("put", "put", &WRITING, name(kind)),
        "patch" => ("patch", "patch", &PATCHING, name(kind)),
        "delete" => ("delete", "delete", &DELETING, status()),
        "deletecollection" => ("delete", "deletecollection", &DELETING, status()),
        _ => return None,
    };
    let id: String = format!("{verb}/{}/{}/{what}", kind.group, kind.version)
        .split(['/', '.'])
        .map(capital)
        .collect();
    let mut operation = json!({
        "operationId": id,
        "parameters": parameters.iter().map(query).collect::<Vec<_>>(),
        "responses": { "200": { "description": "OK", "content": content(&["application/json"], &answer) } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind,
    });
    let body = match method {
        "post" | "put" => Some(content(&["*/*"], &name(kind))),
        "patch" => Some(
            patches(kind)
                .iter()
                .map(|patch| ((*patch).to_owned(), json!({ "schema": { "type": "object" } })))
                .collect(),
        ),
        "delete" => Some(content(&["*/*"], "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")),
        _ => None,
    };
    if let Some(body) = body {
        operation["requestBody"] = json!({ "content": body, "required": method != "delete" });
    }
    Some((method.to_owned(), operation))
}

/// The types of patches that a kind takes.
fn patches(kind: &GroupVersionKind) -> &'static [&'static str] {
    let GroupVersionKind { group, version, kind } = kind;
    let built_in = Definitions::kubernetes().kind(group, version, kind).is_some();
    if built_in { &PATCHES } else { &PATCHES[..3] }
}

fn status() -> String {
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status".to_owned()
}

fn content(types: &[&str], definition: &str) -> Map<String, Value> {
    let schema = json!({ "schema": { "$ref": format!("{REFERENCE}{definition}") } });
    types.iter().map(|media| ((*media).to_owned(), schema.clone())).collect()
}

fn query((name, kind, about): &Parameter) -> Value {
    json!({ "name": name, "in": "query", "description": about, "schema": { "type": kind, "uniqueItems": true } })
}

/// The parameters that stand in a path in braces.
fn in_path(path: &str) -> Value {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "uniqueItems": true } });
    names.map(parameter).collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
