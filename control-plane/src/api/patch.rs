//! Patches: the four ways, over the objects that are stored.

use serde_json::Value;

use super::options::WriteOptions;
use super::status::Status;
use super::typed::typed_by;
use super::update::Part;
use super::{Api, Place};
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::go_value;
use crate::patch::{PatchError, json, merge, strategic};
use crate::registry::Kind;
use crate::schema::Shape;
use crate::schema::definitions::Definitions;

/// A change of an object that a client describes.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902, a list of operations.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own: lists are merged as the kind says.
    Strategic(Value),
}

impl Patch {
    /// What an object of a kind is afterwards.
    pub fn apply(&self, kind: &Kind, object: Value) -> Result<Value, Status> {
        let patched = match self {
            Self::Json(patch) => json::apply(object, patch),
            Self::Merge(patch) => merge::apply(object, patch.clone()),
            Self::Strategic(_) if kind.custom.is_some() => return Err(not_for_custom()),
            Self::Strategic(patch) => {
                let definitions = Definitions::kubernetes();
                let Some(name) = definitions.kind(&kind.group, &kind.version, &kind.kind) else {
                    return Err(Status::unsupported_media_type(&[
                        "application/json-patch+json",
                        "application/merge-patch+json",
                    ]));
                };
                strategic::apply(
                    object,
                    patch.clone(),
                    &Shape::Named(name.clone()),
                    definitions.schemas(),
                )
            }
        };
        patched.map_err(|error| refused(&error))
    }

    /// What of the patch itself does nothing.
    fn mistakes(&self) -> Vec<String> {
        match self {
            Self::Json(patch) => json::unknown_fields(patch),
            Self::Merge(_) | Self::Strategic(_) => Vec::new(),
        }
    }

    /// The answer when what the patch makes is no object of the kind: about the patch, of which Kubernetes quotes the outcome, or
    /// the patch itself, as Go prints it, if it is a strategic one.
    fn no_object(&self, kind: &Kind, old: &Value, status: Status) -> Status {
        if status.code() != 400 {
            return status;
        }
        let quoted = match self {
            Self::Json(_) | Self::Merge(_) => match self.apply(kind, old.clone()) {
                Ok(patched) => patched.to_string(),
                Err(status) => return status,
            },
            Self::Strategic(patch) => go_value::printed(patch),
        };
        let at = FieldPath::root("patch");
        let error = FieldError::invalid(at, &Value::String(quoted), status.message());
        Status::invalid(&Kind::new("", "", "", ""), "", &[error])
    }
}

fn not_for_custom() -> Status {
    Status::unsupported_media_type(&[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    ])
}

/// The answer to a patch that does not apply. Kubernetes keeps to itself why, and clients print the sentence alone.
fn refused(error: &PatchError) -> Status {
    match error {
        PatchError::Malformed(why) => Status::bad_request(why.as_str()),
        PatchError::TooLarge(why) => Status::entity_too_large(why),
        PatchError::Rejected(why) => {
            tracing::debug!(why, "a patch does not apply");
            let message = "the server rejected our request due to an error in our request";
            Status::new(422, "Invalid", message)
        }
    }
}

impl Api {
    /// Patches an object or a part of it; answers with what it became.
    pub async fn patch(
        &self,
        place: &Place,
        part: Part,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let change = |old: &Value| {
            let patched = patch.apply(&place.kind, old.clone())?;
            let mistakes = patch.mistakes();
            let (mut new, told) = typed_by(mistakes, &place.kind, patched, options.validation)
                .map_err(|status| patch.no_object(&place.kind, old, status))?;
            options.warnings.add(told);
            // a patch that does not speak of the version expects none
            let said = new.pointer("/metadata/resourceVersion")
                != old.pointer("/metadata/resourceVersion");
            if !said && let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut)
            {
                metadata.remove("resourceVersion");
            }
            Ok(new)
        };
        self.modify(place, part, None, options, change).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_that_makes_no_object_is_quoted() {
        let kind = Kind::new("apps", "v1", "Deployment", "deployments");
        let old = json!({"spec": {}});
        let wrong = json!({"spec": {"replicas": "many"}});
        for (patch, quoted) in [
            (Patch::Strategic(wrong.clone()), "map[spec:map[replicas:many]]"),
            (Patch::Merge(wrong), r#"{\"spec\":{\"replicas\":\"many\"}}"#),
        ] {
            let status = patch.no_object(&kind, &old, Status::bad_request("why"));
            assert_eq!(
                status.message(),
                format!(r#" "" is invalid: patch: Invalid value: "{quoted}": why"#)
            );
        }
    }
}
