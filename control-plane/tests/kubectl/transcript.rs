//! What is the same on every day: without the ids, times and addresses of this one.

use regex_lite::Regex;

/// Words that differ from run to run, and what is written for them; the order matters.
const WORDS: &[(&str, &str)] = &[
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r#"resourceVersion("?): ?"\d+""#, r#"resourceVersion$1: "RV""#),
    (r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", "TOKEN"),
    (r"\b10\.(9[6-9]|10\d|11[01])\.\d+\.\d+\b", "CLUSTER-ADDRESS"),
    (r"\b(3[01]\d{3}|32[0-7]\d{2})\b", "NODE-PORT"),
    (r"\bkube-api-access-[a-z0-9]{5}\b", "kube-api-access-HASH"),
    (r"X509SHA256=[0-9a-f]{64}", "X509SHA256=HASH"),
    (r"\+heddle-[0-9.]+", "+heddle-VERSION"),
    (r"\blinux/[a-z0-9]+\b", "PLATFORM"),
    (r"\(x(\d+) over [0-9smh]+\)", "(x$1 over AGE)"),
    (r"(?m)(^|  )((\d+m)?\d+s|\d{1,2}m)( \(x|  |$)", "${1}AGE$4"),
];

/// The text without what differs, and with columns as narrow as two spaces: how wide they are depends on the words above, and is
/// kubectl's work.
pub fn normalised(text: &str, own: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (word, name) in own {
        text = text.replace(word, name);
    }
    let lines: Vec<_> = text.lines().map(narrow).collect();
    let mut text = lines.join("\n");
    for (word, name) in WORDS {
        text = Regex::new(word).expect("a pattern of ours").replace_all(&text, *name).into_owned();
    }
    text
}

/// The line with its indent, and otherwise no more than two spaces between its columns.
fn narrow(line: &str) -> String {
    let body = line.trim_start();
    let indent = &line[..line.len() - body.len()];
    let columns = Regex::new("[ \t]{2,}|\t").expect("a pattern of ours");
    format!("{indent}{}", columns.replace_all(body.trim_end(), "  "))
}

#[test]
fn what_differs_is_named_and_the_rest_stays() {
    let text = "NAME      AGE   IP\nweb-12s   12s   10.96.3.4\n  uid: 0b3c9d8e-1234-4abc-9def-0123456789ab\nport 30080 of 8080";
    let expected =
        "NAME  AGE  IP\nweb-12s  AGE  CLUSTER-ADDRESS\n  uid: UID\nport NODE-PORT of 8080";
    assert_eq!(normalised(text, &[]), expected);
    assert_eq!(
        normalised("at https://127.0.0.1:1/x", &[("https://127.0.0.1:1", "SERVER")]),
        "at SERVER/x"
    );
    assert_eq!(normalised("cpu:  100m", &[]), "cpu:  100m");
    assert_eq!(
        normalised("a  3m5s\n\"resourceVersion\": \"17\"", &[]),
        "a  AGE\n\"resourceVersion\": \"RV\""
    );
}
