//! Server-side apply: who owns which field, and what happens when two want the same one.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
//!
//! - [`fieldset`]: sets of paths, and their form in objects, `FieldsV1`
//! - [`typed`]: values seen through their schema: which paths they have, what differs between two, merging and removing
//! - [`managed`], [`conflict`]: the owners in `metadata.managedFields`, and what they and others disagree about
//! - [`engine`]: what a write does to an object and to the owners of its fields

pub mod conflict;
pub mod engine;
pub mod fieldset;
mod last_applied;
pub mod managed;
pub mod typed;
