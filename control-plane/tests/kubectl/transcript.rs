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

/// What kubectl logs of the watch that it breaks off itself when it has waited long enough: the deadline closes its connection and stops
/// its reflector at the same time, and when the reflector sees the first before the second, it logs that the watch was short, or that the
/// next one cannot be begun. Where kubectl has not timed out, such lines would be the server's fault and stay.
pub fn without_race(errors: &str) -> String {
    const BROKEN_OFF: &str = r#"^[EW]\d{4} .* reflector\.go:\d+\] .*(: very short watch: .*|: context deadline exceeded")$"#;
    let gave_up = errors.contains("timed out waiting for the condition");
    let race = Regex::new(BROKEN_OFF).expect("a pattern of ours");
    let lines = errors.lines().filter(|line| !(gave_up && race.is_match(line)));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn only_who_gave_up_breaks_a_watch_off() {
    let short = "W1121 19:09:34.429538   13816 reflector.go:492] client-go/informerwatcher.go:146: watch of *u.U ended with: very short watch: client-go/informerwatcher.go:146: Unexpected watch close - watch lasted less than a second and no items received";
    let next = r#"E1121 19:09:45.001547   14935 reflector.go:166] "Unhandled Error" err="client-go/informerwatcher.go:146: Failed to watch *u.U: context deadline exceeded""#;
    let refused = r#"E1121 19:09:45.001547   14935 reflector.go:166] "Unhandled Error" err="client-go/informerwatcher.go:146: Failed to watch *u.U: forbidden""#;
    let end = "error: timed out waiting for the condition on configmaps/kept";
    assert_eq!(without_race(&format!("{short}\n{next}\n{end}\n")), end);
    assert_eq!(without_race(&format!("{refused}\n{end}")), format!("{refused}\n{end}"));
    assert_eq!(without_race(&format!("{short}\n{next}")), format!("{short}\n{next}"));
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
