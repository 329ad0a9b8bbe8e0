//! `x-kubernetes-validations`: rules as they are written, and compiled along the schema.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::cel::declared::{Declared, Kind, escape};
use super::super::cel::{CompileError, Program, Wanted};
use super::super::re2;
use super::{Schema, declare};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};

/// The reasons that a rule may give.
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// A rule as it is written (`ValidationRule`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_field_names, reason = "it is the name in the schema language")]
pub(super) struct Rule {
    pub rule: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message_expression: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional_old_self: Option<bool>,
}

impl Rule {
    /// The rule in an error message.
    pub fn shown(&self) -> &str {
        let message = self.message.trim();
        if message.is_empty() { self.rule.trim() } else { message }
    }

    /// What is said when it is broken.
    pub fn detail(&self) -> String {
        let message = self.message.trim();
        if message.is_empty() {
            format!("failed rule: {}", self.rule.trim())
        } else {
            message.to_owned()
        }
    }
}

/// The rules of a part of the schema and of what is below it.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pub declared: Declared,
    /// The type in error messages.
    pub kind: Box<str>,
    pub rules: Vec<Compiled>,
    pub fields: BTreeMap<Box<str>, Keeper>,
    pub others: Option<Box<Keeper>>,
    pub items: Option<Box<Keeper>>,
    /// By which fields items before and after a change are the same; `None`: nobody can tell.
    pub keys: Option<Vec<Box<str>>>,
    pub all_of: Vec<Keeper>,
}

/// A rule that can be evaluated.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub written: Rule,
    pub program: Program,
    pub message: Option<Program>,
    /// Where its errors are, below the value.
    pub below: Option<String>,
}

/// Compiles all rules of a schema; `None` if there are none.
pub(super) fn compile(
    schema: &Schema,
    path: &FieldPath,
) -> Result<Option<Keeper>, Vec<FieldError>> {
    let mut found = Found { mistakes: Vec::new(), regexes: re2::TOGETHER };
    let place = Place { path: path.clone(), vague: None };
    let keeper = found.part(schema, schema, declare::part(schema, true).as_ref(), &place);
    if found.mistakes.is_empty() { Ok(keeper) } else { Err(found.mistakes) }
}

/// Where in the schema, and within which list whose items cannot be told apart.
struct Place {
    path: FieldPath,
    vague: Option<FieldPath>,
}

impl Place {
    fn at(&self, path: FieldPath) -> Self {
        Self { path, vague: self.vague.clone() }
    }
}

struct Found {
    mistakes: Vec<FieldError>,
    /// What regular expressions in rules may still take, in bytes.
    regexes: usize,
}

impl Found {
    fn push(&mut self, path: FieldPath, mistake: Mistake, detail: impl Into<String>) {
        self.mistakes.push(FieldError::new(path, mistake, detail));
    }

