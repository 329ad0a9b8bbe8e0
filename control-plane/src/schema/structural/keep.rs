//! Whether objects keep the rules of their schema.

use serde_json::{Map, Value};
use tracing::debug;

use super::super::cel::{Budget, Fault, Subject};
use super::before::Before;
use super::rules::{Compiled, Keeper};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::go_value::GoType;

/// The steps for all rules of an object together.
const OBJECT_STEPS: u64 = 10_000_000;
/// The steps for one rule at one value.
const RULE_STEPS: u64 = 1_000_000;
/// The longest message that an expression may make, in bytes.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// The rules that an object breaks.
pub(super) fn object(rules: &Keeper, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut found = Found { mistakes: Vec::new(), left: OBJECT_STEPS };
    // that nothing more is looked at is one of the mistakes
    let _ = found.value(rules, object, old, &FieldPath::default());
    found.mistakes
}

/// The budget is gone: nothing more is evaluated.
struct Spent;

/// A value as it is and was, and where.
struct At<'a> {
    value: &'a Value,
    old: Option<&'a Value>,
    path: &'a FieldPath,
}

struct Found {
    mistakes: Vec<FieldError>,
    left: u64,
}

impl Found {
    fn push(&mut self, path: &FieldPath, mistake: Mistake, detail: String) -> Result<(), Spent> {
        // messages are long and values many: together they are not to be more than the memory there is
        let size = detail.len() + path.to_string().len();
        self.mistakes.push(FieldError::new(path.clone(), mistake, detail).of(&GoType::Any));
        self.left = self.left.saturating_sub(size as u64);
        if self.left == 0 { Err(Spent) } else { Ok(()) }
    }

    fn value(
        &mut self,
        keeper: &Keeper,
        value: &Value,
        old: Option<&Value>,
        path: &FieldPath,
    ) -> Result<(), Spent> {
        // what must be said of null is said by the rules around it
        if value.is_null() {
            return Ok(());
        }
        let at = At { value, old: old.filter(|old| !old.is_null()), path };
        let old = at.old;
        if !keeper.rules.is_empty() {
            // one comparison for all rules: values may be large
            let stays = old == Some(value);
            for rule in &keeper.rules {
                self.rule(keeper, rule, &at, stays)?;
            }
        }
        for narrower in &keeper.all_of {
            self.value(narrower, value, old, path)?;
        }
        match value {
            Value::Object(fields) => self.fields(keeper, fields, old, path),
            Value::Array(items) => self.items(keeper, items, old, path),
            _ => Ok(()),
        }
    }

    fn fields(
        &mut self,
        keeper: &Keeper,
        fields: &Map<String, Value>,
        old: Option<&Value>,
        path: &FieldPath,
    ) -> Result<(), Spent> {
        for (name, value) in fields {
            let old = old.and_then(|old| old.get(name));
            if let Some(field) = keeper.fields.get(name.as_str()) {
                self.value(field, value, old, &path.field(name))?;
            } else if let Some(other) = &keeper.others {
                self.value(other, value, old, &path.key(name))?;
            }
        }
        Ok(())
    }

    fn items(
        &mut self,
        keeper: &Keeper,
        items: &[Value],
        old: Option<&Value>,
        path: &FieldPath,
    ) -> Result<(), Spent> {
        let Some(item) = &keeper.items else { return Ok(()) };
        let before = Before::new(keeper.keys.as_deref(), old);
        for (index, value) in items.iter().enumerate() {
            self.value(item, value, before.of(value), &path.index(index))?;
        }
        Ok(())
    }

    fn rule(
        &mut self,
        keeper: &Keeper,
        rule: &Compiled,
        &At { value, old, path }: &At<'_>,
        stays: bool,
    ) -> Result<(), Spent> {
        let optional_old = rule.written.optional_old_self.unwrap_or_default();
        if rule.program.uses_old_self && old.is_none() && !optional_old {
            return Ok(());
        }
        // a value that stays as it is may break a rule that is newer than it
        if !rule.program.uses_old_self && stays {
            return Ok(());
        }
        let subject = Subject { declared: &keeper.declared, value, old, optional_old };
        let kind = || Mistake::Invalid(Value::from(&*keeper.kind));
        let shown = rule.written.shown();
        let (holds, last) = self.within(|budget| rule.program.holds(subject, budget));
        match holds {
            Ok(true) => Ok(()),
            Ok(false) => {
                let detail = self.detail(rule, subject);
                let path =
                    rule.below.as_ref().map_or_else(|| path.clone(), |below| path.field(below));
                let value = Value::from(&*keeper.kind);
                match rule.written.reason.as_deref() {
                    Some("FieldValueForbidden") => self.push(&path, Mistake::Forbidden, detail),
                    Some("FieldValueRequired") => self.push(&path, Mistake::Required, detail),
                    // a duplicate is told of without a message
                    Some("FieldValueDuplicate") => {
                        self.push(&path, Mistake::Duplicate(value), String::new())
                    }
                    _ => self.push(&path, Mistake::Invalid(value), detail),
                }
            }
            Err(Fault::Cost) if last => {
                let detail = "validation failed due to running out of cost budget, no further validation rules will be run";
                let _ = self.push(path, kind(), detail.to_owned());
                Err(Spent)
            }
            Err(Fault::Cost) => {
                let detail = format!(
                    "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                );
                let _ = self.push(path, kind(), detail);
                Err(Spent)
            }
            Err(Fault::Error(error)) if error.starts_with("no such overload") => {
                let detail = format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
                );
                self.push(path, kind(), detail)
            }
            Err(Fault::Error(error)) => {
                self.push(path, kind(), format!("{error} evaluating rule: {shown}"))
            }
        }
    }

    /// Evaluates within what is left; and whether that is less than a rule may take.
    fn within<T>(&mut self, evaluate: impl FnOnce(&Budget) -> T) -> (T, bool) {
        let given = RULE_STEPS.min(self.left);
        let budget = Budget::new(given);
        let result = evaluate(&budget);
        self.left -= given - budget.left();
        (result, given < RULE_STEPS)
    }

    /// What is said of a broken rule: what its expression makes, if that is a message, else what is written.
    fn detail(&mut self, rule: &Compiled, subject: Subject<'_>) -> String {
        let Some(program) = &rule.message else { return rule.written.detail() };
        if program.uses_old_self && subject.old.is_none() && !subject.optional_old {
            return rule.written.detail();
        }
        let (made, _) = self.within(|budget| program.message(subject, budget));
        match made {
            Ok(text) => {
                let text = text.trim();
                if text.is_empty() || text.contains('\n') || text.len() > LONGEST_MESSAGE {
                    debug!(rule = rule.written.rule, "the message of a rule is empty or too long");
                    return rule.written.detail();
                }
                text.to_owned()
            }
            Err(fault) => {
                debug!(rule = rule.written.rule, ?fault, "the message of a rule has an error");
                rule.written.detail()
            }
        }
    }
}
