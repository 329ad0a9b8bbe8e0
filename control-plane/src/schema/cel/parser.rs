//! From text to tree. The grammar: <https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>

use super::Problem;
use super::lexer::{self, RESERVED, Token};
use super::syntax::{Bind, Call, Expr, Literal, Loop, LoopKind, Node, Select};

/// The most signs of an expression, as in Kubernetes.
const MOST_SIGNS: usize = 100_000;
/// The most expressions within one another: what reads and evaluates them needs stack for each.
const MOST_DEEP: usize = 100;

type Parsed = Result<Expr, Problem>;

/// Reads an expression.
pub(super) fn parse(text: &str) -> Parsed {
    let size = text.chars().count();
    if size > MOST_SIGNS {
        let text =
            format!("expression code point size exceeds limit: size: {size}, limit {MOST_SIGNS}");
        return Err(Problem { at: 0, text });
    }
    let mut parser = Parser { tokens: lexer::tokens(text)?, next: 0, depth: 0 };
    let expr = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => parser.unexpected(),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

/// How strongly an operator binds, and the name of its function.
fn binary(sign: &str) -> Option<(u8, &'static str)> {
    Some(match sign {
        "||" => (1, "_||_"),
        "&&" => (2, "_&&_"),
        "==" => (3, "_==_"),
        "!=" => (3, "_!=_"),
        "<" => (3, "_<_"),
        "<=" => (3, "_<=_"),
        ">" => (3, "_>_"),
        ">=" => (3, "_>=_"),
        "in" => (3, "@in"),
        "+" => (4, "_+_"),
        "-" => (4, "_-_"),
        "*" => (5, "_*_"),
        "/" => (5, "_/_"),
        "%" => (5, "_%_"),
        _ => return None,
    })
}

fn call(name: &str, method: bool, args: Vec<Expr>) -> Node {
    Node::Call(Call { name: name.into(), method, args, regex: None })
}

/// An expression of others, unless it is too deep.
fn make(at: usize, node: Node) -> Parsed {
    let expr = Expr::new(at, node);
    if expr.height > MOST_DEEP { too_deep(at) } else { Ok(expr) }
}

fn too_deep<T>(at: usize) -> Result<T, Problem> {
    let text = format!("expression recursion limit exceeded: {MOST_DEEP}");
    Err(Problem { at, text })
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    /// The next word is taken; the end stays.
    fn take(&mut self) -> Token {
        let token = self.tokens[self.next].1.clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Problem> {
        if self.eat(sign) {
            return Ok(());
        }
        let text = format!("Syntax error: mismatched input {} expecting '{sign}'", self.shown());
        Err(Problem { at: self.at(), text })
    }

    fn shown(&self) -> String {
        match self.peek() {
            Token::End => "'<EOF>'".to_owned(),
            Token::Sign(sign) => format!("'{sign}'"),
            Token::Name(name) => format!("'{name}'"),
            Token::Literal(Literal::String(text)) => format!("{text:?}"),
            Token::Literal(literal) => format!("'{literal:?}'"),
            Token::Least => "'9223372036854775808'".to_owned(),
        }
    }

    fn unexpected<T>(&self) -> Result<T, Problem> {
        let text = format!("Syntax error: extraneous input {}", self.shown());
        Err(Problem { at: self.at(), text })
    }

    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        if self.depth >= MOST_DEEP {
            return too_deep(self.at());
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn expr(&mut self) -> Parsed {
        self.deeper(|parser| {
            let condition = parser.operators(1)?;
            let at = parser.at();
            if !parser.eat("?") {
                return Ok(condition);
            }
            let then = parser.operators(1)?;
            parser.expect(":")?;
            let other = parser.expr()?;
            make(at, Node::If(Box::new([condition, then, other])))
        })
    }

    /// Operands with operators between them that bind at least so strongly.
    fn operators(&mut self, least: u8) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let Token::Sign(sign) = *self.peek() else { return Ok(left) };
            let Some((strength, name)) = binary(sign).filter(|(strength, _)| *strength >= least)
            else {
                return Ok(left);
            };
            let at = self.at();
            self.take();
            let right = self.operators(strength + 1)?;
            left = match (name, left) {
                // a chain is one expression
                ("_&&_", Expr { node: Node::And(mut all), at, height, class }) => {
                    let height = height.max(right.height + 1);
                    all.push(right);
                    Expr { node: Node::And(all), at, height, class }
                }
                ("_||_", Expr { node: Node::Or(mut all), at, height, class }) => {
                    let height = height.max(right.height + 1);
                    all.push(right);
                    Expr { node: Node::Or(all), at, height, class }
                }
                ("_&&_", left) => make(at, Node::And(vec![left, right]))?,
                ("_||_", left) => make(at, Node::Or(vec![left, right]))?,
                (name, left) => make(at, call(name, false, vec![left, right]))?,
            };
        }
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        if self.eat("!") {
            let operand = self.deeper(Self::unary)?;
            return make(at, call("!_", false, vec![operand]));
        }
        if !self.eat("-") {
            return self.member();
        }
        let negative = match self.peek() {
            Token::Least => Some(Literal::Int(i64::MIN)),
            Token::Literal(Literal::Int(number)) => Some(Literal::Int(-number)),
            Token::Literal(Literal::Double(number)) => Some(Literal::Double(-number)),
            _ => None,
        };
        if let Some(literal) = negative {
            self.take();
            let expr = make(at, Node::Literal(literal))?;
            return self.suffixes(expr);
        }
        let operand = self.deeper(Self::unary)?;
        make(at, call("-_", false, vec![operand]))
    }

    fn member(&mut self) -> Parsed {
        let primary = self.primary()?;
        self.suffixes(primary)
    }

    /// Fields, methods and indexes behind an expression.
    fn suffixes(&mut self, mut expr: Expr) -> Parsed {
        loop {
            let at = self.at();
            expr = if self.eat(".") {
                let optional = self.eat("?");
                let field = self.identifier(true)?;
                let open = self.at();
                if !optional && self.eat("(") {
                    let args = self.list(")")?;
                    method(open, &field, expr, args)?
                } else {
                    make(at, Node::Select(Box::new(Select { of: expr, field, optional })))?
                }
            } else if self.eat("[") {
                let name = if self.eat("?") { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                make(at, call(name, false, vec![expr, index]))?
            } else if self.is("{") && expr.qualified().is_some() {
                let text = "messages cannot be constructed in rules".to_owned();
                return Err(Problem { at, text });
            } else {
                return Ok(expr);
            }
        }
    }

    /// A name; behind a dot it may be one that is reserved elsewhere.
    fn identifier(&mut self, field: bool) -> Result<Box<str>, Problem> {
        let at = self.at();
        match self.peek().clone() {
            Token::Name(name) if field || !RESERVED.contains(&&*name) => {
                self.take();
                Ok(name)
            }
            Token::Name(name) => Err(Problem { at, text: format!("reserved identifier: {name}") }),
            _ => self.unexpected(),
        }
    }

    /// Expressions with commas between them.
    fn list(&mut self, close: &str) -> Result<Vec<Expr>, Problem> {
        let mut found = Vec::new();
        while !self.eat(close) {
            found.push(self.expr()?);
            if !self.eat(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(found)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        match self.peek().clone() {
            Token::Literal(literal) => {
                self.take();
                make(at, Node::Literal(literal))
            }
            Token::Sign("(") => {
                self.take();
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.list_literal(at),
            Token::Sign("{") => self.map_literal(at),
            Token::Sign(".") => {
                self.take();
                let name = self.identifier(false)?;
                self.named(at, name)
            }
            Token::Name(_) => {
                let name = self.identifier(false)?;
                self.named(at, name)
            }
            Token::Least => Err(Problem { at, text: "Syntax error: invalid int literal".into() }),
            _ => self.unexpected(),
        }
    }

    /// A variable, or the call of a function.
    fn named(&mut self, at: usize, name: Box<str>) -> Parsed {
        let open = self.at();
        if !self.eat("(") {
            return make(at, Node::Name(name));
        }
        let mut args = self.list(")")?;
        if &*name != "has" {
            return make(open, call(&name, false, args));
        }
        match (args.pop().map(|arg| arg.node), args.is_empty()) {
            (Some(Node::Select(select)), true) if !select.optional => make(open, Node::Has(select)),
            _ => Err(Problem { at: open, text: "invalid argument to has() macro".into() }),
        }
    }

    fn list_literal(&mut self, at: usize) -> Parsed {
        self.take();
        let mut items = Vec::new();
        while !self.eat("]") {
            let optional = self.eat("?");
            items.push((optional, self.expr()?));
            if !self.eat(",") {
                self.expect("]")?;
                break;
            }
        }
        make(at, Node::List(items))
    }

    fn map_literal(&mut self, at: usize) -> Parsed {
        self.take();
        let mut entries = Vec::new();
        while !self.eat("}") {
            let optional = self.eat("?");
            let key = self.expr()?;
            self.expect(":")?;
            entries.push((optional, key, self.expr()?));
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        make(at, Node::Map(entries))
    }
}

/// A method, or one of the macros that look like one.
fn method(at: usize, name: &str, of: Expr, mut args: Vec<Expr>) -> Parsed {
    let kind = match (name, args.len()) {
        ("all", 2) => Some(LoopKind::All),
        ("exists", 2) => Some(LoopKind::Exists),
        ("exists_one", 2) => Some(LoopKind::ExistsOne),
        ("filter", 2) => Some(LoopKind::Filter),
        ("map", 2 | 3) => Some(LoopKind::Map),
        ("optMap" | "optFlatMap", 2) => None,
        _ => {
            args.insert(0, of);
            return make(at, call(name, true, args));
        }
    };
    let variable = args.remove(0);
    let Node::Name(variable) = variable.node else {
        return Err(Problem { at: variable.at, text: "argument must be a simple name".into() });
    };
    let body = args.pop().unwrap_or_else(|| of.clone());
    let node = match kind {
        Some(kind) => {
            Node::Loop(Box::new(Loop { kind, over: of, name: variable, only: args.pop(), body }))
        }
        None => Node::Bind(Box::new(Bind { of, name: variable, body, flat: name == "optFlatMap" })),
    };
    make(at, node)
}
