//! `/healthz`, `/livez`, `/readyz`, `/version`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::Server;
use super::answer::{self, Answer};
use crate::api::options::Query;

const PATIENCE: Duration = Duration::from_secs(5);

/// What clients look at to see what this server can do: as Kubernetes of this minor version.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "32", "gitVersion": concat!("v1.32.0+heddle-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What is looked at, by endpoint.
pub const ENDPOINTS: [(&str, &[&str]); 3] = [
    ("healthz", &["ping", "store"]),
    ("livez", &["ping"]),
    ("readyz", &["ping", "store", "shutdown"]),
];

/// The answer of a health endpoint, or of one check below it; `None`: there is no such thing. Alive is who answers; ready is who can
/// read the store and is not ending.
pub async fn answer(server: &Server, path: &str, query: &Query) -> Option<Answer> {
    let (endpoint, one) = match path.split_once('/') {
        Some((endpoint, check)) => (endpoint, Some(check)),
        None => (path, None),
    };
    let (_, names) = ENDPOINTS.into_iter().find(|(name, _)| *name == endpoint)?;
    let (code, text) = match one {
        Some(name) if names.contains(&name) => alone(is_well(server, name).await),
        Some(_) => return None,
        None => {
            let excluded: Vec<&str> = query.all("exclude").collect();
            let mut checks = Vec::new();
            for &name in names {
                let well = excluded.contains(&name) || is_well(server, name).await;
                checks.push((name, well));
            }
            report(endpoint, &checks, &excluded, query.has("verbose"))
        }
    };
    Some(answer::text(code, text))
}

async fn is_well(server: &Server, check: &str) -> bool {
    match check {
        "store" => {
            let read = tokio::time::timeout(PATIENCE, server.api.store.revision()).await;
            matches!(read, Ok(Ok(_)))
        }
        "shutdown" => !*server.ending.borrow(),
        _ => true,
    }
}

fn alone(well: bool) -> (u16, String) {
    if well {
        (200, "ok".to_owned())
    } else {
        (500, "internal server error: reason withheld\n".to_owned())
    }
}

/// All checks of an endpoint, which are told of when one fails or the caller wants it.
fn report(
    endpoint: &str,
    checks: &[(&str, bool)],
    excluded: &[&str],
    verbose: bool,
) -> (u16, String) {
    let well = checks.iter().all(|(_, well)| *well);
    if well && !verbose {
        return (200, "ok".to_owned());
    }
    let line = |(name, well): &(&str, bool)| match well {
        _ if excluded.contains(name) => format!("[+]{name} excluded: ok\n"),
        true => format!("[+]{name} ok\n"),
        false => format!("[-]{name} failed: reason withheld\n"),
    };
    let mut text: String = checks.iter().map(line).collect();
    let known = |name: &str| checks.iter().any(|(check, _)| *check == name);
    let unknown: BTreeSet<String> =
        excluded.iter().filter(|name| !known(name)).map(|name| format!("{name:?}")).collect();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.into_iter().collect();
        let names = names.join(",");
        text += &format!("warn: some health checks cannot be excluded: no matches for {names}\n");
    }
    text += &format!("{endpoint} check {}\n", if well { "passed" } else { "failed" });
    (if well { 200 } else { 500 }, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_told_of_when_one_fails_or_it_is_asked_for() {
        let (good, bad) = ([("ping", true), ("store", true)], [("ping", true), ("store", false)]);
        for (checks, excluded, verbose, expected) in [
            (good, vec![], false, (200, "ok")),
            (good, vec![], true, (200, "[+]ping ok\n[+]store ok\nreadyz check passed\n")),
            (
                bad,
                vec![],
                false,
                (500, "[+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n"),
            ),
            (
                good,
                vec!["store", "etcd", "a", "etcd"],
                true,
                (
                    200,
                    "[+]ping ok\n[+]store excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"a\",\"etcd\"\nreadyz check passed\n",
                ),
            ),
        ] {
            let told = report("readyz", &checks, &excluded, verbose);
            assert_eq!((told.0, told.1.as_str()), expected);
        }
    }
}
