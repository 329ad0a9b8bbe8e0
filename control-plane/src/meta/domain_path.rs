//! Names that belong to somebody's domain: `acme.io/foo`, and host names with a domain.

use serde_json::json;

use super::field_error::FieldError;
use super::findings::{Findings, Spot};
use super::name;

/// A domain, `/` and a path (`IsDomainPrefixedPath`).
pub fn check(spot: &Spot<'_>, findings: &mut Findings) {
    const PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    let text = spot.text();
    if text.is_empty() {
        findings.required(spot, "");
        return;
    }
    let (domain, path) = text.split_once('/').unwrap_or_default();
    if domain.is_empty() || path.is_empty() {
        findings.invalid(spot, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    }
    let mut refuse = |part: &str, why: String| {
        findings.add(FieldError::invalid(spot.path.clone(), &json!(part), why));
    };
    for why in name::dns_subdomain(domain) {
        refuse(domain, why);
    }
    let known = |sign: u8| sign.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&sign);
    if !path.bytes().all(known) {
        refuse(path, format!("Invalid path (regex used for validation is '{PATH}')"));
    }
}

/// A host with its domain (`IsFullyQualifiedDomainName`); it may end in a dot.
pub fn check_host(spot: &Spot<'_>, findings: &mut Findings) {
    if spot.text().is_empty() {
        findings.required(spot, "");
        return;
    }
    let host = spot.text().strip_suffix('.').unwrap_or(spot.text());
    let mut refuse = |part: &str, why: &[String]| {
        if !why.is_empty() {
            findings.add(FieldError::invalid(spot.path.clone(), &json!(part), why.join(",")));
        }
    };
    refuse(host, &name::dns_subdomain(host));
    if !host.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        refuse(host, &[why.to_owned()]);
    }
    for label in host.split('.') {
        refuse(label, &name::dns_label(label));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(check: fn(&Spot<'_>, &mut Findings), text: &str) -> Vec<String> {
        let (value, mut findings) = (json!(text), Findings::default());
        check(&Spot::root(&value), &mut findings);
        findings.into_vec().iter().map(FieldError::body).collect()
    }

    #[test]
    fn a_path_has_a_domain() {
        for (text, expected) in [
            ("acme.io/foo", &[][..]),
            ("acme/foo/bar:1", &[]),
            ("", &["Required value"]),
            ("acme.io", &["must be a domain-prefixed path (such as \"acme.io/foo\")"]),
            ("/foo", &["must be a domain-prefixed path"]),
            ("acme.io/", &["must be a domain-prefixed path"]),
            (
                "Acme.io/a b",
                &["\"Acme.io\": a lowercase RFC 1123 subdomain", "\"a b\": Invalid path (regex"],
            ),
        ] {
            let told = told(check, text);
            assert_eq!(told.len(), expected.len(), "{text}: {told:?}");
            assert!(told.iter().zip(expected).all(|(one, part)| one.contains(part)), "{told:?}");
        }
    }

    #[test]
    fn a_host_has_a_domain() {
        for (text, expected) in [
            ("www.example.com", &[][..]),
            ("example.com.", &[]),
            ("", &["Required value"]),
            ("example", &["should be a domain with at least two segments separated by dots"]),
            ("a_b.com", &["subdomain", "\"a_b\": a lowercase RFC 1123 label"]),
        ] {
            let told = told(check_host, text);
            assert_eq!(told.len(), expected.len(), "{text}: {told:?}");
            assert!(told.iter().zip(expected).all(|(one, part)| one.contains(part)), "{told:?}");
        }
    }
}
