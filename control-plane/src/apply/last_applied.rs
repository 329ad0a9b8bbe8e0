//! The annotation in which kubectl keeps what it applied by itself (`kubectl apply` without `--server-side`), so that a user can go
//! over to server-side apply and back.

use serde_json::Value;

use super::engine::Engine;
use super::fieldset::FieldSet;
use super::typed::Typed;
use crate::meta::label::{ANNOTATIONS_MAX, texts};
use crate::meta::object::{Meta, MetaMut};

/// The only manager for which the annotation counts.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Which fields kubectl applied by itself and still have that value; `None` when nothing can be told.
pub(super) fn untouched(engine: &Engine<'_>, live: &Value) -> Option<FieldSet> {
    let applied: Value = serde_json::from_str(Meta::of(live).annotation(ANNOTATION)?).ok()?;
    let shape = (engine.version)(applied.get("apiVersion")?.as_str()?)?;
    let typed = Typed::lenient(engine.schemas);
    let changes = typed.compare(&applied, live, shape).ok()?;
    let fields = typed.fields(&applied, shape).ok()?;
    Some(fields.difference(&changes.modified.union(changes.added).union(changes.removed)))
}

/// Keeps the annotation, where there is one, at what was applied.
pub(super) fn refresh(object: &mut Value, config: &Value) {
    if Meta::of(object).annotation(ANNOTATION).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    MetaMut::of(&mut config).set_annotation(ANNOTATION, None);
    let mut meta = MetaMut::of(object);
    meta.set_annotation(ANNOTATION, Some(&format!("{config}\n")));
    let annotations = Meta::of(object).get("annotations");
    let size: usize = texts(annotations).map(|(key, value)| key.len() + value.len()).sum();
    if size > ANNOTATIONS_MAX {
        MetaMut::of(object).set_annotation(ANNOTATION, None);
    }
}
