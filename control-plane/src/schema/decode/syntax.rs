//! What is wrong with a text that is no JSON, in the words of Go's `encoding/json`: clients show them, and people search for them.

/// Within which value the reader is.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Object,
    Array,
}

/// What is wrong with a text; `None` if Go would read it.
pub fn syntax_error(text: &[u8]) -> Option<String> {
    let mut reader = Reader { text, at: 0 };
    reader.document().err().map(|wrong| match wrong {
        Wrong::End => "unexpected end of JSON input".to_owned(),
        Wrong::Sign(sign, place) => format!("invalid character {} {place}", quoted(sign)),
    })
}

/// Why reading ended.
enum Wrong {
    End,
    Sign(u8, String),
}

fn quoted(sign: u8) -> String {
    match sign {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        // a byte counts as a sign of its own
        0x7f | 0..0x20 => format!("'\\x{sign:02x}'"),
        0x80..0xa0 => format!("'\\u{sign:04x}'"),
        _ => format!("'{}'", char::from(sign)),
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Result<u8, Wrong> {
        self.text.get(self.at).copied().ok_or(Wrong::End)
    }

    fn next(&mut self) -> Result<u8, Wrong> {
        let sign = self.peek()?;
        self.at += 1;
        Ok(sign)
    }

    /// The next sign that is no space.
    fn visible(&mut self) -> Result<u8, Wrong> {
        while matches!(self.peek()?, b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
        self.next()
    }

    fn document(&mut self) -> Result<(), Wrong> {
        let mut open: Vec<Within> = Vec::new();
        loop {
            // a value begins
            let sign = self.visible()?;
            match sign {
                b'{' if self.is_next(b'}') => {}
                b'{' => {
                    self.key()?;
                    open.push(Within::Object);
                    continue;
                }
                b'[' if self.is_next(b']') => {}
                b'[' => {
                    open.push(Within::Array);
                    continue;
                }
                _ => self.scalar(sign)?,
            }
            if self.closed(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Goes on after a value up to where the next one begins; `true`: there is none.
    fn closed(&mut self, open: &mut Vec<Within>) -> Result<bool, Wrong> {
        while let Some(within) = open.last() {
            match (within, self.visible()?) {
                (Within::Object, b',') => return self.key().map(|()| false),
                (Within::Array, b',') => return Ok(false),
                (Within::Object, b'}') | (Within::Array, b']') => drop(open.pop()),
                (Within::Object, sign) => return wrong(sign, "after object key:value pair"),
                (Within::Array, sign) => return wrong(sign, "after array element"),
            }
        }
        match self.visible() {
            Ok(sign) => wrong(sign, "after top-level value"),
            Err(_) => Ok(true),
        }
    }

    /// Takes the next visible sign if it is this one.
    fn is_next(&mut self, wanted: u8) -> bool {
        let before = self.at;
        let found = self.visible().is_ok_and(|sign| sign == wanted);
        if !found {
            self.at = before;
        }
        found
    }

    fn key(&mut self) -> Result<(), Wrong> {
        match self.visible()? {
            b'"' => self.string()?,
            sign => return wrong(sign, "looking for beginning of object key string"),
        }
        match self.visible()? {
            b':' => Ok(()),
            sign => wrong(sign, "after object key"),
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), Wrong> {
        match first {
            b'"' => self.string(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number(first),
            sign => wrong(sign, "looking for beginning of value"),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Wrong> {
        for expected in word.bytes().skip(1) {
            let sign = self.next()?;
            if sign != expected {
                let place = format!("in literal {word} (expecting '{}')", char::from(expected));
                return wrong(sign, &place);
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Wrong> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                sign @ 0..0x20 => return wrong(sign, "in string literal"),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Wrong> {
        match self.next()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => (0..4).try_for_each(|_| match self.next()? {
                sign if sign.is_ascii_hexdigit() => Ok(()),
                sign => wrong(sign, r"in \u hexadecimal character escape"),
            }),
            sign => wrong(sign, "in string escape code"),
        }
    }

    fn number(&mut self, first: u8) -> Result<(), Wrong> {
        let whole = if first == b'-' { self.digit("in numeric literal")? } else { first };
        if whole != b'0' {
            self.digits();
        }
        if self.peek().is_ok_and(|sign| sign == b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if self.peek().is_ok_and(|sign| matches!(sign, b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self, place: &str) -> Result<u8, Wrong> {
        match self.next()? {
            sign @ b'0'..=b'9' => Ok(sign),
            sign => wrong(sign, place),
        }
    }

    fn digits(&mut self) {
        while self.peek().is_ok_and(|sign| sign.is_ascii_digit()) {
            self.at += 1;
        }
    }
}

fn wrong<T>(sign: u8, place: &str) -> Result<T, Wrong> {
    Err(Wrong::Sign(sign, place.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mistakes_have_the_words_of_go() {
        for (text, words) in [
            ("", "unexpected end of JSON input"),
            (" ", "unexpected end of JSON input"),
            (r#"{"spec":"#, "unexpected end of JSON input"),
            (r#"{"a"#, "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} {}", "invalid character '{' after top-level value"),
            ("01", "invalid character '1' after top-level value"),
            ("tru3", "invalid character '3' in literal true (expecting 'e')"),
            ("\"a\nb\"", r"invalid character '\n' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (r#""\u00g0""#, r"invalid character 'g' in \u hexadecimal character escape"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.a", "invalid character 'a' after decimal point in numeric literal"),
            ("1ea", "invalid character 'a' in exponent of numeric literal"),
            ("'a'", r"invalid character '\'' looking for beginning of value"),
            ("kind: Pod", "invalid character 'k' looking for beginning of value"),
            ("é", "invalid character 'Ã' looking for beginning of value"),
        ] {
            assert_eq!(syntax_error(text.as_bytes()).as_deref(), Some(words), "{text}");
        }
    }

    #[test]
    fn deep_texts_are_read_without_deep_calls() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(syntax_error(deep.as_bytes()).as_deref(), Some("unexpected end of JSON input"));
    }

    proptest! {
        #[test]
        fn what_serde_reads_is_no_mistake(text in r#"[\[\]{}:,"\\truefalsn0-9.eE+ -]{0,16}"#) {
            let read = serde_json::from_str::<serde_json::Value>(&text);
            // a number may be too large for serde, which Go finds out later
            if !read.as_ref().is_err_and(|error| error.to_string().contains("out of range")) {
                prop_assert_eq!(syntax_error(text.as_bytes()).is_none(), read.is_ok(), "{:?}", read);
            }
        }
    }
}
