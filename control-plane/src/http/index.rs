//! `/`: the paths that can be asked for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::health;
use crate::auth::token::discovery::{CONFIGURATION_PATH, JWKS_PATH};
use crate::registry::Registry;

/// Paths that are there whatever kinds are served.
const FIXED: [&str; 8] = [
    CONFIGURATION_PATH,
    JWKS_PATH,
    "/api",
    "/apis",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/version",
];

/// The answer to `/`, with line breaks: people read it.
pub fn answer(registry: &Registry) -> Answer {
    answer::bytes(200, "application/json", format!("{:#}", document(registry)))
}

fn document(registry: &Registry) -> Value {
    let mut paths: BTreeSet<String> = FIXED.map(str::to_owned).into();
    for kind in registry.all() {
        if kind.group.is_empty() {
            paths.insert(format!("/api/{}", kind.version));
        } else {
            paths.insert(format!("/apis/{}", kind.group));
            paths.insert(format!("/apis/{}/{}", kind.group, kind.version));
        }
    }
    for (endpoint, checks) in health::ENDPOINTS {
        paths.insert(format!("/{endpoint}"));
        paths.extend(checks.iter().map(|check| format!("/{endpoint}/{check}")));
    }
    json!({ "paths": paths })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Kind;

    #[test]
    fn paths_are_told_once_and_in_order() {
        let registry = Registry::default();
        registry.add(Kind::new("", "v1", "Pod", "pods"));
        registry.add(Kind::new("apps", "v1", "Deployment", "deployments"));
        registry.add(Kind::new("apps", "v1", "ReplicaSet", "replicasets"));
        assert_eq!(
            document(&registry)["paths"],
            json!([
                "/.well-known/openid-configuration",
                "/api",
                "/api/v1",
                "/apis",
                "/apis/apps",
                "/apis/apps/v1",
                "/healthz",
                "/healthz/ping",
                "/healthz/store",
                "/livez",
                "/livez/ping",
                "/metrics",
                "/openapi/v2",
                "/openapi/v3",
                "/openid/v1/jwks",
                "/readyz",
                "/readyz/ping",
                "/readyz/shutdown",
                "/readyz/store",
                "/version",
            ])
        );
    }
}
