//! Whether an expression can have a value: names are known, and functions take what they are given.

use super::Problem;
use super::functions::{regex, time};
use super::signatures;
use super::syntax::{Bind, Call, Class, Expr, Literal, Loop, LoopKind, Node, Select};
use super::types::{self, Bound, Type, fits};

type Checked = Result<Type, Problem>;

/// The variables there are.
pub(super) struct Checker<'a> {
    pub scope: Vec<(Box<str>, Type)>,
    /// What regular expressions that are written out may still take, in bytes.
    pub regexes: &'a mut usize,
}

impl Checker<'_> {
    /// The type of an expression. Names of types and of qualified functions are told from variables and fields here.
    pub fn check(&mut self, expr: &mut Expr) -> Checked {
        let found = self.type_of(expr)?;
        expr.class = Class::of(&found);
        Ok(found)
    }

    fn type_of(&mut self, expr: &mut Expr) -> Checked {
        let at = expr.at;
        if let Some(name) = self.type_name(expr) {
            expr.node = Node::TypeName(name);
        }
        match &mut expr.node {
            Node::Literal(literal) => Ok(match literal {
                Literal::Null => Type::Null,
                Literal::Bool(_) => Type::Bool,
                Literal::Int(_) => Type::Int,
                Literal::Uint(_) => Type::Uint,
                Literal::Double(_) => Type::Double,
                Literal::String(_) => Type::String,
                Literal::Bytes(_) => Type::Bytes,
            }),
            Node::TypeName(_) => Ok(Type::Kind),
            Node::Name(name) => match self.variable(name) {
                Some(found) => Ok(found.clone()),
                None => problem(at, format!("undeclared reference to '{name}' (in container '')")),
            },
            Node::Select(select) => self.select(select, at),
            Node::Has(select) => self.select(select, at).map(|_| Type::Bool),
            Node::Call(call) => self.call(call, at),
            Node::And(all) | Node::Or(all) => {
                for one in all {
                    self.expect(one, &Type::Bool)?;
                }
                Ok(Type::Bool)
            }
            Node::If(parts) => {
                let [condition, then, other] = &mut **parts;
                self.expect(condition, &Type::Bool)?;
                let (then, other) = (self.check(then)?, self.check(other)?);
                join(&then, &other).map_or_else(
                    || no_overload(at, "_?_:_", &[Type::Bool, then.clone(), other.clone()]),
                    Ok,
                )
            }
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Loop(each) => self.each(each),
            Node::Bind(bind) => self.bind(bind),
        }
    }

    fn variable(&self, wanted: &str) -> Option<&Type> {
        let found = self.scope.iter().rev().find(|(name, _)| **name == *wanted);
        found.map(|(_, found)| found)
    }

    /// A name, or names with dots, that stand for a type.
    fn type_name(&self, expr: &Expr) -> Option<&'static str> {
        let name = expr.qualified()?;
        let first = name.split('.').next().unwrap_or_default();
        if self.variable(first).is_some() { None } else { types::named(&name) }
    }

    fn expect(&mut self, expr: &mut Expr, wanted: &Type) -> Result<(), Problem> {
        let found = self.check(expr)?;
        if fits(wanted, &found) {
            return Ok(());
        }
        problem(expr.at, format!("expected type '{wanted}' but found '{found}'"))
    }

    fn select(&mut self, select: &mut Select, at: usize) -> Checked {
        let of = self.check(&mut select.of)?;
        let (of, optional) = match of {
            Type::Optional(of) => ((*of).clone(), true),
            of => (of, select.optional),
        };
        let found = match &of {
            Type::Dyn => Type::Dyn,
            Type::Map(_, value) => (**value).clone(),
            Type::Object(object) => match object.fields.get(&*select.field) {
                Some((_, declared)) => declared.type_of(),
                None => return problem(at, format!("undefined field '{}'", select.field)),
            },
            other => {
                return problem(at, format!("type '{other}' does not support field selection"));
            }
        };
        Ok(if optional { Type::optional(found) } else { found })
    }

    /// `optional.of(x)` looks like a method of a variable.
    fn qualify(&self, call: &mut Call) {
        if !call.method {
            return;
        }
        let Some(receiver) = call.args.first().and_then(Expr::qualified) else { return };
        let name = format!("{receiver}.{}", call.name);
        if self.variable(&receiver).is_none() && !signatures::of(&name).is_empty() {
            call.name = name.into();
            call.method = false;
            call.args.remove(0);
        }
    }

    fn call(&mut self, call: &mut Call, at: usize) -> Checked {
        self.qualify(call);
        let ways = signatures::of(&call.name);
        if ways.is_empty() {
            return problem(
                at,
                format!("undeclared reference to '{}' (in container '')", call.name),
            );
        }
        let mut found = Vec::with_capacity(call.args.len());
        for (index, arg) in call.args.iter_mut().enumerate() {
            found.push(match &mut arg.node {
                // what is filled into a text is of any type
                Node::List(items) if &*call.name == "format" && index == 1 => {
                    for (optional, item) in items {
                        self.part(*optional, item)?;
                    }
                    Type::list(Type::Dyn)
                }
                _ => self.check(arg)?,
            });
        }
        literals(call, self.regexes)?;
        let mut result: Option<Type> = None;
        for way in ways.iter().filter(|way| way.method == call.method) {
            let mut bound = Bound::default();
            let takes = way.args.len() == found.len()
                && way.args.iter().zip(&found).all(|(wanted, found)| bound.takes(wanted, found));
            if takes {
                let given = bound.fill(&way.result);
                result = match result {
                    Some(other) if !same(&other, &given) => Some(Type::Dyn),
                    _ => Some(given),
                };
            }
        }
        match result {
            Some(result) => orderable(call, &found, at).map(|()| result),
            None => no_overload_of(at, call, &found),
        }
    }

    /// The type that all parts of a literal have.
    fn alike(known: Option<Type>, found: Type, at: usize) -> Checked {
        match known {
            None => Ok(found),
            Some(known) => match join(&known, &found) {
                Some(joined) => Ok(joined),
                None => problem(at, format!("expected type '{known}' but found '{found}'")),
            },
        }
    }

    fn part(&mut self, optional: bool, expr: &mut Expr) -> Checked {
        match (self.check(expr)?, optional) {
            (Type::Optional(of), true) => Ok((*of).clone()),
            (Type::Dyn, true) => Ok(Type::Dyn),
            (found, true) => {
                problem(expr.at, format!("expected type 'optional_type(dyn)' but found '{found}'"))
            }
            (found, false) => Ok(found),
        }
    }

    fn list(&mut self, items: &mut [(bool, Expr)]) -> Checked {
        let mut of = None;
        for (optional, item) in items {
            let found = self.part(*optional, item)?;
            of = Some(Self::alike(of, found, item.at)?);
        }
        Ok(Type::list(of.unwrap_or(Type::Dyn)))
    }

    fn map(&mut self, entries: &mut [(bool, Expr, Expr)]) -> Checked {
        let (mut keys, mut values) = (None, None);
        for (optional, key, value) in entries {
            let found = self.check(key)?;
            let allowed = [Type::Int, Type::Uint, Type::Bool, Type::String];
            if !allowed.iter().any(|allowed| fits(allowed, &found)) {
                return problem(key.at, format!("unsupported key type: {found}"));
            }
            keys = Some(Self::alike(keys, found, key.at)?);
            let found = self.part(*optional, value)?;
            values = Some(Self::alike(values, found, value.at)?);
        }
        Ok(Type::map(keys.unwrap_or(Type::Dyn), values.unwrap_or(Type::Dyn)))
    }

    fn with<T>(
        &mut self,
        name: &str,
        of: Type,
        check: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.scope.push((name.into(), of));
        let checked = check(self);
        self.scope.pop();
        checked
    }

    fn each(&mut self, each: &mut Loop) -> Checked {
        let item = match self.check(&mut each.over)? {
            Type::List(item) => (*item).clone(),
            Type::Map(key, _) => (*key).clone(),
            Type::Dyn => Type::Dyn,
            other => {
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                return problem(each.over.at, text);
            }
        };
        let Loop { kind, name, only, body, .. } = each;
        self.with(name, item.clone(), |checker| {
            if let Some(only) = only {
                checker.expect(only, &Type::Bool)?;
            }
            match kind {
                LoopKind::Map => checker.check(body).map(Type::list),
                LoopKind::Filter => checker.expect(body, &Type::Bool).map(|()| Type::list(item)),
                _ => checker.expect(body, &Type::Bool).map(|()| Type::Bool),
            }
        })
    }

    fn bind(&mut self, bind: &mut Bind) -> Checked {
        let of = match self.check(&mut bind.of)? {
            Type::Optional(of) => (*of).clone(),
            Type::Dyn => Type::Dyn,
            other => {
                let name = if bind.flat { "optFlatMap" } else { "optMap" };
                return no_overload(bind.of.at, name, &[other]);
            }
        };
        let Bind { name, body, flat, .. } = bind;
        let found = self.with(name, of, |checker| checker.check(body))?;
        match (&*flat, found) {
            (false, found) => Ok(Type::optional(found)),
            (true, found @ (Type::Optional(_) | Type::Dyn)) => Ok(found),
            (true, other) => {
                problem(body.at, format!("expected type 'optional_type(dyn)' but found '{other}'"))
            }
        }
    }
}

