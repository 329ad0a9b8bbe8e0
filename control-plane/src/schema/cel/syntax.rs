//! Expressions as trees.

use regex_lite::Regex;

use super::types::Type;

/// An expression.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    /// Where its operator stands, in signs from the start.
    pub at: usize,
    /// How many expressions stand within one another here: nothing that walks the tree goes deeper.
    pub height: usize,
    /// What its value is, roughly; the check finds it.
    pub class: Class,
    pub node: Node,
}

/// Kinds of values as far as they differ in what they cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Of one size whatever it is: a number, a point in time, an address.
    Scalar,
    String,
    Bytes,
    List,
    /// A list of texts or bytes.
    TextList,
    Map,
    Object,
    /// Only the evaluation can tell.
    Dyn,
}

impl Class {
    /// Of a type; an optional value is like what it may hold.
    pub fn of(of: &Type) -> Self {
        match of {
            Type::Dyn | Type::Param(_) => Self::Dyn,
            Type::String => Self::String,
            Type::Bytes => Self::Bytes,
            Type::List(item) => match **item {
                Type::String | Type::Bytes => Self::TextList,
                _ => Self::List,
            },
            Type::Map(..) => Self::Map,
            Type::Object(_) => Self::Object,
            Type::Optional(of) => Self::of(of),
            _ => Self::Scalar,
        }
    }

    pub fn may_be_text(self) -> bool {
        matches!(self, Self::String | Self::Bytes | Self::Dyn)
    }
}

/// What an expression is. `&&` and `||` take any number of operands, so that a long rule is not a deep one.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Literal(Literal),
    Name(Box<str>),
    /// The name of a type, such as `string` in `type(self) == string`.
    TypeName(&'static str),
    Select(Box<Select>),
    /// `has(e.f)`.
    Has(Box<Select>),
    Call(Call),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// Condition, then, else.
    If(Box<[Expr; 3]>),
    /// Items; those marked are optional (`[?e]`).
    List(Vec<(bool, Expr)>),
    /// Entries; those marked are optional (`{?k: e}`).
    Map(Vec<(bool, Expr, Expr)>),
    Loop(Box<Loop>),
    Bind(Box<Bind>),
}

/// A value written out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Box<str>),
    Bytes(Box<[u8]>),
}

/// `of.field`, or `of.?field`.
#[derive(Clone, Debug)]
pub(super) struct Select {
    pub of: Expr,
    pub field: Box<str>,
    pub optional: bool,
}

/// A call; operators are calls, too (`_+_`). The receiver of a method is the first argument.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub name: Box<str>,
    pub method: bool,
    pub args: Vec<Expr>,
    /// The expression of a `matches` whose pattern is written out: compiled once.
    pub regex: Option<Box<(Regex, u64)>>,
}

/// Which loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

/// A macro that goes over a list or the keys of a map.
#[derive(Clone, Debug)]
pub(super) struct Loop {
    pub kind: LoopKind,
    pub over: Expr,
    pub name: Box<str>,
    /// The first expression of `map` with two.
    pub only: Option<Expr>,
    pub body: Expr,
}

/// `of.optMap(name, body)`, and `optFlatMap`.
#[derive(Clone, Debug)]
pub(super) struct Bind {
    pub of: Expr,
    pub name: Box<str>,
    pub body: Expr,
    pub flat: bool,
}

impl Expr {
    /// An expression of others.
    pub fn new(at: usize, node: Node) -> Self {
        let height = node.children().iter().map(|child| child.height).max().unwrap_or_default() + 1;
        Self { at, height, class: Class::Dyn, node }
    }

    /// Whether a name stands for a variable anywhere in it. A loop over the same name hides it, which nobody does to `oldSelf`.
    pub fn names(&self, wanted: &str) -> bool {
        matches!(&self.node, Node::Name(name) if **name == *wanted)
            || self.node.children().iter().any(|child| child.names(wanted))
    }

    /// The text, when the expression is one written out.
    pub fn as_text(&self) -> Option<&str> {
        match &self.node {
            Node::Literal(Literal::String(text)) => Some(text),
            _ => None,
        }
    }

    /// `a.b.c` as one name.
    pub fn qualified(&self) -> Option<String> {
        match &self.node {
            Node::Name(name) => Some(name.to_string()),
            Node::Select(select) if !select.optional => {
                Some(format!("{}.{}", select.of.qualified()?, select.field))
            }
            _ => None,
        }
    }
}

impl Node {
    /// The expressions of which it is made.
    fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Literal(_) | Self::Name(_) | Self::TypeName(_) => Vec::new(),
            Self::Select(select) | Self::Has(select) => vec![&select.of],
            Self::Call(call) => call.args.iter().collect(),
            Self::And(all) | Self::Or(all) => all.iter().collect(),
            Self::If(parts) => parts.iter().collect(),
            Self::List(items) => items.iter().map(|(_, item)| item).collect(),
            Self::Map(entries) => entries.iter().flat_map(|(_, key, value)| [key, value]).collect(),
            Self::Loop(each) => [&each.over, &each.body].into_iter().chain(&each.only).collect(),
            Self::Bind(bind) => vec![&bind.of, &bind.body],
        }
    }
}
