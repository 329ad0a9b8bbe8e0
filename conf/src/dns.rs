//! Names as RFC 1123 has them and Kubernetes asks for them: small letters, digits and dashes.

/// Up to 63 characters, with a letter or a digit at both ends.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Up to 253 characters: parts like labels with dots between them. A part may be longer than a label, as Kubernetes has it.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_name() {
        let (label, part) = ("a".repeat(63), "a".repeat(64));
        let long = format!("{part}.{part}.{part}.{}", "a".repeat(58));
        let table: [(&str, bool, bool); 12] = [
            ("a", true, true),
            ("node-1", true, true),
            (&label, true, true),
            (&part, false, true),
            ("node-1.example.com", false, true),
            (&long, false, true),
            (&format!("{long}a"), false, false),
            ("", false, false),
            ("a..b", false, false),
            ("-a", false, false),
            ("Node", false, false),
            ("a\nb", false, false),
        ];
        for (text, label, subdomain) in table {
            assert_eq!((is_label(text), is_subdomain(text)), (label, subdomain), "{text:?}");
        }
    }
}
