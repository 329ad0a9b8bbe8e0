//! Formats of texts and numbers. Those that Kubernetes does not know either are taken for remarks.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnetwork::IpNetwork;
use jiff::civil::Date;
use serde_json::Value;

use super::super::cel::is_duration;
use super::super::decode::timestamp;

/// Whether a value has this format; values of a type to which the format does not apply have it.
pub(super) fn holds(format: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => of_text(format, text),
        Value::Number(number) => match (format, number.as_f64()) {
            ("int32", Some(number)) => {
                (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number)
            }
            ("int64", _) => number.is_i64() || number.is_f64(),
            _ => true,
        },
        _ => true,
    }
}

fn of_text(format: &str, text: &str) -> bool {
    match format {
        "ipv4" => Ipv4Addr::from_str(text).is_ok(),
        "ipv6" => Ipv6Addr::from_str(text).is_ok(),
        "cidr" => text.contains('/') && IpNetwork::from_str(text).is_ok(),
        "mac" => is_mac(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => {
            is_uuid(text, format.strip_prefix("uuid").unwrap_or_default())
        }
        "byte" => STANDARD.decode(text).is_ok(),
        "date" => text.len() == 10 && Date::from_str(text).is_ok(),
        "date-time" | "datetime" => timestamp(text).is_some(),
        "duration" => is_duration(text),
        "hostname" => is_hostname(text),
        "email" => {
            text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && is_hostname(host))
        }
        "uri" => is_uri(text),
        _ => true,
    }
}

fn is_mac(text: &str) -> bool {
    let octets: Vec<&str> = text.split([':', '-']).collect();
    let one = |octet: &&str| octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
    [6, 8, 20].contains(&octets.len()) && octets.iter().all(one)
}

fn is_uuid(text: &str, version: &str) -> bool {
    let Ok(uuid) = uuid::Uuid::try_parse(text) else { return false };
    version.is_empty() || version == uuid.get_version_num().to_string()
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty()
            && label.len() <= 63
            && inner
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !text.is_empty() && text.len() <= 253 && text.trim_end_matches('.').split('.').all(label)
}

fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return text.starts_with('/') };
    let mut letters = scheme.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !rest.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_are_told_apart() {
        for (format, good, bad) in [
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fd00::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("mac", "02:00:00:00:00:0a", "02:00:00:00:00"),
            ("uuid", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "f47ac10b"),
            (
                "uuid4",
                "f47ac10b-58cc-4372-a567-0e02b2c3d479",
                "f47ac10b-58cc-3372-a567-0e02b2c3d479",
            ),
            ("byte", "aGk=", "a!"),
            ("date", "2026-03-01", "2026-02-30"),
            ("date-time", "2026-03-01T10:00:00Z", "2026-03-01"),
            ("duration", "1h30m0.5s", "1 hour"),
            ("duration", "0", "1.2.3s"),
            ("hostname", "a-b.example", "-a"),
            ("email", "a@example.org", "@example.org"),
            ("uri", "https://example.org/a?b", "not a uri"),
        ] {
            assert!(holds(format, &json!(good)), "{format} {good}");
            assert!(!holds(format, &json!(bad)), "{format} {bad}");
        }
        assert!(holds("int32", &json!(i32::MAX)) && !holds("int32", &json!(1_i64 << 31)));
        assert!(!holds("int64", &json!(u64::MAX)));
    }
}
