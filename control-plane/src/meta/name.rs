//! Which names are names, in the words of Kubernetes (`k8s.io/apimachinery/pkg/util/validation`).
//!
//! Every rule answers with the sentences that are wrong about a name; none: the name is good. A caller puts each sentence into a
//! [`FieldError`](super::field_error::FieldError) of its own.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>

/// A rule for names: what is wrong with this one.
pub type Rule = fn(&str) -> Vec<String>;

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;
const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// A name of one part, such as a Namespace's (RFC 1123 label).
pub fn dns_label(name: &str) -> Vec<String> {
    let mut wrong = too_long(name, LABEL_MAX);
    if !is_label(name) {
        wrong.push(if is_subdomain(name) {
            "must not contain dots".to_owned()
        } else {
            mismatch(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    wrong
}

/// A name with dots, such as a Pod's (RFC 1123 subdomain).
pub fn dns_subdomain(name: &str) -> Vec<String> {
    let mut wrong = too_long(name, SUBDOMAIN_MAX);
    if !is_subdomain(name) {
        wrong.push(mismatch(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    wrong
}

/// A name that begins with a letter, such as a Service's (RFC 1035 label).
pub fn dns_1035_label(name: &str) -> Vec<String> {
    let mut wrong = too_long(name, LABEL_MAX);
    if !(is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase())) {
        wrong.push(mismatch(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

/// A subdomain whose first part is `*`, such as the host of an Ingress rule.
pub fn wildcard_subdomain(name: &str) -> Vec<String> {
    let mut wrong = too_long(name, SUBDOMAIN_MAX);
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        wrong.push(mismatch(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    wrong
}

/// A name that is only a part of a path, such as a Role's: anything but `.`, `..`, `/` and `%`.
pub fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|sign| name.contains(**sign))
        .map(|sign| format!("may not contain '{sign}'"))
        .collect()
}

/// A key of labels and annotations, a finalizer, a condition: a name, with a subdomain and `/` before it or not.
pub fn qualified(name: &str) -> Vec<String> {
    let (mut wrong, name) = match *name.split('/').collect::<Vec<_>>() {
        [name] => (Vec::new(), name),
        ["", name] => (vec!["prefix part must be non-empty".to_owned()], name),
        [prefix, name] => (prefixed("prefix part ", dns_subdomain(prefix)), name),
        _ => {
            let text = qualified_mismatch();
            return vec![format!(
                "a qualified name {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    }
    wrong.extend(prefixed("name part ", too_long(name, LABEL_MAX)));
    if !is_qualified_part(name) {
        wrong.push(format!("name part {}", qualified_mismatch()));
    }
    wrong
}

/// Why a condition is what it is, in one word.
pub fn condition_reason(reason: &str) -> Vec<String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_,:".contains(&byte);
    let ends = reason.starts_with(|first: char| first.is_ascii_alphabetic())
        && reason.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_');
    if ends && reason.bytes().all(inner) {
        return Vec::new();
    }
    vec![mismatch(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, LABEL_MAX);
    if !(value.is_empty() || is_qualified_part(value)) {
        wrong.push(mismatch(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &format!("({QUALIFIED})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

/// A key of a `ConfigMap`'s or a Secret's data: a file name.
pub fn config_key(key: &str) -> Vec<String> {
    let mut wrong = too_long(key, SUBDOMAIN_MAX);
    if key.is_empty()
        || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        wrong.push(mismatch(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match key {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        _ if key.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// The name of a port (RFC 6335 service name, in lower case).
pub fn port(name: &str) -> Vec<String> {
    let rules = [
        (
            name.is_empty() || !name.bytes().all(is_label_byte),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            !name.bytes().any(|byte| byte.is_ascii_lowercase()),
            "must contain at least one letter (a-z)",
        ),
        (name.contains("--"), "must not contain consecutive hyphens"),
        (name.starts_with('-') || name.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    let broken = rules.iter().filter(|(broken, _)| *broken).map(|(_, text)| (*text).to_owned());
    too_long(name, 15).into_iter().chain(broken).collect()
}

/// What is wrong with `metadata.generateName`: the rule of the name, but it may end in `-`, because more comes after it.
pub fn generate_name(rule: Rule, base: &str) -> Vec<String> {
    match base.strip_suffix('-') {
        Some(head) if !head.is_empty() => {
            let end = head.char_indices().last().map_or(0, |(index, _)| index);
            rule(&format!("{}a", &head[..end]))
        }
        _ => rule(base),
    }
}

/// How many signs a generated name adds.
const SUFFIX: usize = 5;

/// A name from `metadata.generateName`: the base, cut so that the result has at most 63 bytes, and five signs at random.
pub fn generated(base: &str) -> String {
    use rand::RngExt;
    let mut random = rand::rng();
    with_suffix(base, |count| random.random_range(0..count))
}

/// As [`generated`], with the choice of the signs left to the caller: `draw(count)` is less than `count`.
fn with_suffix(base: &str, mut draw: impl FnMut(usize) -> usize) -> String {
    // no vowels and nothing that looks like another sign, so that no word comes about and none is misread
    const SIGNS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let cut = base.floor_char_boundary(LABEL_MAX - SUFFIX);
    let suffix = (0..SUFFIX).map(|_| char::from(SIGNS[draw(SIGNS.len())]));
    base[..cut].chars().chain(suffix).collect()
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(is_label_byte)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_subdomain(name: &str) -> bool {
    name.split('.').all(is_label)
}

/// The part of a qualified name after `/`; a label's value.
fn is_qualified_part(name: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn qualified_mismatch() -> String {
    mismatch(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        QUALIFIED,
        &["MyName", "my.name", "123-abc"],
    )
}

fn prefixed(prefix: &str, wrong: Vec<String>) -> Vec<String> {
    wrong.into_iter().map(|text| format!("{prefix}{text}")).collect()
}

fn too_long(name: &str, most: usize) -> Vec<String> {
    if name.len() > most { vec![format!("must be no more than {most} bytes")] } else { Vec::new() }
}

/// "(e.g. 'a',  or 'b', regex …": the two spaces stand so in Kubernetes.
fn mismatch(text: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|name| format!("'{name}', ")).collect();
    format!("{text} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_names_have_nothing_wrong() {
        let good: &[(Rule, &[&str])] = &[
            (dns_label, &["a", "a-b", "1", "0-9", &"x".repeat(63)]),
            (dns_subdomain, &["a", "a.b", "1.2-3.c", &"x".repeat(253)]),
            (dns_1035_label, &["a", "a-1"]),
            (wildcard_subdomain, &["*.example.com"]),
            (path_segment, &["system:node", "a b", "..."]),
            (qualified, &["a", "A_b.C", "example.com/a", &format!("a.b/{}", "x".repeat(63))]),
            (label_value, &["", "a", "A-1_b.c"]),
            (config_key, &["a", ".a", "A_b", "a..b"]),
            (port, &["http", "a1", "1-a"]),
        ];
        for (rule, names) in good {
            for name in *names {
                assert_eq!(rule(name), Vec::<String>::new(), "{name}");
            }
        }
    }

    #[test]
    fn wrong_names_are_told_in_the_words_of_kubernetes() {
        let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        let part = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        let wrong: &[(Rule, &str, &[&str])] = &[
            (dns_label, "A", &[label]),
            (dns_label, "", &[label]),
            (dns_label, "a.b", &["must not contain dots"]),
            (dns_label, &"x".repeat(64), &["must be no more than 63 bytes"]),
            (path_segment, "..", &["may not be '..'"]),
            (path_segment, "a/b%", &["may not contain '/'", "may not contain '%'"]),
            (qualified, "", &["name part must be non-empty", part]),
            (qualified, "/a", &["prefix part must be non-empty"]),
            (qualified, "a b", &[part]),
            (config_key, "..", &["must not be '..'"]),
            (
                port,
                "1--2",
                &["must contain at least one letter (a-z)", "must not contain consecutive hyphens"],
            ),
        ];
        for (rule, name, sentences) in wrong {
            assert_eq!(rule(name), *sentences, "{name:?}");
        }
        assert!(qualified("a/b/c")[0].starts_with("a qualified name must consist of"));
        assert!(qualified("a/b/c")[0].ends_with("(e.g. 'example.com/MyName')"));
        assert!(qualified("A.B/c")[0].starts_with("prefix part a lowercase RFC 1123 subdomain"));
        assert_eq!(dns_1035_label("1a").len(), 1);
        assert_eq!(wildcard_subdomain("a.*.b").len(), 1);
    }

    #[test]
    fn a_base_may_end_in_a_hyphen() {
        assert_eq!(generate_name(dns_subdomain, "web-"), Vec::<String>::new());
        assert_eq!(generate_name(dns_subdomain, "-").len(), 1);
        assert_eq!(generate_name(dns_subdomain, "Web-").len(), 1);
    }

    #[test]
    fn generated_names_are_cut_at_63_bytes() {
        assert_eq!(with_suffix("web-", |_| 0), "web-bbbbb");
        assert_eq!(
            with_suffix(&"x".repeat(100), |count| count - 1),
            format!("{}99999", "x".repeat(58))
        );
        assert_eq!(with_suffix(&"é".repeat(100), |_| 1).len(), 63);
        assert_ne!(generated("web-"), generated("web-"));
    }

    proptest! {
        #[test]
        fn what_is_generated_from_a_good_base_is_a_good_name(base in "[a-z0-9]{1,80}-?") {
            prop_assert_eq!(dns_label(&generated(&base)), Vec::<String>::new());
        }

        #[test]
        fn no_name_is_too_strange_to_be_judged(name in "\\PC*") {
            for rule in [dns_label, dns_subdomain, dns_1035_label, qualified, label_value, config_key, port, path_segment] {
                rule(&name);
                generate_name(rule, &name);
            }
            generated(&name);
        }
    }
}