    fn invalid(&mut self, path: FieldPath, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, Mistake::Invalid(value.into()), detail);
    }

    /// The rules of `schema`, which is the schema `node` of a value or narrows it within `allOf`.
    fn part(
        &mut self,
        schema: &Schema,
        node: &Schema,
        declared: Option<&Declared>,
        place: &Place,
    ) -> Option<Keeper> {
        let Some(declared) = declared else {
            self.unknown(schema, place);
            return None;
        };
        let rules = self.rules(schema, node, declared, place);
        let fields = self.fields(schema, node, declared, place);
        let others = schema.other().zip(node.other()).and_then(|(other, node)| {
            let Kind::Map(declared) = &declared.kind else { return None };
            let place = place.at(place.path.field("additionalProperties"));
            self.part(other, node, Some(declared), &place).map(Box::new)
        });
        let keys = (node.list_type.as_deref() == Some("map")).then(|| node.list_keys.clone());
        let items = schema.item().zip(node.item()).and_then(|(item, node)| {
            let Kind::List(list) = &declared.kind else { return None };
            let vague = keys.is_none().then(|| place.path.clone());
            let vague = place.vague.clone().or(vague);
            let place = Place { path: place.path.field("items"), vague };
            self.part(item, node, Some(&list.item), &place).map(Box::new)
        });
        let all_of: Vec<Keeper> = schema
            .all_of
            .iter()
            .enumerate()
            .filter_map(|(index, narrower)| {
                let place = place.at(place.path.field("allOf").index(index));
                self.part(narrower, node, Some(declared), &place)
            })
            .collect();
        let empty = rules.is_empty()
            && fields.is_empty()
            && others.is_none()
            && items.is_none()
            && all_of.is_empty();
        let kind = node.kind.clone().unwrap_or_default();
        let declared = declared.clone();
        (!empty).then_some(Keeper { declared, kind, rules, fields, others, items, keys, all_of })
    }

    /// Nothing is known of a value, so that nothing can be said of it, either.
    fn unknown(&mut self, schema: &Schema, place: &Place) {
        if !schema.rules.is_empty() {
            let detail = format!(
                "rule declared on schema that does not support validation rules type: '{}' x-kubernetes-preserve-unknown-fields: '{}'",
                schema.kind.as_deref().unwrap_or_default(),
                schema.keeps_unknown()
            );
            self.push(place.path.field("x-kubernetes-validations"), Mistake::Forbidden, detail);
        }
        let below = schema.properties.iter();
        let below = below.map(|(name, field)| (place.path.field("properties").key(name), field));
        let items = schema.item().map(|item| (place.path.field("items"), item));
        let other = schema.other().map(|other| (place.path.field("additionalProperties"), other));
        for (path, part) in below.chain(items).chain(other) {
            self.unknown(part, &place.at(path));
        }
    }

    fn fields(
        &mut self,
        schema: &Schema,
        node: &Schema,
        declared: &Declared,
        place: &Place,
    ) -> BTreeMap<Box<str>, Keeper> {
        let mut found = BTreeMap::new();
        let Kind::Object(object) = &declared.kind else { return found };
        for (name, field) in &schema.properties {
            let Some(node) = node.properties.get(name) else { continue };
            let known = match escape(name) {
                Some(escaped) => object.fields.get(&*escaped).map(|(_, field)| field.clone()),
                // rules of others cannot name it, its own can
                None => declare::part(node, node.embedded_resource),
            };
            let place = place.at(place.path.field("properties").key(name));
            if let Some(keeper) = self.part(field, node, known.as_ref(), &place) {
                found.insert(name.clone(), keeper);
            }
        }
        found
    }

    fn rules(
        &mut self,
        schema: &Schema,
        node: &Schema,
        declared: &Declared,
        place: &Place,
    ) -> Vec<Compiled> {
        let all = schema.rules.iter().enumerate();
        all.filter_map(|(index, rule)| {
            let path = place.path.field("x-kubernetes-validations").index(index);
            let before = self.mistakes.len();
            self.written(rule, &path);
            let below = self.below(rule, node, &path);
            let program = self.program(rule, declared, &path, place.vague.as_ref())?;
            let message = self.message(rule, declared, &path);
            let right = self.mistakes.len() == before;
            right.then(|| Compiled { written: rule.clone(), program, message, below })
        })
        .collect()
    }

    /// What is asked of the words around a rule.
    fn written(&mut self, rule: &Rule, path: &FieldPath) {
        let breaks = |text: &str| text.contains(['\n', '\r']);
        let (trimmed, message) = (rule.rule.trim(), rule.message.trim());
        if trimmed.is_empty() {
            self.push(path.field("rule"), Mistake::Required, "rule is not specified");
        }
        let at = path.field("message");
        if !rule.message.is_empty() && message.is_empty() {
            self.invalid(at, rule.message.clone(), "message must be non-empty if specified");
        } else if breaks(message) {
            self.invalid(at, rule.message.clone(), "message must not contain line breaks");
        } else if breaks(trimmed) && message.is_empty() {
            self.push(
                at,
                Mistake::Required,
                "message must be specified if rule contains line breaks",
            );
        }
        if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
            self.push(
                path.field("messageExpression"),
                Mistake::Required,
                "messageExpression must be non-empty if specified",
            );
        }
        if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            let supported = REASONS.iter().map(ToString::to_string).collect();
            self.push(path.field("reason"), Mistake::NotSupported(json!(reason), supported), "");
        }
    }

    fn program(
        &mut self,
        rule: &Rule,
        declared: &Declared,
        path: &FieldPath,
        vague: Option<&FieldPath>,
    ) -> Option<Program> {
        if rule.rule.trim().is_empty() {
            return None;
        }
        let at = path.field("rule");
        let optional = rule.optional_old_self.unwrap_or_default();
        let program =
            match Program::compile(&rule.rule, declared, optional, Wanted::Bool, &mut self.regexes)
            {
                Ok(program) => program,
                Err(error) => {
                    let detail = match error {
                        CompileError::Type(kind) => {
                            format!("cel expression must evaluate to a {kind}")
                        }
                        error @ CompileError::Wrong(_) => error.to_string(),
                    };
                    self.invalid(at, json!(rule), detail);
                    return None;
                }
            };
        if let Some(vague) = vague.filter(|_| program.uses_old_self) {
            let detail = format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {vague}"
            );
            self.invalid(at, rule.rule.clone(), detail);
        }
        if !program.uses_old_self
            && let Some(optional) = rule.optional_old_self
        {
            let detail = "may not be set if oldSelf is not used in rule";
            self.invalid(path.field("optionalOldSelf"), optional, detail);
        }
        Some(program)
    }

    fn message(&mut self, rule: &Rule, declared: &Declared, path: &FieldPath) -> Option<Program> {
        let text = &rule.message_expression;
        if text.trim().is_empty() {
            return None;
        }
        let optional = rule.optional_old_self.unwrap_or_default();
        match Program::compile(text, declared, optional, Wanted::String, &mut self.regexes) {
            Ok(program) => Some(program),
            Err(error) => {
                let detail = format!("messageExpression {error}");
                self.invalid(path.field("messageExpression"), json!(rule), detail);
                None
            }
        }
    }

    /// The path of a rule's errors below its value.
    fn below(&mut self, rule: &Rule, node: &Schema, path: &FieldPath) -> Option<String> {
        let written = &rule.field_path;
        if written.is_empty() {
            return None;
        }
        let wrong = if written.trim().is_empty() {
            "fieldPath must be non-empty if specified".to_owned()
        } else if written.contains(['\n', '\r']) {
            "fieldPath must not contain line breaks".to_owned()
        } else {
            match follow(written, node) {
                Ok(path) => return Some(path.to_string()),
                Err(error) => format!("fieldPath must be a valid path: {error}"),
            }
        };
        self.invalid(path.field("fieldPath"), written.clone(), wrong);
        None
    }
}

