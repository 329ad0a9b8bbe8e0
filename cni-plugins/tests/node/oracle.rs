//! The reference as an oracle: the same story told with both suites, and the differences that are meant.

use serde_json::Value;

use super::{Suite, state};

/// Words, and why lines that contain all of them are no surprise.
pub type Meant = (&'static [&'static str], &'static str);

pub const TXQLEN: Meant = (
    &["txqlen: ours 1000, reference null"],
    "newer ones leave an interface the kernel's queue length, too",
);
pub const KEEP_ADDR: Meant = (
    &["keep_addr_on_down:1", "keep_addr_on_down:0"],
    "newer ones keep IPv6 addresses when a link goes down",
);
pub const NODAD: Meant = (
    &["addr_info", "nodad: ours true, reference null"],
    "a tentative gateway does not answer for its first seconds",
);
pub const TAG: Meant =
    (&["ifalias: ours \"cni:testnet:"], "the text by which GC and DEL find the host's end");

/// Subnets of a bridge.
pub const V4: &[&str] = &["10.88.0.0/24"];
pub const V6: &[&str] = &["fd88::/64"];
pub const DUAL: &[&str] = &["10.88.0.0/24", "fd88::/64"];

/// The differences between what our suite leaves and what the reference does, one a line, but for those that are `meant`.
pub fn differences(ours: &Value, theirs: &Value, meant: &[Meant]) -> Vec<String> {
    let mut found = state::differences("", ours, theirs);
    found.retain(|line| !is_meant(line, meant));
    found
}

/// Whether a difference is one of those that are meant.
pub fn is_meant(line: &str, meant: &[Meant]) -> bool {
    meant.iter().any(|(words, _)| words.iter().all(|word| line.contains(word)))
}

/// Every case's story must be the same with both suites.
pub fn compare<C>(
    cases: &[C],
    meant: &[Meant],
    name: impl Fn(&C) -> String,
    story: impl Fn(Suite, &C) -> Value,
) {
    let mut wrong = Vec::new();
    for case in cases {
        let (ours, theirs) = (story(Suite::Heddle, case), story(Suite::Reference, case));
        let found = differences(&ours, &theirs, meant).into_iter();
        wrong.extend(found.map(|line| format!("{}: {line}", name(case))));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
