//! Who someone is, and what they may do.
//!
//! A request goes through these in this order; all of them work on plain values and know nothing of HTTP:
//!
//! 1. [`authenticate`]: client certificate ([`certificate`]) or bearer token ([`token`]) → [`User`]; otherwise 401
//! 2. [`impersonate`]: somebody else's name, if the user may use it; otherwise 403
//! 3. [`authorizer`]: the Node authorizer ([`node`]) and [`rbac`]; otherwise 403 ([`attributes::Attributes::forbidden`])
//! 4. before a write is stored: [`node::restriction::admit`] for kubelets, [`authorizer::Authorizer::check_escalation`] for roles and
//!    bindings; otherwise 403 ([`attributes::forbidden_status`])
//! 5. [`audit`]: what is noted of it
//!
//! [`review`] answers the same questions when they are asked as objects.
//!
//! ```text
//! user     = authenticator.authenticate(user_of(chain, now), bearer(header, protocols), &objects, now).await?
//! user     = match Wanted::from_headers(headers)? { Some(wanted) => wanted.assume(&user, &|asked| authorizer.decide(asked))?, None => user }
//! decision = authorizer.decide(&Attributes::on(&user, verb, resource).of_node(selected))
//! ```

pub mod attributes;
pub mod audit;
pub mod authenticate;
pub mod authorizer;
pub mod certificate;
pub mod impersonate;
pub mod node;
pub mod rbac;
pub mod review;
mod review_spec;
pub mod token;
pub mod user;

pub use user::User;
