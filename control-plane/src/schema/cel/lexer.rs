//! The words of an expression.
//! <https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>

use super::Problem;
use super::syntax::Literal;

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Literal(Literal),
    /// 2⁶³, which is a number only behind a minus.
    Least,
    Name(Box<str>),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", ".", ",", ":", "?", "(", ")", "[", "]", "{", "}", "<", ">",
    "+", "-", "*", "/", "%", "!",
];

/// Words that are no names.
pub(super) const RESERVED: [&str; 14] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
];

/// The words of a text with their places.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Problem> {
    let signs: Vec<char> = text.chars().collect();
    let mut lexer = Lexer { signs: &signs, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip();
        let at = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        found.push((at, token));
        if end {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    signs: &'a [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.signs.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn starts(&self, word: &str) -> bool {
        word.chars().enumerate().all(|(index, sign)| self.signs.get(self.at + index) == Some(&sign))
    }

    fn skip(&mut self) {
        loop {
            if self.at < self.signs.len()
                && matches!(self.peek(0), ' ' | '\t' | '\n' | '\r' | '\x0c')
            {
                self.at += 1;
            } else if self.starts("//") {
                while self.at < self.signs.len() && self.peek(0) != '\n' {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn token(&mut self) -> Result<Token, Problem> {
        if self.at >= self.signs.len() {
            return Ok(Token::End);
        }
        if let Some(token) = self.quoted()? {
            return Ok(token);
        }
        let first = self.peek(0);
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(self.name());
        }
        match SIGNS.iter().find(|sign| self.starts(sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            None => problem(self.at, format!("token recognition error at: '{first}'")),
        }
    }

    fn name(&mut self) -> Token {
        let from = self.at;
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
            self.at += 1;
        }
        let name: String = self.signs[from..self.at].iter().collect();
        match name.as_str() {
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            "in" => Token::Sign("in"),
            _ => Token::Name(name.into()),
        }
    }

    fn digits(&mut self, is_digit: impl Fn(&char) -> bool) {
        while is_digit(&self.peek(0)) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let from = self.at;
        let hex = self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X');
        let mut double = false;
        if hex {
            self.at += 2;
            self.digits(char::is_ascii_hexdigit);
        } else {
            self.digits(char::is_ascii_digit);
            if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
                double = true;
                self.at += 1;
                self.digits(char::is_ascii_digit);
            }
            let sign = usize::from(matches!(self.peek(1), '+' | '-'));
            if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + sign).is_ascii_digit() {
                double = true;
                self.at += 1 + sign;
                self.digits(char::is_ascii_digit);
            }
        }
        let text: String = self.signs[from..self.at].iter().collect();
        let unsigned = !double && matches!(self.peek(0), 'u' | 'U');
        self.at += usize::from(unsigned);
        if self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
            return problem(self.at, format!("extraneous input '{}'", self.peek(0)));
        }
        let (digits, radix) = if hex { (&text[2..], 16) } else { (text.as_str(), 10) };
        let whole = || u64::from_str_radix(digits, radix).ok();
        if !double && !unsigned && whole() == Some(1 << 63) {
            return Ok(Token::Least);
        }
        let (literal, kind) = if double {
            let finite = text.parse().ok().filter(|number: &f64| number.is_finite());
            (finite.map(Literal::Double), "double")
        } else if unsigned {
            (whole().map(Literal::Uint), "uint")
        } else {
            (whole().and_then(|whole| i64::try_from(whole).ok()).map(Literal::Int), "int")
        };
        match literal {
            Some(literal) => Ok(Token::Literal(literal)),
            None => problem(from, format!("invalid {kind} literal")),
        }
    }

    /// A text or bytes: `'a'`, `"a"`, `'''a'''`, raw with `r`, bytes with `b`.
    fn quoted(&mut self) -> Result<Option<Token>, Problem> {
        let from = self.at;
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        while ahead < 2 {
            match self.peek(ahead) {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                _ => break,
            }
            ahead += 1;
        }
        let quote = self.peek(ahead);
        if !matches!(quote, '\'' | '"') {
            return Ok(None);
        }
        let triple = self.peek(ahead + 1) == quote && self.peek(ahead + 2) == quote;
        let close: String = std::iter::repeat_n(quote, if triple { 3 } else { 1 }).collect();
        self.at += ahead + close.len();
        let mut made = Vec::new();
        loop {
            if self.at >= self.signs.len() || (!triple && matches!(self.peek(0), '\n' | '\r')) {
                return problem(
                    from,
                    format!("token recognition error at: '{quote}': the text has no end"),
                );
            }
            if self.starts(&close) {
                self.at += close.len();
                break;
            }
            let sign = self.peek(0);
            if sign == '\\' && raw {
                // a raw text keeps its backslashes, and what follows one does not end it
                made.push(b'\\');
                self.at += 1;
                if self.at < self.signs.len() {
                    push(&mut made, self.peek(0));
                    self.at += 1;
                }
            } else if sign == '\\' {
                self.escape(bytes, &mut made)?;
            } else {
                push(&mut made, sign);
                self.at += 1;
            }
        }
        if bytes {
            return Ok(Some(Token::Literal(Literal::Bytes(made.into()))));
        }
        match String::from_utf8(made) {
            Ok(text) => Ok(Some(Token::Literal(Literal::String(text.into())))),
            Err(_) => problem(from, "invalid string literal"),
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self, bytes: bool, made: &mut Vec<u8>) -> Result<(), Problem> {
        let from = self.at;
        let kind = self.peek(1);
        self.at += 2;
        let plain = match kind {
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            '\\' | '\'' | '"' | '`' | '?' => Some(kind),
            _ => None,
        };
        if let Some(plain) = plain {
            push(made, plain);
            return Ok(());
        }
        let (digits, radix) = match kind {
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return problem(from, "invalid escape sequence"),
        };
        let end = (self.at + digits).min(self.signs.len());
        let text: String = self.signs[self.at..end].iter().collect();
        let code = u32::from_str_radix(&text, radix).ok().filter(|_| text.len() == digits);
        self.at = end;
        match code {
            // in bytes these are bytes, in texts code points
            Some(code) if bytes && code < 256 => made.push(u8::try_from(code).unwrap_or_default()),
            Some(code) if char::from_u32(code).is_some() => {
                push(made, char::from_u32(code).unwrap_or_default());
            }
            _ => return problem(from, "invalid escape sequence"),
        }
        Ok(())
    }
}

fn problem<T>(at: usize, text: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { at, text: format!("Syntax error: {}", text.into()) })
}

fn push(made: &mut Vec<u8>, sign: char) {
    made.extend_from_slice(sign.encode_utf8(&mut [0; 4]).as_bytes());
}
