//! What a pod runs: the part that pods and the templates of workloads share.
//!
//! Defaults and rules are those of Kubernetes 1.32 (`core/v1`, <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>),
//! in its words. Types and unknown fields are the schema's business and were looked at before.

mod container;
mod defaults;
mod disabled;
mod environment;
mod handler;
mod label_keys;
mod mount;
mod profile;
mod projected;
mod resources;
mod scheduling;
mod security;
mod source;
mod spec;
mod system;
mod update;
mod volume;
mod warnings;
mod windows;

pub use defaults::{default_template, default_volume_source, set_pod_defaults};
pub use disabled::drop_disabled_of;
pub use label_keys::merge_label_keys;
pub use profile::{apparmor_warnings, settle_apparmor};
pub use resources::{quality_of_service, requests_and_limits};
pub(super) use scheduling::check_node_terms;
pub(super) use source::{check as check_volume_source, check_driver, need};
pub use spec::{Whose, creation_mistakes, mistakes, template_mistakes};
pub(super) use update::check_annotations as check_annotation_changes;
pub use update::update_mistakes;
pub(super) use warnings::OLD_VOLUMES;
pub use warnings::{claim_warnings, fraction, template_warnings, warnings};
