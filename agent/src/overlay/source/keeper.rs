//! Something of this node's own object, kept as it should be: written when it differs, and again when somebody changes it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::PatchParams;
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::kube::{Connection, Failure, Retry, chance, is_refusal, reason};

/// How long the watch may take to tell of what was written before it is looked at again.
const ECHO: Duration = Duration::from_secs(10);
/// How long an answer may take. A connection whose own address is gone never has one.
const REQUEST: Duration = Duration::from_secs(10);
/// Whoever changes what was written this short a while ago will do it again.
const FEUD: Duration = Duration::from_mins(1);
/// After so many of these it is told.
const FEUD_TOLD: u32 = 3;
/// Who is said to have written (`managedFields`).
const MANAGER: &str = "heddle-overlay";

/// What is told of it; `None`: it is as it should be.
pub type Told = Option<String>;

/// What is to be kept, and its words.
pub trait Duty: Send + Sync + 'static {
    /// What decides how it should be.
    type Wanted: Send + Sync;
    /// What is seen of it.
    type Seen: Send + Sync;
    /// Who asks, for logs.
    const WHO: &'static str;
    /// What stays while there is no answer, for logs.
    const STAYS: &'static str;
    /// What is logged when it was written.
    const WRITTEN: &'static str;
    /// What is told while somebody else keeps changing it.
    const QUARREL: &'static str;
    /// What allows to write it.
    const PERMISSION: &'static str;

    /// The patch that makes what is seen as it should be; `None`: it is, or that cannot be known yet.
    fn patch(wanted: &Self::Wanted, seen: &Self::Seen) -> Option<Value>;

    /// Writes it.
    fn write(
        api: &Api<Node>,
        name: &str,
        parameters: &PatchParams,
        patch: Value,
    ) -> impl Future<Output = kube::Result<()>> + Send;

    /// What is told where it cannot be written.
    fn problem(node: &str, reason: &str) -> String;
}

/// Keeps it.
pub struct Keeper<D: Duty> {
    /// The server.
    pub connection: Connection,
    /// This node.
    pub name: String,
    /// What decides how it should be.
    pub wanted: watch::Receiver<D::Wanted>,
    /// How it is; `None`: that is not known yet.
    pub own: watch::Receiver<Option<D::Seen>>,
    /// What is wrong.
    pub told: watch::Sender<Told>,
    /// Pauses after failures.
    pub retry: Retry,
}

impl<D: Duty> Keeper<D> {
    /// Keeps it until nobody says any more what it should be.
    pub async fn run(mut self) {
        let api = Api::<Node>::all(Client::clone(&self.connection));
        let parameters =
            PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let (mut failures, mut quarrel) = (0, Quarrel::default());
        loop {
            if self.patch().is_none() {
                self.connection.outages.over(D::WHO, std::time::Instant::now());
                if !quarrel.goes_on() {
                    self.tell(None);
                }
                if !self.changed(quarrel.goes_on()).await {
                    return;
                }
                continue;
            }
            let times = quarrel.again();
            if times > 0 {
                self.complain_of_quarrel(times);
                sleep(self.retry.pause(times, chance())).await;
            }
            // what came meanwhile counts
            let Some(patch) = self.patch() else { continue };
            let asked = timeout(REQUEST, D::write(&api, &self.name, &parameters, patch)).await;
            let silent = || (format!("no answer within {} s", REQUEST.as_secs()), false);
            let answer = asked.map_err(|_| silent()).and_then(|answer| {
                answer.map_err(|error| {
                    let remedy = remedy(&error, D::PERMISSION);
                    (format!("{}{remedy}", reason(&error)), is_refusal(&error))
                })
            });
            match answer {
                Ok(()) => {
                    failures = 0;
                    self.connection.outages.over(D::WHO, std::time::Instant::now());
                    tracing::info!(node = self.name, "{}", D::WRITTEN);
                    // the watch tells of it; if it does not, what is known may not be what is
                    let echoed = timeout(ECHO, self.own.changed()).await.is_ok();
                    quarrel.last = echoed.then(Instant::now);
                }
                Err((reason, refused)) => {
                    failures += 1;
                    // a connection that was cut is made anew
                    if refused || failures > 1 {
                        let failure =
                            Failure { who: D::WHO, stays: D::STAYS, reason: &reason, refused };
                        self.connection.outages.failed(failure, std::time::Instant::now());
                    }
                    let problem = D::problem(&self.name, &reason);
                    self.told.send_replace(Some(problem));
                    sleep(self.retry.pause(failures, chance())).await;
                }
            }
        }
    }

    /// Waits until something may be different. False: nobody says any more what it should be.
    async fn changed(&mut self, quarrelling: bool) -> bool {
        tokio::select! {
            changed = self.wanted.changed() => changed.is_ok(),
            changed = self.own.changed() => changed.is_ok(),
            () = sleep(FEUD), if quarrelling => true,
        }
    }

    /// What to write; `None`: nothing, or it cannot be known.
    fn patch(&mut self) -> Option<Value> {
        let wanted = self.wanted.borrow_and_update();
        let own = self.own.borrow_and_update();
        D::patch(&wanted, own.as_ref()?)
    }

    fn complain_of_quarrel(&self, times: u32) {
        if times == FEUD_TOLD {
            self.tell(Some(D::QUARREL.to_owned()));
        }
    }

    fn tell(&self, what: Told) {
        self.told.send_if_modified(|known| {
            let differs = *known != what;
            if let Some(problem) = what.as_ref().filter(|_| differs) {
                tracing::warn!("{problem}");
            }
            *known = what;
            differs
        });
    }
}

/// Somebody else who writes the same.
#[derive(Debug, Default)]
struct Quarrel {
    /// When ours was seen in force last.
    last: Option<Instant>,
    times: u32,
}

impl Quarrel {
    fn is_fresh(&self) -> bool {
        self.last.is_some_and(|last| last.elapsed() < FEUD)
    }

    /// It is to be written again: how often in a row somebody has changed it soon after.
    fn again(&mut self) -> u32 {
        self.times = if self.is_fresh() { self.times + 1 } else { 0 };
        self.times
    }

    /// Whether it is to be told still.
    fn goes_on(&self) -> bool {
        self.times >= FEUD_TOLD && self.is_fresh()
    }
}

/// What to do about it, where that is known.
fn remedy(error: &kube::Error, permission: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("; allow it: conf/overlay-rbac.yaml has the role ({permission})")
        }
        kube::Error::Api(status) if status.code == 404 => {
            "; the kubelet registers it, and node_name must be its name".to_owned()
        }
        _ => String::new(),
    }
}

impl<D: Duty> std::fmt::Debug for Keeper<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("of", &D::WHO)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
