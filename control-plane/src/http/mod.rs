//! The wire: routes, negotiation, tables, watches, limits.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::HeaderMap;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, watch};

use crate::api::Api;
use crate::api::status::Status;
use crate::auth::User;
use crate::auth::attributes::{Attributes, Decision};

pub mod answer;
pub mod audit;
pub mod body;
pub mod discovery;
pub mod health;
pub mod index;
pub mod limits;
pub mod list;
pub mod listen;
pub mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod resource;
pub mod review;
pub mod route;
pub mod serve;
pub mod snapshot;
mod stall;
pub mod stream;
pub mod table;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The certificates that were shown, checked against the authorities of the listener.
    pub certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// Its address.
    pub address: Option<IpAddr>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Who it is to the server: the one in whose name is asked, where that is another.
    pub user: User,
    /// Who asks in another's name.
    pub behind: Option<User>,
}

impl From<User> for Asker {
    fn from(user: User) -> Self {
        Self { user, behind: None }
    }
}

/// Who someone is, and what they may do. Asked once for every request.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Who sends this request.
    async fn authenticate(&self, caller: &Caller, headers: &HeaderMap) -> Result<Asker, Status>;

    /// May they do this?
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// Whoever reaches the listener may do everything. Only for a listener on a loopback address that was asked for by name.
#[derive(Clone, Copy, Debug)]
pub struct Everybody;

#[async_trait]
impl Gate for Everybody {
    async fn authenticate(&self, _: &Caller, _: &HeaderMap) -> Result<Asker, Status> {
        Ok(User::new("system:admin", ["system:masters"]).authenticated().into())
    }

    async fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::Allow("the listener is open to everybody who reaches it".to_owned())
    }
}

/// Everything that answers requests.
pub struct Server {
    /// The verbs.
    pub api: Arc<Api>,
    /// Who may do what.
    pub gate: Arc<dyn Gate>,
    /// Questions about who may do what, and tokens.
    pub answers: review::Answers,
    /// How much at a time.
    pub limits: limits::Limits,
    /// What large lists have in memory.
    pub room: limits::Room,
    /// Who may take a snapshot now.
    pub snapshots: Arc<Semaphore>,
    /// What is counted.
    pub metrics: metrics::Metrics,
    /// What can be asked for, as it was last put together.
    pub discovery: discovery::Cache,
    /// How all of it is described.
    pub openapi: openapi::Cache,
    /// Where it is noted who did what, if anywhere.
    pub audit: Option<Arc<audit::Audit>>,
    /// The URL under which others reach this server.
    pub address: String,
    /// Turns true when the server ends.
    pub ending: watch::Receiver<bool>,
}

/// Waits until the server ends.
async fn end_of(ending: &mut watch::Receiver<bool>) {
    // an error means that nobody is left to end it, which is an end as well
    let _ = ending.wait_for(|ending| *ending).await;
}
