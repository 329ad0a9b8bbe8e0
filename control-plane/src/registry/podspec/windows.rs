//! What a pod says of Windows alone. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use serde_json::Value;

use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

/// Lengths that Kubernetes allows: of a credential, of the domain of a user, of the user's own name.
const CREDENTIAL: usize = 64 * 1024;
const DOMAIN: usize = 256;
const USER: usize = 104;

/// Looks at the options of a pod, or of a container.
pub(super) fn check_options(options: &Spot<'_>, findings: &mut Findings) {
    let [by_name, credential, user] =
        ["gmsaCredentialSpecName", "gmsaCredentialSpec", "runAsUserName"]
            .map(|field| options.field(field));
    if by_name.is_there() {
        findings.sentences(&by_name, name::dns_subdomain(by_name.text()));
    }
    if credential.is_there() {
        match credential.text().len() {
            0 => findings.invalid(&credential, "gmsaCredentialSpec cannot be an empty string"),
            length if length > CREDENTIAL => {
                findings.invalid(&credential, "gmsaCredentialSpec size must be under 64 KiB");
            }
            _ => {}
        }
    }
    if user.is_there() {
        check_user(&user, findings);
    }
}

/// `user`, or `domain\user`.
fn check_user(spot: &Spot<'_>, findings: &mut Findings) {
    let text = spot.text();
    if text.is_empty() {
        findings.invalid(spot, "runAsUserName cannot be an empty string");
    } else if text.bytes().any(|byte| byte.is_ascii_control()) {
        findings.invalid(spot, "runAsUserName cannot contain control characters");
    } else if text.matches('\\').count() > 1 {
        findings.invalid(spot, "runAsUserName cannot contain more than one backslash");
    } else {
        let (domain, user) =
            text.split_once('\\').map_or((None, text), |(domain, user)| (Some(domain), user));
        let of_domain = domain.map(domain_mistakes).unwrap_or_default();
        for why in of_domain.into_iter().chain(user_mistakes(user)) {
            findings.invalid(spot, why);
        }
    }
}

fn domain_mistakes(domain: &str) -> Vec<&'static str> {
    [
        (domain.len() >= DOMAIN, "runAsUserName's Domain length must be under 256 characters"),
        (
            !is_netbios(domain) && !is_dns(domain),
            "runAsUserName's Domain doesn't match the NetBios nor the DNS format",
        ),
    ]
    .into_iter()
    .filter_map(|(is, why)| is.then_some(why))
    .collect()
}

fn user_mistakes(user: &str) -> Vec<&'static str> {
    let blank = !user.is_empty() && user.bytes().all(|byte| matches!(byte, b'.' | b' '));
    [
        (user.is_empty(), "runAsUserName's User cannot be empty"),
        (user.len() > USER, "runAsUserName's User length must not be longer than 104 characters"),
        (blank, "runAsUserName's User cannot contain only periods or spaces"),
        (
            user.contains(|sign| r#""/\:;|=,+*?<>@[]"#.contains(sign)),
            r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#,
        ),
    ]
    .into_iter()
    .filter_map(|(is, why)| is.then_some(why))
    .collect()
}

/// Up to 15 signs, of which the first is no dot.
fn is_netbios(domain: &str) -> bool {
    let good = |sign: char| !r#"\/:*?"<>|"#.contains(sign);
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && domain.chars().all(good)
}

/// Labels of letters, digits and dashes, in either case.
fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| name::dns_label(&label.to_ascii_lowercase()).is_empty())
}

