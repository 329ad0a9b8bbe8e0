//! The words of a rule, quoted as `iptables-save` does it.

/// Splits a rule into words. A quoted part may hold spaces, `\"` and `\\`; an apostrophe is a letter like any other.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(letters.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A word as `iptables-save` prints it: plain where it can be.
pub fn quote(word: &str) -> String {
    let plain = !word.is_empty()
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-+.,:;/!%@=#".contains(c));
    if plain {
        return word.to_owned();
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// Words as one line.
pub fn join<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_and_apostrophes() {
        let line = r#"-m comment --comment "name: \"n\" it's" -j ACCEPT"#;
        assert_eq!(
            split(line),
            ["-m", "comment", "--comment", r#"name: "n" it's"#, "-j", "ACCEPT"]
        );
        assert_eq!(split(r#"a "" b"#), ["a", "", "b"]);
    }

    proptest! {
        #[test]
        fn what_is_joined_splits_again(words in proptest::collection::vec("[ -~]{0,12}", 0..6)) {
            prop_assert_eq!(split(&join(&words)), words);
        }
    }
}
