//! How others find the keys of service-account tokens (`OpenID` Connect Discovery 1.0, as far as Kubernetes needs it).

use serde_json::{Value, json};

/// Where the keys are, below the issuer's address.
pub const JWKS_PATH: &str = "/openid/v1/jwks";

/// Where the document is that leads there.
pub const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";

/// The document that leads to the keys. `issuer`: the `iss` of the tokens; `address`: where clients reach this server, such as
/// `https://10.0.0.1:6443`; `algorithms`: of the keys.
pub fn configuration(issuer: &str, address: &str, algorithms: &[&str]) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{}{JWKS_PATH}", address.trim_end_matches('/')),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_leads_to_the_keys() {
        let issuer = "https://kubernetes.default.svc.cluster.local";
        let document = configuration(issuer, "https://10.0.0.1:6443/", &["ES256"]);
        assert_eq!(document["jwks_uri"], "https://10.0.0.1:6443/openid/v1/jwks");
        assert_eq!(document["issuer"], "https://kubernetes.default.svc.cluster.local");
        assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
    }
}
