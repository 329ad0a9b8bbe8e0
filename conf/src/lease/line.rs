//! Lines of shell that set a variable.

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assignment<'a> {
    /// The variable.
    pub name: &'a str,
    /// Its value without quotes, or why it has none.
    pub value: Result<String, &'static str>,
}

/// The assignments of a text, each with the number of its line. Everything else is left out.
pub(super) fn assignments(text: &str) -> impl Iterator<Item = (usize, Assignment<'_>)> {
    // some editors begin a file with this mark
    let text = text.trim_start_matches('\u{feff}');
    text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, assignment(line)?)))
}

fn assignment(line: &str) -> Option<Assignment<'_>> {
    let line = line.trim();
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => line,
    };
    let (name, value) = line.split_once('=')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| Assignment { name, value: word(value) })
}

/// The one word after the sign, as a shell reads it (POSIX.1-2024, Shell Command Language 2.2), without expansions.
fn word(text: &str) -> Result<String, &'static str> {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                word.push(chars.next().ok_or("ends with a backslash; the value is one line")?);
            }
            (None | Some('"'), '$' | '`') => {
                return Err("variables and commands are not expanded here; write the value itself");
            }
            (None, c) if c.is_whitespace() => {
                let rest = chars.as_str().trim_start();
                if !rest.is_empty() && !rest.starts_with('#') {
                    return Err(
                        "more than one word; put quotes around, or a # before what follows",
                    );
                }
                return Ok(word);
            }
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')') => {
                return Err("has a character that ends a value in a shell; write the value alone");
            }
            (_, c) => word.push(c),
        }
    }
    match quote {
        None => Ok(word),
        Some(_) => Err("a quote is not closed; close it in the same line"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_shells() {
        for (text, expected) in [
            ("10.244.0.0/16", "10.244.0.0/16"),
            ("'10.244.0.0/16'", "10.244.0.0/16"),
            ("\"10.244\"'.0.0/16'", "10.244.0.0/16"),
            ("1450 # bytes", "1450"),
            ("1450#5", "1450#5"),
            ("a\\ b", "a b"),
            ("'$HOME'", "$HOME"),
            ("", ""),
            ("\"a # b\"", "a # b"),
        ] {
            assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["'open", "\"open", "a b", "$MTU", "`mtu`", "\"$MTU\"", "1450;", "end\\", "a&b"]
        {
            assert!(word(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_assignments_are_found() {
        let text =
            "\u{feff}A=1\r\n# B=2\n  export C=3\nexported=4\nD = 5\n=6\nif x; then E=7\nE='x'\n";
        let found: Vec<_> = assignments(text).map(|(line, found)| (line, found.name)).collect();
        assert_eq!(found, [(1, "A"), (3, "C"), (4, "exported"), (8, "E")]);
        assert_eq!(assignments("A=1\r\n").next().unwrap().1.value.as_deref(), Ok("1"));
    }
}
