//! Every namespace has the authority's certificate, so that pods can tell that it is the server whom they speak to.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::account::{is_active, namespaces_concerned};
use super::{Controller, Key, if_found, place, unless_there};
use crate::api::Api;
use crate::api::options::WriteOptions;
use crate::api::status::Status;
use crate::api::update::Part;
use crate::registry::Kind;

/// The name of the `ConfigMap`, which pods' token volumes name.
pub const NAME: &str = "kube-root-ca.crt";
const CONFIG_MAPS: (&str, &str, &str) = ("", "v1", "configmaps");

/// Publishes a certificate in each namespace, and puts it right where it was changed.
#[derive(Debug)]
pub struct RootCa {
    /// The certificate, PEM.
    pub certificate: String,
}

impl RootCa {
    fn object(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "annotations": {"kubernetes.io/description":
                "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc."}},
            "data": {"ca.crt": self.certificate},
        })
    }
}

#[async_trait]
impl Controller for RootCa {
    fn name(&self) -> &'static str {
        "root-ca"
    }

    fn follows(&self, kind: &Kind) -> bool {
        kind.group.is_empty() && matches!(&*kind.plural, "namespaces" | "configmaps")
    }

    fn concerned(&self, kind: &Kind, before: Option<&Value>, after: Option<&Value>) -> Vec<Key> {
        namespaces_concerned(kind, before, after, NAME)
    }

    async fn reconcile(&self, api: &Api, key: &Key) -> Result<Option<Duration>, Status> {
        if !is_active(api, key).await? {
            return Ok(None);
        }
        let mut map = place(api, CONFIG_MAPS, &key.name, NAME)?;
        let wanted = self.object();
        match if_found(api.get(&map).await)? {
            Some(found) if found["data"] == wanted["data"] => {}
            Some(_) => {
                let change = |old: &Value| {
                    let mut new = old.clone();
                    new["data"] = wanted["data"].clone();
                    Ok(new)
                };
                api.modify(&map, Part::Main, None, &WriteOptions::default(), change).await?;
            }
            None => {
                map.name.clear();
                unless_there(api.create(&map, wanted, &WriteOptions::default()).await)?;
            }
        }
        Ok(None)
    }
}
