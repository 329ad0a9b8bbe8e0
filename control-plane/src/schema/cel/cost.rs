//! What an expression can cost at most, estimated from its text and from how large the values may be that it is about.
//!
//! The model is that of Kubernetes, so that the same rules are too dear here and there: a unit for each name, field and call, ten for a list
//! that is written out, a tenth of a unit for each sign of a text that is gone through, and what is in a loop as often as its list may have
//! items. Where that model knows nothing of a size, such as of a number that was made a text, it takes the greatest number there is.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#resource-use-by-validation-functions>

use std::collections::BTreeMap;

use super::syntax::{Bind, Call, Class, Expr, Literal, Loop, LoopKind, Node, Select};
use super::{OLD_SELF, SELF};

/// How large a value of a schema may be.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The most items, entries or signs.
    pub most: u64,
    /// The fewest bytes that it takes in a request.
    pub least_bytes: u64,
    /// What a list or map holds.
    pub items: Option<Box<Bounds>>,
    /// It is a list, whose items a loop goes over; of a map, loops have the keys.
    pub is_list: bool,
    /// Fields by their names in expressions.
    pub fields: BTreeMap<Box<str>, Bounds>,
}

/// Fewest and most items, entries or signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    least: u64,
    most: u64,
}

const UNKNOWN: Size = Size { least: 0, most: u64::MAX };
/// What a list and a map cost that are written out.
const LIST: u64 = 10;
const MAP: u64 = 30;
/// What the words cost that a loop is made of, for each item and once.
const ALL: (u64, u64) = (3, 1);
const EXISTS: (u64, u64) = (4, 1);
const EXISTS_ONE: (u64, u64) = (2, 2);
/// For `map` and `filter`: a list is written out for each item, and added to what is there.
const COLLECT: (u64, u64) = (12, 11);
/// The length of the expression behind a named format.
const FORMAT: u64 = 128;
/// Addresses as bytes, which are compared.
const ADDRESS: Size = Size::exactly(16);

impl Size {
    const fn exactly(size: u64) -> Self {
        Self { least: size, most: size }
    }

    const fn up_to(most: u64) -> Self {
        Self { least: 0, most }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            least: self.least.saturating_add(other.least),
            most: self.most.saturating_add(other.most),
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            least: self.least.saturating_mul(other.least),
            most: self.most.saturating_mul(other.most),
        }
    }

    fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }

    /// What it costs to go through so much text.
    fn read(self) -> u64 {
        self.most.div_ceil(10)
    }

    /// What it costs to go through it twice, such as to write it anew.
    fn read_twice(self) -> u64 {
        self.most.div_ceil(5)
    }
}

/// What is known of an expression.
struct Known<'a> {
    cost: u64,
    size: Size,
    /// Where its value stands in the object.
    place: Option<&'a Bounds>,
}

/// The most that an expression about a value of these bounds can cost.
pub(super) fn most(expr: &Expr, of: &Bounds) -> u64 {
    let known = |size| (Some(of), size);
    let size = Size::up_to(of.most);
    let scope = vec![(SELF, known(size)), (OLD_SELF, known(size))];
    Estimator { root: of, scope }.expr(expr).cost
}

type Variable<'a> = (Option<&'a Bounds>, Size);

struct Estimator<'a> {
    root: &'a Bounds,
    scope: Vec<(&'a str, Variable<'a>)>,
}

fn sum(costs: impl IntoIterator<Item = u64>) -> u64 {
    costs.into_iter().fold(0, u64::saturating_add)
}

/// The size of a value of which nothing else is known.
fn size_of(class: Class) -> Size {
    if class == Class::Scalar { Size::exactly(1) } else { UNKNOWN }
}