/// Arguments written out that the function would refuse whenever it is called.
fn literals(call: &mut Call, left: &mut usize) -> Result<(), Problem> {
    let invalid = |at: usize, what: &str| problem(at, format!("invalid {what} argument"));
    let Some(last) = call.args.last() else { return Ok(()) };
    let Some(text) = last.as_text() else { return Ok(()) };
    match (&*call.name, call.args.len()) {
        ("matches" | "find", 2) => match regex::compile(text, left) {
            Ok(compiled) if &*call.name == "matches" => call.regex = Some(Box::new(compiled)),
            Ok(_) => {}
            Err(error) => return problem(last.at, format!("invalid matches argument: {error}")),
        },
        ("duration", 1) if time::duration(text).is_none() => return invalid(last.at, "duration"),
        ("timestamp", 1) if time::timestamp(text).is_none() => {
            return invalid(last.at, "timestamp");
        }
        _ => {}
    }
    Ok(())
}

/// `min`, `max` and `isSorted` are for values with an order.
fn orderable(call: &Call, found: &[Type], at: usize) -> Result<(), Problem> {
    match (&*call.name, found) {
        ("min" | "max" | "isSorted", [Type::List(item)]) if !item.is_dyn() && !ordered(item) => {
            no_overload_of(at, call, found).map(drop)
        }
        _ => Ok(()),
    }
}

