//! `/healthz`, `/livez`, `/readyz`, `/version`.

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

/// The answer of a health endpoint. Alive is who answers; ready is who can read the store and is not ending.
pub async fn check(server: &Server, endpoint: &str, query: &Query) -> Answer {
    let mut checks = vec![("ping", true)];
    if endpoint != "livez" {
        let read = tokio::time::timeout(PATIENCE, server.api.store.revision()).await;
        checks.push(("store", matches!(read, Ok(Ok(_)))));
    }
    if endpoint == "readyz" {
        checks.push(("shutdown", !*server.ending.borrow()));
    }
    let well = checks.iter().all(|(_, well)| *well);
    let verbose = query.has("verbose");
    if well && !verbose {
        return answer::text(200, "ok");
    }
    let mut text = String::new();
    for (name, well) in checks {
        text += &if well {
            format!("[+]{name} ok\n")
        } else {
            format!("[-]{name} failed: reason withheld\n")
        };
    }
    text += &format!("{endpoint} check {}\n", if well { "passed" } else { "failed" });
    answer::text(if well { 200 } else { 500 }, text)
}
