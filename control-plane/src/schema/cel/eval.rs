//! Evaluation.

use std::rc::Rc;

use super::budget::{Budget, Fault};
use super::declared::Topology;
use super::equal::{compare, equal, identity};
use super::functions;
use super::functions::convert::brief;
use super::syntax::{Bind, Call, Expr, Loop, LoopKind, Node, Select};
use super::value::{List, Map, Number, Result, Val};

/// What evaluates: the variables there are, and what may still be spent.
pub(super) struct Machine<'a, 'b> {
    pub scope: Vec<(&'a str, Val<'a>)>,
    pub budget: &'b Budget,
}

impl<'a> Machine<'a, '_> {
    /// The value of an expression that was checked.
    pub fn eval(&mut self, expr: &'a Expr) -> Result<Val<'a>> {
        self.budget.spend(1)?;
        match &expr.node {
            Node::Literal(literal) => Ok(Val::of_literal(literal)),
            Node::TypeName(name) => Ok(Val::Type(name)),
            Node::Name(name) => self.variable(name),
            Node::Select(select) => self.select(select),
            Node::Has(select) => self.has(select),
            Node::Call(call) => self.call(call),
            Node::And(all) => self.junction(all, false),
            Node::Or(all) => self.junction(all, true),
            Node::If(parts) => {
                let holds = truth(&self.eval(&parts[0])?)?;
                self.eval(if holds { &parts[1] } else { &parts[2] })
            }
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Loop(each) => self.each(each),
            Node::Bind(bind) => self.bind(bind),
        }
    }

    fn variable(&self, wanted: &str) -> Result<Val<'a>> {
        let found = self.scope.iter().rev().find(|(name, _)| *name == wanted);
        found.map_or_else(
            || Fault::error(format!("no such attribute: {wanted}")),
            |(_, value)| Ok(value.clone()),
        )
    }

    fn select(&mut self, select: &'a Select) -> Result<Val<'a>> {
        let of = self.eval(&select.of)?;
        let key = Val::text(&select.field);
        match of {
            Val::Optional(None) => Ok(Val::Optional(None)),
            Val::Optional(Some(of)) => found(self.field(&of, &key)?),
            of if select.optional => found(self.field(&of, &key)?),
            of => self.field(&of, &key)?.unwrap_or_else(|| no_key(&key)),
        }
    }

    /// The field of a map, if it is there.
    fn field(&self, of: &Val<'a>, key: &Val<'a>) -> Result<Option<Result<Val<'a>>>> {
        let Val::Map(map) = of else { return Err(Fault::no_overload()) };
        self.lookup(map)?;
        let found = map.get(key);
        if let Some(Ok(value @ Val::Bytes(_))) = &found {
            self.budget.text(value.bytes())?;
        }
        Ok(found)
    }

    fn has(&mut self, select: &'a Select) -> Result<Val<'a>> {
        let of = self.eval(&select.of)?;
        let key = Val::text(&select.field);
        let there = match &of {
            Val::Optional(None) => false,
            Val::Optional(Some(of)) => self.field(of, &key)?.is_some(),
            of => self.field(of, &key)?.is_some(),
        };
        Ok(Val::Bool(there))
    }

    fn call(&mut self, call: &'a Call) -> Result<Val<'a>> {
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.eval(arg)?);
        }
        if let (Some(regex), [Val::String(text), ..]) = (&call.regex, args.as_slice()) {
            self.budget.spend(functions::regex::cost(regex.1, text))?;
            return Ok(Val::Bool(regex.0.is_match(text)));
        }
        let result = match (&*call.name, args.as_slice()) {
            ("_==_", [one, other]) => Val::Bool(equal(one, other, self.budget)?),
            ("_!=_", [one, other]) => Val::Bool(!equal(one, other, self.budget)?),
            ("_<_", [one, other]) => self.ordered(one, other, std::cmp::Ordering::is_lt)?,
            ("_<=_", [one, other]) => self.ordered(one, other, std::cmp::Ordering::is_le)?,
            ("_>_", [one, other]) => self.ordered(one, other, std::cmp::Ordering::is_gt)?,
            ("_>=_", [one, other]) => self.ordered(one, other, std::cmp::Ordering::is_ge)?,
            ("@in", [one, within]) => self.within(one, within)?,
            ("_+_", [Val::List(one), Val::List(other)]) => self.concat(one, other)?,
            ("_[_]", [of, key]) => self.index(of, key, false)?,
            ("_[?_]", [of, key]) => self.index(of, key, true)?,
            (name, args) => return functions::call(name, args, self.budget),
        };
        Ok(result)
    }

    fn ordered(
        &self,
        one: &Val<'a>,
        other: &Val<'a>,
        is: fn(std::cmp::Ordering) -> bool,
    ) -> Result<Val<'a>> {
        Ok(Val::Bool(compare(one, other, self.budget)?.is_some_and(is)))
    }

    fn within(&self, one: &Val<'a>, within: &Val<'a>) -> Result<Val<'a>> {
        match within {
            Val::List(list) => {
                for item in list.iter() {
                    if equal(one, &item?, self.budget)? {
                        return Ok(Val::Bool(true));
                    }
                }
                Ok(Val::Bool(false))
            }
            Val::Map(map) => {
                self.lookup(map)?;
                Ok(Val::Bool(map.get(one).is_some()))
            }
            _ => Err(Fault::no_overload()),
        }
    }

    fn lookup(&self, map: &Map<'a>) -> Result<()> {
        self.budget.items(if matches!(map, Map::Made(_)) { map.len() } else { 1 })
    }

    fn index(&self, of: &Val<'a>, key: &Val<'a>, optional: bool) -> Result<Val<'a>> {
        let (value, missing) = match of {
            Val::Optional(None) => return Ok(Val::Optional(None)),
            Val::Optional(Some(of)) => return self.index(of, key, true),
            Val::List(list) => {
                let index = match key.as_number() {
                    Some(Number::Whole(index)) => usize::try_from(index).ok(),
                    Some(_) => None,
                    None => return Err(Fault::no_overload()),
                };
                (index.and_then(|index| list.get(index)), "index out of bounds: ")
            }
            Val::Map(map) => {
                self.lookup(map)?;
                (map.get(key), "no such key: ")
            }
            _ => return Err(Fault::no_overload()),
        };
        if let Some(Ok(value @ Val::Bytes(_))) = &value {
            self.budget.text(value.bytes())?;
        }
        match value {
            value if optional => found(value),
            Some(value) => value,
            None => Fault::error(format!("{missing}{}", brief(key))),
        }
    }

    /// Sets and lists with keys are united, others put one behind the other.
    fn concat(&self, one: &List<'a>, other: &List<'a>) -> Result<Val<'a>> {
        self.budget.items(one.len() + other.len())?;
        let mut items = one.to_vec()?;
        if *one.topology == Topology::Atomic {
            items.extend(other.to_vec()?);
            return Ok(Val::list(items));
        }
        let mut known = std::collections::BTreeMap::new();
        for (at, item) in items.iter().enumerate() {
            known.insert(identity(item, one.topology, self.budget)?, at);
        }
        for item in other.to_vec()? {
            let next = items.len();
            let at = *known.entry(identity(&item, one.topology, self.budget)?).or_insert(next);
            if at == next {
                items.push(item);
            } else if matches!(one.topology, Topology::Map(_)) {
                items[at] = item;
            }
        }
        Ok(Val::List(List::with(items, one.topology)))
    }

    /// `&&` and `||`: an operand that decides does so whatever errors the others have.
    fn junction(&mut self, all: &'a [Expr], decides: bool) -> Result<Val<'a>> {
        let mut fault = None;
        for one in all {
            match self.eval(one).and_then(|value| truth(&value)) {
                Ok(value) if value == decides => return Ok(Val::Bool(decides)),
                Ok(_) => {}
                Err(Fault::Cost) => return Err(Fault::Cost),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        fault.map_or(Ok(Val::Bool(!decides)), Err)
    }

    fn list(&mut self, items: &'a [(bool, Expr)]) -> Result<Val<'a>> {
        let mut made = Vec::with_capacity(items.len());
        for (optional, item) in items {
            match (self.eval(item)?, optional) {
                (Val::Optional(None), true) => {}
                (Val::Optional(Some(item)), true) => made.push((*item).clone()),
                (item, _) => made.push(item),
            }
        }
        Ok(Val::list(made))
    }

    fn map(&mut self, entries: &'a [(bool, Expr, Expr)]) -> Result<Val<'a>> {
        let mut made: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
        for (optional, key, value) in entries {
            let key = self.eval(key)?;
            self.budget.items(made.len())?;
            if made.iter().any(|(known, _)| known.same_key(&key)) {
                return Fault::error(format!("Failed with repeated key: {}", brief(&key)));
            }
            match (self.eval(value)?, optional) {
                (Val::Optional(None), true) => {}
                (Val::Optional(Some(value)), true) => made.push((key, (*value).clone())),
                (value, _) => made.push((key, value)),
            }
        }
        Ok(Val::Map(Map::Made(Rc::new(made))))
    }

    /// An expression with a variable more.
    fn with(&mut self, name: &'a str, value: Val<'a>, expr: &'a Expr) -> Result<Val<'a>> {
        self.scope.push((name, value));
        let result = self.eval(expr);
        // also when there is an error: an `||` around may go on
        self.scope.pop();
        result
    }

    fn each(&mut self, each: &'a Loop) -> Result<Val<'a>> {
        let over = match self.eval(&each.over)? {
            Val::List(list) => list,
            Val::Map(map) => {
                self.budget.items(map.len())?;
                List::of(map.keys())
            }
            _ => return Err(Fault::no_overload()),
        };
        let (mut made, mut fault, mut count) = (Vec::new(), None, 0_usize);
        for item in over.iter() {
            let item = item?;
            if let Val::Bytes(bytes) = &item {
                self.budget.text(bytes.len())?;
            }
            if let Some(only) = &each.only
                && !truth(&self.with(&each.name, item.clone(), only)?)?
            {
                continue;
            }
            let value = self.with(&each.name, item.clone(), &each.body);
            match each.kind {
                LoopKind::Map => made.push(value?),
                LoopKind::Filter => {
                    if truth(&value?)? {
                        made.push(item);
                    }
                }
                LoopKind::ExistsOne => count += usize::from(truth(&value?)?),
                LoopKind::All | LoopKind::Exists => {
                    let decides = each.kind == LoopKind::Exists;
                    match value.and_then(|value| truth(&value)) {
                        Ok(value) if value == decides => return Ok(Val::Bool(decides)),
                        Ok(_) => {}
                        Err(Fault::Cost) => return Err(Fault::Cost),
                        Err(error) => fault = fault.or(Some(error)),
                    }
                }
            }
        }
        match (each.kind, fault) {
            (_, Some(fault)) => Err(fault),
            (LoopKind::Map | LoopKind::Filter, None) => Ok(Val::list(made)),
            (LoopKind::ExistsOne, None) => Ok(Val::Bool(count == 1)),
            (kind, None) => Ok(Val::Bool(kind == LoopKind::All)),
        }
    }

    fn bind(&mut self, bind: &'a Bind) -> Result<Val<'a>> {
        let value = match self.eval(&bind.of)? {
            Val::Optional(Some(value)) => (*value).clone(),
            Val::Optional(None) => return Ok(Val::Optional(None)),
            _ => return Err(Fault::no_overload()),
        };
        let result = self.with(&bind.name, value, &bind.body)?;
        Ok(if bind.flat { result } else { Val::some(result) })
    }
}

fn truth(value: &Val<'_>) -> Result<bool> {
    match value {
        Val::Bool(value) => Ok(*value),
        _ => Err(Fault::no_overload()),
    }
}

fn no_key<'a>(key: &Val<'a>) -> Result<Val<'a>> {
    Fault::error(format!("no such key: {}", brief(key)))
}

/// What may be there as an optional value.
fn found(value: Option<Result<Val<'_>>>) -> Result<Val<'_>> {
    value.transpose().map(|value| Val::Optional(value.map(Rc::new)))
}
