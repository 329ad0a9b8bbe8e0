//! Foreign text inside our own messages: bounded, on one line, and without control characters, whatever another program wrote.

use std::fmt::Write;

/// The most that is quoted of what a program wrote, in bytes: about a screenful.
pub(crate) const EXCERPT: usize = 2048;

/// The beginning of what a program wrote, with surrounding white space removed and control characters escaped.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii();
    let kept = &bytes[..bytes.len().min(EXCERPT)];
    let mut text = String::with_capacity(kept.len());
    for character in String::from_utf8_lossy(kept).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    if kept.len() < bytes.len() {
        // writing to a string cannot fail
        write!(text, "… ({} bytes in all)", bytes.len()).ok();
    }
    text
}

/// A list as the reference prints one: `["a" "b"]`. People and scripts match on its messages.
pub(crate) fn list<T: AsRef<str>>(items: &[T]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| format!("{:?}", item.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_on_one_line() {
        assert_eq!(excerpt(b"  a\nb\x1b[31m \"c\" \n"), r#"a\nb\u{1b}[31m "c""#);
        assert_eq!(excerpt(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        let long = excerpt(&vec![b'x'; 10 << 20]);
        assert!(long.len() < EXCERPT + 40 && long.ends_with("… (10485760 bytes in all)"), "{long}");
        assert_eq!(excerpt(b""), "");
    }

    #[test]
    fn lists_are_quoted() {
        assert_eq!(list(&["a=b", "c\"d"]), r#"["a=b" "c\"d"]"#);
        assert_eq!(list::<&str>(&[]), "[]");
    }
}
