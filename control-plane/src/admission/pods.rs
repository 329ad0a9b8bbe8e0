//! Pods get what the cluster adds to them.

use async_trait::async_trait;

use super::{Plugin, account, priority, tolerations};
use crate::api::options::ListOptions;
use crate::api::status::Status;
use crate::api::{Admission, Admitted, Api};
use crate::controllers::{if_found, place};
use crate::meta::name;
use crate::meta::object::Meta;

const ACCOUNTS: (&str, &str, &str) = ("", "v1", "serviceaccounts");
const CLASSES: (&str, &str, &str) = ("scheduling.k8s.io", "v1", "priorityclasses");

/// Service account, priority and tolerations of new pods.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// What is left out.
    pub disabled: Vec<Plugin>,
}

impl Pods {
    fn has(&self, plugin: Plugin) -> bool {
        !self.disabled.contains(&plugin)
    }
}

#[async_trait]
impl Admission for Pods {
    async fn admit(&self, api: &Api, write: &mut Admitted<'_>) -> Result<(), Status> {
        let kind = &write.place.kind;
        if write.old.is_some()
            || !kind.group.is_empty()
            || kind.plural != "pods"
            || !write.object["spec"].is_object()
        {
            return Ok(());
        }
        let refuse = |why: String| Status::forbidden(kind, Meta::of(write.object).name(), &why);
        let namespace = &write.place.namespace;
        let mut pod = write.object.clone();
        if self.has(Plugin::ServiceAccount) {
            let named = place(api, ACCOUNTS, namespace, account::name(&pod["spec"]))?;
            let account = if_found(api.get(&named).await)?;
            let suffix = name::generated("");
            account::admit(&mut pod, namespace, account.as_ref(), &suffix)
                .map_err(|error| refuse(error.to_string()))?;
        }
        if self.has(Plugin::Priority) {
            let classes =
                api.list(&place(api, CLASSES, "", "")?, &ListOptions::default()).await?.objects;
            priority::admit(&mut pod["spec"], &classes)
                .map_err(|error| refuse(error.to_string()))?;
        }
        if self.has(Plugin::DefaultTolerationSeconds) {
            tolerations::add(&mut pod["spec"]);
        }
        *write.object = pod;
        Ok(())
    }
}
