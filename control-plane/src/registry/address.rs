//! Addresses that traffic is sent to. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::meta::findings::{Findings, Spot};

/// What is said of what is no address.
pub const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// An address of some host: not of this one, of its link alone, or of nobody.
pub fn check(address: &Spot<'_>, findings: &mut Findings) {
    match address.text().parse() {
        Ok(parsed) => check_special(address, parsed, findings),
        Err(_) => findings.invalid(address, NO_ADDRESS),
    }
}

/// A network as it is written: an address, `/` and how many bits count.
pub fn network(text: &str) -> Option<IpNetwork> {
    let (_, prefix) = text.split_once('/')?;
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn check_special(address: &Spot<'_>, parsed: IpAddr, findings: &mut Findings) {
    let [near, near_group] = match parsed {
        IpAddr::V4(four) => [four.is_link_local(), four.octets()[..3] == [224, 0, 0]],
        IpAddr::V6(six) => [six.is_unicast_link_local(), six.segments()[0] & 0xff0f == 0xff02],
    };
    if parsed.is_unspecified() {
        findings.invalid(address, format!("may not be unspecified ({parsed})"));
    }
    for (is, why) in [
        (parsed.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (near, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (near_group, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if is {
            findings.invalid(address, why);
        }
    }
}

/// What there is to tell of an IPv6 address, or of a network, that is not written as RFC 5952 has it: who compares texts takes it for
/// another one.
pub fn form_warning(spot: &Spot<'_>) -> Option<String> {
    let (address, length) = spot
        .text()
        .split_once('/')
        .map_or((spot.text(), None), |(text, length)| (text, Some(length)));
    let parsed: Ipv6Addr = address.parse().ok()?;
    let (what, canonical) = match length {
        None => ("address", parsed.to_string()),
        Some(length) => ("prefix", format!("{parsed}/{length}")),
    };
    (canonical != spot.text()).then(|| {
        format!(
            "{}: IPv6 {what} {:?} is not in RFC 5952 canonical format ({canonical:?}), which may cause controller apply-loops",
            spot.path,
            spot.text()
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn traffic_is_sent_to_other_hosts() {
        let told = |text: &str| {
            let (value, mut findings) = (json!(text), Findings::default());
            check(&Spot::root(&value), &mut findings);
            findings.into_vec().into_iter().map(|error| error.detail).collect::<Vec<_>>()
        };
        assert!(told("10.0.0.1").is_empty() && told("2001:db8::1").is_empty());
        assert_eq!(told("10.0.0.01"), [NO_ADDRESS]);
        assert_eq!(told("0.0.0.0"), ["may not be unspecified (0.0.0.0)"]);
        for (text, range) in [
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("169.254.1.1", "link-local range"),
            ("fe80::1", "link-local range"),
            ("224.0.0.5", "link-local multicast"),
            ("ff02::1", "link-local multicast"),
        ] {
            assert!(told(text).len() == 1 && told(text)[0].contains(range), "{text}");
        }
    }

    #[test]
    fn addresses_have_one_form() {
        let told = |text: &str| form_warning(&Spot::root(&json!(text)));
        for good in ["10.0.0.1", "2001:db8::1", "2001:db8::/64", "10.0.0.0/8", "", "None"] {
            assert_eq!(told(good), None, "{good}");
        }
        assert_eq!(
            told("2001:DB8:0::1").unwrap(),
            r#"<nil>: IPv6 address "2001:DB8:0::1" is not in RFC 5952 canonical format ("2001:db8::1"), which may cause controller apply-loops"#
        );
        assert!(
            told("2001:db8:0::/64").unwrap().contains(r#"IPv6 prefix "2001:db8:0::/64" is not"#)
        );
    }
}
