//! Conditions in the language of nftables, as far as we read it: rules are made over netlink, and nobody else is asked what the
//! words mean.
//!
//! ```text
//! ip saddr [!=] 10.0.0.0/8      ip6 daddr [!=] fd00::1
//! [meta] iifname [!=] eth0      [meta] oifname [!=] eth0
//! [meta] mark [and MASK] [!=] 0x10
//! ```
//!
//! Several in a row must all hold.

use std::iter::Peekable;
use std::str::SplitWhitespace;

use cni::{Error, ErrorCode};
use ipnetwork::IpNetwork;
use netns_tools::link;
use netns_tools::nftables::{Family, Rule};

/// A rule with conditions, for a table of one family, [`Family::Ip`] or [`Family::Ip6`].
pub fn rule(family: Family, words: &[String]) -> Result<Rule, Error> {
    let text = words.join(" ");
    let mut words = text.split_whitespace().peekable();
    let mut rule = Rule::new(family);
    while words.peek().is_some() {
        rule = one(rule, family, &mut words).ok_or_else(|| unreadable(&text))?;
    }
    Ok(rule)
}

type Words<'a> = Peekable<SplitWhitespace<'a>>;

/// `None`: this is not one of ours.
fn one(rule: Rule, own: Family, words: &mut Words<'_>) -> Option<Rule> {
    words.next_if_eq(&"meta");
    match words.next()? {
        // Of another family it would never hold.
        family if family == own.name() => address(rule, own, words),
        "iifname" => {
            let (equal, name) = (is_equal(words), interface(words)?);
            Some(if equal { rule.iifname_eq(name) } else { rule.iifname_ne(name) })
        }
        "oifname" => {
            let (equal, name) = (is_equal(words), interface(words)?);
            Some(if equal { rule.oifname_eq(name) } else { rule.oifname_ne(name) })
        }
        "mark" => {
            let masked = words.next_if(|word| matches!(*word, "and" | "&")).is_some();
            let mask = if masked { number(words)? } else { u32::MAX };
            let (equal, value) = (is_equal(words), number(words)?);
            Some(if equal { rule.mark_eq(value, mask) } else { rule.mark_ne(value, mask) })
        }
        _ => None,
    }
}

fn address(rule: Rule, own: Family, words: &mut Words<'_>) -> Option<Rule> {
    let (part, equal) = (words.next()?, is_equal(words));
    let net: IpNetwork = words.next()?.parse().ok()?;
    if net.is_ipv4() != (own == Family::Ip) {
        return None;
    }
    Some(match (part, equal) {
        ("saddr", true) => rule.saddr_eq(net),
        ("saddr", false) => rule.saddr_ne(net),
        ("daddr", true) => rule.daddr_eq(net),
        ("daddr", false) => rule.daddr_ne(net),
        _ => return None,
    })
}

fn is_equal(words: &mut Words<'_>) -> bool {
    words.next_if_eq(&"==");
    words.next_if_eq(&"!=").is_none()
}

/// A whole name; with a `*` it would be the beginning of one.
fn interface<'a>(words: &mut Words<'a>) -> Option<&'a str> {
    let name = words.next()?.trim_matches('"');
    (!name.contains('*') && link::check_name(name).is_ok()).then_some(name)
}

fn number(words: &mut Words<'_>) -> Option<u32> {
    let word = words.next()?;
    match word.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

fn unreadable(text: &str) -> Error {
    let msg = format!("unsupported field: the condition {text:?} is not understood");
    Error::new(ErrorCode::UnsupportedField, msg).with_details(
        "in nftables' language these are: ip|ip6 saddr|daddr [!=] NET, iifname|oifname [!=] NAME, mark [and MASK] [!=] NUMBER; \"backend\": \"iptables\" takes any of iptables'",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(family: Family, text: &str) -> Option<Rule> {
        rule(family, &[text.to_owned()]).ok()
    }

    #[test]
    fn what_is_read() {
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        let v4 = || Rule::new(Family::Ip);
        let cases = [
            ("", v4()),
            ("ip saddr 10.0.0.0/8", v4().saddr_eq(net("10.0.0.0/8"))),
            ("ip daddr != 10.0.0.1", v4().daddr_ne(net("10.0.0.1/32"))),
            ("iifname != \"eth0\"", v4().iifname_ne("eth0")),
            ("meta oifname == eth0", v4().oifname_eq("eth0")),
            ("mark 0x10", v4().mark_eq(16, u32::MAX)),
            ("meta mark and 0xf0 != 32", v4().mark_ne(32, 0xf0)),
            ("iifname a  ip saddr != 10.0.0.0/8", v4().iifname_eq("a").saddr_ne(net("10.0.0.0/8"))),
        ];
        for (text, expected) in cases {
            assert_eq!(read(Family::Ip, text), Some(expected), "{text}");
        }
        let words = ["ip6", "saddr", "fd00::/8"].map(str::to_owned);
        let v6 = Rule::new(Family::Ip6).saddr_eq(net("fd00::/8"));
        assert_eq!(rule(Family::Ip6, &words).unwrap(), v6);
    }

    #[test]
    fn what_is_not_read_is_refused() {
        for text in [
            "ip",
            "ip saddr",
            "ip saddr x",
            "ip saddr { 10.0.0.1 }",
            "ip6 saddr fd00::1",
            "ip saddr fd00::1",
            "ip ttl 3",
            "iifname",
            "iifname eth*",
            "mark",
            "mark and",
            "mark x",
            "tcp dport 80",
            "drop",
        ] {
            let error = rule(Family::Ip, &[text.to_owned()]).unwrap_err();
            assert!(error.msg.contains("is not understood"), "{text}: {error}");
        }
    }
}
