//! Objects are made only in namespaces that exist and are not on their way out.

use serde_json::{Value, json};

use super::status::Status;
use super::{Api, Place, decode};
use crate::registry::column::text;
use crate::store::{Condition, Operation, Write};

impl Api {
    /// What must still hold of the namespace when the object is written, so that no object is left in a namespace that was
    /// emptied at the same moment.
    pub(super) async fn namespace_holds(&self, place: &Place) -> Result<Option<Operation>, Status> {
        let Some(namespaces) =
            self.registry.at("", "v1", "namespaces").filter(|_| place.kind.namespaced)
        else {
            return Ok(None);
        };
        let of =
            Place { kind: namespaces, namespace: String::new(), name: place.namespace.clone() };
        let record = self.record(&of).await?;
        if is_ending(&decode(&of.kind, &record)?) {
            return Err(ending(place));
        }
        let condition = Condition::At(record.modified);
        Ok(Some(Operation { key: record.key, condition, write: Write::Check }))
    }
}

fn is_ending(namespace: &Value) -> bool {
    !text(namespace, "/metadata/deletionTimestamp").is_empty()
}

fn ending(place: &Place) -> Status {
    let namespace = &place.namespace;
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let cause = json!({
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    });
    Status::forbidden(&place.kind, &place.name, &why).with_causes(vec![cause])
}