/// Follows a path of fields (`.a.b['c']`) through a schema.
fn follow(path: &str, mut node: &Schema) -> Result<FieldPath, String> {
    let mut found = FieldPath::default();
    let mut rest = path;
    while !rest.is_empty() {
        let name: String;
        if let Some(after) = rest.strip_prefix("['") {
            let Some((quoted, after)) = quoted(after) else {
                return Err("unexpected end of JSON path".to_owned());
            };
            let Some(after) = after.strip_prefix(']') else {
                return Err("expected ] after a quoted name".to_owned());
            };
            (name, rest) = (quoted, after);
        } else if rest.starts_with('[') {
            return Err("expected single quoted string".to_owned());
        } else if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            if end == 0 {
                return Err("unexpected end of JSON path".to_owned());
            }
            (name, rest) = (after[..end].to_owned(), &after[end..]);
        } else {
            let got = rest.split(['.', '[', ']']).next().unwrap_or_default();
            return Err(format!("expected [ or . but got: {got}"));
        }
        if let Some(field) = node.properties.get(name.as_str()) {
            (found, node) = (found.field(&name), field);
        } else if let Some(other) = node.other().filter(|_| node.properties.is_empty()) {
            (found, node) = (found.key(&name), other);
        } else {
            return Err("does not refer to a valid field".to_owned());
        }
    }
    Ok(found)
}

/// A name up to its closing quote, with what a backslash hides.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut signs = text.char_indices();
    while let Some((at, sign)) = signs.next() {
        match sign {
            '\'' => return Some((name, &text[at + 1..])),
            '\\' => name.push(signs.next()?.1),
            sign => name.push(sign),
        }
    }
    None
}