impl<'a> Estimator<'a> {
    fn expr(&mut self, expr: &'a Expr) -> Known<'a> {
        match &expr.node {
            Node::Literal(literal) => {
                Known { cost: 0, size: Size::exactly(literal_size(literal)), place: None }
            }
            Node::TypeName(_) => Known { cost: 1, size: Size::exactly(1), place: None },
            Node::Name(name) => {
                let found = self.scope.iter().rev().find(|(known, _)| *known == &**name);
                let (place, size) = found.map_or((None, UNKNOWN), |(_, found)| *found);
                Known { cost: 1, size, place }
            }
            Node::Select(select) => self.select(select, expr.class),
            // whether a field is there costs nothing beyond what it is a field of
            Node::Has(select) => {
                let cost = self.expr(&select.of).cost;
                Known { cost, size: Size::exactly(1), place: None }
            }
            Node::Call(call) => self.call(call, expr.class),
            Node::And(all) | Node::Or(all) => {
                let cost = sum(all.iter().map(|one| self.expr(one).cost));
                Known { cost, size: Size::exactly(1), place: None }
            }
            Node::If(parts) => {
                let [condition, then, other] = &**parts;
                let (condition, then, other) =
                    (self.expr(condition), self.expr(then), self.expr(other));
                let cost = condition.cost.saturating_add(then.cost.max(other.cost));
                Known { cost, size: then.size.or(other.size), place: None }
            }
            Node::List(items) => {
                let cost = sum(items.iter().map(|(_, item)| self.expr(item).cost));
                let size = Size::exactly(items.len() as u64);
                Known { cost: cost.saturating_add(LIST), size, place: None }
            }
            Node::Map(entries) => {
                let parts = entries.iter().flat_map(|(_, key, value)| [key, value]);
                let cost = sum(parts.map(|part| self.expr(part).cost));
                let size = Size::exactly(entries.len() as u64);
                Known { cost: cost.saturating_add(MAP), size, place: None }
            }
            Node::Loop(each) => self.each(each),
            Node::Bind(bind) => self.bind(bind, expr.class),
        }
    }

    fn at(place: Option<&'a Bounds>, cost: u64, class: Class) -> Known<'a> {
        let size = place.map_or_else(|| size_of(class), |place| Size::up_to(place.most));
        Known { cost, size, place }
    }

    fn select(&mut self, select: &'a Select, class: Class) -> Known<'a> {
        let of = self.expr(&select.of);
        // the model knows entries of a map that are taken by an index, and not those that are written like fields
        let place = of.place.and_then(|place| place.fields.get(&select.field));
        let free = select.of.class == Class::Dyn && !select.optional;
        Self::at(place, of.cost.saturating_add(u64::from(!free)), class)
    }

    fn with<T>(
        &mut self,
        name: &'a str,
        variable: Variable<'a>,
        estimate: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.scope.push((name, variable));
        let estimated = estimate(self);
        self.scope.pop();
        estimated
    }

    fn each(&mut self, each: &'a Loop) -> Known<'a> {
        let over = self.expr(&each.over);
        // items of what was made by the expression have the size of the value it is about: the model has nothing better
        let item = match over.place {
            Some(place) if place.is_list => place.items.as_deref(),
            Some(place) if place.items.is_some() => None,
            Some(place) => Some(place),
            None => Some(self.root),
        };
        let variable = (item, Size::up_to(item.map_or(0, |item| item.most)));
        let (only, body) = self.with(&each.name, variable, |estimator| {
            let only = each.only.as_ref().map_or(0, |only| estimator.expr(only).cost);
            (only, estimator.expr(&each.body).cost)
        });
        let (words, once) = match each.kind {
            LoopKind::All => ALL,
            LoopKind::Exists => EXISTS,
            LoopKind::ExistsOne => EXISTS_ONE,
            LoopKind::Map => COLLECT,
            LoopKind::Filter => (COLLECT.0 + 1, COLLECT.1),
        };
        let step = sum([only, body, words]);
        let cost = sum([over.cost, once, over.size.most.saturating_mul(step)]);
        let place = over.place.filter(|_| each.kind == LoopKind::Filter);
        let size = match each.kind {
            LoopKind::Map | LoopKind::Filter => over.size,
            _ => Size::exactly(1),
        };
        Known { cost, size, place }
    }

    /// Its value is asked whether it is there, taken, and put under its name, for which a list without items is written out.
    fn bind(&mut self, bind: &'a Bind, class: Class) -> Known<'a> {
        let of = self.expr(&bind.of);
        let body =
            self.with(&bind.name, (of.place, of.size), |estimator| estimator.expr(&bind.body));
        let cost = sum([of.cost, of.cost, LIST + 3, body.cost]);
        let size = if class == Class::Dyn { body.size } else { size_of(class) };
        Known { cost, size, place: body.place }
    }

    fn call(&mut self, call: &'a Call, class: Class) -> Known<'a> {
        let args: Vec<Known<'a>> = call.args.iter().map(|arg| self.expr(arg)).collect();
        let below = sum(args.iter().map(|arg| arg.cost));
        let classes: Vec<Class> = call.args.iter().map(|arg| arg.class).collect();
        let place = match (&*call.name, args.first()) {
            ("_[_]" | "_[?_]", Some(of)) => of.place.and_then(|place| place.items.as_deref()),
            ("dyn" | "value" | "or" | "orValue" | "optional.of", Some(of)) => of.place,
            _ => None,
        };
        let (own, size) = function(call, &args, &classes, class);
        let known = Self::at(place, below.saturating_add(own), class);
        Known { size: size.unwrap_or(known.size), ..known }
    }
}

fn literal_size(literal: &Literal) -> u64 {
    match literal {
        Literal::String(text) => text.chars().count() as u64,
        Literal::Bytes(bytes) => bytes.len() as u64,
        _ => 1,
    }
}

/// What a function costs beside its arguments, and the size of what it gives where the model knows one.
fn function(
    call: &Call,
    args: &[Known<'_>],
    classes: &[Class],
    result: Class,
) -> (u64, Option<Size>) {
    let sizes: Vec<Size> = args.iter().map(|arg| arg.size).collect();
    match (&*call.name, &sizes[..]) {
        ("_==_" | "_!=_", [left, right]) => (compare(*left, *right), None),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => {
            let text = classes.iter().all(|class| class.may_be_text());
            (if text { compare(*left, *right) } else { 1 }, None)
        }
        ("_+_", [left, right]) => add(left.plus(*right), result),
        ("@in", [_, list]) => (if classes[1] == Class::Map { 1 } else { list.most }, None),
        ("orValue" | "or", [left, right]) => (1, Some(left.or(*right))),
        ("dyn" | "value" | "optional.of", [of]) => (1, Some(*of)),
        ("contains", [text, part]) => (text.read().saturating_mul(part.read()), None),
        ("startsWith" | "endsWith", [_, part]) => (part.read(), None),
        ("matches", [text, pattern]) if call.method => (regex(*text, *pattern), None),
        ("find" | "findAll", [text, pattern, ..]) => {
            (regex(*text, *pattern), Some(Size::up_to(text.most)))
        }
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", [of, ..]) => {
            (search(*of, classes[0], args[0].place), None)
        }
        ("url" | "format", [text, ..]) => (text.read(), None),
        ("lowerAscii" | "upperAscii" | "substring" | "trim", [text, ..]) => {
            (text.read(), Some(*text))
        }
        ("replace", [text, from, to, ..]) => (text.read_twice(), Some(replaced(*text, *from, *to))),
        ("split", [text, ..]) => {
            let limit = call.args.get(2).and_then(|limit| match &limit.node {
                Node::Literal(Literal::Int(limit)) => u64::try_from(*limit).ok(),
                _ => None,
            });
            (text.read_twice(), Some(Size::up_to(limit.unwrap_or(text.most))))
        }
        ("join", [list, between @ ..]) => {
            let item = args[0].place.and_then(|place| place.items.as_deref());
            let item = item.map_or(UNKNOWN, |item| Size::up_to(item.most));
            let gaps =
                Size { least: list.least.saturating_sub(1), most: list.most.saturating_sub(1) };
            let between = between.first().map_or(Size::exactly(0), |sign| sign.times(gaps));
            let size = list.times(item).plus(between);
            (size.read(), Some(size))
        }
        ("bytes", [text]) if classes[0] == Class::String => {
            (text.read(), Some(Size { most: text.most.saturating_mul(4), ..*text }))
        }
        ("string", [bytes]) if classes[0] == Class::Bytes => {
            (bytes.read(), Some(Size { least: bytes.least / 4, ..*bytes }))
        }
        ("strings.quote", [text]) => {
            let size = text.plus(Size { least: 0, most: text.most }).plus(Size::exactly(2));
            (text.read(), Some(size))
        }
        ("sets.contains" | "sets.intersects", [one, other]) => {
            (one.times(*other).most.saturating_add(1), None)
        }
        ("sets.equivalent", [one, other]) => {
            (one.times(*other).most.saturating_mul(2).saturating_add(1), None)
        }
        ("containsIP" | "containsCIDR", [_, other]) => {
            let parsed = if classes[1] == Class::String { other.read() } else { 0 };
            let masked = if &*call.name == "containsCIDR" { ADDRESS.read() + 1 } else { 0 };
            (sum([ADDRESS.plus(ADDRESS).read(), masked, parsed]), None)
        }
        ("validate", [_, text]) => (text.read().saturating_mul(FORMAT / 4), None),
        _ => (1, None),
    }
}

/// Two values are compared as far as the smaller one goes.
fn compare(left: Size, right: Size) -> u64 {
    Size::up_to(left.most.min(right.most)).read()
}

/// Lists are added without going through them; of what may be text or not, the dearer way counts.
fn add(size: Size, result: Class) -> (u64, Option<Size>) {
    match result {
        Class::String | Class::Bytes | Class::Dyn => (size.read().max(1), Some(size)),
        Class::List | Class::TextList => (1, Some(size)),
        _ => (1, None),
    }
}

/// A text is matched at each of its places against each part of an expression; parts are taken to have four signs.
fn regex(text: Size, pattern: Size) -> u64 {
    text.plus(Size::exactly(1)).read().saturating_mul(pattern.most.div_ceil(4))
}

/// Each item is looked at, and each sign of those that are texts.
fn search(of: Size, class: Class, place: Option<&Bounds>) -> u64 {
    let each = match class {
        Class::List => 1,
        Class::TextList => {
            let item = place.and_then(|place| place.items.as_deref());
            let item = item.map_or(UNKNOWN, |item| Size::up_to(item.most));
            item.read().saturating_add(1)
        }
        _ => return of.read(),
    };
    of.most.saturating_mul(each)
}

/// The most and the least that a text can become when parts of it are replaced.
fn replaced(text: Size, from: Size, to: Size) -> Size {
    let (count, kept) = if from.least == 0 {
        (text.most.saturating_add(1), text.most)
    } else if to.most <= from.least {
        (0, text.most)
    } else {
        (text.most.div_ceil(from.least), 0)
    };
    let most = count.saturating_mul(to.most).saturating_add(kept);
    let (count, kept) = if from.most == 0 {
        (text.least.saturating_add(1), text.least)
    } else if from.most <= to.least {
        (0, text.least)
    } else {
        (text.least.div_ceil(from.most), 0)
    };
    Size { least: count.saturating_mul(to.least).saturating_add(kept), most }
}