/// Containers that are processes of the host are all of a pod's, or none.
pub(super) fn check_host_process(spec: &Spot<'_>, findings: &mut Findings) {
    let whole = asks(spec);
    let (mut all, mut of_host) = (0, 0);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.field(list).items() {
            let own = asks(&container);
            if let (Some(whole), Some(own)) = (whole.value.as_bool(), own.value.as_bool())
                && whole != own
            {
                let why = format!(
                    "pod hostProcess value must be identical if both are specified, was {whole}"
                );
                findings.invalid(&asks(&container), why);
            }
            let said = own.value.as_bool().or(whole.value.as_bool());
            all += 1;
            of_host += u32::from(said == Some(true));
        }
    }
    if of_host == 0 {
        return;
    }
    if of_host != all {
        let nothing = Value::from("");
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        findings.invalid(&Spot::at(&nothing, spec.path.clone()), why);
    }
    let network = spec.field("hostNetwork");
    if !network.is_true() {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        findings.invalid(&Spot::at(&Value::Bool(false), network.path), why);
    }
}

/// Whether a pod or a container asks to be a process of the host.
fn asks<'a>(of: &Spot<'a>) -> Spot<'a> {
    of.field("securityContext").field("windowsOptions").field("hostProcess")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::spec::tests::{all_told, container, pod};

    #[test]
    fn options_are_looked_at() {
        let user = |name: &str| {
            pod(json!({"securityContext": {"windowsOptions": {"runAsUserName": name}}}))
        };
        for good in ["me", r"corp\me", r"corp.example\me.too", "NT_x y"] {
            all_told(&[(user(good), &[])]);
        }
        let long = format!(r"{}\me", "a".repeat(64));
        let told = |name: &str, why: &str| {
            let shown = serde_json::to_string(name).unwrap();
            let line = format!(
                "spec.securityContext.windowsOptions.runAsUserName: Invalid value: {shown}: {why}"
            );
            all_told(&[(user(name), &[line.as_str()])]);
        };
        told("", "runAsUserName cannot be an empty string");
        told("a\tb", "runAsUserName cannot contain control characters");
        told(r"a\b\c", "runAsUserName cannot contain more than one backslash");
        told(&long, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        told(r".a\me", "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        told(r"corp\", "runAsUserName's User cannot be empty");
        told(
            &"u".repeat(105),
            "runAsUserName's User length must not be longer than 104 characters",
        );
        told(". .", "runAsUserName's User cannot contain only periods or spaces");
        told(
            "a@b",
            r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#,
        );
        let of_container =
            |options| container(json!({"securityContext": {"windowsOptions": options}}));
        all_told(&[(
            of_container(json!({"gmsaCredentialSpecName": "A", "gmsaCredentialSpec": ""})),
            &[
                "spec.containers[0].securityContext.windowsOptions.gmsaCredentialSpecName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "spec.containers[0].securityContext.windowsOptions.gmsaCredentialSpec: Invalid value: \"\": gmsaCredentialSpec cannot be an empty string",
            ],
        )]);
    }

    #[test]
    fn a_process_of_the_host_is_never_alone() {
        let of = |is| json!({"windowsOptions": {"hostProcess": is}});
        let two = |first, second| {
            json!([{"name": "a", "image": "a:1", "securityContext": of(first)},
                {"name": "b", "image": "b:1", "securityContext": of(second)}])
        };
        let network = "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers";
        let alone = r#"spec: Invalid value: "": If pod contains any hostProcess containers then all containers must be HostProcess containers"#;
        all_told(&[
            (pod(json!({"hostNetwork": true, "securityContext": of(true)})), &[]),
            (pod(json!({"securityContext": of(true)})), &[network]),
            (pod(json!({"containers": two(true, false)})), &[alone, network]),
            (
                pod(
                    json!({"securityContext": of(false), "hostNetwork": true, "containers": two(true, true)}),
                ),
                &[
                    "spec.containers[0].securityContext.windowsOptions.hostProcess: Invalid value: true: pod hostProcess value must be identical if both are specified, was false",
                    "spec.containers[1].securityContext.windowsOptions.hostProcess: Invalid value: true: pod hostProcess value must be identical if both are specified, was false",
                ],
            ),
            (pod(json!({"containers": two(false, false)})), &[]),
        ]);
    }
}