fn ordered(of: &Type) -> bool {
    matches!(
        of,
        Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::String
            | Type::Bytes
            | Type::Duration
            | Type::Timestamp
    )
}

fn same(one: &Type, other: &Type) -> bool {
    one.is_dyn() == other.is_dyn() && fits(one, other) && fits(other, one)
}

/// The type of a value that has one of these.
fn join(one: &Type, other: &Type) -> Option<Type> {
    if one.is_dyn() || fits(one, other) {
        Some(one.clone())
    } else {
        fits(other, one).then(|| other.clone())
    }
}

fn problem<T>(at: usize, text: String) -> Result<T, Problem> {
    Err(Problem { at, text })
}

fn no_overload(at: usize, name: &str, found: &[Type]) -> Checked {
    let types: Vec<String> = found.iter().map(ToString::to_string).collect();
    let types = types.join(", ");
    problem(at, format!("found no matching overload for '{name}' applied to '({types})'"))
}

fn no_overload_of(at: usize, call: &Call, found: &[Type]) -> Checked {
    match found.split_first() {
        Some((receiver, rest)) if call.method => {
            let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
            let types = format!("{receiver}.({})", rest.join(", "));
            problem(
                at,
                format!("found no matching overload for '{}' applied to '{types}'", call.name),
            )
        }
        _ => no_overload(at, &call.name, found),
    }
}
