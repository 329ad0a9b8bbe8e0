//! Role-based access control: rules, who has them, and who may hand them on.
//!
//! Source: Kubernetes documentation, "Using RBAC Authorization"
//! (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/>).

pub mod aggregation;
pub mod defaults;
pub mod escalation;
mod index;
mod rule;

pub use index::{Grant, Index, Kind};
pub use rule::Rule;
pub(crate) use rule::quoted;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
