//! What the rules of a schema can cost at most, and whether that is too much. Kubernetes asks it when a definition is written, with the same
//! limits and words.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#resource-use-by-validation-functions>

use super::super::cel::cost::Bounds;
use super::super::cel::declared::escape;
use super::bounds::{self, REQUEST};
use super::rules::Keeper;
use super::{Schema, Structural};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};

/// What an expression may cost for all values of an object together.
const RULE_LIMIT: u64 = 10_000_000;
/// What all of them may cost.
const TOTAL_LIMIT: u64 = 100_000_000;
/// How many of the dearest are named when the total is too much.
const NAMED: usize = 4;

impl Structural {
    /// The rules that can cost too much. `path` is where the schema stands in its definition.
    pub fn costs(&self, path: &FieldPath) -> Vec<FieldError> {
        let mut bill = Bill::default();
        if let Some(rules) = &self.rules {
            let bounds = bounds::part(&self.schema, true).unwrap_or_default();
            bill.part(rules, &self.schema, &bounds, path, Some(1));
        }
        bill.close(path)
    }
}

#[derive(Default)]
struct Bill {
    mistakes: Vec<FieldError>,
    total: u64,
    dear: Vec<(u64, FieldPath)>,
}

impl Bill {
    /// The rules of a part and of what is below it. Those within `allOf` are not counted, as they are not in Kubernetes.
    ///
    /// `times`: how many such values an object may have by the limits of the lists and maps around them; `None`: one of those has none.
    fn part(
        &mut self,
        keeper: &Keeper,
        schema: &Schema,
        bounds: &Bounds,
        path: &FieldPath,
        times: Option<u64>,
    ) {
        let all = times.unwrap_or(REQUEST / (bounds.least_bytes + 1));
        for (index, rule) in keeper.rules.iter().enumerate() {
            let at = path.field("x-kubernetes-validations").index(index);
            let cost = rule.program.cost(bounds).saturating_mul(all);
            self.add("estimated rule cost", cost, at.field("rule"));
            if let Some(message) = &rule.message {
                let cost = message.cost(bounds);
                self.add("estimated messageExpression cost", cost, at.field("messageExpression"));
            }
        }
        for (name, keeper) in &keeper.fields {
            let Some(field) = schema.properties.get(name) else { continue };
            let own;
            let bounds = if let Some(escaped) = escape(name) {
                bounds.fields.get(&*escaped)
            } else {
                // rules of others cannot name it, its own can
                own = bounds::part(field, field.embedded_resource);
                own.as_ref()
            };
            let Some(bounds) = bounds else { continue };
            let path = path.field("properties").key(name);
            self.part(keeper, field, bounds, &path, times);
        }
        let within = |most: Option<u64>| Some(times?.saturating_mul(most?));
        if let (Some(keeper), Some(other), Some(items)) =
            (&keeper.others, schema.other(), &bounds.items)
        {
            let path = path.field("additionalProperties");
            self.part(keeper, other, items, &path, within(schema.max_properties));
        }
        if let (Some(keeper), Some(item), Some(items)) =
            (&keeper.items, schema.item(), &bounds.items)
        {
            self.part(keeper, item, items, &path.field("items"), within(schema.max_items));
        }
    }

    fn add(&mut self, what: &str, cost: u64, at: FieldPath) {
        self.total = self.total.saturating_add(cost);
        if cost > RULE_LIMIT {
            self.refuse(at.clone(), exceeded(what, cost, RULE_LIMIT));
        }
        if cost >= TOTAL_LIMIT / 100 {
            self.dear.push((cost, at));
        }
    }

    fn refuse(&mut self, at: FieldPath, why: String) {
        self.mistakes.push(FieldError::new(at, Mistake::Forbidden, why));
    }

    fn close(mut self, path: &FieldPath) -> Vec<FieldError> {
        if self.total > TOTAL_LIMIT {
            let mut dear = std::mem::take(&mut self.dear);
            dear.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            for (_, at) in dear.into_iter().take(NAMED) {
                let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
                self.refuse(at, why.to_owned());
            }
            let what =
                "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
            self.refuse(path.clone(), exceeded(what, self.total, TOTAL_LIMIT));
        }
        self.mistakes
    }
}

/// How far a limit is exceeded. So small a factor that it would be shown as 1.0 has more digits.
fn exceeded(what: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with a digit or two")]
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
